"""Merge methods that work on the singular values and directions of task vectors.

    variable   symbol       shape               meaning
    delta      δ_i          (outputs, inputs)   task vector of a weight matrix, λ_i times it already
    rank       r            ()                  min(outputs, inputs): how many singular values a matrix has
    left       U            (outputs, count)    left singular vectors, one a column
    sigma      σ            (count,)            singular values, descending
    right      V            (inputs, count)     right singular vectors, one a column
    common     f            ()                  fraction of the directions that come from the sum of task vectors
    mu         μ            (count,)            eigenvalues of C = Σ δ_iᵀ δ_i / ‖δ_i‖²
    time       t            ()                  how long gradient descent would run; directions of large μ settle first

Vectors have no directions to share out: the mean of λ_i δ_i is taken. The same holds for embedding and head, unless the
recipe says `embeddings: true`. All decompositions are in float64, and go through the Gram matrix of the smaller side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from acm.merging.functions import implements
from acm.merging.methods.matrices import truncated
from acm.merging.primitives import crossed, finite, rows_of, total, weighted_vectors
from acm.merging.settings import Settings

TOLERANCE = 1e-6  # singular values below this fraction of a matrix's norm count as 0
RESOLVED = 1e-8  # singular values below this fraction are what rounding makes of 0

Triples = tuple[Tensor, Tensor, Tensor]


def merged(
    base: Tensor, finetuned: list[Tensor], s: Settings, merge: Callable[[list[Tensor]], Tensor], fewest: int = 1
) -> Tensor:
    """θ_0 + α · merge([λ_i δ_i]) for a matrix; the mean of λ_i δ_i for merge's result elsewhere.

    fewest: with fewer task vectors, merge is known to give their mean, so none is decomposed. NaN or infinity in a
    matrix gives NaN everywhere.
    """
    deltas = weighted_vectors(base, finetuned, s)
    if not s.is_matrix or not base.numel() or len(deltas) < fewest:
        found = total(deltas) / len(deltas)
    elif not finite(deltas):
        found = torch.full_like(deltas[0], float("nan"))
    else:
        found = merge(deltas).float()
    return base.float() + s.scaling * found


def triples(matrix: Tensor, count: int, least: float) -> Triples:
    """The largest singular triples U (rows, ≤ count), σ (≤ count,), V (columns, ≤ count), float64.

    Those with σ ≤ least are left out. The vectors of one side are eigenvectors of the smaller Gram matrix, and the
    matrix takes them to those of the other side. A large matrix is faster this way than by SVD. The signs of U and V
    are open, as in any SVD; U Vᵀ does not depend on them.
    """
    if matrix.shape[0] < matrix.shape[1]:
        right, sigma, left = triples(matrix.T, count, least)
        return left, sigma, right
    values, vectors = torch.linalg.eigh(crossed(matrix, matrix))
    sigma, right = values.clamp(min=0).sqrt().flip(0)[:count], vectors.flip(1)[:, :count]
    sigma, right = sigma[sigma > least], right[:, sigma > least]
    left = torch.cat([rows.double() @ right for rows in rows_of(matrix)]) / sigma
    return left, sigma, right


def side_by_side(parts: list[Triples]) -> Triples:
    """The triples of several matrices as one: U, σ and V joined along the directions."""
    left, sigma, right = (torch.cat(found, dim=-1) for found in zip(*parts, strict=True))
    return left, sigma, right


def polar(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values at 1: its nearest orthogonal matrix. Columns have norm 1; float64.

    Directions that the columns do not span stay 0. Where columns coincide, an SVD in the authors' codes fills the gap
    with arbitrary vectors, so the result would depend on the machine.
    """
    left, _, right = triples(matrix, min(matrix.shape), TOLERANCE)
    return left @ right.T


def isotropic(deltas: list[Tensor], common: float) -> Tensor:
    """Common directions of the sum, and the largest others of each task vector, all at the mean of their σ.

    With the fraction `common` = 1 only the sum takes part. Of r directions, each of the N task vectors brings
    round((r − int(f r)) / N), rounded half to even as in the authors' code, but not more than there is room for (their
    code breaks there). Zero singular values: their vectors are arbitrary, and the authors' code gives them the full
    weight. They are left out here, at a relative tolerance. The mean still runs over all r values, as in their code: so
    a result of low rank is as large along each of its own directions as theirs.
    """
    rank, models = min(deltas[0].shape), len(deltas)
    own = min(round((rank - int(common * rank)) / models), rank // models)
    least = TOLERANCE * max(delta.double().norm().item() for delta in deltas)
    parts = [triples(total(delta.double() for delta in deltas), rank - models * own, least)]
    if own:
        shared = parts[0][0]
        parts += [triples(delta.double() - shared @ (shared.T @ delta.double()), own, least) for delta in deltas]
    left, sigma, right = side_by_side(parts)
    if own:
        left, right = polar(left), polar(right)
    return sigma.sum() / rank * (left @ right.T)


@implements("iso_c")
def iso_c(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α mean(σ) U Vᵀ: the sum of the task vectors with all its singular values made equal.

    arXiv:2502.04959. :func:`isotropic` says what of the authors' code differs.
    """
    return merged(base, finetuned, s, lambda deltas: isotropic(deltas, 1.0))


@implements("iso_cts")
def iso_cts(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Iso-C, with room for directions that only one task vector has.

    The largest `common` of the directions of the sum stay. The rest of the room goes to the largest directions of each
    (I − U Uᵀ) λ_i δ_i, U the common left vectors. All together are made orthogonal by polar factors. arXiv:2502.04959.
    """
    return merged(base, finetuned, s, lambda deltas: isotropic(deltas, s.numbers["common"]))


def leading(deltas: list[Tensor], lossless: bool = False) -> Triples:
    """The largest int(r / N) singular triples of each matrix side by side; all r of each if lossless.

    It is one triple at least, so that a matrix with fewer rows than there are models changes at all. The authors' code
    leaves it as it is in the base.
    """
    rank = min(deltas[0].shape)
    count = rank if lossless else max(1, rank // len(deltas))
    return side_by_side([triples(delta, count, TOLERANCE * delta.double().norm().item()) for delta in deltas])


def separated(deltas: list[Tensor], lossless: bool = False) -> Tensor:
    """polar(Û) diag(σ̂) polar(V̂)ᵀ: the triples of all task vectors, moved until no two share a direction.

    If lossless there are more triples than directions, so they are moved apart as far as they can be. For square
    matrices of full rank that is not at all: polar(Û) is Û / √N then, and the result is the mean of the matrices.
    """
    left, sigma, right = leading(deltas, lossless)
    return polar(left) * sigma @ polar(right).T


@implements("tsvm")
def tsvm(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α polar(Û) diag(σ̂) polar(V̂)ᵀ, of :func:`leading` triples. arXiv:2412.00081.

    The authors' code gives arbitrary vectors to zero singular values of a task vector and of Û, V̂. They are left out
    here, at a relative tolerance, so they move no other direction.
    """
    return merged(base, finetuned, s, lambda deltas: separated(deltas, s.numbers["lossless"]), fewest=2)


def centred(deltas: list[Tensor], rank: float, amplification: float) -> Tensor:
    """a + amplification · Σ_i (δ_i − a truncated to ⌈rank · r⌉ singular values), a the mean of the δ_i."""
    mean = (total(delta.double() for delta in deltas) / len(deltas)).float()
    return mean + amplification * total(truncated(delta - mean, rank) for delta in deltas)


@implements("cart")
def cart(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α (mean, and what the largest singular values of each task vector add to it). arXiv:2412.12153.

    Two task vectors lie opposite each other as seen from their mean, so what they add cancels: the mean is left.
    """
    rank, amplification = s.numbers["rank"], s.numbers["amplification"]
    return merged(base, finetuned, s, lambda deltas: centred(deltas, rank, amplification), fewest=3)


def undisturbed(deltas: list[Tensor], time: float, ratio: float, from_mean: bool = False) -> Tensor:
    """The M that Σ_i ‖(M − δ_i) δ_iᵀ‖² / ‖δ_i‖² falls towards, as far as gradient descent gets in this time.

    M = M_0 − M_0 V h Vᵀ + D V (h/μ) Vᵀ with h = 1 − exp(−μ t). V and μ are the ⌈ratio · inputs⌉ largest eigenpairs of
    C = Σ C_i, with C_i = δ_iᵀ δ_i / ‖δ_i‖². D = Σ δ_i C_i. M_0 is the sum of the δ_i, or their mean.

    The δ_i / ‖δ_i‖ below each other have V as right singular vectors and √μ as singular values. So the decomposition is
    of N · outputs rows where these are fewer than the inputs, while SWUDI's code always forms C. That code also lifts μ
    to 1e-8. Here h/μ does not need it, since it tends to t. A task vector of 0 has C_i = 0.
    """
    norms = [delta.double().norm() for delta in deltas]
    units = [delta.double() / norm.clamp(min=1e-300) for delta, norm in zip(deltas, norms, strict=True)]
    count = math.ceil(ratio * deltas[0].shape[1])
    left, sigma, right = triples(torch.cat(units), count, RESOLVED)
    seen = (left * sigma).split(deltas[0].shape[0])  # δ_i V / ‖δ_i‖ of each task vector
    targets = total(n * u @ (u.T @ own) for n, u, own in zip(norms, units, seen, strict=True))  # D V
    start = total(delta.double() for delta in deltas) / (len(deltas) if from_mean else 1)
    passed = -torch.expm1(-time * sigma.square())
    return start + (targets * (passed / sigma.square()) - start @ right * passed) @ right.T


@implements("wudi")
def wudi(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α M, with M as close to every task vector as can be on the directions that this task vector uses.

    WUDI (arXiv:2503.08099) finds M by 300 steps of Adam, so its result depends on the scale of the task vectors. Here
    it is the closed form of plain gradient descent, as in SWUDI's code. M_0 = Σ has the scale of a sum: with N similar
    models, α near 1/N fits.
    """
    time, ratio, from_mean = (s.numbers[key] for key in ("time", "ratio", "from_mean"))
    return merged(base, finetuned, s, lambda deltas: undisturbed(deltas, time, ratio, from_mean), fewest=2)
