"""Measures many pairs of activations at once on a GPU, where each call has a cost of its own.

    x, y      (rows, d)   bf16 or f16 activations of all pairs, one pair below the other
    pair      (rows,)     number of the pair that a row belongs to
    key                   of an entry: its pair, the label of x, the label of y; 31, 16 and 16 bits

Sorting the keys of all entries counts the label pairs of every pair of arrays. The counts are those of `counts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acm.calibration.arrays import labels_on_gpu
from acm.calibration.controls import GPU_ENTRIES, Measurement, Pair
from acm.calibration.counts import PairSums
from acm.calibration.counts_gpu import c_log_c, occurrences
from acm.calibration.information import information_of_sums

LABELS = 1 << 16  # labels of 16 bits


def batches(shapes: Sequence[tuple[int, int]], most: int = GPU_ENTRIES) -> list[list[int]]:
    """Which pairs of arrays are counted together, by their places: of one number of channels, and no more than fit.

    shapes: (tokens, channels) of each. most: what a batch may cost. A pair costs its entries, and its table of labels.
    """
    found: list[list[int]] = []
    left, width = 0, 0
    for place, (tokens, channels) in enumerate(shapes):
        cost = tokens * channels + LABELS
        if cost > left or channels != width:
            found.append([])
            left, width = most, channels
        found[-1].append(place)
        left -= cost
    return found


def measure_together(pairs: Sequence[Pair], estimators: Sequence[str]) -> list[Measurement]:
    """The additive estimates of pairs of arrays (tokens, d) of 16 bits, all of one d and on one device.

    Norms are not finite where an entry is not.
    """
    tokens = [len(left) for left, _ in pairs]
    x, y = (torch.cat(list(side)) for side in zip(*pairs, strict=True))
    rows = torch.tensor(tokens, device=x.device)
    pair = torch.repeat_interleave(torch.arange(len(tokens), device=x.device), rows, output_size=len(x))
    norms = torch.stack([mean_norms(side, rows) for side in (x, y)], dim=1)
    keys = (pair[:, None] << 16 | labels_on_gpu(x)) << 16 | labels_on_gpu(y)
    sums = sums_by_pair(keys.flatten(), [n * x.shape[1] for n in tokens])
    return [
        Measurement([information_of_sums(each, name) for name in estimators], (left, right))
        for each, (left, right) in zip(sums, norms.tolist(), strict=True)
    ]


def mean_norms(side: Tensor, rows: Tensor) -> Tensor:
    """(pairs,) float64: mean L2 norm of the rows of each pair."""
    norms = torch.linalg.vector_norm(side, dim=1, dtype=torch.float64)
    return torch.segment_reduce(norms, "mean", lengths=rows)


def sums_by_pair(keys: Tensor, entries: list[int]) -> list[PairSums]:
    """The sums of each pair of arrays. keys: (all entries,) int64. entries: of each pair."""
    distinct, counts = torch.unique(keys, return_counts=True)
    pair, number = distinct >> 32, len(entries)
    kinds = torch.bincount(pair, minlength=number)  # distinct pairs of labels
    shares = torch.segment_reduce(c_log_c(counts), "sum", lengths=kinds)
    sides = [
        occurrences(pair * LABELS + label, counts, number * LABELS).view(number, LABELS)
        for label in (distinct >> 16 & LABELS - 1, distinct & LABELS - 1)
    ]
    singles = torch.stack([c_log_c(side).sum(1) for side in sides]).sum(0)
    surplus = kinds - torch.stack([(side > 0).sum(1) for side in sides]).sum(0)
    columns = [found.tolist() for found in (shares, singles, surplus)]
    return [PairSums(*row) for row in zip(entries, *columns, strict=True)]
