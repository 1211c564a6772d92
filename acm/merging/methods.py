"""Merge methods: each a pure function of the same tensor (or a chunk of it) in every model.

    variable       symbol          shape          meaning
    base           θ_0             (…)            the tensor in the base model, any float dtype
    finetuned      θ_i             list of (…)    the same tensor in each fine-tuned model
    coefficients   λ_i             list of ()     weight of each task vector in this layer        Eq. 3
    δ              θ_i − θ_0       (…)            task vector, computed in float32
    scaling        α               ()             the recipe's `lambda`: multiplies the merged task vector
    density        1 − k           list of ()     fraction of entries kept; 1 − density is the drop rate

`divisors` divide the sum when `normalize` is on: the weights (mergekit) or, with ACM coefficients, ones, which makes it the
1/N of Eq. 3. What a method needs to know of the whole tensor first (a threshold, an angle) its `prepare` finds in a pass of
its own. Titles, papers, formulas and parameters: `registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acm.merging.primitives import (
    Chunks,
    consensus,
    count_magnitudes,
    drop,
    gram,
    magnitudes_at,
    random_words,
    task_vectors,
    total,
    trim,
)
from acm.merging.settings import Settings

Merge = Callable[[Tensor, list[Tensor], Settings], Tensor]
FUNCTIONS: dict[str, Merge] = {}
PREPARE: dict[str, Callable[[Chunks, Settings], Any]] = {}


def implements(name: str) -> Callable[[Merge], Merge]:
    """The function of a registered method."""

    def bind(function: Merge) -> Merge:
        FUNCTIONS[name] = function
        return function

    return bind


def prepares(*names: str) -> Callable:
    """What these methods need to know of a whole tensor before its chunks are merged."""

    def bind(function: Callable[[Chunks, Settings], Any]) -> Callable[[Chunks, Settings], Any]:
        PREPARE.update(dict.fromkeys(names, function))
        return function

    return bind


def merge_tensor(method: str, base: Tensor, finetuned: list[Tensor], settings: Settings) -> Tensor:
    """A whole tensor by a method, preparation included; float32. The engine does the same chunk by chunk."""
    settings = replace(settings, shape=tuple(base.shape))
    if method in PREPARE and settings.prepared is None:
        settings = replace(settings, prepared=PREPARE[method](lambda: [(base, finetuned)], settings))
    return FUNCTIONS[method](base, finetuned, settings)


@implements("linear")
def linear(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Σ_i w_i θ_i, over Σ_i w_i if `normalize`. The base takes part only where the recipe lists it as a model."""
    merged = total(w * model.float() for w, model in zip(s.coefficients, finetuned, strict=True))
    return merged / sum(s.coefficients) if s.normalize else merged


@implements("task_arithmetic")
def task_arithmetic(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α Σ_i λ_i δ_i, with the sum over N or Σ w_i if `normalize` (Eq. 3)."""
    return combine(base, task_vectors(base, finetuned), s)


@implements("interpolation")
def interpolation(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """(1 − λ) θ_0 + λ θ_1, in delta form; sweeping λ gives the frontier."""
    return combine(base, task_vectors(base, finetuned), s)


@prepares("slerp")
def angle(chunks: Chunks, s: Settings) -> tuple[float, float]:
    """The factors of θ_0 and θ_1; those of plain interpolation where the tensors are nearly parallel, as in mergekit."""
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


def trim_bounds(s: Settings, size: int, count: Callable[[np.ndarray | None], np.ndarray]) -> np.ndarray:
    """Bounds (models, 2) of |δ|: of `size` entries the int(γ · size) largest go (breadcrumbs; TIES has no γ), the int(density · size)
    next stay (TIES: at least one). γ gives way where density leaves it no room, as in mergekit. No bounds at density 1."""
    ranks, fixed = [], {}
    for i, (density, gamma) in enumerate(zip(s.density, s.gamma or [0.0] * len(s.density), strict=True)):
        kept = min(size, max(0 if s.gamma else 1, int(density * size)))
        low = max(0, size - kept - int(gamma * size))
        ranks.append((min(low, size - 1), max(0, low + kept - 1)))
        if density >= 1 or not kept:
            fixed[i] = (0.0, np.inf) if kept else (np.inf, 0.0)
    found = magnitudes_at(np.array(ranks), count) if len(fixed) < len(ranks) else np.zeros((len(ranks), 2), np.float32)
    for i, pair in fixed.items():
        found[i] = pair
    return found


def trimmed(base: Tensor, finetuned: list[Tensor], s: Settings) -> list[Tensor]:
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
    """DELLA's drop: within each row the keep probability grows with the rank of |δ|, from density − ε to density + ε.

    Each kept entry is divided by its own probability, as in the paper; mergekit rescales the tensor to its old L1 norm.
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
    """t = N cos / (1 + (N − 1) cos), with the mean cosine of the pairs of task vectors; 0 where the denominator vanishes."""
    n = len(s.coefficients)
    products = gram((task_vectors(*chunk) for chunk in chunks()), n)
    norms = np.sqrt(np.diag(products))
    cosines = np.clip(products / np.maximum(np.outer(norms, norms), 1e-6), -1, 1)
    cosine = cosines[np.triu_indices(n, 1)].mean()
    return float(n * cosine / (1 + (n - 1) * cosine)) if abs(1 + (n - 1) * cosine) > 1e-6 else 0.0


@implements("model_stock")
def model_stock(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + t · mean λ_i δ_i: the point nearest to the base on the way to the centre of the fine-tuned models."""
    weighted = total(c * d for c, d in zip(s.coefficients, task_vectors(base, finetuned), strict=True))
    return base.float() + s.prepared / len(finetuned) * weighted


@implements("fisher")
def fisher(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ λ_i F_i δ_i / Σ w_i F_i; a plain mean where there is no Fisher information, or it is 0 in all models."""
    information = [torch.ones_like(base, dtype=torch.float32) if f is None else f for f in s.statistics]
    deltas = task_vectors(base, finetuned)
    weighted = total(c * f * d for c, f, d in zip(s.coefficients, information, deltas, strict=True))
    mass = total(w * f for w, f in zip(s.divisors, information, strict=True))
    mean = total(c * d for c, d in zip(s.coefficients, deltas, strict=True)) / sum(s.divisors)
    return base.float() + torch.where(mass > 0, weighted / torch.where(mass > 0, mass, 1.0), mean)


@implements("aim")
def aim(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ λ_i δ_i ⊙ (1 − s (1 − ω)): input channels that matter to the base keep more of it.

    s = mean |x| per input channel over its maximum. Tensors without statistics (biases, norms, embedding) are merged plainly.
    """
    (importance,) = s.statistics
    relaxation = (
        1.0 if importance is None else 1 - importance / importance.max().clamp(min=1e-30) * (1 - s.numbers["omega"])
    )
    return (
        base.float()
        + total(c * d for c, d in zip(s.coefficients, task_vectors(base, finetuned), strict=True)) * relaxation
    )


@implements("sens")
def sens(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """c_0 θ_0 + c_1 α λ δ with the layer's pair of coefficients, which `sensitivity_pair` gives."""
    (delta,) = task_vectors(base, finetuned)
    first, second = s.numbers["c_0"], s.numbers["c_1"]
    return first * base.float() + second * s.numbers["alpha"] * s.coefficients[0] * delta


def combine(base: Tensor, deltas: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α Σ λ_i δ_i, the sum over that of the divisors if `normalize`."""
    merged = total(c * d for c, d in zip(s.coefficients, deltas, strict=True))
    divisor = sum(s.divisors) if s.normalize else 1.0
    merged = merged / divisor if divisor != 1 and abs(divisor) > 1e-8 else merged
    return base.float() + (s.scaling * merged if s.scaling != 1 else merged)


def elected(base: Tensor, deltas: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α · :func:`consensus`."""
    return base.float() + s.scaling * consensus(deltas, s.coefficients, s.divisors, s.normalize, s.election)


from acm.merging import matrices  # noqa: E402, F401  registers the methods that need whole matrices
