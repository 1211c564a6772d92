"""Loads an abacus benchmark for lm-eval from the JSONL that the repository ships."""

import json

import datasets

from abacus import BENCHMARKS


def load(name: str, **_) -> datasets.DatasetDict:
    """The benchmark's 500 items as split ``test``: question, gold, steps."""
    lines = (BENCHMARKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})
