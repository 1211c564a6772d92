"""The merge methods that work entry by entry, or in one case along a row. The names are those of `methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging.functions import implements, prepares
from acm.merging.magnitudes import trim_bounds
from acm.merging.primitives import (
    combine,
    count_magnitudes,
    drop,
    elected,
    gram,
    random_words,
    task_vectors,
    trim,
    weighted_sum,
)
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Chunks


@implements("linear")
def linear(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Σ_i w_i θ_i, over Σ_i w_i if `normalize`. The base takes part only where the recipe lists it as a model."""
    merged = weighted_sum(s.coefficients, (model.float() for model in finetuned))
    return merged / sum(s.coefficients) if s.normalize else merged


@implements("task_arithmetic")
def task_arithmetic(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α Σ_i λ_i δ_i, with the sum over N or Σ w_i if `normalize` (Eq. 3)."""
    return combine(base, task_vectors(base, finetuned), s)


@implements("lines")
def lines(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + (a + b · depth) Σ_i λ_i δ_i: a factor that grows along the blocks (arXiv:2410.17146).

    depth: 0 in the first block and outside the blocks, 1 in the last. It is what task arithmetic does with mergekit's
    list weight [a, a + b]. The paper has a = ‖Σ δ_i‖₁ / ‖merged‖₁ / N for several models. Here the sum itself is
    scaled, so a is 1 / N unless given. One model has b = 1 − a in the paper, and so has any number here.
    """
    a, b = s.numbers["alpha"], s.numbers["beta"]
    a = 1 / len(finetuned) if isinstance(a, str) else a
    factor = a + (1 - a if isinstance(b, str) else b) * s.depth
    return base.float() + weighted_sum([factor * c for c in s.coefficients], task_vectors(base, finetuned))


@implements("interpolation")
def interpolation(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """(1 − λ) θ_0 + λ θ_1, in delta form; sweeping λ gives the frontier."""
    return combine(base, task_vectors(base, finetuned), s)


@prepares("slerp")
def angle(chunks: Chunks, s: Settings) -> tuple[float, float]:
    """The factors of θ_0 and θ_1.

    Where the tensors are nearly parallel, those of plain interpolation, as in mergekit.
    """
    products = gram(([base, *models] for base, models in chunks()), 2)
    norms = np.sqrt(np.diag(products))
    cosine = float(np.clip(products[0, 1] / np.prod(np.where(norms > 1e-8, norms, 1.0)), -1, 1))
    (t,) = s.coefficients
    if abs(cosine) > 0.9995:
        return 1 - t, t
    omega = np.arccos(cosine)
    return float(np.sin((1 - t) * omega) / np.sin(omega)), float(np.sin(t * omega) / np.sin(omega))


@implements("slerp")
def slerp(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """The point at fraction t of the arc from θ_0 to θ_1, each tensor one vector."""
    return s.prepared[0] * base.float() + s.prepared[1] * finetuned[0].float()


@prepares("ties", "breadcrumbs", "breadcrumbs_ties")
def kept_magnitudes(chunks: Chunks, s: Settings) -> np.ndarray:
    """Bounds (models, 2) of the |δ| that stay, of one tensor."""
    size = int(np.prod(s.shape))
    return trim_bounds(s, size, lambda buckets: count_magnitudes(chunks, len(s.density), buckets))


def trimmed(base: Tensor, finetuned: list[Tensor], s: Settings) -> list[Tensor]:
    """The task vectors within the bounds that `prepare` found."""
    return [trim(d, *bounds) for d, bounds in zip(task_vectors(base, finetuned), s.prepared.tolist(), strict=True)]


@implements("ties")
def ties(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Trim each δ_i to its largest entries, elect a sign per entry, mean over the agreeing models, times α."""
    return elected(base, trimmed(base, finetuned, s), s)


@implements("breadcrumbs")
def breadcrumbs(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Drop the largest and the smallest entries of each δ_i, then task arithmetic."""
    return combine(base, trimmed(base, finetuned, s), s)


@implements("breadcrumbs_ties")
def breadcrumbs_ties(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Drop the largest and the smallest entries of each δ_i, then TIES' sign election."""
    return elected(base, trimmed(base, finetuned, s), s)


def dropped(base: Tensor, finetuned: list[Tensor], s: Settings) -> list[Tensor]:
    """The task vectors, entries of each dropped at random."""
    deltas = task_vectors(base, finetuned)
    return [drop(d, k, key, s.start, s.rescale) for d, k, key in zip(deltas, s.density, s.keys, strict=True)]


@implements("dare_linear")
def dare_linear(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Drop entries of each δ_i at random, rescale the rest by 1 / density, then task arithmetic."""
    return combine(base, dropped(base, finetuned, s), s)


@implements("dare_ties")
def dare_ties(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Drop and rescale as DARE, then TIES' sign election and mean."""
    return elected(base, dropped(base, finetuned, s), s)


def magprune(base: Tensor, finetuned: list[Tensor], s: Settings) -> list[Tensor]:
    """DELLA's drop: within each row, the probability to keep an entry grows with the rank of its |δ|.

    It grows from density − ε to density + ε. Each kept entry is divided by its own probability, as in the paper.
    mergekit rescales the whole tensor to its old L1 norm instead.
    """
    found = []
    for delta, density, epsilon, key in zip(task_vectors(base, finetuned), s.density, s.epsilon, s.keys, strict=True):
        if density < 1:
            rows = delta.abs() if delta.dim() > 1 else delta.abs()[None]
            place = torch.arange(rows.shape[-1], device=delta.device).expand(rows.shape)
            rank = torch.empty_like(place).scatter_(-1, rows.argsort(dim=-1, stable=True), place).view(delta.shape)
            keep = density - epsilon + rank.double() / max(1, rows.shape[-1] - 1) * 2 * epsilon
            kept = random_words(delta.shape, key, s.start, delta.device) < (keep * 2.0**32).long()
            delta = torch.where(kept, delta / (keep.float() if s.rescale else 1.0), 0.0)
        found.append(delta)
    return found


@implements("della")
def della(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Drop small entries of each δ_i more often than large ones, then TIES' sign election and mean."""
    return elected(base, magprune(base, finetuned, s), s)


@implements("della_linear")
def della_linear(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Drop small entries of each δ_i more often than large ones, then task arithmetic."""
    return combine(base, magprune(base, finetuned, s), s)


@prepares("model_stock")
def stock_ratio(chunks: Chunks, s: Settings) -> float:
    """t = N cos / (1 + (N − 1) cos), cos the mean cosine of the pairs of task vectors.

    It is 0 where the denominator vanishes.
    """
    n = len(s.coefficients)
    products = gram((task_vectors(*chunk) for chunk in chunks()), n)
    norms = np.sqrt(np.diag(products))
    cosines = np.clip(products / np.maximum(np.outer(norms, norms), 1e-6), -1, 1)
    cosine = cosines[np.triu_indices(n, 1)].mean()
    return float(n * cosine / (1 + (n - 1) * cosine)) if abs(1 + (n - 1) * cosine) > 1e-6 else 0.0


@implements("model_stock")
def model_stock(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + t · mean λ_i δ_i: the point nearest to the base on the way to the centre of the fine-tuned models."""
    weighted = weighted_sum(s.coefficients, task_vectors(base, finetuned))
    return base.float() + s.prepared / len(finetuned) * weighted
