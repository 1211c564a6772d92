"""Estimators, controls and shifts by name: what each is called, and what it can do. Estimators' functions: `information.py`.

Nothing heavy is imported here, so that a profile is checked in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimator:
    """How the likeness of two activation arrays is measured.

    unit: of the value. labelled: follows from which values are equal alone, so infinity is a value like any other.
    additive: follows from counts alone, so that arrays may come in parts.
    """

    name: str
    title: str
    unit: str = "nats"
    labelled: bool = False
    additive: bool = False


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        Estimator("plug-in", "plug-in", labelled=True, additive=True),
        Estimator("miller-madow", "Miller–Madow", labelled=True, additive=True),
        Estimator("shuffle-corrected", "shuffle-corrected", labelled=True),
        Estimator("equal-width", "bins of equal width"),
        Estimator("equal-frequency", "bins of equal frequency"),
        Estimator("kraskov", "Kraskov"),
        Estimator("gaussian", "Gaussian"),
        Estimator("cka", "linear CKA", unit="similarity"),
        Estimator("cosine", "mean cosine", unit="similarity"),
    )
}
CONTROLS = {  # name → what a figure calls it; `controls.py` says what each is
    "none": "real pair",
    "shuffled": "tokens shuffled",
    "other-sample": "another text",
    "unrelated": "channels permuted",
    "gaussian": "independent Gaussians",
}
# What a pipeline computes coefficients from: the real pair, and the controls that a profile's methods may name.
COEFFICIENT_CONTROLS = ("none", "shuffled", "gaussian")
SHIFTS = ("layer", "global", "none")
