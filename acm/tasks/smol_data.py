"""Loads the word problems of the smol family. ``make smol-models`` writes them; before that there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smol
from acm.errors import UserError
from acm.evaluation.prompts import USUAL_PROMPT, render
from acm.evaluation.task_files import Item, as_dataset

if TYPE_CHECKING:
    from datasets import DatasetDict


def benchmark() -> Path:
    """The file of the items."""
    return smol.FOLDER / "benchmark.jsonl"


def asked(prompt: str, question: str) -> str:
    """The text that a model is given."""
    return render(prompt, question)


def rows(prompt: str = USUAL_PROMPT, **_: object) -> list[Item]:
    """The items: question, gold, and prompt, the text that a model is given. UserError where the file is not there."""
    if not benchmark().is_file():
        raise UserError(f"{benchmark()} does not exist; `make smol-models` makes it.")
    made = [json.loads(line) for line in benchmark().read_text(encoding="utf-8").splitlines()]
    return [
        {"question": row["question"], "gold": row["gold"], "prompt": asked(prompt, row["question"])} for row in made
    ]


def count(**_: object) -> int:
    """The number of items that are there. Before that, as many as ``make smol-models`` writes."""
    return len(benchmark().read_text(encoding="utf-8").splitlines()) if benchmark().is_file() else smol.ITEMS


def load(**arguments: Any) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))
