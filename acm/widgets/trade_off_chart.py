"""What the chart of the trade-off explorer is told: accuracy against length, on axes that stay where they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from acm.reporting.plotting import family
from acm.widgets.chart import Chip, plain, reach, rounded
from acm.widgets.trade_off import ENDS, LENGTH, MEAN, Points, Source

HEIGHT = 400  # pixels
STEP = 20  # what a lower cap pushes out of the picture moves an axis by so much at a time
INTERPOLATION = "plain interpolation"


def chip_of(method: str, parents: Sequence[str]) -> Chip:
    """The chip of a method, with the marker of its family."""
    return {"name": method, "family": "parent" if method in parents else family(method)}


def chips(methods: Sequence[str], parents: Sequence[str], swept: Sequence[str]) -> list[Chip]:
    """A chip for each method; the λ swept have one together."""
    single = [chip_of(method, parents) for method in methods if method not in swept]
    together = {"name": INTERPOLATION, "label": f"λ swept ({len(swept)})", "family": "frontier"}
    return [*single, together] if swept else single


def methods_of(chosen: Iterable[str], methods: Sequence[str], swept: Sequence[str]) -> list[str]:
    """The methods that the chosen chips stand for, in their own order."""
    names = set(chosen) | (set(swept) if INTERPOLATION in set(chosen) else set())
    return [method for method in methods if method in names]


Ranges = tuple[list[float], list[float]]  # of length and of accuracy


def home(data: Source, reduction: bool) -> Ranges:
    """The ranges that hold all methods on each task, and their means over all tasks with intervals."""
    single, means = data.ends(None, reduction), data.points(data.methods, data.tasks, None, reduction).table
    x, y = (reach(pd.concat([single[axis], *(means[name] for name in ENDS if name[0] == axis)])) for axis in "xy")
    return x, y


def axes(data: Source, ranges: Ranges, cap: int | None, reduction: bool) -> Ranges:
    """The ranges for all methods and tasks of these results, whichever are chosen.

    ranges: those of :func:`home`. Under a lower cap they grow where something would lie outside, by steps.
    """
    if cap is None:
        return ranges
    now = data.ends(cap, reduction)
    return wider(ranges[0], now["x"]), wider(ranges[1], now["y"])


def wider(home: list[float], values: pd.Series) -> list[float]:
    """The range, and as many steps more on each side as hold these values."""
    below, above = home[0] - float(values.min()), float(values.max()) - home[1]
    low, high = (STEP * max(0, float(np.ceil(over / STEP))) for over in (below, above))
    return [home[0] - low, home[1] + high]


def trade_off_chart(points: Points, ranges: Ranges, label: str) -> dict[str, Any]:
    """The chart. ranges: of length and accuracy. label: what it shows, for a screen reader."""
    table, tokens = points.table, points.xlabel.startswith(LENGTH)
    curve = table.loc[points.frontier]
    names = [{"name": INTERPOLATION, "family": "frontier", "points": rounded(curve[["x", "y"]].to_numpy(float))}]
    known = curve[["y_low", "y_high"]].notna().to_numpy().all()
    band = {"name": INTERPOLATION, "family": "frontier", "points": rounded(curve[["x", "y_low", "y_high"]].to_numpy())}
    return {
        "label": label,
        "height": HEIGHT,
        "zoomable": True,
        "x": {"label": points.xlabel.removesuffix(MEAN), "range": ranges[0], "better": "left" if tokens else "right"},
        "y": {"label": "accuracy, %", "range": ranges[1], "better": "up"},
        "lines": [names[0] | {"label": INTERPOLATION}] if len(curve) else [],
        "bands": [band] if len(curve) and known else [],
        "points": [point(points, str(name)) for name in table.index],
    }


def point(points: Points, name: str) -> dict[str, Any]:
    """The point of a method; the λ swept have no name and no interval beside them."""
    ends = {key: plain(points.rows[name][key]) for key in ENDS}
    swept = name in points.frontier and name not in points.parents
    if swept:
        ends = {key: ends[key] for key in "xy"}
    camel = {key.replace("_low", "Low").replace("_high", "High"): value for key, value in ends.items()}
    return {**chip_of(name, points.parents), **camel, "hint": points.hint(name), "label": not swept}
