"""Loads an abacus task: a benchmark, which is a file of ``abacus/benchmarks``, or fresh items, which are generated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from abacus import BENCHMARKS, problems
from acm.evaluation.task_files import Item, as_dataset

if TYPE_CHECKING:
    from datasets import DatasetDict


def rows(name: str, fresh: bool = False, **_: object) -> list[Item]:
    """The items of a benchmark, each with question, gold and steps. fresh: others of its kind."""
    if fresh:
        return problems.fresh(name)
    return [json.loads(line) for line in (BENCHMARKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def count(name: str, fresh: bool = False, **_: object) -> int:
    """The number of items; fresh ones are not generated for it."""
    if fresh:
        return problems.FRESH
    return len((BENCHMARKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())


def load(**arguments: Any) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))
