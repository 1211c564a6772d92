"""Draws the coefficients of each layer: beside those of the null controls, and as strips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.escaping import figure_text
from acm.reporting.messages import on_coefficients, on_layers
from acm.reporting.plotting import COLOURS, TEXT, control_title, name_lines, sheet

NOISE = "gaussian"
NAMED = 10  # of more layers, a strip has no numbers


def coefficients_by_layer(
    table: pd.DataFrame, shift: str = "layer", t: float = 0.7, estimator: str = "plug-in"
) -> Figure:
    """λ of each layer at one t, the real pair beside the null controls, on the whole range from 0 to 1.

    table: mutual information as :func:`acm.calibrate` returns it. A panel for each fine-tuned model.
    """
    found = {c: coefficients_from_table(table, t, shift, c, estimator) for c in COEFFICIENT_CONTROLS}
    real, noise = (pd.DataFrame(found[c]) for c in ("none", NOISE))  # layers down, models across
    apart = (real - noise).abs()
    message = on_coefficients(float(apart.mean().mean() / real.mean().mean()), str(apart.mean(axis=1).idxmax()))
    figure, panels = sheet(message, 0.9 + 3.0 * real.shape[1], real.shape[1], sharex=True, sharey=True)
    colours = [COLOURS[kind] for kind in ("acm", "control", "frontier", "baseline", "parent")]
    for axes, model in zip(panels, found["none"], strict=True):
        for control, colour, marker in zip(found, colours, "D^osv", strict=False):
            layers = found[control][model]
            style: dict[str, Any] = {"marker": marker, "ms": 6, "color": colour, "label": control_title(control)}
            axes.plot(list(layers), list(layers.values()), **style)
            name_layers(axes, list(layers))
        axes.set_title(figure_text(model), loc="left", fontsize=TEXT)
        axes.set(ylabel=f"λ at t = {t:g}", ylim=(0, 1))
    place = "lower right" if real.to_numpy().mean() > 0.5 else "upper right"
    name_lines(panels[0], place)
    panels[-1].set_xlabel("layer")
    return figure


def name_layers(axes: Axes, layers: list[str], middle: float = 0) -> None:
    """Layers along the horizontal axis. Of more than 15 only the first, the last and each fifth block are named.

    middle: where the first layer stands.
    """
    named = list(range(len(layers)))
    if len(layers) > 15:
        fifths = [i for i, layer in enumerate(layers) if layer.isdigit() and int(layer) % 5 == 0 < int(layer)]
        named = [0, *fifths, len(layers) - 1]
    axes.set_xticks(
        [i + middle for i in named], [layers[i] for i in named], rotation=60, ha="right", rotation_mode="anchor"
    )


def coefficient_strips(coefficients: dict[str, dict[str, float]]) -> Figure:
    """λ of each layer as one heat strip for each fine-tuned model. The colours span the whole range from 0 to 1."""
    frame = pd.DataFrame(coefficients).T
    low, high = float(np.nanmin(frame)), float(np.nanmax(frame))
    figure, panels = sheet(on_layers(low, high), 0.9 + 1.2 * len(frame), len(frame), sharex=True)
    style: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "vmax": 1, "linewidths": 1, "cbar": False, "fmt": ".3f"}
    for axes, (model, layers) in zip(panels, frame.iterrows(), strict=True):
        strip = layers.to_frame().T
        sns.heatmap(strip, annot=len(layers) <= NAMED, annot_kws={"size": TEXT}, ax=axes, **style)
        ends = f"{layers.min():.3f} ({layers.idxmin()}) to {layers.max():.3f} ({layers.idxmax()})"
        axes.set_title(figure_text(f"{model}: {ends}"), loc="left", fontsize=TEXT)
        axes.set(xlabel="", ylabel="", yticks=[])
    name_layers(panels[-1], list(next(iter(coefficients.values()))), middle=0.5)
    panels[-1].set_xlabel("layer; colours: λ from 0 (dark) to 1 (light)")
    return figure
