"""The merge methods. Each is a pure function: it takes one tensor, or a chunk of it, from every model and merges them.

    variable       symbol          shape          meaning
    base           θ_0             (…)            the tensor in the base model, any float dtype
    finetuned      θ_i             list of (…)    the same tensor in each fine-tuned model
    coefficients   λ_i             list of ()     weight of each task vector in this layer        Eq. 3
    delta          δ_i             (…)            task vector θ_i − θ_0, computed in float32
    scaling        α               ()             the recipe's `lambda`: multiplies the merged task vector
    density        1 − k           list of ()     fraction of entries kept; 1 − density is the drop rate

With `normalize`, the sum is divided by the sum of `divisors`. The divisors are the weights, as in mergekit. Where ACM's
coefficients replace the weights, the divisors are ones: the sum is then divided by N, as in Eq. 3. All functions return
float32.

The modules of this folder register their functions when they are imported, and importing the folder imports all. The
modules of `registry/` have the same names, and the titles, papers, formulas and parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from acm.merging.functions import FUNCTIONS, PREPARE, SURVEY, implements, prepares, surveys
from acm.merging.methods import (  # noqa: F401
    elementwise,
    joint,
    masks,
    matrices,
    measured,
    selective,
    spectral,
    spherical,
)
from acm.merging.registry import METHODS
from acm.merging.settings import Settings

__all__ = ["FUNCTIONS", "PREPARE", "SURVEY", "implements", "merge_tensor", "prepares", "surveys"]


def merge_tensor(method: str, base: Tensor, finetuned: list[Tensor], settings: Settings) -> Tensor:
    """A whole tensor merged by a method, preparation included, as if the model had no other; float32, the base's shape.

    base, finetuned: same shape, any float dtype. The engine does the same chunk by chunk.
    """
    settings = replace(settings, shape=tuple(base.shape))

    def chunks() -> list[tuple[Any, ...]]:
        return [(base, finetuned, settings.statistics) if METHODS[method].statistics else (base, finetuned)]

    def every(measure: Callable[..., Any]) -> Any:
        return measure(chunks, settings)

    if method in SURVEY and settings.surveyed is None:
        settings = replace(settings, surveyed=SURVEY[method](every, settings))
    if method in PREPARE and settings.prepared is None:
        settings = replace(settings, prepared=PREPARE[method](chunks, settings))
    return FUNCTIONS[method](base, finetuned, settings)
