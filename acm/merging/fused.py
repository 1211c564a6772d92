"""From a tensor's settings to the fused kernels: which methods they cover, and with which arguments."""

from __future__ import annotations

import numpy as np

from acm.checkpoints import as_float32
from acm.merging import kernels
from acm.merging.primitives import ballots
from acm.merging.settings import Settings

WEIGHTED = {"linear", "slerp"}  # Σ w_i θ_i
TRIMMED = {"ties", "breadcrumbs", "breadcrumbs_ties"}
DROPPED = {"dare_linear", "dare_ties"}
ELECTED = {"ties", "dare_ties", "breadcrumbs_ties"}
METHODS = WEIGHTED | TRIMMED | DROPPED | {"task_arithmetic", "interpolation"}


def uniform(stored: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays that the kernels take together: all bits of bfloat16, or all float32."""
    if all(raw.dtype == np.uint16 for raw in stored):
        return stored
    return [as_float32(raw) for raw in stored]


def run(method: str, stored: list[np.ndarray], settings: Settings, out: np.ndarray, bad: np.ndarray) -> None:
    """Merge a stretch of stored numbers, base first, into ``out`` (uint16 or float32); ``bad`` counts NaN and infinity."""
    base, *models = uniform(stored)
    weights = np.asarray(settings.coefficients, np.float32)
    if method == "slerp":
        return kernels.weighted((base, *models), np.asarray(settings.prepared, np.float32), kernels.ONE, out, bad)
    if method == "linear":
        divisor = np.float32(sum(settings.coefficients)) if settings.normalize else kernels.ONE
        return kernels.weighted(tuple(models), weights, divisor, out, bad[1:])
    deltas(method, base, tuple(models), settings, weights, out, bad)


def copy(stored: np.ndarray, out: np.ndarray, bad: np.ndarray) -> None:
    """The numbers themselves, in the output's dtype."""
    kernels.weighted(tuple(uniform([stored])), np.ones(1, np.float32), kernels.ONE, out, bad)


def deltas(
    method: str,
    base: np.ndarray,
    models: tuple[np.ndarray, ...],
    s: Settings,
    weights: np.ndarray,
    out: np.ndarray,
    bad: np.ndarray,
) -> None:
    bounds = np.asarray(s.prepared if method in TRIMMED else [[0, np.inf]] * len(models), np.float32)
    density = np.asarray(s.density if method in DROPPED and s.rescale else np.ones(len(models)), np.float32)
    limits = np.array([int(d * 2**32) for d in s.density] if method in DROPPED else [1 << 32] * len(models), np.int64)
    elects, divisor = method in ELECTED, sum(s.divisors)
    divides = s.normalize if elects else s.normalize and divisor != 1 and abs(divisor) > 1e-8
    kernels.deltas(
        base, models, np.uint32(s.start % 2**32), method in TRIMMED, bounds[:, 0], bounds[:, 1], method in DROPPED, density, limits,
        np.asarray(s.keys, np.uint32), elects, np.asarray(ballots(s.coefficients, s.election), np.float32), weights,
        np.asarray(s.divisors, np.float32), divides, np.float32(divisor), np.float32(s.scaling), out, bad,
    )  # fmt: skip


def count_magnitudes(stretches, models: int, buckets: np.ndarray | None) -> np.ndarray:
    """:func:`primitives.count_magnitudes` of stored numbers, base first."""
    shape = (models, 1 << kernels.COARSE) if buckets is None else (*buckets.shape, 1 << kernels.FINE)
    counts = np.zeros(shape, np.int64)
    for stored in stretches:
        base, *others = uniform(stored)
        if buckets is None:
            kernels.histogram(base, tuple(others), np.full(models, -1), counts)
        else:
            for r in range(buckets.shape[1]):
                kernels.histogram(base, tuple(others), buckets[:, r], counts[:, r])
    return counts
