"""Figures from records and coefficients alone: frame in, matplotlib Figure out. No model is run here."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from acm import statistics
from acm.coefficients import coefficients_from_table
from acm.plotting import COLOURS, MARKERS, family
from acm.statistics import Sample, describe

CONTROL_NAMES = {"none": "real pair", "shuffled": "null: tokens shuffled", "gaussian": "null: independent Gaussians"}


def trade_off(sample: Sample, methods: list[str], parents: list[str], frontier: list[str], reference: str) -> Figure:
    """Average accuracy against length reduction, with the frontier curve and 95 % intervals on both axes."""
    figure, axes = plt.subplots(figsize=(9, 6))
    points = pd.DataFrame({m: point(sample, m, reference) for m in sample.methods}).T
    curve = points.loc[frontier]
    axes.plot(curve["x"], curve["y"], color=COLOURS["frontier"], lw=1.5, zorder=1, label="frontier: plain interpolation, λ swept")
    axes.fill_between(curve["x"], curve["y_low"], curve["y_high"], color=COLOURS["frontier"], alpha=0.18, lw=0, zorder=0)
    swept = [m for m in frontier if m not in parents]
    axes.scatter(points.loc[swept, "x"], points.loc[swept, "y"], s=12, color=COLOURS["frontier"], zorder=2)
    for name in [*parents, *methods]:
        kind = "parent" if name in parents else family(name)
        p = points.loc[name]
        axes.errorbar(p.x, p.y, xerr=[[p.x - p.x_low], [p.x_high - p.x]], yerr=[[p.y - p.y_low], [p.y_high - p.y]],
                      fmt=MARKERS[kind], color=COLOURS[kind], ms=7, elinewidth=0.9, alpha=0.9, zorder=3)  # fmt: skip
    place_labels(axes, points.loc[[*parents, *methods]])
    for kind, label in (
        ("parent", "parents"),
        ("baseline", "baselines"),
        ("acm", "ACM"),
        ("control", "null control (λ from Gaussian noise)"),
    ):
        axes.plot([], [], MARKERS[kind], color=COLOURS[kind], label=label)
    axes.legend(loc="lower left", fontsize=9)
    axes.set(xlabel=f"length reduction against {reference}, % (mean over tasks)", ylabel="accuracy, % (mean over tasks)")
    return figure


def point(sample: Sample, method: str, reference: str) -> dict[str, float]:
    x = describe(-statistics.length_change(sample, method, reference))
    y = describe(statistics.average(sample, method))
    return {f"{axis}{end}": d[key] for axis, d in (("x", x), ("y", y)) for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}


def place_labels(axes: plt.Axes, points: pd.DataFrame) -> None:
    """Write each point's name beside it, at the nearest of a ring of places that hits no other label or point."""
    figure = axes.figure
    figure.canvas.draw()
    taken = [axes.transData.transform(xy) for xy in points[["x", "y"]].to_numpy(float)]
    boxes: list = []
    for name, p in points.iterrows():
        for radius in (9, 22, 36, 52, 70, 90):
            for angle in np.deg2rad([0, 180, 60, 120, 240, 300, 90, 270]):
                dx, dy = radius * np.cos(angle), radius * np.sin(angle)
                text = axes.annotate(name, (p.x, p.y), (dx, dy), textcoords="offset points", fontsize=9, va="center",
                                     ha="left" if dx > 1 else "right" if dx < -1 else "center",
                                     arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "#777777"} if radius > 9 else None)  # fmt: skip
                box = plt.Text.get_window_extent(text).expanded(1.03, 1.1)
                inside = (
                    axes.bbox.containsx(box.x0)
                    and axes.bbox.containsx(box.x1)
                    and axes.bbox.containsy(box.y0)
                    and axes.bbox.containsy(box.y1)
                )
                if inside and not any(box.overlaps(b) for b in boxes) and not any(box.contains(*xy) for xy in taken):
                    boxes.append(box)
                    break
                text.remove()
            else:
                continue
            break


def coefficients_by_layer(table: pd.DataFrame, shift: str = "layer", temperatures: tuple[float, ...] = (0.5, 0.7, 0.9)) -> Figure:
    """λ of each layer for several t, the real pair beside the null controls."""
    rows = [
        {"layer": layer, "λ": value, "t": t, "activations": CONTROL_NAMES[control], "finetuned": finetuned}
        for t in temperatures
        for control in CONTROL_NAMES
        for finetuned, layers in coefficients_from_table(table, t, shift, control).items()
        for layer, value in layers.items()
    ]
    grid = sns.relplot(
        pd.DataFrame(rows), x="layer", y="λ", hue="activations", style="activations", col="t", kind="line", markers=True,
        dashes=False, height=3.6, aspect=1.05, palette=[COLOURS["acm"], COLOURS["control"], COLOURS["frontier"]], errorbar=None,
    )  # fmt: skip
    grid.set_titles("t = {col_name}").set_axis_labels("layer", "coefficient λ")
    grid.tick_params(axis="x", rotation=60)
    sns.move_legend(grid, "lower center", ncol=3, title=None, bbox_to_anchor=(0.5, -0.08))
    return grid.figure


def coefficient_strips(coefficients: dict[str, dict[str, float]]) -> Figure:
    """λ of each layer as one heat strip for each fine-tuned model."""
    frame = pd.DataFrame(coefficients).T
    figure, axes = plt.subplots(figsize=(9, 1.1 + 0.75 * len(frame)))
    sns.heatmap(frame, annot=True, fmt=".3f", cmap="cividis", linewidths=1.5, annot_kws={"size": 9}, cbar_kws={"label": "λ"}, ax=axes)
    axes.set(xlabel="layer", ylabel="")
    axes.tick_params(axis="y", rotation=0)
    return figure


def scaling_sweep(sample: Sample, swept: dict[float, str]) -> Figure:
    """Task arithmetic with its scaling swept: accuracy as bars, mean length as a line on its own axis."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    names = [f"{scaling:g}" for scaling in swept]
    accuracy = pd.DataFrame([describe(statistics.average(sample, m)) for m in swept.values()])
    length = pd.DataFrame([describe(statistics.average(sample, m, "length"), 1) for m in swept.values()])
    axes.bar(names, accuracy["value"], color=COLOURS["baseline"], alpha=0.75, yerr=spread(accuracy), capsize=3, label="accuracy")
    axes.set(xlabel="scaling of the task vector", ylabel="accuracy, %", ylim=(0, 100))
    twin = axes.twinx()
    twin.errorbar(names, length["value"], yerr=spread(length), fmt="D-", color=COLOURS["acm"], capsize=3, label="length")
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
    figure, panels = plt.subplots(1, 3, figsize=(12, 4))
    for axes, (column, label) in zip(
        panels, (("length", "length, tokens"), ("right", "accuracy, %"), ("reflecting", "reflecting responses, %")), strict=True
    ):
        sns.pointplot(data, x="steps", y=column, hue="method", hue_order=methods, dodge=0.3, errorbar=("ci", 95), seed=0,
                      n_boot=500, palette="colorblind", markers=["s", "s", "o", "X", "D", "^", "v"][: len(methods)], err_kws={"lw": 1},
                      markersize=5, linewidth=1.3, ax=axes, legend=axes is panels[0])  # fmt: skip
        axes.set(xlabel="steps in the problem", ylabel=label, ylim=(0, None))
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncol=len(methods))
    return figure
