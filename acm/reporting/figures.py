"""Figures from records and coefficients alone: frame in, matplotlib Figure out. No model is run here."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.calibration.coefficients import coefficients_from_table
from acm.reporting import statistics
from acm.reporting.plotting import COLOURS, MARKERS, family, label_points
from acm.reporting.statistics import Sample, describe

CONTROL_NAMES = {"none": "real pair", "shuffled": "null: tokens shuffled", "gaussian": "null: independent Gaussians"}


def trade_off(sample: Sample, methods: list[str], parents: list[str], frontier: list[str], reference: str) -> Figure:
    """Average accuracy against length reduction with 95 % intervals on both axes; right, the methods' part enlarged."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.8))
    points = pd.DataFrame({m: point(sample, m, reference) for m in sample.methods}).T
    for axes, labelled in zip(panels, (parents, methods), strict=True):
        draw_points(axes, points, [*parents, *methods], parents, frontier, labelled)
        axes.set(
            xlabel=f"length reduction against {reference}, % (mean over tasks)", ylabel="accuracy, % (mean over tasks)"
        )
    labels = {
        "parent": "parents",
        "baseline": "baselines",
        "acm": "ACM",
        "control": "null control: λ from Gaussian noise",
    }
    shown = {family(m) for m in methods} | {"parent"}
    handles = [
        panels[0].plot([], [], MARKERS[kind], color=COLOURS[kind], label=text)[0]
        for kind, text in labels.items()
        if kind in shown
    ]
    swept = "frontier: plain interpolation, λ swept" if len(parents) == 2 else "one λ for all task vectors, swept"
    curve = panels[0].plot([], [], ".-", color=COLOURS["frontier"], label=swept)
    figure.legend(handles=curve + handles, loc="outside lower center", ncol=5, fontsize=10)
    panels[0].set_title("all")
    panels[1].set_title("the merged models, enlarged")
    spread = points.loc[methods]
    for side, setter in (("x", panels[1].set_xlim), ("y", panels[1].set_ylim)):
        low, high = spread[f"{side}_low"].min(), spread[f"{side}_high"].max()
        setter(low - 0.12 * (high - low) - 0.5, min(high + 0.12 * (high - low) + 0.5, 101))
    for axes in panels:
        label_points(axes)
    return figure


def draw_points(axes: plt.Axes, points: pd.DataFrame, names: list[str], parents: list[str], frontier: list[str],
                labelled: list[str]) -> None:  # fmt: skip
    """The frontier's curve with its band, and a marker with error bars for each name; ``labelled`` ones get a gid."""
    curve = points.loc[frontier]
    axes.fill_between(
        curve["x"], curve["y_low"], curve["y_high"], color=COLOURS["frontier"], alpha=0.18, lw=0, zorder=0
    )
    axes.plot(curve["x"], curve["y"], ".-", color=COLOURS["frontier"], lw=1.5, zorder=1)
    for name in names:
        kind = "parent" if name in parents else family(name)
        p = points.loc[name]
        bars = axes.errorbar(p.x, p.y, xerr=[[p.x - p.x_low], [p.x_high - p.x]], yerr=[[p.y - p.y_low], [p.y_high - p.y]],
                      fmt=MARKERS[kind], color=COLOURS[kind], ms=7, elinewidth=0.9, alpha=0.9, zorder=3)  # fmt: skip
        bars.lines[0].set_gid(name if name in labelled else None)


def point(sample: Sample, method: str, reference: str) -> dict[str, float]:
    x = describe(-statistics.length_change(sample, method, reference))
    y = statistics.share(sample, method)
    return {
        f"{axis}{end}": d[key]
        for axis, d in (("x", x), ("y", y))
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def coefficients_by_layer(table: pd.DataFrame, shift: str = "layer", temperatures: Sequence[float] = (0.5, 0.7, 0.9),
                          estimator: str = "plug-in") -> Figure:  # fmt: skip
    """λ of each layer for several t, the real pair beside the null controls; a row for each fine-tuned model."""
    models = list(table["finetuned"].unique())
    figure, grid = plt.subplots(
        len(models),
        len(temperatures),
        figsize=(3.7 * len(temperatures), 0.9 + 2.7 * len(models)),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    colours = (COLOURS["acm"], COLOURS["control"], COLOURS["frontier"])
    for k, t in enumerate(temperatures):
        for (control, name), colour, marker in zip(CONTROL_NAMES.items(), colours, "D^o", strict=True):
            for model, layers in coefficients_from_table(table, t, shift, control, estimator).items():
                axes = grid[models.index(model), k]
                axes.plot(list(layers), list(layers.values()), marker=marker, ms=5, color=colour, label=name)
                axes.set_title(f"{model}, t = {t:g}", fontsize=11)
                name_layers(axes, list(layers))
    for axes in grid[:, 0]:
        axes.set_ylabel("coefficient λ")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    return figure


def name_layers(axes: Axes, layers: list[str]) -> None:
    """Layers along the horizontal axis; of many the first, the last and each fifth block."""
    named = range(len(layers))
    if len(layers) > 15:
        named = [
            0,
            *(i for i, layer in enumerate(layers) if layer.isdigit() and int(layer) % 5 == 0 < int(layer)),
            len(layers) - 1,
        ]
    axes.set_xticks(named, [layers[i] for i in named], rotation=60, ha="right", rotation_mode="anchor")


def coefficient_strips(coefficients: dict[str, dict[str, float]]) -> Figure:
    """λ of each layer as one heat strip for each fine-tuned model."""
    frame = pd.DataFrame(coefficients).T
    figure, axes = plt.subplots(figsize=(9, 1.1 + 0.75 * len(frame)))
    sns.heatmap(
        frame,
        annot=frame.shape[1] <= 15,
        fmt=".3f",
        cmap="cividis",
        linewidths=1.5,
        annot_kws={"size": 9},
        cbar_kws={"label": "coefficient λ"},
        ax=axes,
    )
    axes.set(xlabel="layer", ylabel="")
    axes.tick_params(axis="y", rotation=0)
    return figure


def scaling_sweep(sample: Sample, swept: dict[float, str]) -> Figure:
    """Task arithmetic with its scaling swept: accuracy as bars, mean length as a line on its own axis."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    names = [f"{scaling:g}" for scaling in swept]
    accuracy = pd.DataFrame([statistics.share(sample, m) for m in swept.values()])
    length = pd.DataFrame([describe(statistics.average(sample, m, "length"), 1) for m in swept.values()])
    axes.bar(
        names,
        accuracy["value"],
        color=COLOURS["baseline"],
        alpha=0.75,
        yerr=spread(accuracy),
        capsize=3,
        label="accuracy",
    )
    axes.set(xlabel="scaling of the task vector", ylabel="accuracy, %", ylim=(0, 100))
    twin = axes.twinx()
    twin.errorbar(
        names, length["value"], yerr=spread(length), fmt="D-", color=COLOURS["acm"], capsize=3, label="length"
    )
    twin.set(ylabel="mean length, tokens", ylim=(0, None))
    twin.grid(False)
    handles = [h for a in (axes, twin) for h in a.get_legend_handles_labels()[0]]
    figure.legend(handles, ["accuracy (left)", "length (right)"], loc="outside upper center", ncol=2)
    return figure


def spread(described: pd.DataFrame) -> np.ndarray:
    """Error-bar lengths (2, n) from value, low and high."""
    return np.abs(np.vstack([described["value"] - described["low"], described["high"] - described["value"]]))


def by_steps(records: pd.DataFrame, methods: list[str]) -> Figure:
    """Length, accuracy and share of reflecting responses by the number of steps that a problem takes."""
    data = records[records["method"].isin(methods)].assign(
        reflecting=lambda r: (r["reflections"] > 0) * 100.0, right=lambda r: r["correct"] * 100.0
    )
    # repeats are averaged: they are no further items
    kept = {"steps": "first", "length": "mean", "right": "mean", "reflecting": "mean"}
    data = data.groupby(["method", "task", "item"], as_index=False, sort=False).agg(kept)
    figure, panels = plt.subplots(1, 3, figsize=(12, 4))
    for axes, (column, label) in zip(
        panels,
        (("length", "length, tokens"), ("right", "accuracy, %"), ("reflecting", "reflecting responses, %")),
        strict=True,
    ):
        sns.pointplot(data, x="steps", y=column, hue="method", hue_order=methods, dodge=0.3, errorbar=("ci", 95), seed=0,
                      n_boot=500, palette="colorblind", markers=[*"ssoXD^vPh<>"][: len(methods)], err_kws={"lw": 1},
                      markersize=5, linewidth=1.3, ax=axes, legend=axes is panels[0])  # fmt: skip
        axes.set(xlabel="steps in the problem", ylabel=label, ylim=(-0.04 * axes.get_ylim()[1], None))
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncol=len(methods))
    return figure
