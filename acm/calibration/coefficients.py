"""From mutual information to one merging coefficient for each layer.

variable   paper    shape               meaning
mi         I_i^k    (layers, samples)   mutual information, nats                       Eq. 1
t          t        ()                  temperature of the sigmoid                     Eq. 2
λ          λ_i^k    (layers,)           coefficient of the layer's task vector         Eq. 2, 3
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit

from acm.calibration import defaults
from acm.calibration.registry import SHIFTS, UNIFORM
from acm.errors import UserError, unknown
from acm.files import write_json


def layer_coefficients(mi: ArrayLike, t: float = defaults.T, shift: str = defaults.SHIFT) -> np.ndarray:
    """λ = 1 − mean over samples of σ(t · (MI − shift)), Eq. 2 of arXiv 2505.14009. High MI = redundant = small λ.

    mi: (layers, samples), nats; any float dtype, computed in float64.
    t: temperature, any finite real. With a shift, t > 0 forces λ into [0.5, 1).
    shift: which maximum of the MI is subtracted first. ``layer``: over the samples of each layer (the released code).
    ``global``: over everything (§4.1 read literally). ``none``: nothing (Eq. 2 read literally).

    Returns λ, a fraction, float64 of shape (layers,).

    Raises ValueError for a wrong shape, t or shift, and for values that are not finite.

    The MI of three layers, each in two texts; :func:`acm.calibrate` measures such tables.

    >>> import numpy as np
    >>> import acm
    >>> mi = np.array([[4.0, 4.5], [2.0, 3.0], [5.0, 5.0]])
    >>> acm.layer_coefficients(mi).round(4)
    array([0.5433, 0.5841, 0.5   ])

    The shift by layer looks at differences between texts alone: a layer whose texts agree gets 0.5, whatever its MI.
    Without a shift, more information gives a smaller coefficient:

    >>> acm.layer_coefficients(mi, t=0.7, shift="none").round(4)
    array([0.0492, 0.1535, 0.0293])
    """
    mi = np.asarray(mi, dtype=np.float64)
    if mi.ndim != 2 or mi.size == 0 or not np.isfinite(mi).all():
        raise ValueError(f"mi must be a finite (layers, samples) array, not of shape {mi.shape}.")
    coefficients: np.ndarray = 1 - redundancy(mi, t, shift).mean(axis=1)
    return coefficients


def redundancy(mi: np.ndarray, t: float, shift: str) -> np.ndarray:
    """σ(t · (MI − shift)) of each layer and sample, (layers, samples). UserError for a t or shift that cannot be."""
    check_mapping(t, shift)
    values: np.ndarray = expit(t * (mi - SHIFTS[shift](mi)))
    return values


def check_mapping(t: float, shift: str) -> None:
    """UserError (a ValueError) for a t or shift that :func:`layer_coefficients` cannot take."""
    if not np.isfinite(t):
        raise UserError(f"t must be a finite number, not {t}.")
    if shift not in SHIFTS:
        raise unknown("shift", shift, SHIFTS)


def coefficients_from_table(
    table: pd.DataFrame,
    t: float = defaults.T,
    shift: str = defaults.SHIFT,
    control: str = "none",
    estimator: str = defaults.ESTIMATOR,
) -> dict[str, dict[str, float]]:
    """``{finetuned: {layer: λ}}`` from the rows of an MI table with this control and estimator.

    control: ``uniform`` takes the real pair's rows, and gives every layer the mean of λ over the layers.

    Raises ValueError where the table has no such rows, and where a layer lacks a sample that others have.
    """
    measured = "none" if control == UNIFORM else control
    chosen = table[(table["control"] == measured) & (table["estimator"] == estimator)]
    if chosen.empty:
        raise ValueError(f"the MI table has no rows with control '{measured}' and estimator '{estimator}'.")
    found = {}
    for finetuned, rows in chosen.groupby("finetuned", sort=False):
        layers, mi = by_layer(rows)
        values = dict(zip(layers, map(float, layer_coefficients(mi, t, shift)), strict=True))
        found[str(finetuned)] = uniform(values) if control == UNIFORM else values
    return found


def uniform(layers: dict[str, float]) -> dict[str, float]:
    """The mean of λ over the layers, in every layer. layers: layer → λ. It is what ACM's λ have to beat."""
    return dict.fromkeys(layers, float(np.mean(list(layers.values()))))


def write_coefficients(
    path: Path,
    table: pd.DataFrame,
    provenance: dict[str, Any],
    t: float = defaults.T,
    shift: str = defaults.SHIFT,
    control: str = "none",
    estimator: str = defaults.ESTIMATOR,
) -> dict[str, Any]:
    """Compute and store ``coefficients.json``; returns what was written.

    The stored provenance takes what ``table.attrs`` knows too: the hash of the texts.
    """
    content = {
        "t": t,
        "shift": shift,
        "estimator": estimator,
        "control": control,
        "coefficients": coefficients_from_table(table, t, shift, control, estimator),
        "provenance": provenance | table.attrs,
    }
    write_json(path, content)
    return content


def by_layer(rows: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Layers in the order of the rows, and their values (layers, samples); each sample of a layer has one row."""
    wide = rows.pivot(index="layer", columns="sample", values="value").loc[rows["layer"].unique()]
    return list(wide.index), wide.to_numpy()


def matrix(table: pd.DataFrame, control: str = "none") -> tuple[list[str], np.ndarray]:
    """Layers, and MI (layers, texts), of the first fine-tuned model."""
    return by_layer(table[(table["control"] == control) & (table["finetuned"] == table["finetuned"].iloc[0])])


def draws_of(
    mi: np.ndarray, size: int, draws: int, t: float, shift: str, seed: int = 0, replace: bool = False
) -> np.ndarray:
    """λ (draws, layers): one row for each random draw of ``size`` texts from mi, an array (layers, texts)."""
    rng = np.random.default_rng([seed, size])
    chosen = [rng.choice(mi.shape[1], size, replace=replace) for _ in range(draws)]
    return np.array([layer_coefficients(mi[:, texts], t, shift) for texts in chosen])
