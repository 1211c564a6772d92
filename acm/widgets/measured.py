"""Merges by a recipe with the project's engine, evaluates as a profile does, and compares with what was recorded.

It serves any profile with results, on real weights too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from acm.errors import UserError
from acm.evaluation.harness import evaluate
from acm.merging.engine import merge
from acm.widgets import differences
from acm.widgets.sources import preferred, results_with


def measure(
    recipe: dict[str, Any], profile: str = "tiny", experiment: str = "long-to-short", items: int = 34
) -> pd.DataFrame:
    """A row of texts: accuracy, length, both less TA's on the same items, and the verdict against the bar.

    recipe: as :func:`acm.merge` takes it. items: how many of each task of the experiment, from its start. The settings
    of the evaluation are the profile's. The columns are those of :func:`acm.widgets.differences.measured_merges`;
    intervals are 95 %. Raises UserError for a profile without results, for more items than were recorded, and for what
    :func:`acm.merge` and :func:`acm.evaluate` refuse.
    """
    sources = results_with("records.parquet") | results_with("records")
    results = sources[preferred(list(sources), profile, experiment)]
    recorded = results.records.groupby("task")["item"].nunique().min()
    if results.experiment.repeats > 1:
        raise UserError(
            f"{profile} / {experiment} samples several responses; only greedy experiments are measured here."
        )
    if not isinstance(items, int) or not 1 <= items <= recorded:
        raise UserError(
            f"items must be a number from 1 to {recorded}, which were recorded of each task, not {items!r}."
        )
    parent, *_ = results.experiment.parents
    with tempfile.TemporaryDirectory() as place:
        folder = merge(recipe, Path(place) / "merge")
        settings = results.profile.evaluation(experiment, parent, 0) | {"items": items}
        records = evaluate(folder, results.experiment.tasks, **settings)
    usual = differences.usual(results.methods, results.experiment.reference)
    known = [usual, *(method for method in results.frontier if method != usual)]
    same = differences.same_items(results.records, {"merge": records}, known, records[["task", "item"]])
    return differences.measured_merges(same, {"merge": recipe["merge_method"]}, usual, results.frontier)
