"""Draws an inspection of task vectors: what changed where, who is kin to whom, and where two of them disagree.

No model is run here.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.escaping import figure_text
from acm.merging.inspection import ALL, Inspection
from acm.reporting.coefficient_figures import name_layers
from acm.reporting.plotting import COLOURS, PALETTE

KINSHIP = {  # score → its title, the ends of its colours, and its value for two equal task vectors
    "cosine": ("cosine", (-1, 1), 1.0),
    "sign_conflict": ("sign conflict", (0, 1), 0.0),
    "overlap_right": ("overlap of right directions", (0, 1), 1.0),
}


def sizes(found: Inspection) -> Figure:
    """‖δ‖ / ‖θ_0‖ of each kind of module in each layer, one panel for each model, on one scale of colours."""
    rows = found.vectors[(found.vectors["layer"] != ALL) & (found.vectors["kind"] != ALL)]
    layers, kinds = rows["layer"].unique(), rows["kind"].unique()
    figure, grid = panels(len(found.finetuned), (0.9 + 0.4 * len(kinds), 1.2 + 0.3 * len(layers)))
    style = {"cmap": "cividis", "vmin": 0, "vmax": rows["relative_norm"].max(), "linewidths": 0.5, "cbar": False}
    for axes, model in zip(grid, found.finetuned, strict=True):
        frame = rows[rows["model"] == model].pivot(index="layer", columns="kind", values="relative_norm")
        sns.heatmap(frame.reindex(index=layers, columns=kinds), ax=axes, xticklabels=True, **style)
        axes.set(title=figure_text(model), xlabel="", ylabel="")
        axes.tick_params(axis="y", rotation=0)
        axes.set_xticks(axes.get_xticks(), kinds, rotation=60, ha="right", rotation_mode="anchor")
        axes.grid(False)
    figure.supylabel("layer", fontsize=12)
    figure.colorbar(grid[0].collections[0], ax=grid, label="‖δ‖ / ‖θ₀‖")
    return figure


def kinship(found: Inspection) -> Figure:
    """Cosine, sign conflict and overlap of every pair of models, one matrix each."""
    whole = found.pairs[(found.pairs["layer"] == ALL) & (found.pairs["kind"] == ALL)]
    shown = {name: row for name, row in KINSHIP.items() if whole[name].notna().any()}
    names, side = found.finetuned, 1.4 + 0.7 * len(found.finetuned)
    figure, grid = panels(len(shown), (side, side), sharex=False)
    for axes, (score, (title, (low, high), equal)) in zip(grid, shown.items(), strict=True):
        frame = pd.DataFrame(np.diag(np.full(len(names), equal)), names, names)
        for _, row in whole.iterrows():
            frame.loc[row["first"], row["second"]] = frame.loc[row["second"], row["first"]] = row[score]
        labels = [figure_text(name) for name in names]
        style: dict[str, Any] = {"annot": True, "fmt": ".2f", "annot_kws": {"size": 10}, "square": True, "cbar": False}
        colours = "vlag" if low < 0 or score == "sign_conflict" else "cividis"
        sns.heatmap(frame, vmin=low, vmax=high, cmap=colours, ax=axes, xticklabels=labels, yticklabels=labels, **style)
        axes.set_title(title)
        axes.set_xticks(axes.get_xticks(), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="y", rotation=0)
    return figure


def conflicts(found: Inspection) -> Figure:
    """The sign conflict of each pair by layer, plain and weighted, beside what independent signs and r alone give."""
    several = list(found.pairs.groupby(["first", "second"], sort=False))
    figure, grid = panels(len(several))
    for axes, ((first, second), rows) in zip(grid, several, strict=False):
        rows = by_layer(rows)
        layers = [*rows["layer"]]
        half = rows["sign_half_width"]
        grey = {"color": COLOURS["frontier"], "zorder": 0}
        axes.bar(layers, 2 * half, bottom=0.5 - half, alpha=0.4, lw=0, label="independent signs", **grey)
        axes.axhline(0.5, lw=0.8, **grey)
        axes.plot(layers, rows["sign_expected"], "--", color=COLOURS["parent"], label="normal at this r")
        axes.plot(layers, rows["sign_conflict"], "o-", ms=5, color=PALETTE[0], label="sign conflict")
        axes.plot(layers, rows["weighted_conflict"], "D-", ms=4, color=PALETTE[3], label="by min(|δ_i|, |δ_j|)")
        axes.set_title(f"{figure_text(first)}, {figure_text(second)}", fontsize=11)
        name_layers(axes, layers)
    finish(figure, grid, "share of opposite signs")
    return figure


def overlaps(found: Inspection) -> Figure:
    """The overlap of each pair's first singular directions by layer, beside that of random directions."""
    several = list(found.pairs.groupby(["first", "second"], sort=False))
    figure, grid = panels(len(several))
    sides = {"left": ("o", ":", PALETTE[0], "left (outputs)"), "right": ("D", "--", PALETTE[3], "right (inputs)")}
    for axes, ((first, second), rows) in zip(grid, several, strict=False):
        rows = by_layer(rows[rows["overlap_left"].notna()])
        layers = [*rows["layer"]]
        for side, (marker, dashes, colour, label) in sides.items():
            axes.plot(layers, rows[f"overlap_{side}"], f"{marker}-", ms=5, color=colour, label=label)
            axes.plot(layers, rows[f"overlap_{side}_null"], dashes, lw=1, color=colour, label=f"{side}, random")
        axes.set_title(f"{figure_text(first)}, {figure_text(second)}", fontsize=11)
        axes.set_ylim(0, 1)
        name_layers(axes, layers)
    finish(figure, grid, "mean squared cosine")
    return figure


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole layers."""
    return rows[(rows["kind"] == ALL) & (rows["layer"] != ALL)]


def panels(count: int, size: tuple[float, float] = (3.9, 2.7), sharex: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, at most three in a row, with one vertical scale. size: of a panel, in inches."""
    rows = -(-count // 3)
    columns = -(-count // rows)
    whole = (1 + size[0] * columns, 0.9 + size[1] * rows)
    figure, grid = plt.subplots(rows, columns, figsize=whole, sharex=sharex, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, [*grid.flat[:count]]


def finish(figure: Figure, grid: list[Axes], label: str) -> None:
    """Name the axes of the panels, and write one legend above them."""
    figure.supylabel(label, fontsize=12)
    figure.supxlabel("layer", fontsize=12)
    columns = 4 if len(grid) > 1 else 2
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncol=columns, fontsize=10)
