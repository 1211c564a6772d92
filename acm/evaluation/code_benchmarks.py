"""Loads and grades the paper's code benchmarks: HumanEval-Pro (at 14B), MBPP-Pro (LLaMA), LiveCodeBench (at 1.5B).

The details of LiveCodeBench are in ``livecodebench.py``. **None of the three was tried on the real data**, which was
not available where this was written. The formats were read from the authors' evaluation code
(github.com/CodeEval-Pro/CodeEval-Pro, github.com/LiveCodeBench/LiveCodeBench) and from dataset cards. The numbers of
items are checked. Hashes are not known.

HumanEval-Pro and MBPP-Pro (arXiv 2412.21199) ask for a second function that calls a first one. A row has the fields
``raw_problem``, ``raw_solution``, ``new_problem``, ``new_solution`` and ``test_code``. The first four, joined, are a
complete solution. ``test_code`` holds asserts.
"""

from __future__ import annotations

import ast
import re

from acm.errors import UserError, unknown
from acm.evaluation.benchmarks import BENCHMARKS, LIVE, RELEASE, Code, Row, check_number, read_rows
from acm.evaluation.code_grading import ALLOW, Verdict, allowed, find_code, run_tests
from acm.evaluation.livecodebench import live_items, live_row, live_tests, run_live
from acm.evaluation.task_files import Item

CODE_BENCHMARKS = tuple(name for name, known in BENCHMARKS.items() if isinstance(known, Code))
DEFINED = re.compile(r"^def\s+(\w+)", re.MULTILINE)
IMPORT = re.compile(r"^(?:import|from)[ ][\w., *]+$", re.MULTILINE)


def load_code_benchmark(name: str, release: str = RELEASE) -> list[Item]:
    """All items: question, gold (a solution, where the benchmark has one), and what grading needs.

    release: of LiveCodeBench. Raises UserError where the user has not allowed programs to run, and for data that is
    missing or has another form or number of items.
    """
    if name not in CODE_BENCHMARKS:
        raise unknown("code benchmark", name, CODE_BENCHMARKS)
    if not allowed():
        raise UserError(
            f"{name} is graded by running programs that the model wrote: set {ALLOW}=1, best within a container."
        )
    if name == LIVE:
        return live_items(release)
    rows, source = read_rows(name)
    items = [self_invoking(row, f"{source}, row {i}") for i, row in enumerate(rows, 1)]
    check_number(items, BENCHMARKS[name].items, source, name)
    return items


def grade_code(item: Item, response: str) -> Verdict:
    """Run a response's program with the item's tests, up to the first that fails.

    Raises UserError where the user has not allowed programs to run, and where the data has changed since it was loaded.
    """
    code = find_code(response)
    if "tests" in item:
        asked = DEFINED.findall(str(item["question"]))
        program, tests = f"{item['setup']}\n{code}", str(item["tests"])
        return run_tests(program, tests, asked=asked, allow_unsafe_code=allowed())
    for test in live_tests(live_row(item)):
        result = run_live(code, *test)
        if not result.passed:
            break
    return result


def self_invoking(row: Row, place: str) -> Item:
    """The item of a row. UserError that names the place where the row lacks a text."""
    fields = ("raw_problem", "raw_solution", "new_problem", "new_solution")
    if bad := [key for key in (*fields, "test_code") if not isinstance(row, dict) or not isinstance(row.get(key), str)]:
        raise UserError(f"{place} has no text '{bad[0]}'. Its fields must be {', '.join(fields)} and test_code.")
    raw, new = str(row["raw_problem"]).strip(), str(row["new_problem"]).strip()
    question = (
        f"Write the functions below in Python; the second is meant to call the first.\n```python\n{raw}\n\n{new}\n```"
    )
    gold = "".join(str(row[key]) for key in fields)
    return {"question": question, "gold": gold, "setup": setup(raw, new), "tests": row["test_code"]}


def setup(raw: str, new: str) -> str:
    """What stands before a response's program.

    It is the first problem where that is Python as it stands, as where a docstring is the body; else its imports. The
    imports of the second problem follow.
    """
    try:
        ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raw = "\n".join(IMPORT.findall(raw))
    return "\n".join([raw, *IMPORT.findall(new)])
