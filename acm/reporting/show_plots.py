"""The small plots of :mod:`acm.reporting.show`: on axes that are given. matplotlib is not imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from acm.display import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 8  # points that get a name beside them
FRONTIER = "frontier-"  # how the names of plain interpolation's points begin


def arms(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Lengths of the error bars of a column (2, rows)."""
    return np.abs(np.vstack([rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]))


def records(axes: Axes, rows: pd.DataFrame, kind: str) -> None:
    """Accuracy against length, a point with 95 % intervals for each row; the frontier is a grey line.

    Of more than NAMED other rows the points have no names.
    """
    swept = rows[kind].astype(str).str.startswith(FRONTIER)
    for part, style, colour in ((rows[swept], ".-", "#767676"), (rows[~swept], "o", None)):
        width, height = arms(part, "length"), arms(part, "accuracy")
        axes.errorbar(part["length"], part["accuracy"], height, width, style, color=colour, ms=4, lw=1)
    axes.set(xlabel="length, tokens", ylabel="accuracy, %")
    named = rows[~swept]
    for _, row in named.iterrows() if len(named) <= NAMED else ():
        name, place = label(row[kind]), (row["length"], row["accuracy"])
        axes.annotate(name, place, xytext=(5, 4), textcoords="offset points", fontsize=8)


def comparison(axes: Axes, table: pd.DataFrame) -> None:
    """The differences of accuracy, or of the first measure there is, as points with 95 % intervals about 0."""
    measure = "accuracy" if (table["measure"] == "accuracy").any() else table["measure"].iloc[0]
    rows = table[table["measure"] == measure][::-1]
    several = rows["method"].nunique() > 1
    names = [f"{row['method']}, {row['task']}" if several else row["task"] for _, row in rows.iterrows()]
    axes.axvline(0, color="#767676", lw=1)
    axes.errorbar(rows["difference"], range(len(rows)), xerr=arms(rows, "difference"), fmt="o", ms=4, lw=1)
    axes.set_yticks(range(len(rows)), [label(name) for name in names])
    unit = "tokens" if measure == "length" else "points"
    axes.set(xlabel=f"difference of {measure}, {unit}", ylim=(-0.6, len(rows) - 0.4))
