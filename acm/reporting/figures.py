"""Draws the figures of an experiment from its records and coefficients. No model is run here.

Each figure is a function and a row of :data:`FIGURES`. Notebook 6 draws every row that applies to an experiment, so a
new figure is one function and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.escaping import figure_text, literal
from acm.reporting.plotting import COLOURS, MARKERS, control_title, family, label_points, save_figure
from acm.reporting.results import Results
from acm.reporting.statistics import Sample, average, describe, length_change, share
from acm.reporting.thinking import closed_thinking, thinks

FAMILIES = {  # family of methods → its name in the legend
    "parent": "parents",
    "baseline": "baselines",
    "acm": "ACM",
    "control": "null control: λ from Gaussian noise",
}
MEAN = "% (mean over tasks)"
WIDTH = 62  # characters of an axis label's line


def trade_off(sample: Sample, methods: list[str], parents: list[str], frontier: list[str], reference: str) -> Figure:
    """Accuracy against length reduction, means over tasks, with 95 % intervals on both axes.

    Left all models, right the merged models enlarged. reference: the model that lengths compare with.
    """
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.8))
    points = pd.DataFrame({m: point(sample, m, reference) for m in sample.methods}).T
    for axes, labelled in zip(panels, (parents, methods), strict=True):
        draw_points(axes, points, [*parents, *methods], parents, frontier, labelled)
        label = fill(f"length reduction against {figure_text(reference)}, {MEAN}", WIDTH)
        axes.set(xlabel=label, ylabel=f"accuracy, {MEAN}")
    shown = {family(m) for m in methods} | {"parent"}
    handles = [
        panels[0].plot([], [], MARKERS[kind], color=COLOURS[kind], label=text)[0]
        for kind, text in FAMILIES.items()
        if kind in shown
    ]
    swept = "frontier: plain interpolation, λ swept" if len(parents) == 2 else "one λ for all task vectors, swept"
    curve = panels[0].plot([], [], ".-", color=COLOURS["frontier"], label=swept)
    figure.legend(handles=curve + handles, loc="outside lower center", ncol=5, fontsize=10)
    panels[0].set_title("all")
    panels[1].set_title("the merged models, enlarged")
    enlarge(panels[1], points.loc[methods])
    for axes in panels:
        label_points(axes)
    return figure


def enlarge(axes: Axes, points: pd.DataFrame) -> None:
    """Let the axes show these points with their intervals, and a margin."""
    for side, setter in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low, high = points[f"{side}_low"].min(), points[f"{side}_high"].max()
        setter(low - 0.12 * (high - low) - 0.5, min(high + 0.12 * (high - low) + 0.5, 101))


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


def point(sample: Sample, method: str, reference: str) -> dict[str, float]:
    """x (length reduction, percent) and y (accuracy, percent) of a method, with ``_low`` and ``_high`` (95 %)."""
    x, y = describe(-length_change(sample, method, reference)), share(sample, method)
    return {
        "x": x["value"],
        "x_low": x["low"],
        "x_high": x["high"],
        "y": y["value"],
        "y_low": y["low"],
        "y_high": y["high"],
    }


def coefficients_by_layer(
    table: pd.DataFrame,
    shift: str = "layer",
    temperatures: Sequence[float] = (0.5, 0.7, 0.9),
    estimator: str = "plug-in",
) -> Figure:
    """λ of each layer for several t, the real pair beside the null controls.

    table: mutual information as :func:`acm.calibrate` returns it. One row of panels for each fine-tuned model.
    """
    models = list(table["finetuned"].unique())
    shape = len(models), len(temperatures)
    size = 3.7 * shape[1], 0.9 + 2.7 * shape[0]
    figure, grid = plt.subplots(*shape, figsize=size, sharex=True, sharey="row", squeeze=False)
    colours = [COLOURS[kind] for kind in ("acm", "control", "frontier", "baseline", "parent")]
    for k, t in enumerate(temperatures):
        for control, colour, marker in zip(COEFFICIENT_CONTROLS, colours, "D^osv", strict=False):
            for model, layers in coefficients_from_table(table, t, shift, control, estimator).items():
                axes = grid[models.index(model), k]
                style = {"marker": marker, "ms": 5, "color": colour, "label": control_title(control)}
                axes.plot(list(layers), list(layers.values()), **style)
                axes.set_title(f"{figure_text(model)}, t = {t:g}", fontsize=11)
                name_layers(axes, list(layers))
    for axes in grid[:, 0]:
        axes.set_ylabel("coefficient λ")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    return figure


def name_layers(axes: Axes, layers: list[str]) -> None:
    """Layers along the horizontal axis. Of more than 15 only the first, the last and each fifth block are named."""
    named = list(range(len(layers)))
    if len(layers) > 15:
        fifths = [i for i, layer in enumerate(layers) if layer.isdigit() and int(layer) % 5 == 0 < int(layer)]
        named = [0, *fifths, len(layers) - 1]
    axes.set_xticks(named, [layers[i] for i in named], rotation=60, ha="right", rotation_mode="anchor")


def coefficient_strips(coefficients: dict[str, dict[str, float]]) -> Figure:
    """λ of each layer as one heat strip for each fine-tuned model."""
    frame = pd.DataFrame(coefficients).T
    figure, axes = plt.subplots(figsize=(9, 1.1 + 0.75 * len(frame)))
    style = {"cmap": "cividis", "linewidths": 1.5, "cbar_kws": {"label": "coefficient λ"}}
    sns.heatmap(frame, annot=frame.shape[1] <= 15, fmt=".3f", annot_kws={"size": 9}, ax=axes, **style)
    axes.set(xlabel="layer", ylabel="")
    axes.tick_params(axis="y", rotation=0)
    return figure


def scaling_sweep(sample: Sample, swept: dict[float, str]) -> Figure:
    """Task arithmetic with its scaling swept: accuracy as bars, mean length as a line on its own axis."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    names = [f"{scaling:g}" for scaling in swept]
    accuracy = pd.DataFrame([share(sample, m) for m in swept.values()])
    length = pd.DataFrame([describe(average(sample, m, "length"), 1) for m in swept.values()])
    bars = {"color": COLOURS["baseline"], "alpha": 0.75, "capsize": 3, "label": "accuracy"}
    axes.bar(names, accuracy["value"], yerr=spread(accuracy), **bars)
    axes.set(xlabel="scaling of the task vector", ylabel="accuracy, %", ylim=(0, 100))
    twin = axes.twinx()
    line = {"fmt": "D-", "color": COLOURS["acm"], "capsize": 3, "label": "length"}
    twin.errorbar(names, length["value"], yerr=spread(length), **line)
    twin.set(ylabel="mean length, tokens", ylim=(0, None))
    twin.grid(False)
    handles = [h for a in (axes, twin) for h in a.get_legend_handles_labels()[0]]
    figure.legend(handles, ["accuracy (left)", "length (right)"], loc="outside upper center", ncol=2)
    return figure


def spread(described: pd.DataFrame) -> np.ndarray:
    """Lengths of error bars (2, n) from the columns value, low and high."""
    return np.abs(np.vstack([described["value"] - described["low"], described["high"] - described["value"]]))


STEPS = {"length": "length, tokens", "right": "accuracy, %", "reflecting": "reflecting responses, %"}


def by_steps(records: pd.DataFrame, methods: list[str]) -> Figure:
    """Length, accuracy and share of reflecting responses by the number of steps that a problem takes."""
    data = records[records["method"].isin(methods)].assign(
        reflecting=lambda r: (r["reflections"] > 0) * 100.0, right=lambda r: r["correct"] * 100.0
    )
    # repeats are averaged: they are no further items
    kept = {"steps": "first", "length": "mean", "right": "mean", "reflecting": "mean"}
    data = data.groupby(["method", "task", "item"], as_index=False, sort=False).agg(kept)
    figure, panels = plt.subplots(1, 3, figsize=(12, 4))
    drawn = {"x": "steps", "hue": "method", "hue_order": methods, "dodge": 0.3, "palette": "colorblind"}
    interval = {"errorbar": ("ci", 95), "seed": 0, "n_boot": 500, "err_kws": {"lw": 1}}
    style = {"markers": [*"ssoXD^vPh<>"][: len(methods)], "markersize": 5, "linewidth": 1.3}
    for axes, (column, label) in zip(panels, STEPS.items(), strict=True):
        sns.pointplot(data, y=column, ax=axes, legend=axes is panels[0], **drawn, **interval, **style)
        axes.set(xlabel="steps in the problem", ylabel=label, ylim=(-0.04 * axes.get_ylim()[1], None))
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncol=len(methods))
    return figure


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn for each experiment.

    name: its stem among the saved files. title: what the notebook calls it. draw: the figure from the results.
    caption: its caption. applies: whether the results have what it shows.
    """

    name: str
    title: str
    draw: Callable[[Results], Figure]
    caption: Callable[[Results], str]
    applies: Callable[[Results], bool] = lambda results: True


FIGURES = {
    drawing.name: drawing
    for drawing in (
        Drawing(
            "trade_off",
            "Accuracy against length reduction",
            lambda r: trade_off(
                r.sample, list(r.experiment.methods), list(r.experiment.parents), r.frontier, r.experiment.reference
            ),
            lambda r: r.caption(
                "Accuracy against length reduction, the mean over tasks of 1 − length / length of the reference. "
                "Verdicts "
                "compare at equal mean length in tokens, so a point a little above the curve need not be above the "
                "frontier."
            ),
        ),
        Drawing(
            "coefficients",
            "Coefficients against layer, with the null controls",
            lambda r: coefficients_by_layer(r.information, r.experiment.shift, r.temperatures, r.experiment.estimator),
            lambda r: r.calibration_caption("Coefficients of each layer."),
        ),
        Drawing(
            "strips",
            "Coefficients as strips",
            lambda r: coefficient_strips(r.coefficients["none"]),
            lambda r: r.calibration_caption(f"Coefficients of each layer at t = {r.experiment.t:g}."),
        ),
        Drawing(
            "scaling",
            "The scaling sweep of task arithmetic",
            lambda r: scaling_sweep(r.sample, r.swept),
            lambda r: r.caption("Task arithmetic with its scaling swept."),
        ),
        Drawing(
            "steps",
            "By number of steps",
            lambda r: by_steps(r.records, r.selected),
            lambda r: r.caption("By number of steps in the problem."),
            lambda r: "steps" in r.records and r.records["steps"].nunique() > 1,  # the tasks' items tell it
        ),
        Drawing(
            "thinking",
            "Closed thinking against λ",
            closed_thinking,
            lambda r: r.caption("Responses whose thinking closes, and whose thinking never does, of all responses."),
            thinks,
        ),
    )
}


def draw_all(results: Results, folder: Path) -> Iterator[tuple[Drawing, Figure]]:
    """Draw and save every figure that applies to an experiment, in the order of :data:`FIGURES`.

    Yields each with its row. The figures are closed, so that a notebook shows them once, where it displays them.
    """
    for drawing in FIGURES.values():
        if drawing.applies(results):
            figure = drawing.draw(results)
            save_figure(figure, folder / drawing.name, drawing.caption(results), results.provenance)
            plt.close(figure)
            yield drawing, figure
