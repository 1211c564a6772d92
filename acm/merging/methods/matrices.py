"""Merge methods that need a whole matrix at once.

One tensor of each model is held in float32, and square matrices of the inputs in float64.

    variable    symbol   shape                    meaning
    matrix      W_i      (outputs, inputs)        a weight matrix; vectors pass unchanged through truncation
    gram        G_i      (inputs, inputs)         Σ x xᵀ of the layer's inputs, from a calibration
    rank        r        ()                       fraction of the singular values that are kept
    mu          μ        ()                       weight of the nuclear norm; singular values shrink by μ / 2
    alpha       α        ()                       factor of a Gram matrix's off-diagonals
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from acm.merging.functions import implements
from acm.merging.primitives import combine, crossed, finite, rows_of, task_vectors, total
from acm.merging.settings import Settings


def filtered(matrix: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
    """The matrix with its singular values s (descending) multiplied by keep(s), float32.

    It goes through the eigenvectors of the smaller Gram matrix, in float64. That is several times faster than an SVD,
    but singular values below 1e-7 of the largest are not resolved. NaN or infinity gives NaN everywhere.
    """
    if matrix.dim() != 2 or not matrix.numel():
        return matrix
    if not finite([matrix]):
        return torch.full_like(matrix, float("nan"))
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    values, vectors = torch.linalg.eigh(crossed(tall, tall))
    factors = keep(values.clamp(min=0).sqrt().flip(0)).flip(0)
    used = vectors[:, factors > 0]
    scaled = used * factors[factors > 0]
    found = torch.cat([(rows.double() @ scaled @ used.T).float() for rows in rows_of(tall)])
    return found if tall.shape == matrix.shape else found.T.contiguous()


def truncated(matrix: Tensor, rank: float) -> Tensor:
    """The matrix with the largest ceil(rank · min(shape)) singular values alone."""

    def keep(values: Tensor) -> Tensor:
        return (torch.arange(len(values), device=values.device) < rank * len(values)).double()

    return filtered(matrix, keep)


def thresholded(matrix: Tensor, threshold: float) -> Tensor:
    """Singular-value thresholding: each singular value shrinks by the threshold, to 0 at least."""
    return filtered(matrix, lambda values: (values - threshold).clamp(min=0) / values.clamp(min=1e-300))


@implements("twin")
def twin(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Task arithmetic on task vectors that keep a fraction `rank` of their singular values.

    This is the part of Twin-Merging that uses the singular value decomposition.
    """
    deltas, rank = task_vectors(base, finetuned), s.numbers["rank"]
    return combine(base, deltas if rank == 1 else [truncated(delta, rank) for delta in deltas], s)


@implements("lore")
def lore(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Estimate base and low-rank task vectors from the models alone, by coordinate descent, then merge these.

    It minimises Σ_i ‖θ + δ_i − θ_i‖² + μ ‖δ_i‖_* in two steps by turns: θ ← mean(θ_i − δ_i), and δ_i ← θ_i − θ with its
    singular values thresholded at μ / 2. The true base takes part only where the recipe lists it as a model. The paper
    leaves the final step open; it is a mean here.
    """
    models = [model.float() for model in finetuned]
    deltas, estimate = [torch.zeros_like(model) for model in models], torch.full_like(models[0], float("inf"))
    for _ in range(int(s.numbers["iterations"])):
        before, estimate = estimate, total(m - d for m, d in zip(models, deltas, strict=True)) / len(models)
        if (estimate - before).norm() <= 2e-7 * estimate.norm():
            break  # as with two models, at once: their task vectors are each other's negative
        deltas = [thresholded(m - estimate, s.numbers["mu"] / 2) for m in models]
    return combine(estimate, deltas, s)
