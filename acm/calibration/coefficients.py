"""From mutual information to one merging coefficient per layer.

variable   paper    shape               meaning
mi         I_i^k    (layers, samples)   mutual information, nats                       Eq. 1
t          t        ()                  temperature of the sigmoid                     Eq. 2
λ          λ_i^k    (layers,)           coefficient of the layer's task vector         Eq. 2, 3
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from acm.calibration.registry import SHIFTS
from acm.errors import UserError, unknown
from acm.files import write_json


def layer_coefficients(mi: np.ndarray, t: float = 0.7, shift: str = "layer") -> np.ndarray:
    """λ = 1 − mean over samples of σ(t · (MI − shift)); high MI = redundant = small λ. Shape (layers,).

    mi: (layers, samples), nats. t: any finite real; t > 0 with a shift forces λ into [0.5, 1).
    shift: the maximum that is subtracted first: ``layer`` over the samples of each layer (the released code),
    ``global`` over everything (§4.1 read literally), ``none`` (Eq. 2 read literally).
    Raises ValueError for a wrong shape, t or shift, or values that are not finite.
    """
    mi = np.asarray(mi, dtype=np.float64)
    if mi.ndim != 2 or mi.size == 0 or not np.isfinite(mi).all():
        raise ValueError(f"mi must be a finite (layers, samples) array, not of shape {mi.shape}.")
    check_mapping(t, shift)
    maximum = {"layer": mi.max(axis=1, keepdims=True), "global": mi.max(), "none": 0.0}[shift]
    return 1 - expit(t * (mi - maximum)).mean(axis=1)


def check_mapping(t: float, shift: str) -> None:
    """UserError (a ValueError) for a t or shift that :func:`layer_coefficients` cannot take."""
    if not np.isfinite(t):
        raise UserError(f"t must be a finite number, not {t}.")
    if shift not in SHIFTS:
        raise unknown("shift", shift, SHIFTS)


def coefficients_from_table(table: pd.DataFrame, t: float = 0.7, shift: str = "layer", control: str = "none",
                            estimator: str = "plug-in") -> dict[str, dict[str, float]]:  # fmt: skip
    """``{finetuned: {layer: λ}}`` from the rows of an MI table with this control and estimator."""
    rows = table[(table["control"] == control) & (table["estimator"] == estimator)]
    if rows.empty:
        raise ValueError(f"the MI table has no rows with control '{control}' and estimator '{estimator}'.")
    found = {}
    for finetuned, part in rows.groupby("finetuned", sort=False):
        mi = part.pivot(index="layer", columns="sample", values="value").loc[part["layer"].unique()]
        found[finetuned] = dict(zip(mi.index, map(float, layer_coefficients(mi.to_numpy(), t, shift)), strict=True))
    return found


def write_coefficients(path: Path, table: pd.DataFrame, provenance: dict, t: float = 0.7, shift: str = "layer",
                       control: str = "none", estimator: str = "plug-in") -> dict:  # fmt: skip
    """Compute and store ``coefficients.json``; returns what was written. The provenance takes what ``table.attrs`` knows: the texts' hash."""
    content = {
        "t": t, "shift": shift, "estimator": estimator, "control": control,
        "coefficients": coefficients_from_table(table, t, shift, control, estimator), "provenance": provenance | table.attrs,
    }  # fmt: skip
    write_json(path, content)
    return content


def matrix(table: pd.DataFrame, control: str = "none") -> tuple[list[str], np.ndarray]:
    """Layers, and MI (layers, texts), of the first fine-tuned model."""
    part = table[(table["control"] == control) & (table["finetuned"] == table["finetuned"].iloc[0])]
    wide = part.pivot(index="layer", columns="sample", values="value").loc[part["layer"].unique()]
    return list(wide.index), wide.to_numpy()


def draws_of(
    mi: np.ndarray, size: int, draws: int, t: float, shift: str, seed: int = 0, replace: bool = False
) -> np.ndarray:
    """λ (draws, layers) of random draws of ``size`` texts."""
    rng = np.random.default_rng([seed, size])
    return np.array(
        [layer_coefficients(mi[:, rng.choice(mi.shape[1], size, replace=replace)], t, shift) for _ in range(draws)]
    )
