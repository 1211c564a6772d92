"""Loads and grades code benchmarks. lm-evaluation-harness calls this for the tasks that use ``_code.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acm.evaluation.benchmarks import BENCHMARKS, LIVE, RELEASE, RELEASES
from acm.evaluation.code_benchmarks import grade_code, load_code_benchmark
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, USUAL_PROMPT, render
from acm.evaluation.task_files import Item, as_dataset

if TYPE_CHECKING:
    from datasets import DatasetDict


def asked(prompt: str, question: str) -> str:
    """The text that a model is given."""
    return render(prompt, question, CODE_SYSTEM, CODE_EXAMPLES)


def rows(name: str, prompt: str = USUAL_PROMPT, release: str = RELEASE, **_: object) -> list[Item]:
    """The items of a benchmark: question, gold, what grading needs, and prompt, the text that a model is given."""
    return [item | {"prompt": asked(prompt, item["question"])} for item in load_code_benchmark(name, release)]


def count(name: str, release: str = RELEASE, **_: object) -> int:
    """The number of items, without reading them."""
    return RELEASES[release] if name == LIVE else BENCHMARKS[name].items


def load(**arguments: Any) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))


def gold(doc: Item) -> str:
    """A solution. Empty where the benchmark has none."""
    return str(doc["gold"])


def process_results(doc: Item, results: list[str]) -> dict[str, float]:
    """Whether the one response's program passes all tests."""
    return {"correct": float(grade_code(doc, results[0]).passed)}
