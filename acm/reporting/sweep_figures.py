"""Draws what changes along an axis: the scaling of task arithmetic, and the number of steps of a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.escaping import figure_text
from acm.reporting.messages import on_scaling, on_steps
from acm.reporting.plotting import COLOURS, HALO, TEXT, WIDE, family, mark_better, sheet
from acm.reporting.statistics import Sample, average, describe, share

STEPS = {"right": "accuracy, % (better ↑)", "length": "length, tokens (better ↓)", "reflecting": "reflecting, %"}
LETTER = 0.62  # width of a letter over its height
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def scaling_sweep(sample: Sample, swept: dict[float, str]) -> Figure:
    """Task arithmetic with its scaling swept: accuracy above, mean length below, with 95 % intervals."""
    accuracy = pd.DataFrame([share(sample, m) for m in swept.values()], list(swept))
    length = pd.DataFrame([describe(average(sample, m, "length"), 1) for m in swept.values()], list(swept))
    message = on_scaling(*(dict(zip(swept, found["value"], strict=True)) for found in (accuracy, length)))
    figure, (upper, lower) = sheet(message, 5.4, 2, sharex=True)
    for axes, found, label, top in ((upper, accuracy, "accuracy, %", 105), (lower, length, "length, tokens", None)):
        style: dict[str, Any] = {"fmt": "o-", "color": COLOURS["baseline"], "ms": 7, "capsize": 3}
        axes.errorbar(list(swept), found["value"], yerr=spread(found), **style)
        axes.set(ylabel=label, ylim=(0, top))
    mark_better(upper, "↑")
    mark_better(lower, "↓")
    lower.set_xlabel("scaling λ of the task vector")
    lower.set_xticks(list(swept))
    return figure


def spread(described: pd.DataFrame) -> np.ndarray:
    """Lengths of error bars (2, n) from the columns value, low and high."""
    return np.abs(np.vstack([described["value"] - described["low"], described["high"] - described["value"]]))


def by_steps(records: pd.DataFrame, methods: list[str], parents: Sequence[str] = ()) -> Figure:
    """Accuracy, length and share of reflecting responses by the number of steps that a problem takes."""
    data = records[records["method"].isin(methods)].assign(
        reflecting=lambda r: (r["reflections"] > 0) * 100.0, right=lambda r: r["correct"] * 100.0
    )
    # repeats are averaged: they are no further items
    kept = {"steps": "first", "length": "mean", "right": "mean", "reflecting": "mean"}
    data = data.groupby(["method", "task", "item"], as_index=False, sort=False).agg(kept)
    means = data.groupby(["steps", "method"])[list(STEPS)].mean().unstack("method")
    steps = list(means.index)
    right = means["right"][methods]
    message = on_steps(right.iloc[0].to_dict(), right.iloc[-1].to_dict(), (int(steps[0]), int(steps[-1])))
    figure, panels = sheet(message, 9.6, len(STEPS), sharex=True)
    colours, dashes = line_styles(methods, parents)
    drawn: dict[str, Any] = {"x": "steps", "hue": "method", "hue_order": methods, "legend": False, "markers": "o"}
    interval: dict[str, Any] = {"errorbar": ("ci", 95), "seed": 0, "n_boot": 500, "err_kws": {"lw": 1, "alpha": 0.5}}
    look: dict[str, Any] = {"palette": colours, "linestyles": dashes, "markersize": 4, "linewidth": 1.8}
    for axes, (column, label) in zip(panels, STEPS.items(), strict=True):
        sns.pointplot(data, y=column, ax=axes, **drawn, **interval, **look)
        axes.set(xlabel="", ylabel=label, ylim=(-0.04 * axes.get_ylim()[1], None))
    panels[-1].set_xlabel("steps in the problem")
    letters = min(0.6, (20 + max(map(len, methods)) * LETTER * TEXT) / (62 * WIDE))  # the part of the panel for names
    panels[0].set_xlim(-0.3, (len(steps) - 0.7) / (1 - letters))
    figure.draw_without_rendering()
    for axes, column in zip(panels, STEPS, strict=True):
        label_ends(axes, means[column].iloc[-1][methods].to_dict(), len(steps) - 1, colours)
    return figure


def line_styles(methods: Sequence[str], parents: Sequence[str]) -> tuple[dict[str, str], list[Any]]:
    """The colour of each method's family, and dashes of its own within the family."""
    kinds = ["parent" if m in parents else family(m) for m in methods]
    dashes = [DASHES[kinds[:i].count(kind) % len(DASHES)] for i, kind in enumerate(kinds)]
    return {m: COLOURS[kind] for m, kind in zip(methods, kinds, strict=True)}, dashes


def label_ends(axes: Axes, ends: Mapping[str, float], x: float, colours: Mapping[str, str]) -> None:
    """Write the name of each line to the right of its end, and none over another. ends: name → y."""
    scale = axes.figure.get_dpi() / 72  # pixels of a point
    names = sorted(ends, key=ends.__getitem__)
    wanted = [axes.transData.transform((x, ends[name]))[1] / scale for name in names]
    frame = axes.get_window_extent()
    places = apart(wanted, TEXT + 3, frame.y0 / scale + TEXT / 2, frame.y1 / scale - TEXT / 2)
    for name, height, own in zip(names, places, wanted, strict=True):
        line = {"arrowstyle": "-", "color": colours[name], "lw": 0.7}
        style: dict[str, Any] = {"va": "center", "fontsize": TEXT, "color": colours[name], "path_effects": HALO}
        place: dict[str, Any] = {"xytext": (16, height - own), "textcoords": "offset points", "arrowprops": line}
        axes.annotate(figure_text(name), (x, ends[name]), in_layout=False, **place, **style)


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places between low and high, as near to the wanted ones as a gap between neighbours allows.

    Where there is no room for all, the first stand at ``low`` and the gap stays.
    """

    def start(crowd: Sequence[float]) -> float:
        """Where the lowest of neighbours that touch stands: their middle stays, if there is room."""
        width = gap * (len(crowd) - 1)
        return max(low, min(sum(crowd) / len(crowd) - width / 2, high - width))

    crowds: list[list[float]] = []
    for place in wanted:
        crowds.append([place])
        while len(crowds) > 1 and start(crowds[-1]) < start(crowds[-2]) + gap * len(crowds[-2]):
            last = crowds.pop()
            crowds[-1] += last
    return [start(crowd) + gap * i for crowd in crowds for i in range(len(crowd))]
