"""Counts the responses that close their thinking, and those that never do, by the λ of the merge that wrote them.

    closed      the response has ``</think>``: its thinking ended before the token cap
    open        it began to think and never ended; its answer counts as wrong
    the rest    it did not think

Between a model that thinks and one that does not, this is where a merge may break: it thinks and does not stop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from acm.calibration.registry import UNIFORM
from acm.escaping import literal
from acm.records import coefficients_name, read_coefficients
from acm.reporting.intervals import interval_columns, interval_in, interval_text
from acm.reporting.results import Results
from acm.reporting.statistics import bootstrap, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = {"closed": True, "open": False}  # column → what records say in `thinking_closed`
TITLES = {"closed": "thinking closed, %", "open": "thinking never closed, %"}


def thinks(results: Results) -> bool:
    """Whether any response of an experiment thinks."""
    return bool(results.records["thinking_closed"].notna().any())


def thinking_table(results: Results) -> pd.DataFrame:
    """A row for each model and method, means over tasks.

    Columns: method; mean_coefficient, see :func:`mean_coefficient`; closed and open, percent of all responses, each
    with ``_low`` and ``_high`` (95 %); n, items.
    """
    records, tasks = results.records, results.experiment.tasks
    samples = {}
    for name, state in STATES.items():
        marked = records.assign(correct=records["thinking_closed"].map({state: 1.0}).fillna(0.0).astype(float))
        samples[name] = bootstrap(marked, results.methods, tasks, seed=results.profile.seed)
    rows = []
    for method in results.methods:
        row = {"method": method, "mean_coefficient": mean_coefficient(results, method)}
        for name, found in samples.items():
            row |= interval_columns(name, share(found, method))
        rows.append(row | {"n": sum(samples["closed"].items.values())})
    return pd.DataFrame(rows)


def mean_coefficient(results: Results, method: str) -> float:
    """The mean λ over layers and task vectors of a model, of a point of the frontier, or of task arithmetic.

    NaN for other merges, whose weights mean something else, for fine-tuned models where several are merged, and where
    the file of the coefficients is not there.
    """
    e, swept = results.experiment, {name: value for value, name in results.swept.items()}
    if method in e.parents:
        base = next(iter(e.parents))
        return 0.0 if method == base else 1.0 if results.pair else math.nan
    if method in swept:
        return swept[method]
    merge = e.methods[method]
    if merge.merge_method != "task_arithmetic" or set(merge.parameters) - {"weight"}:
        return math.nan
    if not merge.coefficients:
        return float(merge.parameters.get("weight", 1.0))
    path = results.folder / coefficients_name("none" if merge.coefficients == UNIFORM else merge.coefficients)
    if not path.is_file():
        return math.nan
    return float(np.mean([value for layers in read_coefficients(path).values() for value in layers.values()]))


def wide_thinking(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`thinking_table` as text, a row for each model and method."""
    shown = {"mean λ": table["mean_coefficient"].map(lambda value: "–" if math.isnan(value) else f"{value:.2f}")}
    for name, title in TITLES.items():
        shown[title] = table.apply(lambda row, name=name: interval_text(**interval_in(row, name)), axis=1)
    return pd.DataFrame(shown | {"n": table["n"]}).set_index(table["method"])


def closed_thinking(results: Results) -> Figure:
    """Shares of closed and of open thinking against λ: the frontier as a line, each method at its mean λ."""
    # tables are shown where there is no matplotlib
    from acm.reporting.messages import on_thinking
    from acm.reporting.plotting import COLOURS, MARKERS, TEXT, family, label_points, sheet

    table = thinking_table(results).set_index("method")
    methods = [m for m in results.experiment.methods if not math.isnan(table["mean_coefficient"][m])]
    drawn, parents = [*results.frontier, *methods], list(results.experiment.parents)
    merges = [m for m in drawn if m not in parents]
    most = (table.loc[names, "open"].idxmax() for names in (merges, parents))
    figure, panels = sheet(on_thinking(*(interval_in(table.T[m], "open") for m in most)), 8.0, 2, sharex=True)
    for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
        for method in drawn:
            row = table.T[method]
            kind = "parent" if method in parents else family(method)
            arms = [[max(0.0, row[name] - row[f"{name}_low"])], [max(0.0, row[f"{name}_high"] - row[name])]]
            style = {"color": COLOURS[kind], "fmt": MARKERS[kind], "elinewidth": 0.9, "ms": 7}
            bars = axes.errorbar(row["mean_coefficient"], row[name], yerr=arms, **style)
            bars.lines[0].set_gid(literal(method) if method in (*methods, *parents) else None)
        curve = table.loc[results.frontier].sort_values("mean_coefficient")
        axes.plot(curve["mean_coefficient"], curve[name], "-", color=COLOURS["frontier"], lw=1.3, zorder=1)
        axes.set(ylabel=title + " (better ↓)" * (name == "open"), ylim=(-6, 106), xmargin=0.15)
        label_points(axes, TEXT)
    panels[-1].set_xlabel("mean coefficient λ (line: one λ for all layers)")
    return figure
