"""Counts how often labels and pairs of labels occur. The plug-in estimate of MI and its corrections need no more.

variable   symbol              meaning
a, b                           labels of the entries of two arrays, whole numbers, each of shape (n,)
entries    n                   how many entries each array has
c_xy                           how often a pair of labels occurs
c_x, c_y                       how often a label of x occurs, a label of y
pairs      Σ c_xy log c_xy     sum over the distinct pairs of labels
singles    Σ c_x log c_x + Σ c_y log c_y
surplus    K_xy − K_x − K_y    K_xy: number of distinct pairs; K_x, K_y: numbers of distinct labels of x, of y
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from acm.calibration.arrays import CODE_DTYPES, Labels, checked, labels
from acm.calibration.counts_gpu import distinct_pairs, sums_on_gpu
from acm.compiling import compiled


class PairSums(NamedTuple):
    """What the estimates need of two label arrays; the names are those of the table above."""

    entries: int
    pairs: float
    singles: float
    surplus: int

    @property
    def information(self) -> float:
        """log n + (Σ c_xy log c_xy − Σ c_x log c_x − Σ c_y log c_y) / n, nats. Rounding may make it negative."""
        return float(np.log(self.entries) + (self.pairs - self.singles) / self.entries)


def pair_sums(a: Labels, b: Labels) -> PairSums:
    """The sums of two label arrays of one length. The order of the entries changes no bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return PairSums(*sums_on_gpu(a, b))
    counts = label_counts(a, b, int(a.max()) + 1, int(b.max()) + 1)
    visits = pair_visits(a, b, counts[0], len(counts[1]))
    singles = sum(float(np.sum(c * np.log(c))) for c in (c[c > 0] for c in counts))
    times = np.arange(len(visits) + 1)  # how often a pair may have been met
    c_log_c = times * np.log(np.maximum(times, 1))
    pairs = float(np.sum(visits * np.diff(c_log_c)))
    surplus = int(visits[0]) - sum(int((c > 0).sum()) for c in counts)
    return PairSums(len(a), pairs, singles, surplus)


class PairCounts:
    """Counts of label pairs, gathered chunk by chunk. Memory goes with the distinct pairs, not with the entries.

    Made for logits (tokens × 150,000), which need not be held at once.
    """

    def __init__(self) -> None:
        self.keys = np.zeros(0, np.uint32)  # label of x in the upper 16 bits, label of y in the lower; sorted
        self.counts = np.zeros(0, np.int64)
        self.dtype: torch.dtype | None = None

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count a chunk: two arrays of one shape, bf16 or f16, the same dtype in all chunks.

        Raises ValueError for other dtypes, and for what :func:`acm.calibration.arrays.checked` refuses.
        """
        x, y = checked(x, y)
        self.dtype = self.dtype or x.dtype
        if x.dtype not in CODE_DTYPES or x.dtype != self.dtype:
            raise ValueError(f"chunks must all be bf16 or all f16, not {self.dtype} and {x.dtype}.")
        new_keys, new_counts = counted(labels(x), labels(y))
        keys = np.concatenate((self.keys, new_keys))
        counts = np.concatenate((self.counts, new_counts))
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order].astype(np.int64), prepend=-1))
        self.keys, self.counts = keys[order][starts], np.add.reduceat(counts[order], starts)

    def sums(self) -> PairSums:
        """The sums of all chunks together. Raises ValueError where there was none."""
        if not self.keys.size:
            raise ValueError("no pairs were counted.")
        sides = [np.bincount(side, self.counts) for side in (self.keys >> 16, self.keys & 0xFFFF)]
        pairs, *singles = (float(np.sum(c * np.log(c))) for c in (c[c > 0] for c in (self.counts, *sides)))
        surplus = len(self.keys) - sum(int((side > 0).sum()) for side in sides)
        return PairSums(int(self.counts.sum()), pairs, sum(singles), surplus)


def counted(a: Labels, b: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of 16-bit labels, uint32 with the label of a in the upper half, and how often each occurs."""
    if isinstance(a, np.ndarray):
        return np.unique((a.astype(np.uint32) << 16) | b, return_counts=True)
    keys, counts, _ = distinct_pairs(a, torch.as_tensor(b))
    return keys.cpu().numpy().view(np.uint32), counts.cpu().numpy()


@compiled()
def label_counts(a: np.ndarray, b: np.ndarray, width_a: int, width_b: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each label of each side occurs. ``np.bincount`` would copy the labels to int64 first."""
    left, right = np.zeros(width_a, np.int64), np.zeros(width_b, np.int64)
    for i in range(a.size):
        left[a[i]] += 1
        right[b[i]] += 1
    return left, right


@compiled()
def pair_visits(a: np.ndarray, b: np.ndarray, counts: np.ndarray, width: int) -> np.ndarray:
    """How often an entry met a pair that had been met 0, 1, 2 … times before.

    counts: of the labels of a. width: how many labels b may have. b is sorted by a (counting sort); within each group
    its labels are counted in one table, of which only the places that were touched are cleared.
    """
    ends = np.zeros(counts.size + 1, np.int64)
    ends[1:] = np.cumsum(counts)
    grouped, place = np.empty_like(b), ends[:-1].copy()
    for i in range(a.size):
        grouped[place[a[i]]] = b[i]
        place[a[i]] += 1
    table, visits = np.zeros(width, np.int32), np.zeros(counts.max(), np.int64)
    for group in range(counts.size):
        members = grouped[ends[group] : ends[group + 1]]
        for label in members:
            visits[table[label]] += 1
            table[label] += 1
        for label in members:
            table[label] = 0
    return visits
