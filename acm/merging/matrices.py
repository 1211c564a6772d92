"""Merge methods that need a whole matrix at once: their memory is that of one tensor of each model, in float32 and float64.

variable    symbol   shape                    meaning
matrix      W_i      (outputs, inputs)        a weight matrix; vectors pass unchanged through truncation
gram        G_i      (inputs, inputs)         Σ x xᵀ of the layer's inputs, from a calibration step
rank        r        ()                       fraction of the singular values that are kept
mu          μ        ()                       weight of the nuclear norm; singular values shrink by μ / 2
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from acm.merging.methods import combine, implements
from acm.merging.primitives import task_vectors, total
from acm.merging.settings import Settings


def filtered(matrix: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
    """The matrix with its singular values s (descending) scaled by keep(s), through the eigenvectors of the smaller Gram matrix.

    In float64, several times faster than an SVD; singular values below 1e-7 of the largest are not resolved.
    """
    if matrix.dim() != 2 or not matrix.numel():
        return matrix
    if not torch.isfinite(matrix).all():
        return torch.full_like(matrix, float("nan"))
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    tall = tall.double()
    values, vectors = torch.linalg.eigh(tall.T @ tall)
    factors = keep(values.clamp(min=0).sqrt().flip(0)).flip(0)
    used = vectors[:, factors > 0]
    found = ((tall @ used * factors[factors > 0]) @ used.T).float()
    return found if tall.shape == matrix.shape else found.T.contiguous()


def truncated(matrix: Tensor, rank: float) -> Tensor:
    """The matrix with the largest ceil(rank · min(shape)) singular values alone."""
    return filtered(matrix, lambda values: (torch.arange(len(values), device=values.device) < rank * len(values)).double())


def thresholded(matrix: Tensor, threshold: float) -> Tensor:
    """Singular-value thresholding: each singular value shrinks by the threshold, to 0 at least."""
    return filtered(matrix, lambda values: (values - threshold).clamp(min=0) / values.clamp(min=1e-300))


@implements("twin")
def twin(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Task arithmetic on task vectors truncated to a fraction `rank` of their singular values (the SVD part of Twin-Merging)."""
    deltas = task_vectors(base, finetuned)
    return combine(base, deltas if s.numbers["rank"] == 1 else [truncated(d, s.numbers["rank"]) for d in deltas], s)


@implements("lore")
def lore(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Estimate base and low-rank task vectors from the models alone by coordinate descent, then merge.

    Minimises Σ_i ‖θ + δ_i − θ_i‖² + μ ‖δ_i‖_*: θ ← mean(θ_i − δ_i), δ_i ← singular-value thresholding of θ_i − θ at μ/2.
    The true base takes part only where the recipe lists it as a model. The paper leaves the final step open; a mean here.
    """
    models = [model.float() for model in finetuned]
    deltas = [torch.zeros_like(model) for model in models]
    for _ in range(int(s.numbers["iterations"])):
        estimate = total(m - d for m, d in zip(models, deltas, strict=True)) / len(models)
        deltas = [thresholded(m - estimate, s.numbers["mu"] / 2) for m in models]
    return combine(estimate, deltas, s)


@implements("regmean")
def regmean(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """The linear map nearest to all models on their own inputs: (Σ G_i)⁻¹ Σ G_i W_iᵀ, off-diagonals of G_i times α.

    ACM's λ scales the task vectors first. Tensors without Gram matrices (vectors, embedding) are averaged.
    """
    models = [base.float() + c * d for c, d in zip(s.coefficients, task_vectors(base, finetuned), strict=True)]
    if any(gram is None for gram in s.statistics):
        return total(models) / len(models)
    sums, targets = 0, 0
    for gram, model in zip(s.statistics, models, strict=True):
        gram = gram.double()
        gram = s.numbers["alpha"] * gram + (1 - s.numbers["alpha"]) * torch.diag(gram.diagonal())
        sums, targets = sums + gram, targets + gram @ model.double().T
    mean, pull = total(models).double() / len(models), 1e-9 * sums.diagonal().mean().clamp(min=1e-30)  # inputs never used: the mean
    sums = sums + pull * torch.eye(len(sums), dtype=torch.float64, device=sums.device)
    return torch.linalg.solve(sums, targets + pull * mean.T).T.float().contiguous()
