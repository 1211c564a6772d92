"""Loads and grades LiveCodeBench (arXiv 2403.07974), a benchmark of programming problems.

An item asks for a program that reads standard input, or for the method that ``metadata`` names. A response must pass
all public and private tests of its item. The private tests are JSON, or JSON that was pickled, compressed by zlib and
written in base64. The JSON is read from the pickle's opcodes; nothing is unpickled. The tests of a row may take
megabytes, so an item holds only the place of its row.

The files are ``benchmarks/livecodebench/test.jsonl``, ``test2.jsonl`` and so on. They are read from the folder that
ACM_DATA names, else from the hub. A release consists of the first few files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickletools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acm.errors import UserError, unknown
from acm.evaluation.benchmarks import BENCHMARKS, FOLDER, LIVE, RELEASES, Row, check_number, remedy
from acm.evaluation.code_grading import Limits, Verdict, allowed, run_program, run_tests
from acm.evaluation.task_files import Item

LIVE_LIMITS = Limits(seconds=30, cpu_seconds=6, memory=4096)  # limits of each test; the authors allow 6 seconds
LARGEST = 1 << 30  # the most bytes that a row's private tests may have
MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics",
    "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
# What LiveCodeBench gives to every program, because its starter code relies on it.
PRELUDE = "\n".join(
    [*(f"from {m} import *" for m in MODULES), *(f"import {m}" for m in MODULES), "sys.setrecursionlimit(50000)"]
)
# Tests a function. A tuple counts as a list, because JSON has no tuples.
JUDGE = """
import json

function, given, expected = {names}
try:
    call = getattr(Solution(), function)
except NameError:
    call = {function}
found = call(*[json.loads(line) for line in given.split("\\n")])
assert (list(found) if isinstance(found, tuple) else found) == json.loads(expected), found
"""


def live_items(release: str) -> list[Item]:
    """The items of all files up to the release's. The private tests of each file's first row are read as a trial."""
    if release not in RELEASES:
        raise unknown("release of LiveCodeBench", release, RELEASES)
    items: list[Item] = []
    for number in range(1, 1 + int(release.removeprefix("release_v"))):
        name = f"test{number if number > 1 else ''}.jsonl"
        for offset, line in lines(live_file(name)):
            row, place = live_parsed(line, f"{name}, byte {offset}"), {"file": name, "offset": offset}
            if offset == 0:
                live_tests(row)
            sha256 = hashlib.sha256(line).hexdigest()
            items.append({"question": live_question(row), "gold": "", **place, "sha256": sha256})
    check_number(items, RELEASES[release], f"{LIVE}, {release}", LIVE)
    return items


def live_file(name: str) -> Path:
    """One of LiveCodeBench's files: in the folder that ACM_DATA names, else from the hub. UserError where it is not."""
    if folder := os.environ.get(FOLDER):
        path = Path(folder) / "benchmarks" / LIVE / name
        if not path.is_file():
            raise UserError(
                f"{path} does not exist (the environment variable {FOLDER} names the folder). {remedy(LIVE)}"
            )
        return path
    from huggingface_hub import hf_hub_download

    known = BENCHMARKS[LIVE]
    try:
        return Path(hf_hub_download(known.dataset, name, repo_type="dataset", revision=known.revision))
    except Exception as error:  # no network, a renamed data set: the remedy is the same
        raise UserError(
            f"the hub's {known.dataset} cannot be loaded ({type(error).__name__}). {remedy(LIVE)}"
        ) from None


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not empty, each with the byte that it starts at."""
    with path.open("rb") as file:
        offset = 0
        for line in file:
            if line.strip():
                yield offset, line
            offset += len(line)


def live_parsed(line: bytes, place: str) -> Row:
    """A row of LiveCodeBench, its ``metadata`` and ``public_test_cases`` read as JSON. UserError for another form."""
    try:
        row = json.loads(line)
        row |= {key: json.loads(row[key]) for key in ("metadata", "public_test_cases")}
        assert_texts(row, "question_content", "starter_code", "private_test_cases")
        for test in row["public_test_cases"]:
            assert_texts(test, "input", "output")
        assert_texts(row["metadata"] | {"func_name": row["metadata"].get("func_name") or ""}, "func_name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{LIVE}, {place} is not in the form that acm/evaluation/livecodebench.py describes ({error!r})."
        ) from None
    return row


def assert_texts(row: Row, *keys: str) -> None:
    """TypeError for a field that is not text."""
    for key in keys:
        if not isinstance(row[key], str):
            raise TypeError(f"{key} is not text")


def live_question(row: Row) -> str:
    """The problem, and the form that the program should have."""
    if starter := str(row["starter_code"]).strip():
        form = f"Complete this Python code and keep its names:\n```python\n{starter}\n```"
    else:
        form = "Write a Python program that reads from standard input and prints the answer."
    return f"{str(row['question_content']).strip()}\n\n{form}"


def live_row(item: Item) -> Row:
    """The row of an item, read again. UserError where the file has changed."""
    with live_file(str(item["file"])).open("rb") as file:
        file.seek(int(str(item["offset"])))
        line = file.readline()
    if hashlib.sha256(line).hexdigest() != item["sha256"]:
        raise UserError(f"{LIVE}, {item['file']} is not what it was when the items were loaded; evaluate again.")
    return live_parsed(line, f"{item['file']}, byte {item['offset']}")


def live_tests(row: Row) -> list[tuple[str, str, str]]:
    """Function, input and output of every test, public tests first.

    Without a function, the response is a program that reads standard input.
    """
    function = row["metadata"].get("func_name") or ""
    try:
        tests = [*row["public_test_cases"], *private_tests(str(row["private_test_cases"]))]
        found = [(function, str(test["input"]), str(test["output"])) for test in tests]
    except (ValueError, KeyError, TypeError, zlib.error, RecursionError) as error:
        raise UserError(
            f"{LIVE}: private tests that cannot be read without unpickling are refused ({error})."
        ) from None
    if not found:
        raise UserError(f"{LIVE} has an item without tests.")
    return found


def private_tests(text: str) -> list[dict[str, Any]]:
    """The private tests of a row: JSON, or base64 of zlib of a pickle of JSON. ValueError for anything else."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {LARGEST >> 20} MB")
    return json.loads(pickled_text(data))


def pickled_text(data: bytes) -> str:
    """The text that a pickle consists of, read from its opcodes. Nothing is executed.

    Raises ValueError for a pickle of anything else.
    """
    texts = []
    for code, value, _ in pickletools.genops(data):
        if code.name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
            texts.append(str(value))
        elif code.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"):
            raise ValueError(f"a pickle with {code.name}, not of one text")
    if len(texts) != 1:
        raise ValueError(f"a pickle of {len(texts)} texts, not of one")
    return texts[0]


def run_live(code: str, function: str, given: str, expected: str) -> Verdict:
    """One test of a response's program.

    Without a function, the program must print what is expected. Else the function, of the class Solution if there is
    one, must return it; its arguments are the input's lines, each read as JSON.
    """
    settings: dict[str, Any] = {"allow_unsafe_code": allowed(), "limits": LIVE_LIMITS}
    if not function:
        return run_program(f"{PRELUDE}\n{code}", given, expected, **settings)
    if not function.isidentifier():
        raise UserError(f"{LIVE} has an item whose function is {function!r}, which is no name.")
    tests = JUDGE.format(names=repr((function, given, expected)), function=function)
    return run_tests(f"{PRELUDE}\n{code}", tests, asked=[function], **settings)
