"""Loads an abacus benchmark: the JSONL file in ``abacus/benchmarks`` that has the task's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from abacus import BENCHMARKS
from acm.evaluation.task_files import Item, as_dataset

if TYPE_CHECKING:
    from datasets import DatasetDict


def rows(name: str, **_: object) -> list[Item]:
    """The items of a benchmark, each with question, gold and steps."""
    return [json.loads(line) for line in (BENCHMARKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def count(name: str, **_: object) -> int:
    """The number of lines of the benchmark's file."""
    return len((BENCHMARKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())


def load(**arguments: str) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))
