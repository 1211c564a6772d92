"""Loads the test items of the smol family, which are files of ``smol/benchmarks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acm.evaluation.prompts import USUAL_PROMPT, render
from acm.evaluation.task_files import Item, as_dataset
from smol import problems

if TYPE_CHECKING:
    from datasets import DatasetDict


def asked(prompt: str, question: str) -> str:
    """The text that a model is given."""
    return render(prompt, question)


def rows(name: str, prompt: str = USUAL_PROMPT, **_: object) -> list[Item]:
    """The items: question, gold, and prompt, the text that a model is given."""
    return [
        {"question": row["question"], "gold": row["gold"], "prompt": asked(prompt, row["question"])}
        for row in problems.read(name)
    ]


def count(name: str, **_: object) -> int:
    """The number of items."""
    return len(problems.read(name))


def load(**arguments: Any) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))
