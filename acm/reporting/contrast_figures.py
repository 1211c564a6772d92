"""Draws what one thing has more than another: points above the bar, accuracy and length, a panel for each."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.escaping import figure_text
from acm.reporting.plotting import COLOURS, sheet

MEASURES = {  # column → the axis of its panel
    "lead": "points above the bar{} (better →)\ngrey: too small to detect",
    "righter": "accuracy{}, points (better →)",
    "longer": "length{}, tokens (better ←)",
}
LETTERS = 21  # of a row's name, on one line


def draw_contrasts(
    message: str, rows: pd.DataFrame, names: Sequence[str], single: Sequence[pd.DataFrame] = (), less: str = ""
) -> Figure:
    """The measures of each row with their 95 % intervals; the panels in points have the same scale.

    rows: the columns of :data:`MEASURES` with ``_low`` and ``_high``, and detectable. names: of the rows. single: for
    each row the parts that it is the mean of, with the same columns; they are drawn as small marks. less: what all rows
    are compared with, as the axes have it.
    """
    labels = [fill(figure_text(name), LETTERS) for name in names]
    height = 0.26 * sum(label.count("\n") + 1.3 for label in labels)
    figure, panels = sheet(message, 2.0 + 3 * height, len(MEASURES))
    places = len(rows) - 1 - np.arange(len(rows))
    for axes, (what, label) in zip(panels, MEASURES.items(), strict=True):
        if what == "lead":
            axes.barh(places, 2 * rows["detectable"], left=-rows["detectable"], height=0.75, color="0.88", lw=0)
        for place, part in zip(places, single, strict=False):
            axes.plot(part[what], [place - 0.28] * len(part), "|", color=COLOURS["frontier"], ms=8, mew=1.5)
        arms = np.maximum([rows[what] - rows[f"{what}_low"], rows[f"{what}_high"] - rows[what]], 0)
        style: dict[str, Any] = {"fmt": "D", "color": COLOURS["acm"], "capsize": 3, "ms": 6}
        axes.errorbar(rows[what], places, xerr=arms, **style)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_yticks(places, labels)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(label.format(less))
    same_scale(panels[:2])
    return figure


def same_scale(panels: Sequence[Axes]) -> None:
    """Give panels one horizontal range, which holds that of each."""
    ends = np.array([axes.get_xlim() for axes in panels])
    for axes in panels:
        axes.set_xlim(ends.min(), ends.max())
