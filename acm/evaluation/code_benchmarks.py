"""The paper's three code benchmarks: HumanEval-Pro (14B), MBPP-Pro (LLaMA) and LiveCodeBench (1.5B).

**Not tried on the real data**, which could not be had where this was written. The formats were read from the authors' evaluation code
(github.com/CodeEval-Pro/CodeEval-Pro, github.com/LiveCodeBench/LiveCodeBench) and dataset cards; counts are checked, hashes unknown.

HumanEval-Pro and MBPP-Pro (arXiv 2412.21199): a second function that is to call a first one. Rows have ``raw_problem``,
``raw_solution``, ``new_problem``, ``new_solution`` and ``test_code``; the four parts joined are a solution, the tests are asserts.
LiveCodeBench (arXiv 2403.07974): programs that read standard input, or a method named in ``metadata``. All public and private tests must
pass. The private ones are JSON, or that as a pickled text in zlib in base64; the text is read from the pickle's opcodes, and nothing is
unpickled. A row's tests may be megabytes, so an item says where its row is.

Files are ``benchmarks/{humaneval_pro,mbpp_pro}.jsonl`` and ``benchmarks/livecodebench/test*.jsonl`` in the folder that ACM_DATA names,
else the hub's.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import pickletools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from acm.errors import UserError, unknown
from acm.evaluation.benchmarks import FOLDER, Row, Source, from_folder, from_hub
from acm.evaluation.code_grading import ALLOW, Limits, Verdict, allowed, find_code, run_program, run_tests

SELF_INVOKING = {
    "humaneval_pro": Source("CodeEval-Pro/humaneval-pro", "train", 164),
    "mbpp_pro": Source("CodeEval-Pro/mbpp-pro", "train", 378),
}
LIVE = "livecodebench"
LIVE_DATASET, LIVE_REVISION = "livecodebench/code_generation_lite", None
RELEASES = {
    "release_v1": 400,
    "release_v2": 511,
    "release_v3": 612,
    "release_v4": 713,
    "release_v5": 880,
}  # items, of the dataset card
LIVE_LIMITS = Limits(seconds=30, cpu_seconds=6, memory=4096)  # of each test; the authors allow 6 seconds
LARGEST = 1 << 30  # bytes of a row's private tests
IMPORT = re.compile(r"^(?:import|from)[ ][\w., *]+$", re.MULTILINE)
MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics",
    "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
# What LiveCodeBench gives to every program, as its starter code relies on it.
PRELUDE = "\n".join(
    [*(f"from {m} import *" for m in MODULES), *(f"import {m}" for m in MODULES), "sys.setrecursionlimit(50000)"]
)
CODE_BENCHMARKS = (*SELF_INVOKING, LIVE)


def load_code_benchmark(name: str, release: str = "release_v5") -> list[Row]:
    """All items: question, gold (a solution, where the benchmark has one), and what grading needs.

    release: of LiveCodeBench. UserError without the flag that lets programs run, for data that is missing or has another form or count.
    """
    if name not in CODE_BENCHMARKS:
        raise unknown("code benchmark", name, CODE_BENCHMARKS)
    if not allowed():
        raise UserError(
            f"{name} is graded by running programs that the model wrote: set {ALLOW}=1, best within a container."
        )
    if name == LIVE:
        return live_items(release)
    source = SELF_INVOKING[name]
    if folder := os.environ.get(FOLDER):
        rows, place = from_folder(Path(folder) / "benchmarks" / f"{name}.jsonl", remedy(source.dataset))
    else:
        rows, place = from_hub(source, remedy(source.dataset))
    return checked(
        [self_invoking(row, f"{place}, row {i}") for i, row in enumerate(rows, 1)], source.items, place, source.dataset
    )


def checked(items: list[Row], count: int, place: str, dataset: str) -> list[Row]:
    if len(items) != count:
        raise UserError(f"{place} has {len(items)} items, not {count}. {remedy(dataset)}")
    return items


def remedy(dataset: str) -> str:
    return f"Remedy: set {FOLDER} to a folder with the hub's {dataset} as JSON lines; acm/evaluation/code_benchmarks.py has the files' names."


def grade_code(item: Row, response: str) -> Verdict:
    """Run a response's program with the item's tests, up to the first that fails. UserError without the flag, or if data has changed."""
    code = find_code(response)
    if "tests" in item:
        return run_tests(f"{item['setup']}\n{code}", str(item["tests"]), allow_unsafe_code=allowed())
    for test in live_tests(live_row(item)):
        result = run_live(code, *test)
        if not result.passed:
            break
    return result


# HumanEval-Pro and MBPP-Pro


def self_invoking(row: Row, place: str) -> Row:
    parts = ("raw_problem", "raw_solution", "new_problem", "new_solution")
    if bad := [key for key in (*parts, "test_code") if not isinstance(row, dict) or not isinstance(row.get(key), str)]:
        raise UserError(f"{place} has no text '{bad[0]}'. Its fields must be {', '.join(parts)} and test_code.")
    raw, new = str(row["raw_problem"]).strip(), str(row["new_problem"]).strip()
    question = (
        f"Write the functions below in Python; the second is meant to call the first.\n```python\n{raw}\n\n{new}\n```"
    )
    gold = "".join(str(row[key]) for key in parts)
    return {"question": question, "gold": gold, "setup": setup(raw, new), "tests": row["test_code"]}


def setup(raw: str, new: str) -> str:
    """What stands before a response's program: the first problem, if it is Python as it stands (as where a docstring is the body), else
    its imports; and the second's imports.
    """
    try:
        ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raw = "\n".join(IMPORT.findall(raw))
    return "\n".join([raw, *IMPORT.findall(new)])


# LiveCodeBench


def live_items(release: str) -> list[Row]:
    """Those of all files up to the release's; the private tests of each file's first row are tried."""
    if release not in RELEASES:
        raise unknown("release of LiveCodeBench", release, RELEASES)
    items: list[Row] = []
    for number in range(1, 1 + int(release.removeprefix("release_v"))):
        name = f"test{number if number > 1 else ''}.jsonl"
        for offset, line in lines(live_file(name)):
            row, place = live_parsed(line, f"{name}, byte {offset}"), {"file": name, "offset": offset}
            if offset == 0:
                live_tests(row)
            items.append(
                {"question": live_question(row), "gold": "", **place, "sha256": hashlib.sha256(line).hexdigest()}
            )
    return checked(items, RELEASES[release], f"{LIVE}, {release}", LIVE_DATASET)


def live_file(name: str) -> Path:
    if folder := os.environ.get(FOLDER):
        path = Path(folder) / "benchmarks" / LIVE / name
        if not path.is_file():
            raise UserError(
                f"{path} does not exist (the environment variable {FOLDER} names the folder). {remedy(LIVE_DATASET)}"
            )
        return path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(LIVE_DATASET, name, repo_type="dataset", revision=LIVE_REVISION))
    except Exception as error:  # no network, a renamed data set: the remedy is the same
        raise UserError(
            f"the hub's {LIVE_DATASET} cannot be loaded ({type(error).__name__}). {remedy(LIVE_DATASET)}"
        ) from None


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        offset = 0
        for line in file:
            if line.strip():
                yield offset, line
            offset += len(line)


def live_parsed(line: bytes, place: str) -> Row:
    """A row with ``metadata`` and ``public_test_cases`` read; UserError for another form."""
    try:
        row = json.loads(line)
        row |= {key: json.loads(row[key]) for key in ("metadata", "public_test_cases")}
        assert_texts(row, "question_content", "starter_code", "private_test_cases")
        for test in row["public_test_cases"]:
            assert_texts(test, "input", "output")
        assert_texts(row["metadata"] | {"func_name": row["metadata"].get("func_name") or ""}, "func_name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{LIVE}, {place} is not in the form that acm/evaluation/code_benchmarks.py describes ({error!r})."
        ) from None
    return row


def assert_texts(row: Row, *keys: str) -> None:
    for key in keys:
        if not isinstance(row[key], str):
            raise TypeError(f"{key} is not text")


def live_question(row: Row) -> str:
    if starter := str(row["starter_code"]).strip():
        form = f"Complete this Python code and keep its names:\n```python\n{starter}\n```"
    else:
        form = "Write a Python program that reads from standard input and prints the answer."
    return f"{str(row['question_content']).strip()}\n\n{form}"


def live_row(item: Row) -> Row:
    with live_file(str(item["file"])).open("rb") as file:
        file.seek(int(str(item["offset"])))
        line = file.readline()
    if hashlib.sha256(line).hexdigest() != item["sha256"]:
        raise UserError(f"{LIVE}, {item['file']} is not what it was when the items were loaded; evaluate again.")
    return live_parsed(line, f"{item['file']}, byte {item['offset']}")


def live_tests(row: Row) -> list[tuple[str, str, str]]:
    """Function (none: a program that reads standard input), input and output of every test, public first."""
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


def private_tests(text: str) -> list[Row]:
    """JSON, or base64 of zlib of a pickle of JSON. Raises for anything else."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {LARGEST >> 20} MB")
    return json.loads(pickled_text(data))


def pickled_text(data: bytes) -> str:
    """The text that a pickle consists of, from its opcodes; nothing is executed. ValueError for a pickle of anything else."""
    texts = []
    for code, value, _ in pickletools.genops(data):
        if code.name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
            texts.append(value)
        elif code.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"):
            raise ValueError(f"a pickle with {code.name}, not of one text")
    if len(texts) != 1:
        raise ValueError(f"a pickle of {len(texts)} texts, not of one")
    return texts[0]


def run_live(code: str, function: str, given: str, expected: str) -> Verdict:
    """One test: what the program prints; or what its function, of a class Solution if there is one, returns for the input's JSON lines."""
    settings = {"allow_unsafe_code": allowed(), "limits": LIVE_LIMITS}
    if not function:
        return run_program(f"{PRELUDE}\n{code}", given, expected, **settings)
    names = f"function, given, expected = {function!r}, {given!r}, {expected!r}"
    return run_tests(f"{PRELUDE}\n{code}", JUDGE.format(names=names), **settings)


# In a function, so that the program's own names stay as they are. A tuple counts as a list, which is what JSON can say.
JUDGE = """
def judge_():
    import builtins as b
    import json
    {names}
    owner = b.globals()
    call = b.getattr(owner["Solution"](), function) if "Solution" in owner else owner[function]
    found = call(*[json.loads(line) for line in given.split("\\n")])
    assert (b.list(found) if b.isinstance(found, b.tuple) else found) == json.loads(expected), found


judge_()
"""
