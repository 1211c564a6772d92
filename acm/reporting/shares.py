"""Computes Wilson's interval of a share: of one response an item, of several (avg@k), and of a mean over tasks."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from acm.reporting.intervals import Interval


def effective_items(means: np.ndarray, repeats: int) -> float:
    """How many single responses, each to an item of its own, would tell the mean of these items as exactly.

    It is p (1 − p) over the squared standard error of the mean, which holds both sources: items differ, and so do the
    responses to one. With it Wilson's interval covers the truth better than the bootstrap where most items are
    hopeless, as competitions are for small models (Franco et al., doi:10.1093/jssam/smy019). It is the number of items
    where all are right or all wrong, and at most that of the responses. means: (items,), each over its responses,
    fractions.
    """
    n, p = len(means), float(means.mean())
    if n < 2 or p in (0.0, 1.0):
        return float(n)
    squared_error = means.var(ddof=1) / n
    return min(p * (1 - p) / squared_error, float(n * repeats)) if squared_error else float(n * repeats)


def mover(shares: np.ndarray, counts: np.ndarray) -> Interval:
    """The mean of independent shares in percent, with its 95 % interval from Wilson's interval of each.

    Zou and Donner's recovery of variance (doi:10.1002/sim.3095): the distances from the shares to their ends add up in
    squares. Of one share it is Wilson's interval itself. shares: (tasks,), fractions. counts: (tasks,), items.
    """
    z = norm.isf(0.025)
    middle = (shares + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z * np.sqrt(shares * (1 - shares) / counts + z**2 / (4 * counts**2)) / (1 + z**2 / counts)
    ends = np.clip([middle - half, middle + half], 0, 1)
    down, up = (math.sqrt(((shares - end) ** 2).sum()) / len(shares) for end in ends)
    mean = float(shares.mean())
    return {"value": 100 * mean, "low": 100 * max(0.0, mean - down), "high": 100 * min(1.0, mean + up)}
