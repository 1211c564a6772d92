"""What the singular values and vectors of task vectors say: ranks, overlaps and interference. Pure functions.

    delta       δ_i       (rows, columns)   task vector of a matrix, float32; rows are the matrix's outputs
    small       r         ()                the smaller side of the matrix
    squares     σ²        (r,)              squared singular values of δ, descending
    vectors     V         (r, k)            singular vectors of the smaller side, at most as many as δ has ranks
    sigma       σ̂_i       (k,)              the k = int(r/N) largest singular values of δ_i
    pair        (i, j)    P                 two of the N models, i < j, in the order of `pairs` in `diagnostics.py`

Everything follows from the N Gram matrices δ_iᵀ δ_i and the P products δ_iᵀ δ_j, in float64. The singular vectors of
the longer side are never formed: their inner products are diag(1/σ_i) V_iᵀ (δ_iᵀ δ_j) V_j diag(1/σ_j).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from acm.merging.diagnostics import pairs
from acm.merging.primitives import crossed, finite, total

Inner = dict[tuple[int, int], Tensor]  # inner products of the singular vectors of one side, for each pair


class Spectra(NamedTuple):
    """What the decompositions of one matrix of every model say. NaN where there is nothing to decompose.

    ranks: (N, 2), effective and stable rank. overlaps: (P, 4), :func:`overlap` of the left directions, then of the
    right. interference: (3,), see :func:`interference`.
    """

    ranks: np.ndarray
    overlaps: np.ndarray
    interference: np.ndarray


def spectra(deltas: list[Tensor], top: float, floor: float = 0.0) -> Spectra:
    """:class:`Spectra` of one matrix of every model.

    top: the overlap is that of the first max(1, int(top · r)) directions. Left vectors span the outputs, right ones
    the inputs. floor: directions with σ up to it are left out, see :func:`rounding`.
    """
    rows, columns = deltas[0].shape
    small, count = min(rows, columns), len(deltas)
    unknown = Spectra(*(np.full(shape, math.nan) for shape in ((count, 2), (len(pairs(count)), 4), 3)))
    if not finite(deltas):  # a difference that is too large for float32
        return unknown
    tall = [delta if rows >= columns else delta.T for delta in deltas]
    squares, vectors = zip(*(decomposed(delta, floor) for delta in tall), strict=True)
    ranks = np.array([[effective_rank(found), stable_rank(found)] for found in squares])
    if count == 1:
        return unknown._replace(ranks=ranks)
    first, each = max(1, int(top * small)), small // count
    kept = [found[:, : max(first, each)] for found in vectors]
    sigma = [found[: directions.shape[1]].sqrt() for found, directions in zip(squares, kept, strict=True)]
    short: Inner = {(i, j): kept[i].T @ kept[j] for i, j in pairs(count)}
    long: Inner = {
        (i, j): kept[i].T @ crossed(tall[i], tall[j]) @ kept[j] / sigma[i][:, None] / sigma[j] for i, j in pairs(count)
    }
    left, right = (long, short) if rows >= columns else (short, long)
    overlaps = [
        [*overlap(left[pair][:first, :first], rows), *overlap(right[pair][:first, :first], columns)]
        for pair in pairs(count)
    ]
    return Spectra(ranks, np.array(overlaps), interference(left, right, [s[:each] for s in sigma], rows * columns))


def rounding(models: list[Tensor]) -> float:
    """A bound of the singular values that the rounding of float32 gives to a task vector.

    models: θ_0 and each θ_i, (rows, columns). Rounding moves an entry by less than 2^-23 of it. Random moves of this
    size have singular values up to 2^-23 · (√rows + √columns) times the root mean square of the entries. An adapter's
    task vector has few directions, and rounding gives it all others.
    """
    rows, columns = models[0].shape
    largest = max(float(model.norm()) for model in models) / math.sqrt(rows * columns)
    return torch.finfo(torch.float32).eps * largest * (math.sqrt(rows) + math.sqrt(columns))


def decomposed(tall: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """σ² (r,), descending, and V (r, rank) of a matrix with at least as many rows as columns.

    They are the eigenvalues and eigenvectors of its Gram matrix. V lacks the directions of σ ≤ floor, and those whose
    σ² is no more than the rounding of the Gram matrix, which begin near σ = 1e-7 of the largest: both are arbitrary.
    """
    values, vectors = torch.linalg.eigh(crossed(tall, tall))
    squares = values.clamp(min=0).flip(0)
    least = max(float(len(squares) * torch.finfo(torch.float64).eps * squares[0]), floor**2)
    return squares, vectors.flip(1)[:, : int((squares > least).sum())]


def effective_rank(squares: Tensor) -> float:
    """exp of the entropy of σ² / Σ σ²; NaN for zeros. It is r where all σ are equal, and 1 where one alone is not 0.

    Roy and Vetterli (2007) take σ / Σ σ. Squares are shares of ‖δ‖², so small σ count for less.
    """
    whole = squares.sum()
    return float(torch.special.entr(squares / whole).sum().exp()) if whole > 0 else math.nan


def stable_rank(squares: Tensor) -> float:
    """‖δ‖² / σ_max²; NaN for zeros."""
    return float(squares.sum() / squares[0]) if squares[0] > 0 else math.nan


def overlap(cosines: Tensor, side: int) -> tuple[float, float]:
    """Mean squared cosine of the principal angles of two subspaces, and its mean for random ones; NaN if one is empty.

    cosines: (k_i, k_j), the inner products of their orthonormal bases. side: the dimension m of the space around. The
    null is max(k_i, k_j) / m, which is k / m for two of k dimensions.
    """
    if not cosines.numel():
        return math.nan, math.nan
    return float((cosines * cosines).sum() / min(cosines.shape)), max(cosines.shape) / side


def interference(left: Inner, right: Inner, sigma: list[Tensor], size: int) -> np.ndarray:
    """TSV-M's interference ‖(ÛᵀÛ − I) diag(σ̂) (V̂ᵀV̂ − I)‖₁ of one matrix, the same over Σ σ̂, and the null of that, (3,).

    Û, V̂ and σ̂ are the first k triples of every model, side by side (arXiv:2412.00081). The norm is read as the sum of
    magnitudes; the authors publish no code of it. Triples that :func:`decomposed` leaves out are not counted.

    The null is ours: the mean for random orthonormal Û and V̂ with these σ̂. Each entry is then nearly normal, and its
    variance is Σ σ̂² / size over the models that are neither its row's nor its column's. Two equal models have 1,
    and the null of large matrices is higher.
    """
    count, whole = len(sigma), float(sum(float(s.sum()) for s in sigma))
    if not whole:
        return np.full(3, math.nan)

    def block(inner: Inner, i: int, j: int) -> Tensor:
        found = inner[i, j] if i < j else inner[j, i].T
        return found[: len(sigma[i]), : len(sigma[j])]

    measured = null = 0.0
    for i in range(count):
        for j in range(count):
            if between := [s for s in range(count) if s not in (i, j)]:
                entries = total(block(left, i, s) * sigma[s] @ block(right, s, j) for s in between)
                variance = sum(float((sigma[s] ** 2).sum()) for s in between) / size
                measured += float(entries.abs().sum())
                null += entries.numel() * math.sqrt(2 / math.pi * variance)
    return np.array([measured, measured / whole, null / whole])
