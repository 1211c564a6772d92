"""Turns the coefficients of a rule into null coefficients, and brings them to a given mean.

A null keeps the mean of λ over the layers and takes away which layer has which λ. What a rule is worth must show
against it. Here ``layers`` maps a layer to its λ, in the order ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from acm.calibration.coefficients import uniform
from acm.calibration.registry import UNIFORM
from acm.calibration.rules import LAYER_CONTROLS, NONE
from acm.errors import UserError, unknown

Layers = dict[str, float]  # layer → λ
Coefficients = dict[str, Layers]  # fine-tuned model → its λ


def permuted(layers: Layers, seed: int) -> Layers:
    """The same λ, dealt to the layers at random."""
    return dict(zip(layers, map(float, np.random.default_rng(seed).permutation(list(layers.values()))), strict=True))


def blocks_reversed(layers: Layers) -> Layers:
    """The λ of the blocks from last to first; the layers outside the blocks keep theirs."""
    blocks = sorted((layer for layer in layers if layer.isdigit()), key=int)
    return layers | {block: layers[other] for block, other in zip(blocks, reversed(blocks), strict=True)}


def controlled(coefficients: Coefficients, control: str, seed: int = 0) -> Coefficients:
    """The coefficients of a control that looks at λ alone, of each fine-tuned model.

    control: ``none`` changes nothing; others are of :data:`acm.calibration.rules.LAYER_CONTROLS`.
    seed: of ``permuted``. All models' λ are dealt alike. UserError for an unknown control.
    """
    changes: dict[str, Callable[[Layers], Layers]] = {
        NONE: dict,
        UNIFORM: uniform,
        "permuted": lambda layers: permuted(layers, seed),
        "reversed": blocks_reversed,
    }
    if control not in changes:
        raise unknown("control", control, (NONE, *LAYER_CONTROLS))
    return {model: changes[control](layers) for model, layers in coefficients.items()}


def with_mean(coefficients: Coefficients, mean: float) -> Coefficients:
    """Each fine-tuned model's λ times one number, such that their mean over the layers is ``mean``.

    UserError for a mean that is not above 0, and for λ whose mean is 0.
    """
    if not (math.isfinite(mean) and mean > 0):
        raise UserError(f"the mean of λ must be a finite number above 0, not {mean}.")
    found = {}
    for model, layers in coefficients.items():
        own = float(np.mean(list(layers.values())))
        if not own > 0:
            raise UserError(f"the λ of {model} have the mean {own:g}, which no factor brings to {mean:g}.")
        found[model] = {layer: value * mean / own for layer, value in layers.items()}
    return found
