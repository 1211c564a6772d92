"""What the charts of the coefficients explorer are told: λ of each layer, and how MI becomes λ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from acm.calibration.coefficients import redundancy
from acm.calibration.registry import CONTROLS
from acm.errors import UserError
from acm.widgets.chart import plain, reach, rounded
from acm.widgets.coefficients import SPREAD, Spread, curves

HEIGHT = 320  # pixels of each chart
PART = 0.1  # the axis of λ ends at multiples of it, so that it seldom moves
FAMILIES = dict(zip(CONTROLS, ("acm", "control", "second", "third", "baseline"), strict=False))


def families() -> dict[str, str]:
    """Control → family of colours of the chart."""
    return {name: FAMILIES.get(name, "frontier") for name in CONTROLS}


def axis_of(values: Iterable[float]) -> list[float]:
    """The range of an axis of λ: the tenths between which these lie, 0 and 1 at most."""
    found = np.asarray(list(values), float)
    low, high = np.floor(found.min() / PART + 1e-9) * PART, np.ceil(found.max() / PART - 1e-9) * PART
    low = min(low, 1 - PART)
    return [round(float(low), 2), round(float(max(high, low + PART)), 2)]


def layers_chart(
    mi: Mapping[str, pd.DataFrame], spreads: Mapping[str, Spread], t: float, shift: str, controls: Sequence[str]
) -> dict[str, Any]:
    """λ against layer: the real pair, and the chosen nulls, each with the band of draws of its texts.

    mi, spreads: control → MI in nats (layers, texts), and its draws. UserError where there is no MI of the real pair.
    """
    if "none" not in mi:
        raise UserError("the MI table has no rows of the real pair (control 'none').")
    found, shown = curves(dict(mi), t, shift), [name for name in CONTROLS if name in mi and name in ("none", *controls)]
    bands = {name: spreads[name].band(t, shift) for name in shown}
    layers, kinds = list(found.index), families()
    ends = [*found.to_numpy().ravel(), *bands["none"].to_numpy().ravel()]  # of all nulls, chosen or not
    return {
        "label": f"λ of each layer at t = {t:g}, shift {shift}",
        "height": HEIGHT,
        "x": {
            "label": "layer", "range": [-0.4, len(layers) - 0.6],
            "ticks": [{"at": i, "label": str(layer)} for i, layer in enumerate(layers)],
        },
        "y": {"label": "coefficient λ", "range": axis_of(ends)},
        "bands": [
            {"name": name, "family": kinds[name], "points": rounded(band_points(bands[name]))} for name in shown[::-1]
        ],
        "lines": [
            {
                "name": name, "family": kinds[name], "dashed": name != "none", "label": CONTROLS[name].label,
                "points": rounded(list(enumerate(found[name]))),
            }
            for name in shown[::-1]
        ],
        "points": [layer_point(i, found[shown].iloc[i], bands["none"].iloc[i]) for i in range(len(layers))],
    }  # fmt: skip


def band_points(band: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Place of the layer, low and high, of each layer."""
    return [(float(i), low, high) for i, (low, high) in enumerate(band.to_numpy(float).tolist())]


def layer_point(place: int, found: pd.Series, band: pd.Series) -> dict[str, Any]:
    """The point of a layer on the curve of the real pair; it tells all curves. found: control → λ."""
    told = [f"{CONTROLS[str(name)].label}: λ = {value:.4f}" for name, value in found.items()]
    told.insert(1, f"95 % of {SPREAD} draws of its texts: {band['low']:.4f} to {band['high']:.4f}")
    return {
        "name": str(found.name), "x": place, "y": plain(found["none"]), "family": "acm", "label": False,
        "hint": "\n".join([f"layer {found.name}", *told]),
    }  # fmt: skip


def mapping_chart(real: pd.DataFrame, t: float, shift: str, layer: str = "") -> dict[str, Any]:
    """1 − σ(t (MI − shift)) of each text against its MI. A diamond stands at the mean MI and λ of each layer.

    real: MI in nats of the real pair, (layers, texts). layer: whose texts stand out; empty: none's.
    """
    values = real.to_numpy()
    weights = 1 - redundancy(values, t, shift)
    shown = {str(name): rounded(np.stack([values[i], weights[i]], axis=1)) for i, name in enumerate(real.index)}
    others = [point for name, points in shown.items() if name != layer for point in points]
    dots = [{"name": "texts", "family": "frontier", "points": others}]
    if layer in shown:
        dots.append({"name": f"texts of {layer}", "family": "own", "points": shown[layer]})
    return {
        "label": "From mutual information to λ, real pair",
        "height": HEIGHT,
        "x": {"label": "mutual information of a text, nats", "range": reach(values.ravel())},
        "y": {"label": "1 − σ(t · (MI − shift))", "range": axis_of(weights.ravel())},
        "dots": dots,
        "points": [
            {
                "name": str(name), "x": plain(mi.mean()), "y": plain(weight.mean()), "label": True,
                "family": "own" if str(name) == layer else "acm", "marker": "diamond",
                "hint": f"layer {name}\nmean MI {mi.mean():.3f} nats\nλ = {weight.mean():.4f}, the mean of its texts",
            }
            for name, mi, weight in zip(real.index, values, weights, strict=True)
        ],
    }  # fmt: skip
