"""Functions that turn ACM's coefficients into others, to compare ACM with: layer → λ in, layer → another λ out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from acm.calibration.nulls import Layers
from acm.calibration.task_vectors import sizes
from acm.checkpoints import Checkpoint


def reversed_order(layers: Layers) -> Layers:
    """The same λ in the opposite order: the layer with the largest λ gets the smallest."""
    return ranked(layers, {layer: -value for layer, value in layers.items()})


def ranked(layers: Layers, scores: Layers) -> Layers:
    """The same λ, dealt by score: the layer with the largest score gets the largest λ."""
    order = sorted(layers, key=scores.__getitem__)
    return dict(zip(order, sorted(layers.values()), strict=True))


def chosen(layers: Layers, some: list[str], inside: float, outside: float) -> Layers:
    """``inside`` at some layers, ``outside`` at all others."""
    return {layer: inside if layer in some else outside for layer in layers}


def line(layers: Layers, first: float, last: float) -> Layers:
    """λ along a straight line over the layers in their order, cut to [0, 1]."""
    return dict(zip(layers, map(float, np.clip(np.linspace(first, last, len(layers)), 0, 1)), strict=True))


def parted(layers: Layers, early: float, late: float, head: float | None = None) -> Layers:
    """λ is ``late`` in the last block and the norm, ``head`` (None: as ``late``) in the head, ``early`` elsewhere."""
    last = max((layer for layer in layers if layer.isdigit()), key=int)
    return dict.fromkeys(layers, early) | {last: late, "norm": late, "lm_head": late if head is None else head}


def magnitudes(base: str | Path, finetuned: str | Path) -> Layers:
    """‖δ‖ / ‖θ_0‖ (L2) of each layer's tensors together, over the rows that both models have.

    base, finetuned: model folders. The head of a tied model is its embedding.
    """
    return {layer: size.relative for layer, size in sizes(Checkpoint(base), Checkpoint(finetuned)).items()}
