"""Merge methods that decompose a matrix, and read it some rows at a time: Twin-Merging and LoRE-Merging.

What they do to a matrix follows from square matrices of its smaller side. A first pass makes these from Gram matrices,
in float64. A second pass multiplies the task vectors by them. So a matrix with more rows than columns is never whole in
memory. One with fewer is: it is small, since its rows are a model's width at most.

    variable    symbol   shape                    meaning
    bands                (lines, small)           the same lines of every model: rows of a tall matrix, columns else
    gram        G        (small, small)           δᵀ δ of a tall matrix, δ δᵀ of another
    rank        r        ()                       fraction of the singular values that are kept
    mu          μ        ()                       weight of the nuclear norm; singular values shrink by μ / 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acm.merging.functions import implements, prepares
from acm.merging.primitives import combine, crossed, divided, finite, rows_of, task_vectors, total
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Chunks

Keep = Callable[[Tensor], Tensor]  # from singular values, descending, to what each is multiplied by
Factors = tuple[Tensor, Tensor]  # (small, kept) twice: the first times the transpose of the second filters a matrix


def factors_of(gram: Tensor, keep: Keep) -> Factors:
    """What multiplies the singular values s of a matrix by keep(s), from its Gram matrix.

    It goes through eigenvectors, in float64. That is several times faster than an SVD, but singular values below 1e-7
    of the largest are not resolved. NaN or infinity gives NaN everywhere.
    """
    if not finite([gram]):
        return torch.full_like(gram[:, :1], float("nan")), torch.ones_like(gram[:, :1])
    values, vectors = torch.linalg.eigh(gram)
    factors = keep(values.clamp(min=0).sqrt().flip(0)).flip(0)
    used = vectors[:, factors > 0]
    return used * factors[factors > 0], used


def projected(lines: Tensor, factors: Factors) -> Tensor:
    """Some lines of the filtered matrix, float32."""
    scaled, used = factors
    return (lines.double() @ scaled @ used.T).float()


def filtered(matrix: Tensor, keep: Keep) -> Tensor:
    """The matrix with its singular values s (descending) multiplied by keep(s), float32: :func:`factors_of`."""
    if matrix.dim() != 2 or not matrix.numel():
        return matrix
    (tall,) = turned([matrix], tuple(matrix.shape))
    factors = factors_of(crossed(tall, tall), keep)
    return banded(lambda lines: projected(lines[0], factors), [matrix], tuple(matrix.shape))


def truncation(rank: float) -> Keep:
    """The largest ceil(rank · small) singular values alone."""
    return lambda values: (torch.arange(len(values), device=values.device) < rank * len(values)).double()


def truncated(matrix: Tensor, rank: float) -> Tensor:
    """The matrix with the largest ceil(rank · min(shape)) singular values alone."""
    return filtered(matrix, truncation(rank))


def thresholding(threshold: float) -> Keep:
    """Singular-value thresholding: each singular value shrinks by the threshold, to 0 at least."""
    return lambda values: (values - threshold).clamp(min=0) / values.clamp(min=1e-300)


def turned(matrices: list[Tensor], shape: tuple[int, ...]) -> list[Tensor]:
    """The matrices, or rows of them, with lines of the smaller side. shape: of the whole matrix."""
    return [matrix.T for matrix in matrices] if shape[0] < shape[1] else matrices


def bands(matrices: list[Tensor], shape: tuple[int, ...]) -> Iterator[list[Tensor]]:
    """The same lines of every matrix, ROWS of them at a time."""
    return map(list, zip(*map(rows_of, turned(matrices, shape)), strict=True))


def banded(merge: Callable[[list[Tensor]], Tensor], matrices: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """What a function makes of each band, as one float32 matrix. matrices: whole, or the same rows of each."""
    found = torch.empty_like(matrices[0], dtype=torch.float32, memory_format=torch.contiguous_format)
    for place, *lines in bands([found, *matrices], shape):
        place.copy_(merge(lines))
    return found


def decomposes(s: Settings) -> bool:
    """Whether the tensor is a matrix with entries, and counts as one."""
    return s.is_matrix and 0 not in s.shape


@prepares("twin")
def truncations(chunks: Chunks, s: Settings) -> list[Factors] | None:
    """What truncates each task vector; None where all singular values are kept."""
    rank = s.numbers["rank"]
    if rank == 1 or not decomposes(s):
        return None
    grams: list[Tensor | None] = [None] * len(s.coefficients)
    for base, finetuned in chunks():
        for first, *own in bands([base, *finetuned], s.shape):
            for model, delta in enumerate(task_vectors(first, own)):
                grams[model] = added(grams[model], crossed(delta, delta))
    return [factors_of(gram, truncation(rank)) for gram in grams if gram is not None]


def added(before: Tensor | None, more: Tensor) -> Tensor:
    """The sum, in the place of the first."""
    return more if before is None else before.add_(more)


@implements("twin")
def twin(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Task arithmetic on task vectors that keep a fraction `rank` of their singular values.

    This is the part of Twin-Merging that uses the singular value decomposition.
    """
    if s.prepared is None:
        return combine(base, task_vectors(base, finetuned), s)

    def merge(lines: list[Tensor]) -> Tensor:
        first, *own = lines
        pairs = zip(task_vectors(first, own), s.prepared, strict=True)
        return combine(first, [projected(delta, factors) for delta, factors in pairs], s)

    return banded(merge, [base, *finetuned], s.shape)


@prepares("lore")
def lore_factors(chunks: Chunks, s: Settings) -> list[Tensor] | None:
    """K_i of the merged matrix: mean(θ_j) + Σ_i (θ_i − mean(θ_j)) K_i. None for what is not decomposed."""
    if not decomposes(s):
        return None
    count, norm = len(s.coefficients), 0.0
    grams: dict[tuple[int, int], Tensor] = {}
    for _, finetuned in chunks():
        for models in bands(finetuned, s.shape):
            mean, deltas = centred(models)
            norm += float(mean.double().square().sum())
            for i, j in combinations_with_replacement(range(count), 2):
                grams[i, j] = added(grams.get((i, j)), crossed(deltas[i], deltas[j]))
    if not finite(list(grams.values())):
        return [torch.full_like(gram, float("nan")) for (i, j), gram in grams.items() if i == j]
    return descended(grams, norm, s)


def centred(models: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The mean of the models, and what each has over it, float32."""
    mean = total(model.float() for model in models) / len(models)
    return mean, [model.float() - mean for model in models]


def descended(grams: dict[tuple[int, int], Tensor], norm: float, s: Settings) -> list[Tensor]:
    """LoRE's coordinate descent on square matrices, float64.

    The estimate is mean(θ_j) + E, E = Σ_i d_i C_i with d_i = θ_i − mean(θ_j), and the task vectors are
    δ_i = (d_i − E) P_i. grams: d_iᵀ d_j for i ≤ j. norm: ‖mean(θ_j)‖². It stops once E
    moves by 2e-7 of its root or less.
    """
    models, keep = range(len(s.coefficients)), thresholding(s.numbers["mu"] / 2)
    zero = torch.zeros_like(grams[0, 0])
    unit = torch.eye(len(zero), dtype=zero.dtype, device=zero.device)
    before, products = [zero for _ in models], [zero for _ in models]  # C_i, and d_iᵀ E: the first estimate is the mean
    filters = shrunk(grams, before, products, keep)
    estimate = before
    for _ in range(1, int(s.numbers["iterations"])):
        mixed = total(filters)
        estimate = [(unit - f + c @ mixed) / len(models) for c, f in zip(before, filters, strict=True)]
        later = [total((grams[i, j] if i <= j else grams[j, i].T) @ estimate[j] for j in models) for i in models]
        moved = sum(float(((estimate[i] - before[i]) * (later[i] - products[i])).sum()) for i in models)
        if moved <= 4e-14 * norm:
            break  # as with two models, at once: their task vectors are each other's negative
        before, products = estimate, later
        filters = shrunk(grams, before, products, keep)
    weights = [s.scaling * c / divided(s) for c in s.coefficients]
    mixed = total(w * f for w, f in zip(weights, filters, strict=True))
    return [estimate[i] + weights[i] * filters[i] - before[i] @ mixed for i in models]


def shrunk(
    grams: dict[tuple[int, int], Tensor], estimate: list[Tensor], products: list[Tensor], keep: Keep
) -> list[Tensor]:
    """P_i of an estimate: (d_i − E) P_i is d_i − E with its singular values shrunk. products: d_iᵀ E."""
    square = total(c.T @ p for c, p in zip(estimate, products, strict=True))  # Eᵀ E
    found = (factors_of(grams[i, i] - p - p.T + square, keep) for i, p in enumerate(products))
    return [scaled @ used.T for scaled, used in found]


@implements("lore")
def lore(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Estimate base and low-rank task vectors from the models alone, by coordinate descent, then merge these.

    It minimises Σ_i ‖θ + δ_i − θ_i‖² + μ ‖δ_i‖_* in two steps by turns: θ ← mean(θ_i − δ_i), and δ_i ← θ_i − θ with its
    singular values thresholded at μ / 2. The true base takes part only where the recipe lists it as a model. The paper
    leaves the final step open; it is a mean here. What is not decomposed has δ_i = θ_i − mean(θ_j).
    """
    if s.prepared is None:
        mean, deltas = centred(finetuned)
        if s.numbers["iterations"] > 1:
            mean = total(model.float() - delta for model, delta in zip(finetuned, deltas, strict=True)) / len(finetuned)
        return combine(mean, deltas, s)

    def merge(models: list[Tensor]) -> Tensor:
        mean, deltas = centred(models)
        return mean.double() + total(d.double() @ k for d, k in zip(deltas, s.prepared, strict=True))

    return banded(merge, finetuned, s.shape)
