"""Draws accuracy against length reduction, and accuracy alone where the lengths are alike."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.escaping import figure_text, literal
from acm.reporting.messages import on_accuracy, on_trade_off
from acm.reporting.plotting import COLOURS, MARKERS, TEXT, family, label_points, mark_better, sheet
from acm.reporting.statistics import Sample, above_bar, average, describe, length_change, share, verdict

FLAT = 0.05  # a length reduction below this, of all models, has no axis
MARK = 9.0  # points: size of a marker, and how near two markers are one
ORDER = ("acm", "control", "baseline")  # which family's method gives a mark its place and its first colour
LETTERS = 18  # of a label's line


def trade_off(sample: Sample, methods: list[str], parents: list[str], frontier: list[str], reference: str) -> Figure:
    """Accuracy against length reduction, means over tasks, with 95 % intervals on both axes.

    Methods whose markers would overlap have one, at the place of the first. reference: the model that lengths compare
    with. The axes are the same for all experiments. Where all lengths are alike, :func:`accuracy_alone`.
    """
    everything = [*parents, *methods, *frontier]
    if alike(sample, reference):
        return accuracy_alone(sample, methods, parents, frontier)
    pair = len(parents) == 2
    line = "plain interpolation" if pair else "one λ for all task vectors"
    asked = [m for m in methods if family(m) == "acm"] or [m for m in methods if family(m) == "baseline"] or methods
    verdicts = {m: verdict(above_bar(sample, m, frontier)) for m in asked}
    what = "ACM merge" if any(family(m) == "acm" for m in asked) else "merge"
    figure, (axes,) = sheet(on_trade_off(verdicts, what, line), 6.0)
    points = pd.DataFrame({m: point(sample, m, reference) for m in everything}).T
    axes.set(xlabel=fill(f"length reduction against {figure_text(reference)}, %", 50), ylabel="accuracy, %")
    axes.set(xlim=(min(-5, points["x_low"].min() - 3), max(90, points["x_high"].max() + 3)), ylim=(0, 108))
    figure.draw_without_rendering()
    draw_curve(axes, points.loc[frontier], f"{line},\nλ swept", points.loc[[*parents, *methods]])
    for names in coinciding(axes, points, [*parents, *sorted(methods, key=lambda m: rank(m))]):
        draw_mark(axes, points.T[names[0]], names, parents)
    mark_better(axes)
    label_points(axes, TEXT)
    return figure


def alike(sample: Sample, reference: str) -> bool:
    """Whether the lengths of all models differ too little to be an axis."""
    return max(abs(length_change(sample, m, reference)[0]) for m in sample.methods) < FLAT


def rank(method: str) -> int:
    """Where a method's family stands in :data:`ORDER`."""
    return ORDER.index(kind) if (kind := family(method)) in ORDER else len(ORDER)


def coinciding(axes: Axes, points: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Names in groups whose markers would overlap the marker of the first of the group."""
    groups: list[list[str]] = []
    scale = axes.figure.get_dpi() / 72  # pixels of a point
    places = axes.transData.transform(points.loc[list(names), ["x", "y"]].to_numpy(float)) / scale
    at = dict(zip(names, places, strict=True))
    for name in names:
        near = (group for group in groups if np.hypot(*(at[group[0]] - at[name])) < MARK)
        if (group := next(near, None)) is not None:
            group.append(name)
        else:
            groups.append([name])
    return groups


def draw_curve(axes: Axes, curve: pd.DataFrame, name: str, marked: pd.DataFrame) -> None:
    """The frontier with its band. Its name stands at the point that is farthest from every other mark."""
    colour = COLOURS["frontier"]
    axes.fill_between(curve["x"], curve["y_low"], curve["y_high"], color=colour, alpha=0.18, lw=0, zorder=0)
    axes.plot(curve["x"], curve["y"], ".-", color=colour, lw=1.5, zorder=1)
    places, others = (axes.transData.transform(part[["x", "y"]].to_numpy(float)) for part in (curve, marked))
    apart = np.array([np.hypot(*(others - place).T).min() for place in places])
    axes.plot(*curve[["x", "y"]].iloc[int(apart.argmax())], ".", color=colour, gid=name)


def draw_mark(axes: Axes, place: pd.Series, names: list[str], parents: list[str]) -> None:
    """One marker with error bars for all names, in the colours of the first two families among them."""
    kinds = list(dict.fromkeys("parent" if m in parents else family(m) for m in names))
    arms: dict[str, Any] = {s: [[place[s[0]] - place[f"{s[0]}_low"]], [place[f"{s[0]}_high"] - place[s[0]]]]
                            for s in ("xerr", "yerr")}  # fmt: skip
    colour, other = COLOURS[kinds[0]], COLOURS[kinds[-1] if len(kinds) == 1 else kinds[1]]
    style: dict[str, Any] = {"color": colour, "markerfacecoloralt": other, "fillstyle": "left", "ms": MARK, "mew": 0}
    bars = axes.errorbar(place.x, place.y, fmt=MARKERS[kinds[0]], elinewidth=0.9, zorder=3, **arms, **style)
    bars.lines[0].set_gid(fill(", ".join(map(literal, names)), LETTERS, break_on_hyphens=False, break_long_words=False))


def accuracy_alone(sample: Sample, methods: list[str], parents: list[str], frontier: list[str]) -> Figure:
    """Accuracy with its 95 % interval, a row for each model; the best is on top. Equal models share a row."""
    swept = [m for m in frontier if m not in parents]
    chosen = [m for m in methods if family(m) == "acm"] or methods
    one, acm = (max(names, key=lambda m: average(sample, m)[0]) for names in (swept, chosen))
    found = {m: share(sample, m) for m in sample.methods}
    difference = describe(average(sample, acm) - average(sample, one))
    names = (shown_name(one), acm)
    message = on_accuracy(found[one]["value"], found[acm]["value"], difference, names)
    rows: dict[tuple[float, float], list[str]] = {}
    for m in sorted([*parents, *methods, *swept], key=lambda m: found[m]["value"]):
        rows.setdefault((found[m]["value"], average(sample, m, "length")[0]), []).append(m)
    figure, (axes,) = sheet(message, 1.0 + 0.31 * len(rows))
    for height, members in enumerate(rows.values()):
        kind = "parent" if members[0] in parents else family(members[0])
        value, low, high = (found[members[0]][key] for key in ("value", "low", "high"))
        style: dict[str, Any] = {"color": COLOURS[kind], "fmt": {"frontier": "o"}.get(kind, MARKERS[kind]), "ms": MARK}
        axes.errorbar(value, height, xerr=[[value - low], [high - value]], **style)
    labels = [figure_text(", ".join(map(shown_name, members))) for members in rows.values()]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlabel="accuracy, %")
    mark_better(axes, "→")
    return figure


def shown_name(method: str) -> str:
    """A method's name, and in words that of a point of the frontier."""
    kind, _, value = method.partition("-")
    return f"single λ = {value}" if kind == "frontier" else method


def point(sample: Sample, method: str, reference: str) -> dict[str, float]:
    """x (length reduction, percent) and y (accuracy, percent) of a method, with ``_low`` and ``_high`` (95 %)."""
    x, y = describe(-length_change(sample, method, reference)), share(sample, method)
    ends = {f"{side}_{end}": found[end] for side, found in (("x", x), ("y", y)) for end in ("low", "high")}
    return {"x": x["value"], "y": y["value"], **ends}


def draw_points(
    axes: Axes, points: pd.DataFrame, names: list[str], parents: list[str], frontier: list[str], labelled: list[str]
) -> None:
    """The frontier's curve with its band, and a marker with error bars for each name.

    points: x, y and their ``_low`` and ``_high`` of each name. Markers of ``labelled`` names get them as gid.
    """
    curve = points.loc[frontier]
    colour = COLOURS["frontier"]
    axes.fill_between(curve["x"], curve["y_low"], curve["y_high"], color=colour, alpha=0.18, lw=0, zorder=0)
    axes.plot(curve["x"], curve["y"], ".-", color=colour, lw=1.5, zorder=1)
    for name in names:
        kind = "parent" if name in parents else family(name)
        p = points.loc[name]
        arms: dict[str, Any] = {}
        for side in "xy":
            arms[f"{side}err"] = [[p[side] - p[f"{side}_low"]], [p[f"{side}_high"] - p[side]]]
        style = {"color": COLOURS[kind], "ms": 7, "elinewidth": 0.9, "alpha": 0.9, "zorder": 3}
        bars = axes.errorbar(p.x, p.y, fmt=MARKERS[kind], **arms, **style)
        bars.lines[0].set_gid(literal(name) if name in labelled else None)
