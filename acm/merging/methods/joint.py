"""Merge methods that decompose several task vectors together, or one in the basis of another.

    variable    symbol   shape                    meaning
    deltas      δ_i      (outputs, inputs)        task vectors, each already times its λ_i
    basis       U        (outputs, k)             left singular vectors of [δ_1 … δ_N], in float64
    sigma       σ        (k,)                     their singular values, largest first, in float64
    parts       V_i      (k, inputs)              what U diag(σ) makes δ_i of, in float32
    merged      S        (outputs, inputs)        OPCM's sum of what it has merged so far, in float64
    share       a        ()                       share of the sum of S's singular values whose directions are kept free

Matrices go through the eigenvectors of the smaller Gram matrix, in float64. At 1536 × 1536 this takes half the time of
a singular value decomposition. It does not resolve singular values below 1e-7 of the largest. That is enough, since all
up to LEAST of the largest count as zero here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging.functions import implements, surveys
from acm.merging.magnitudes import magnitudes_at, trim_bounds
from acm.merging.primitives import (
    consensus,
    count_magnitudes,
    crossed,
    finite,
    gram,
    rows_of,
    total,
    trim,
    weighted_vectors,
)
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Chunks, Every

LEAST = 1e-5  # of the largest singular value: what is not above it is rounding. KnOTS' code has 1e-5, absolute
DROPPED = 1e-2  # of the largest singular value: what DRM drops


def product(left: Tensor, right: Tensor) -> Tensor:
    """left · right in float32, computed in float64, some columns at a time. left: float64."""
    return torch.cat([(left @ rows.T.double()).float() for rows in rows_of(right.T)], dim=1)


def spectrum(squares: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Singular values (k,), largest first, and vectors (n, k) of a matrix, from its Gram matrix (n, n).

    least: values up to this fraction of the largest are left out; of a matrix of zeros all are.
    """
    values, vectors = torch.linalg.eigh(squares)
    sigma = values.clamp(min=0).sqrt()
    kept = sigma > least * sigma.max()
    return sigma[kept].flip(0), vectors[:, kept].flip(1)


def decomposed(deltas: list[Tensor], least: float) -> tuple[Tensor, list[Tensor], Callable[[Tensor], Tensor]]:
    """σ, the V_i and the function X → U X of [δ_1 … δ_N] = U diag(σ) [V_1 … V_N].

    least: as of :func:`spectrum`. The sign of a row of all V_i and of its column of U is arbitrary.
    """
    rows, columns = deltas[0].shape
    if rows <= len(deltas) * columns:
        sigma, basis = spectrum(total(crossed(delta.T, delta.T) for delta in deltas), least)
        parts = [product((basis / sigma).T, delta) for delta in deltas]
        return sigma, parts, lambda found: product(basis, found)
    joined = torch.cat(deltas, dim=1)
    sigma, vectors = spectrum(crossed(joined, joined), least)
    parts = [own.T.float() for own in vectors.split(columns)]
    return sigma, parts, lambda found: product(((vectors / sigma) @ found.double()).T, joined.T).T


def agreed(parts: list[Tensor]) -> Tensor:
    """TIES' mean over the models that agree with the sign of the sum, 0 where the sum is 0, NaN where it is not finite.

    TIES elects + for a sum of 0. In a singular basis this would hang on the sign that a decomposition happens to give.
    """
    ones, sums = [1.0] * len(parts), total(parts)
    found = torch.where(sums == 0, 0.0, consensus(parts, ones, ones, True, "unweighted"))
    return torch.where(sums.isfinite(), found, float("nan"))


@implements("knots")
def knots(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α U diag(σ) V, V the TIES mean of the V_i, each trimmed to its density (KnOTS, arXiv:2410.19735).

    The paper merges the V_i, with U diag(σ) as their common basis. The authors' code scales by σ first unless it is
    told not to, and all its published settings scale. Only the trim notices: we trim the V_i, as the paper. The code
    ranks the entries of a whole model; we rank each tensor by itself, as in TIES here. Its 1e-5 that a singular value
    must exceed is absolute; ours is a fraction of the largest, so that the scale of δ does not matter. Other tensors
    are averaged; the code, made for LoRA, leaves them as they are.
    """
    deltas = weighted_vectors(base, finetuned, s)
    return base.float() + s.scaling * (tied(deltas, s) if s.is_matrix else total(deltas) / len(deltas))


def tied(deltas: list[Tensor], s: Settings) -> Tensor:
    """KnOTS' merged task vector of a matrix."""
    if not finite(deltas):
        return torch.full_like(deltas[0], float("nan"))
    sigma, parts, back = decomposed(deltas, LEAST)
    if not len(sigma):
        return torch.zeros_like(deltas[0])
    zero = torch.zeros((), device=parts[0].device)
    bounds = trim_bounds(s, parts[0].numel(), lambda b: count_magnitudes(lambda: [(zero, parts)], len(parts), b))
    kept = [trim(part, *pair) for part, pair in zip(parts, bounds.tolist(), strict=True)]
    return back(sigma.float()[:, None] * agreed(kept))


@implements("drm")
def drm(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α U X, X the TIES mean of σ_i ⊙ the trimmed rows of unit length (DRM, arXiv:2505.23117).

    vertical: the δ_i are stacked instead of side by side, which is the same with all matrices transposed. Other
    tensors: TIES' election and mean, untrimmed. The authors' weights count after the election; λ_i scales δ_i before.
    The code gives the majority sign of the tensor to a sum of 0; here nothing is elected there. At drop rate 0 the code
    leaves out decomposition and election; here a drop rate of 0 trims nothing and is no other method.
    """
    deltas = weighted_vectors(base, finetuned, s)
    if not s.is_matrix:
        return base.float() + s.scaling * agreed(deltas)
    if not finite(deltas):
        return torch.full_like(base, float("nan"), dtype=torch.float32)
    if s.numbers["vertical"]:
        return base.float() + s.scaling * renormed([delta.T for delta in deltas], s.numbers["drop_rate"]).T
    return base.float() + s.scaling * renormed(deltas, s.numbers["drop_rate"])


def renormed(deltas: list[Tensor], drop_rate: float) -> Tensor:
    """DRM's merged task vector of matrices that stand side by side.

    Of the entries of all V_i together, the (1 − drop rate) largest stay (the code keeps one more), and at least one.
    """
    sigma, parts, back = decomposed(deltas, DROPPED)
    if not len(sigma):
        return torch.zeros_like(deltas[0])
    lengths = [part.norm(dim=1, keepdim=True) for part in parts]
    units = [part / length.clamp(min=1e-30) for part, length in zip(parts, lengths, strict=True)]
    size, zero = len(units) * units[0].numel(), torch.zeros((), device=units[0].device)
    rank = np.array([[size - max(1, round((1 - drop_rate) * size))]])
    low = magnitudes_at(rank, lambda b: count_magnitudes(lambda: [(zero, [unit]) for unit in units], 1, b)).item()
    scaled = [sigma.float()[:, None] * length * trim(u, low) for length, u in zip(lengths, units, strict=True)]
    return back(agreed(scaled))


@surveys("opcm")
def common_factor(every: Every, s: Settings) -> float:
    """OPCM's factor f: the mean norm of the λ_i δ_i of the whole model over the norm of its S; 1 where S is 0.

    Tensors with NaN or infinity are left out.
    """

    def squares(chunks: Chunks, own: Settings) -> np.ndarray:
        vectors = (weighted_vectors(base, finetuned, own) for base, finetuned in chunks())
        found = np.diag(gram(([accumulated(deltas, own), *deltas] for deltas in vectors), 1 + len(own.coefficients)))
        return found if np.isfinite(found).all() else np.zeros(len(found))

    merged, *norms = np.sqrt(every(squares))
    return float(np.mean(norms) / merged) if merged > 0 else 1.0


@implements("opcm")
def opcm(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α f S_N: each model adds what the ones before it left free (OPCM, arXiv:2501.09522).

    The models come in the order of their names, and another order gives another result. The authors shuffle them. Their
    code scales the sum after each model, and undoes that before the next. A scale does not change singular vectors, so
    one factor at the end gives the same.
    """
    return base.float() + s.scaling * s.surveyed * accumulated(weighted_vectors(base, finetuned, s), s)


def accumulated(deltas: list[Tensor], s: Settings) -> Tensor:
    """OPCM's S_N in float32. Tensors that are no matrices are added up."""
    if not s.is_matrix:
        return total(deltas)
    if not finite(deltas):
        return torch.full_like(deltas[0], float("nan"))
    merged = deltas[0].double()
    for delta in deltas[1:]:
        merged = merged + freed(delta.double(), merged, s.numbers["share"])
    return merged.float()


def freed(delta: Tensor, merged: Tensor, share: float) -> Tensor:
    """δ without its parts u_i (u_iᵀ δ v_j) v_jᵀ, for i = j, and for i and j both among the first k directions of S.

    k is how many of S's singular values make up at most `share` of their sum. All are taken at a share of 1; the search
    in the authors' code finds none or all, by rounding. Where S has no direction (σ = 0), the code takes those that the
    decomposition happens to give, and δ loses its diagonal there; here it loses nothing. The parts need the first
    min(shape) directions alone, so the longer side has no square basis.
    """
    if delta.shape[0] < delta.shape[1]:
        return freed(delta.T, merged.T, share).T
    sigma, right = spectrum(crossed(merged, merged), LEAST)
    left, turned = merged @ right / sigma, delta @ right
    sums = sigma.cumsum(0)
    k = int((sums <= share * sums[-1:]).sum())
    block, diagonal = left[:, :k].T @ turned[:, :k], (left * turned).sum(0)[k:]
    return delta - torch.cat([left[:, :k] @ block, left[:, k:] * diagonal], dim=1) @ right.T
