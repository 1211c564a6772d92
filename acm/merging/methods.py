"""Merge methods: each a pure function of one tensor of every model, with its citation, in one registry.

    variable       symbol          shape          meaning
    base           θ_0             (…)            the tensor in the base model, any float dtype
    finetuned      θ_i             list of (…)    the same tensor in each fine-tuned model
    coefficients   λ_i             list of ()     weight of each task vector in this layer        Eq. 3
    δ              θ_i − θ_0       (…)            task vector, computed in float32
    scaling        α               ()             the recipe's `lambda`: multiplies the merged task vector
    density        1 − k           list of ()     fraction of entries kept; 1 − density is the drop rate

`divisors` divide the sum when `normalize` is on: the weights (mergekit) or, with ACM coefficients, ones, which
makes it the 1/N of Eq. 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

METHODS: dict[str, MergeMethod] = {}


@dataclass(frozen=True)
class MergeMethod:
    """A registered method: ``parameters`` maps the recipe keys that it takes to their defaults (None: required)."""

    name: str
    title: str
    paper: str
    merge: Callable[..., Tensor]
    parameters: dict[str, float | bool | None] = field(default_factory=dict)
    takes_coefficients: bool = True


def merge_method(name: str, title: str, paper: str, takes_coefficients: bool = True, **parameters: float | bool | None):
    """Register a method under mergekit's name where mergekit has it."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        METHODS[name] = MergeMethod(name, title, paper, function, parameters, takes_coefficients)
        return function

    return register


@merge_method("linear", "Average", "arXiv:2203.05482", takes_coefficients=False, weight=None, normalize=True)
def linear(base: Tensor, finetuned: list[Tensor], coefficients: list[float], normalize: bool, **_) -> Tensor:
    """Σ_i w_i θ_i, over Σ_i w_i if `normalize`. The base takes part only where the recipe lists it as a model."""
    total = sum(w * model.float() for w, model in zip(coefficients, finetuned, strict=True))
    return total / sum(coefficients) if normalize else total


@merge_method("task_arithmetic", "Task Arithmetic", "arXiv:2212.04089", weight=None, normalize=False, **{"lambda": 1.0})
def task_arithmetic(base: Tensor, finetuned: list[Tensor], coefficients: list[float], divisors: list[float],
                    scaling: float, normalize: bool, **_) -> Tensor:  # fmt: skip
    """θ_0 + α Σ_i λ_i δ_i, with the sum over N or Σ w_i if `normalize` (Eq. 3)."""
    return combine(base, task_vectors(base, finetuned), coefficients, divisors, scaling, normalize)


@merge_method("interpolation", "Interpolation", "arXiv:2510.10977", weight=None)
def interpolation(base: Tensor, finetuned: list[Tensor], coefficients: list[float], **_) -> Tensor:
    """(1 − λ) θ_0 + λ θ_1, in delta form; sweeping λ gives the frontier."""
    (delta,) = task_vectors(base, finetuned)
    return base.float() + coefficients[0] * delta


@merge_method("ties", "TIES", "arXiv:2306.01708", weight=None, density=1.0, normalize=True, **{"lambda": 1.0})
def ties(base: Tensor, finetuned: list[Tensor], coefficients: list[float], divisors: list[float], scaling: float,
         normalize: bool, density: list[float], election: str, **_) -> Tensor:  # fmt: skip
    """Trim each δ_i to its largest entries, elect a sign per entry, mean over the agreeing models, times α."""
    deltas = [trim(d, k) for d, k in zip(task_vectors(base, finetuned), density, strict=True)]
    return consensus(base, deltas, coefficients, divisors, scaling, normalize, election)


@merge_method("dare_linear", "DARE", "arXiv:2311.03099", weight=None, density=1.0, normalize=False, **{"lambda": 1.0})
def dare_linear(base: Tensor, finetuned: list[Tensor], coefficients: list[float], divisors: list[float], scaling: float,
                normalize: bool, density: list[float], generators: list[torch.Generator], **_) -> Tensor:  # fmt: skip
    """Drop entries of each δ_i at random, rescale the rest by 1 / density, then task arithmetic."""
    deltas = [drop(d, k, g) for d, k, g in zip(task_vectors(base, finetuned), density, generators, strict=True)]
    return combine(base, deltas, coefficients, divisors, scaling, normalize)


@merge_method("dare_ties", "DARE-TIES", "arXiv:2311.03099", weight=None, density=1.0, normalize=False, **{"lambda": 1.0})
def dare_ties(base: Tensor, finetuned: list[Tensor], coefficients: list[float], divisors: list[float], scaling: float,
              normalize: bool, density: list[float], generators: list[torch.Generator], election: str, **_) -> Tensor:  # fmt: skip
    """Drop and rescale as DARE, then TIES' sign election and mean."""
    deltas = [drop(d, k, g) for d, k, g in zip(task_vectors(base, finetuned), density, generators, strict=True)]
    return consensus(base, deltas, coefficients, divisors, scaling, normalize, election)


def task_vectors(base: Tensor, finetuned: list[Tensor]) -> list[Tensor]:
    return [model.float() - base.float() for model in finetuned]


def consensus(base: Tensor, deltas: list[Tensor], coefficients: list[float], divisors: list[float], scaling: float,
              normalize: bool, election: str) -> Tensor:  # fmt: skip
    """Elect a sign per entry, then :func:`combine` the entries that agree with it.

    election: ``weighted`` sums λ_i δ_i, as mergekit does; ``unweighted`` sums δ_i, as the TIES paper does.
    """
    agreeing = elect(deltas, coefficients if election == "weighted" else [1.0] * len(deltas))
    return combine(base, deltas, coefficients, divisors, scaling, normalize, agreeing)


def combine(base: Tensor, deltas: list[Tensor], coefficients: list[float], divisors: list[float], scaling: float,
            normalize: bool, agreeing: list[Tensor] | None = None) -> Tensor:  # fmt: skip
    """θ_0 + α Σ λ_i δ_i, optionally over Σ of the divisors; both sums over the agreeing models alone."""
    masks = agreeing or [1.0] * len(deltas)
    merged = sum(c * d * m for c, d, m in zip(coefficients, deltas, masks, strict=True))
    if normalize:
        divisor = torch.as_tensor(sum(w * m for w, m in zip(divisors, masks, strict=True)))
        merged = merged / torch.where(divisor == 0, 1.0, divisor)
    return base.float() + scaling * merged


def trim(delta: Tensor, density: float) -> Tensor:
    """Keep the int(density · n) largest magnitudes, at least one; entries tied with the last are all kept.

    So does the TIES reference; mergekit keeps exactly that many, ties in sort order.
    """
    kept = max(1, int(density * delta.numel()))
    if kept >= delta.numel():
        return delta
    size = delta.abs()
    threshold = size.flatten().kthvalue(delta.numel() - kept + 1).values
    return torch.where(size >= threshold, delta, 0.0)


def drop(delta: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Keep each entry with probability `density`, rescaled by 1 / density."""
    kept = torch.rand(delta.shape, generator=generator) < density
    return torch.where(kept, delta / density, 0.0)


def elect(deltas: list[Tensor], weights: list[float]) -> list[Tensor]:
    """Per entry the sign of the (weighted) sum, + on zero; which models agree with it (zeros never do)."""
    sign = torch.where(sum(w * d for w, d in zip(weights, deltas, strict=True)) >= 0, 1.0, -1.0)
    return [(w * d).sign() == sign for w, d in zip(weights, deltas, strict=True)]
