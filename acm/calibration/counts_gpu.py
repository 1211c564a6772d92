"""Counts labels and pairs of labels on a GPU, by sorting. The counts are the CPU's; sums of logarithms to rounding.

The symbols are those of `counts.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distinct_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, int]:
    """Distinct pairs of labels, how often each occurs, and the width of the second label.

    a, b: (n,) int32, labels below 2¹⁶; or int64. A pair of labels (i, j) is the number i · width + j, of their dtype;
    an int32 may overflow to a negative number.
    """
    coded = a.dtype == torch.int32
    width = 1 << 16 if coded else int(b.max()) + 1
    keys, counts = torch.unique(a << 16 | b if coded else a * width + b, return_counts=True)
    return keys, counts, width


def sums_on_gpu(a: Tensor, b: Tensor) -> tuple[int, float, float, int]:
    """Entries, pairs, singles and surplus of two label arrays of one length, as of ``counts.PairSums``."""
    keys, counts, width = distinct_pairs(a, b)
    left, right = (keys >> 16 & 0xFFFF, keys & 0xFFFF) if a.dtype == torch.int32 else (keys // width, keys % width)
    size = width if a.dtype == torch.int32 else int(left[-1]) + 1
    sides = [occurrences(left, counts, size), occurrences(right, counts, width)]
    logs = [c_log_c(each).sum() for each in (counts, *sides)]
    terms = [*logs, *((side > 0).sum().double() for side in sides)]
    pairs, *rest = torch.stack(terms).tolist()  # one transfer
    return len(a), pairs, rest[0] + rest[1], len(keys) - int(rest[2] + rest[3])


def occurrences(side: Tensor, counts: Tensor, size: int) -> Tensor:
    """(size,) int64: how often each label of one side occurs. side, counts: of the distinct pairs."""
    return counts.new_zeros(size).index_add_(0, side, counts)


def c_log_c(counts: Tensor) -> Tensor:
    """c log c of each count, float64; 0 for none."""
    numbers = counts.double()
    return numbers * numbers.clamp(min=1).log()
