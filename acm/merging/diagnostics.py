"""What the entries of task vectors say: a compiled loop (numba) that adds them up, and the scores of the sums.

    base, models    θ_0, θ_i   (n,)      a chunk of a tensor as stored: uint16 (bits of bfloat16), float16 or float32
    delta           δ_i        (n,)      task vector θ_i − θ_0, here in float64
    smaller         m          (n,)      min(|δ_i|, |δ_j|) of two models
    pair            (i, j)     P         two of the N models, i < j, in the order of :func:`pairs`

Entries are added one after another, in their order. So it does not matter where a tensor is cut into chunks.
`spectra.py` decomposes matrices, and `parts.py` walks over whole models.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from acm.merging.fused import uniform
from acm.merging.kernels import TILE, load, loop, not_finite

if TYPE_CHECKING:
    import pandas as pd

    Table = Mapping[str, Any] | pd.DataFrame  # names of columns → arrays of one length

Z = 1.959964  # 95 % of a normal variable lie within so many standard deviations
CONSTANT = 1e-12  # a variance that is a smaller share of the mean square is rounding
OWN = ("squares", "sum")
PAIR = ("product", "apart", "both", "opposed", "smaller", "smaller_opposed", "smaller_squares")


class Sums(NamedTuple):
    """Sums over entries, float64.

    bad: (1 + N,), how many numbers of θ_0 and of each θ_i are NaN or infinite. own: (1 + N, 2), :data:`OWN` of θ_0 and
    of each δ_i. pairs: (P, 7), :data:`PAIR`: Σ δ_i δ_j, Σ (δ_i − δ_j)², how many entries are non-zero in both, how many
    of those differ in sign, and Σ m, Σ m where the signs differ, Σ m².
    """

    bad: np.ndarray
    own: np.ndarray
    pairs: np.ndarray


def pairs(models: int) -> list[tuple[int, int]]:
    """Each two of so many models."""
    return list(combinations(range(models), 2))


def no_sums(models: int) -> Sums:
    """Zeros, which :func:`add_entries` adds to."""
    return Sums(np.zeros(1 + models), np.zeros((1 + models, len(OWN))), np.zeros((len(pairs(models)), len(PAIR))))


def add_entries(stored: list[np.ndarray], sums: Sums) -> None:
    """Add a chunk of stored numbers, base first, to the sums."""
    base, *models = uniform(stored)
    add(base, tuple(models), sums.bad, sums.own, sums.pairs)


@loop
def add(base, models, bad, own, both):
    """The loop of :func:`add_entries`. bad, own, both: the arrays of :class:`Sums`."""
    b, x, nothing = np.empty(TILE, np.float32), np.empty((len(models), TILE), np.float32), np.zeros(TILE, np.float32)
    for begin in range(0, base.size, TILE):
        end = min(begin + TILE, base.size)
        n = end - begin
        load(base[begin:end], b[:n])
        bad[0] += not_finite(b[:n])
        add_own(b[:n], nothing, own[0])
        for m in range(len(models)):
            load(models[m][begin:end], x[m, :n])
            bad[m + 1] += not_finite(x[m, :n])
            add_own(x[m, :n], b, own[m + 1])
        row = 0
        for i in range(len(models)):
            for j in range(i + 1, len(models)):
                add_pair(x[i, :n], x[j, :n], b, both[row])
                row += 1


@loop
def add_own(x, start, sums):
    """Add Σ δ² and Σ δ, with δ = x − start."""
    squares, plain = sums
    for i in range(x.size):
        delta = np.float64(x[i]) - np.float64(start[i])
        squares += delta * delta
        plain += delta
    sums[0], sums[1] = squares, plain


@loop
def add_pair(x, y, start, sums):
    """Add the seven sums of a pair."""
    product, apart, both, opposed, smaller, smaller_opposed, smaller_squares = sums
    for i in range(x.size):
        first, second = np.float64(x[i]) - np.float64(start[i]), np.float64(y[i]) - np.float64(start[i])
        p, m, d = first * second, min(abs(first), abs(second)), first - second
        product += p
        apart += d * d
        both += p != 0
        opposed += p < 0
        smaller += m
        smaller_opposed += m if p < 0 else 0.0
        smaller_squares += m * m
    sums[0], sums[1], sums[2], sums[3] = product, apart, both, opposed
    sums[4], sums[5], sums[6] = smaller, smaller_opposed, smaller_squares


def ratio(above: Any, below: Any) -> np.ndarray:
    """The quotient; NaN where it is over 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)


def vector_scores(sums: Table) -> dict[str, np.ndarray]:
    """‖δ‖ and ‖δ‖ / ‖θ_0‖ from the columns squares and base_squares."""
    norm, base = np.sqrt(sums["squares"]), np.sqrt(sums["base_squares"])
    return {"norm": norm, "relative_norm": ratio(norm, base)}


def pair_scores(sums: Table) -> dict[str, np.ndarray]:
    """Kinship and sign conflict of two task vectors.

    sums: the columns entries, :data:`PAIR`, and :data:`OWN` of either as first_squares, second_sum and so on.

    Model Kinship (arXiv:2410.12613) has Pearson's r, cosine and distance. Its code takes the cosine's magnitude; here
    the sign stays, since δ and −δ are no kin. NaN where a δ is 0, and for r where it is constant.

    Fair and independent signs conflict in 0.5 of the entries. 95 % of such conflicts lie within 0.5 ± the half width,
    which is Z / (2 √n) for n entries, and Z √(Σ m²) / (2 Σ m) where they are weighted by m. Entries of one matrix are
    not independent of each other, so the true band is wider.
    """
    n, first, second = sums["entries"], np.asarray(sums["first_squares"]), np.asarray(sums["second_squares"])
    centred = sums["product"] - np.asarray(sums["first_sum"]) * np.asarray(sums["second_sum"]) / n
    spread = np.ones(centred.shape)
    for side, squares in (("first", first), ("second", second)):
        variance = squares - np.asarray(sums[f"{side}_sum"]) ** 2 / n
        spread = spread * np.where(variance > CONSTANT * squares, variance, 0)
    r = np.clip(ratio(centred, np.sqrt(spread)), -1, 1)
    both, smaller = np.asarray(sums["both"]), np.asarray(sums["smaller"])
    return {
        "pearson": r,
        "cosine": np.clip(ratio(sums["product"], np.sqrt(first) * np.sqrt(second)), -1, 1),
        "distance": np.sqrt(sums["apart"]),
        "sign_conflict": ratio(sums["opposed"], both),
        "sign_half_width": Z / 2 * ratio(1, np.sqrt(both)),
        "sign_expected": expected_conflict(r),
        "weighted_conflict": ratio(sums["smaller_opposed"], smaller),
        "weighted_half_width": Z / 2 * ratio(np.sqrt(sums["smaller_squares"]), smaller),
    }


def expected_conflict(r: np.ndarray) -> np.ndarray:
    """The sign conflict of two normal variables of mean 0 and correlation r: arccos(r) / π."""
    return np.arccos(r) / np.pi
