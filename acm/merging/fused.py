"""Merges a tensor by the fused loops of `kernels.py`, on the CPU, without torch.

It reads and writes numbers in their stored dtype. The registry's row of a method says which loop merges by the method.
The result has the same bytes as that of `plain.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from acm.headers import STORED, as_float32
from acm.merging import kernels
from acm.merging.magnitudes import COARSE, FINE, trim_bounds
from acm.merging.plan import Job
from acm.merging.registry import METHODS, MergeMethod
from acm.merging.settings import Settings, votes_of
from acm.merging.stream import Stream

if TYPE_CHECKING:
    from acm.merging.plain import PlainMerger

CHUNK = 1 << 20  # entries; the loops take smaller tiles within it
EVERYTHING = (0.0, np.inf)  # bounds of |δ| for a method that trims nothing


class FusedMerger:
    """Merges by a method that has a kernel. plain: the torch merger; it computes angles, so their sums are torch's."""

    def __init__(self, method: MergeMethod, plain: PlainMerger | None) -> None:
        self.method, self.plain = method, plain

    def step(self, job: Job) -> int:
        """Entries of a chunk."""
        return CHUNK

    def prepare(self, stream: Stream, settings: Settings) -> Any:
        """What the method must know of the whole tensor: bounds of what is trimmed, an angle, or nothing."""
        if self.method.trims:
            return trim_bounds(settings, stream.job.size, lambda buckets: self.count(stream, buckets))
        return self.plain.prepare(stream, settings) if self.plain else None

    def count(self, stream: Stream, buckets: np.ndarray | None) -> np.ndarray:
        """Histograms of the magnitudes of a tensor's task vectors."""
        models = len(stream.job.sources) - 1
        return count_magnitudes((stored for _, stored in stream.stored()), models, buckets)

    def merged(
        self, job: Job, stored: list[np.ndarray], settings: Settings, copied: int | None, bad: np.ndarray
    ) -> np.ndarray:
        """A chunk of the result, flat, as it is stored (float32 or bfloat16); as :meth:`PlainMerger.merged`."""
        out = np.empty(stored[0].size, STORED[job.dtype])
        if copied is None:
            run(self.method.name, stored, settings, out, bad)
        else:
            copy(stored[copied], out, bad[copied : copied + 1])
        return out


def uniform(stored: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays that the kernels take together: all bits of bfloat16, or all float32.

    All are read only, as mapped files are. numba would compile once more for arrays that may be written, and takes no
    mixture.
    """
    bits = all(raw.dtype == np.uint16 for raw in stored)
    found = [(raw if bits else as_float32(raw)).view() for raw in stored]
    for array in found:
        array.flags.writeable = False
    return found


def run(method: str, stored: list[np.ndarray], s: Settings, out: np.ndarray, bad: np.ndarray) -> None:
    """Merge a chunk of stored numbers, base first, into ``out``.

    out: same size, uint16 (bits of bfloat16) or float32. bad: (sources,) int64, counts of NaN and infinity, added to.
    """
    row = METHODS[method]
    base, *models = uniform(stored)
    weights = np.asarray(s.coefficients, np.float32)
    if row.kernel == "arc":
        kernels.weighted((base, *models), np.asarray(s.prepared, np.float32), kernels.ONE, out, bad)
    elif row.kernel == "average":
        divisor = np.float32(sum(s.coefficients)) if s.normalize else kernels.ONE
        kernels.weighted(tuple(models), weights, divisor, out, bad[1:])
    else:
        deltas(row, base, tuple(models), s, weights, out, bad)


def copy(stored: np.ndarray, out: np.ndarray, bad: np.ndarray) -> None:
    """The numbers themselves, in the output's dtype. bad: (1,) int64."""
    kernels.weighted(tuple(uniform([stored])), np.ones(1, np.float32), kernels.ONE, out, bad)


def deltas(
    row: MergeMethod, base: np.ndarray, models: tuple[np.ndarray, ...], s: Settings, weights: np.ndarray,
    out: np.ndarray, bad: np.ndarray,
) -> None:  # fmt: skip
    """The methods on task vectors: the arguments of :func:`acm.merging.kernels.deltas` from a tensor's settings."""
    bounds = np.asarray(s.prepared if row.trims else [EVERYTHING] * len(models), np.float32)
    density = np.asarray(s.density if row.random and s.rescale else np.ones(len(models)), np.float32)
    limits = np.array([int(d * 2**32) for d in s.density] if row.random else [1 << 32] * len(models), np.int64)
    divisor = sum(s.divisors)
    divides = s.normalize if row.elects else s.normalize and divisor != 1 and abs(divisor) > 1e-8
    kernels.deltas(
        base, models, np.uint32(s.start % 2**32), row.trims, bounds[:, 0], bounds[:, 1], row.random, density, limits,
        np.asarray(s.keys, np.uint32), row.elects, np.asarray(votes_of(s.coefficients, s.election), np.float32),
        weights, np.asarray(s.divisors, np.float32), divides, np.float32(divisor), np.float32(s.scaling), out, bad,
    )  # fmt: skip


def count_magnitudes(chunks: Iterable[list[np.ndarray]], models: int, buckets: np.ndarray | None) -> np.ndarray:
    """:func:`acm.merging.primitives.count_magnitudes` of chunks of stored numbers, base first."""
    shape = (models, 1 << COARSE) if buckets is None else (*buckets.shape, 1 << FINE)
    counts = np.zeros(shape, np.int64)
    for stored in chunks:
        base, *others = uniform(stored)
        if buckets is None:
            kernels.histogram(base, tuple(others), np.full(models, -1), counts)
        else:
            for r in range(buckets.shape[1]):
                kernels.histogram(base, tuple(others), buckets[:, r], counts[:, r])
    return counts
