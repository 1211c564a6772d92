"""Loads and grades mathematics benchmarks. lm-evaluation-harness calls this for the tasks that use ``_math.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acm.evaluation.benchmarks import BENCHMARKS, load_benchmark
from acm.evaluation.grading import grade
from acm.evaluation.prompts import USUAL_PROMPT, render
from acm.evaluation.task_files import Item, as_dataset

if TYPE_CHECKING:
    from datasets import DatasetDict


def asked(prompt: str, question: str) -> str:
    """The text that a model is given."""
    return render(prompt, question)


def rows(name: str, prompt: str = USUAL_PROMPT, **_: object) -> list[Item]:
    """The items of a benchmark: question, gold, and prompt, the text that a model is given."""
    return [item | {"prompt": asked(prompt, item["question"])} for item in load_benchmark(name)]


def count(name: str, **_: object) -> int:
    """The number of items, without reading them."""
    return BENCHMARKS[name].items


def load(**arguments: Any) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))


def gold(doc: Item) -> str:
    """The reference answer as it stands. A template would read ``[1,2]`` as a list."""
    return str(doc["gold"])


def process_results(doc: Item, results: list[str]) -> dict[str, float]:
    """Both grades of the one response."""
    found = grade(results[0], doc["gold"])
    return {"correct": float(found.correct), "correct_string": float(found.correct_string)}
