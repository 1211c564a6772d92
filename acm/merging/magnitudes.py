"""Finds which entries of a task vector are the largest: exact bounds of |δ| from two histograms, without sorting.

    delta    δ_i    (n,)        task vector of model i, float32
    density  1 − k  (models,)   fraction of the entries kept
    gamma    γ      (models,)   fraction of the largest entries dropped (breadcrumbs)

The magnitude of a float32 is 31 bits. Read as whole numbers, these bits have the order of the magnitudes. The first
histogram counts the upper COARSE bits: it gives the bucket that holds a rank. The second counts the lower FINE bits of
the entries in that bucket: it gives the exact magnitude.

`primitives.py` (torch) and `kernels.py` (numba) do the counting. Both use the constants COARSE and FINE.

Other float32 numbers may be negative. Then all but the sign bit is flipped where that is set, so that the 32 bits, read
as a signed whole number, have the order of the numbers. The two histograms count upper and lower HALF bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from acm.merging.settings import Settings

# numba's cache does not notice a change of these two constants. After a change, clear it (acm/merging/__pycache__).
COARSE = 16  # upper bits of a magnitude: its bucket
FINE = 15  # lower bits of a magnitude: its place within the bucket
HALF = 16  # bits of a signed number's bucket, and of its place within
# A function that counts magnitudes, int64. Given buckets (models, r), it returns the counts within each of them,
# (models, r, 2^FINE). Given None, it returns how many magnitudes are in each bucket, (models, 2^COARSE).
Count = Callable[[np.ndarray | None], np.ndarray]


def trim_bounds(s: Settings, size: int, count: Count) -> np.ndarray:
    """Bounds (models, 2) float32 of the |δ_i| that stay: the least and the largest.

    Of ``size`` entries the int(γ · size) largest go, and the int(density · size) next stay. TIES has no γ, and keeps
    one entry at least. Where density leaves γ no room, γ gives way, as in mergekit. At density 1 nothing is trimmed.
    """
    ranks: list[tuple[int, int]] = []
    fixed: dict[int, tuple[float, float]] = {}
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


def magnitudes_at(ranks: np.ndarray, count: Count) -> np.ndarray:
    """The exact magnitudes at ascending ranks, (models, r) float32. ranks: (models, r) int64."""
    buckets, rest = locate(np.repeat(count(None)[:, None], ranks.shape[1], axis=1), ranks)
    places, _ = locate(count(buckets), rest)
    return ((buckets << FINE) | places).astype(np.uint32).view(np.float32)


def numbers_at(ranks: np.ndarray, count: Count) -> np.ndarray:
    """The exact numbers at ascending ranks, (models, r) float32, negative ones too. ranks: (models, r) int64.

    count: as for magnitudes, but with 2^HALF buckets and as many places in each.
    """
    buckets, rest = locate(np.repeat(count(None)[:, None], ranks.shape[1], axis=1), ranks)
    places, _ = locate(count(buckets), rest)
    ordered = ((buckets - (1 << HALF - 1)) << HALF | places).astype(np.int32)
    return (ordered ^ (ordered >> 31 & 0x7FFFFFFF)).view(np.float32)


def locate(counts: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin that holds each ascending rank, and the rank within that bin.

    counts: (…, bins), ranks: (…), both int64.
    """
    sums = counts.cumsum(axis=-1)
    bins = (sums <= ranks[..., None]).sum(axis=-1)
    below = np.where(bins > 0, np.take_along_axis(sums, np.maximum(bins - 1, 0)[..., None], -1)[..., 0], 0)
    return bins, ranks - below
