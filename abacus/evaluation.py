"""Evaluates a trained family on the benchmarks: its models, and plain interpolation between fast and slow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from acm import Engine, evaluate, merge

ENGINE, MAX_TOKENS = Engine(batch_size=250), 320


def parent_records(family: Path, tasks: list[str], items: int) -> pd.DataFrame:
    """Records of every model of a family on these tasks."""
    models = sorted(p for p in family.glob("abacus-*") if p.is_dir())
    keep = family / "batches"
    found = [evaluate(m, tasks, items=items, max_tokens=MAX_TOKENS, engine=ENGINE, keep=keep) for m in models]
    return pd.concat(found, ignore_index=True)


def frontier_records(family: Path, tasks: list[str], items: int) -> pd.DataFrame:
    """Records of base + λ (slow − fast), λ = 0, 0.1 … 1; the column method holds λ."""
    found = []
    for k in range(11):
        merged = family / "interpolated"
        shutil.rmtree(merged, ignore_errors=True)
        entry = {"model": str(family / "abacus-slow"), "parameters": {"weight": k / 10}}
        recipe = {"merge_method": "interpolation", "base_model": str(family / "abacus-fast"), "models": [entry]}
        merge(recipe, merged)
        labels = {"method": f"{k / 10:.1f}"}
        keep = family / "batches"
        found.append(
            evaluate(merged, tasks, items=items, max_tokens=MAX_TOKENS, engine=ENGINE, keep=keep, labels=labels)
        )
    return pd.concat(found, ignore_index=True)
