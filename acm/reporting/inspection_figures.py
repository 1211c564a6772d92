"""Draws an inspection of task vectors: what changed where, who is kin to whom, and where two of them disagree.

No model is run here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.escaping import figure_text
from acm.merging.inspection import ALL, Inspection
from acm.reporting.coefficient_figures import name_layers
from acm.reporting.messages import on_changes, on_conflicts, on_kin, on_overlaps
from acm.reporting.plotting import COLOURS, KEY, TEXT, sheet, write_key

KINSHIP = {  # score → its title, the ends of its colours, and its value for two equal task vectors
    "cosine": ("cosine", (-1, 1), 1.0),
    "sign_conflict": ("sign conflict", (0, 1), 0.0),
    "overlap_right": ("overlap of right directions", (0, 1), 1.0),
}


def sizes(found: Inspection) -> Figure:
    """‖δ‖ / ‖θ_0‖ of each kind of module in each layer, one panel for each model, on one scale of colours."""
    rows = found.vectors[(found.vectors["layer"] != ALL) & (found.vectors["kind"] != ALL)]
    layers, kinds, models = rows["layer"].unique(), rows["kind"].unique(), found.finetuned
    most = rows.nlargest(1, "relative_norm").iloc[0]
    message = on_changes(most["model"], most["kind"], most["layer"], most["relative_norm"])
    figure, grid = sheet(message, 2.2 + (0.6 + 0.25 * len(layers)) * len(models), len(models), sharex=True)
    style = {"cmap": "cividis", "vmin": 0, "vmax": most["relative_norm"], "linewidths": 0.5, "cbar": False}
    for axes, model in zip(grid, models, strict=True):
        frame = rows[rows["model"] == model].pivot(index="layer", columns="kind", values="relative_norm")
        sns.heatmap(frame.reindex(index=layers, columns=kinds), ax=axes, xticklabels=True, yticklabels=True, **style)
        axes.set(xlabel="", ylabel="layer")
        axes.set_title(figure_text(model), loc="left", fontsize=TEXT)
        axes.tick_params(axis="y", rotation=0)
        axes.set_xticks(axes.get_xticks(), kinds, rotation=60, ha="right", rotation_mode="anchor")
        axes.grid(False)
    bar = figure.colorbar(grid[0].collections[0], ax=grid, orientation="horizontal", aspect=40)
    bar.set_label("‖δ‖ / ‖θ₀‖", size=TEXT, labelpad=8)
    bar.ax.tick_params(labelsize=TEXT)
    return figure


def kinship(found: Inspection) -> Figure:
    """Cosine, sign conflict and overlap of every pair of models, one matrix each."""
    whole = found.pairs[(found.pairs["layer"] == ALL) & (found.pairs["kind"] == ALL)]
    shown = {name: row for name, row in KINSHIP.items() if whole[name].notna().any()}
    names = found.finetuned
    cosines = {f"{row['first']} and {row['second']}": float(row["cosine"]) for _, row in whole.iterrows()}
    figure, grid = sheet(on_kin(cosines), 1.6 + (0.5 + 0.45 * len(names)) * len(shown), len(shown), sharex=True)
    for axes, (score, (title, (low, high), equal)) in zip(grid, shown.items(), strict=True):
        frame = pd.DataFrame(np.diag(np.full(len(names), equal)), names, names)
        for _, row in whole.iterrows():
            frame.loc[row["first"], row["second"]] = frame.loc[row["second"], row["first"]] = row[score]
        labels = [figure_text(name) for name in names]
        style: dict[str, Any] = {"annot": True, "fmt": ".2f", "annot_kws": {"size": TEXT}, "cbar": False}
        colours = "vlag" if low < 0 or score == "sign_conflict" else "cividis"
        sns.heatmap(frame, vmin=low, vmax=high, cmap=colours, ax=axes, xticklabels=labels, yticklabels=labels, **style)
        axes.set_title(title, loc="left", fontsize=TEXT)
        axes.set_xticks(axes.get_xticks(), labels, rotation=30, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="y", rotation=0)
    return figure


def conflicts(found: Inspection) -> Figure:
    """The sign conflict of each pair by layer, plain and weighted, beside what independent signs and r alone give."""
    several = [by_layer(rows) for _, rows in found.pairs.groupby(["first", "second"], sort=False)]
    every = pd.concat(several)
    blocks = every[every["layer"].str.isdecimal()]
    gap = float((blocks["sign_conflict"] - blocks["sign_expected"]).abs().max())
    named = {
        "● sign conflict": COLOURS["baseline"], "◆ the same, weighted by the smaller entry": COLOURS["control"],
        "- - what the correlation alone gives": COLOURS["parent"], "▬ independent signs": COLOURS["frontier"],
    }  # fmt: skip
    figure, grid = panels(on_conflicts(gap), len(several), len(named))
    for axes, rows in zip(grid, several, strict=True):
        layers, half = [*rows["layer"]], rows["sign_half_width"]
        grey = {"color": COLOURS["frontier"], "zorder": 0}
        axes.bar(layers, 2 * half, bottom=0.5 - half, alpha=0.4, lw=0, **grey)
        axes.axhline(0.5, lw=0.8, **grey)
        axes.plot(layers, rows["sign_expected"], "--", color=COLOURS["parent"], label="expected")
        axes.plot(layers, rows["weighted_conflict"], "D-", ms=4, color=COLOURS["control"], label="weighted")
        axes.plot(layers, rows["sign_conflict"], "o-", ms=5, color=COLOURS["baseline"], label="sign conflict")
        finish(axes, rows, layers, "opposite signs,\nshare")
    write_key(grid[0], named, room=True)
    return figure


def overlaps(found: Inspection) -> Figure:
    """The overlap of each pair's first singular directions by layer, beside that of random directions."""
    decomposed = found.pairs[found.pairs["overlap_left"].notna()]
    several = [by_layer(rows) for _, rows in decomposed.groupby(["first", "second"], sort=False)]
    every = pd.concat(several)
    times = pd.concat([every[side] / every[f"{side}_null"] for side in ("overlap_left", "overlap_right")])
    sides = {"left": ("o", "baseline", "● left (outputs)"), "right": ("D", "control", "◆ right (inputs)")}
    named = {title: COLOURS[kind] for _, kind, title in sides.values()} | {"- - random": COLOURS["parent"]}
    figure, grid = panels(on_overlaps(float(times.min()), float(times.max())), len(several), len(named))
    for axes, rows in zip(grid, several, strict=True):
        layers = [*rows["layer"]]
        for side, (marker, kind, _) in sides.items():
            axes.plot(layers, rows[f"overlap_{side}"], f"{marker}-", ms=5, color=COLOURS[kind], label=side)
            random = {"color": COLOURS["parent"], "label": f"{side}, random"}
            axes.plot(layers, rows[f"overlap_{side}_null"], "--", lw=1.2, **random)
        finish(axes, rows, layers, "mean squared\ncosine")
    write_key(grid[0], named, room=True)
    return figure


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole layers."""
    return rows[(rows["kind"] == ALL) & (rows["layer"] != ALL)]


def panels(message: str, count: int, lines: int, tall: float = 1.7) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, with room for the lines of a key in the first. tall: inches."""
    heights = [tall + KEY * (lines + 0.3), *[tall] * (count - 1)]
    return sheet(message, sum(heights) + 0.4 * count + 1.0, count, sharex=True, height_ratios=heights)


def finish(axes: Axes, rows: pd.DataFrame, layers: list[str], label: str) -> None:
    """The names of a panel of one pair; its axis holds all shares."""
    pair = ", ".join(figure_text(rows[side].iloc[0]) for side in ("first", "second"))
    axes.set_title(pair, loc="left", fontsize=TEXT)
    axes.set(ylabel=label, ylim=(0, 1.02), yticks=[0, 0.5, 1])
    name_layers(axes, layers)
