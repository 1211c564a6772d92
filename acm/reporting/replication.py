"""Compares a replication's ACM merges with its own plain interpolation. Its source is arXiv 2604.06465.

Accuracies are in percent, lengths in tokens per response. The replication prints no intervals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from acm.paper import load
from acm.reporting.statistics import on_bar


def replicated(size: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The replication's methods of a size but its search, and its plain interpolation by ascending length.

    Both have ``reduction``: percent by which the mean length is below that of the replication's R1.
    """
    rows = load("published_averages").query("source == 'evo-l2s-replication' and size == @size")
    sweep = load("uniform_coefficient_frontier").query("size == @size").sort_values("mean_length")
    rows = rows[(rows["method"] != "Evo-L2S") & ~rows["method"].str.startswith("Qwen")]
    r1 = rows.loc[rows["method"].str.startswith("DeepSeek-R1"), "mean_length"].sum()
    reduced = [part.assign(reduction=100 * (1 - part["mean_length"] / r1)) for part in (rows, sweep)]
    return reduced[0], reduced[1]


def bar_of(sweep: pd.DataFrame) -> pd.DataFrame:
    """The points of :func:`replicated`'s interpolation that no shorter one beats."""
    return sweep[on_bar(sweep["average_accuracy"].to_numpy())]


def above_interpolation(rows: pd.DataFrame, sweep: pd.DataFrame) -> tuple[int, int]:
    """How many of the replication's ACM merges lie above its bar at their length, and how many there are."""
    acm, bar = rows[rows["method"].str.startswith("ACM")], bar_of(sweep)
    level = np.interp(acm["mean_length"], bar["mean_length"], bar["average_accuracy"], left=np.nan)
    return int((acm["average_accuracy"] > level).sum()), len(acm)
