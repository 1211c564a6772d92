"""Mutual information of two activation arrays.

    variable   paper   shape     meaning
    x          A_0^k   any       activations of layer k in the base model, any float dtype
    y          A_i^k   as x      activations of the same layer and tokens in fine-tuned model i
    mi         I_i^k   ()        mutual information of their values, nats (Eq. 1 of arXiv 2505.14009)

The paper's code takes every distinct bf16 value as a label and pairs x and y entry by entry. That estimate
carries a bias that grows as samples get fewer: see the null controls in :mod:`acm.calibration`.
"""

from __future__ import annotations

import numpy as np
import torch

ESTIMATORS = ("plug-in",)


def mutual_information(x: np.ndarray | torch.Tensor, y: np.ndarray | torch.Tensor, estimator: str = "plug-in") -> float:
    """Mutual information I(x; y) in nats, the entries of x and y being paired samples.

    x, y: same shape, bf16, f16, f32 or f64. ``plug-in`` labels distinct values (+0 and −0 are one), of the
    dtype given; it equals ``sklearn.metrics.mutual_info_score`` on the flattened values.
    Raises ValueError for unlike shapes, empty arrays, NaN or an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"unknown estimator '{estimator}'. Known: {', '.join(ESTIMATORS)}.")
    x, y = torch.as_tensor(x).detach(), torch.as_tensor(y).detach()
    if x.shape != y.shape or x.numel() == 0:
        raise ValueError(f"x and y must have one shape and at least one entry, not {tuple(x.shape)} and {tuple(y.shape)}.")
    n = x.numel()
    (a, count_x), (b, count_y) = labels(x.flatten()), labels(y.flatten())
    pairs = np.sort(a.astype(np.int64) * len(count_y) + b)
    edges = np.flatnonzero(np.diff(pairs, prepend=-1))
    count_xy = np.diff(edges, append=n)
    mi = entropy(count_x, n) + entropy(count_y, n) - entropy(count_xy, n)
    return max(0.0, float(mi))  # the true value is never negative; rounding may be


def labels(values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Integer label of each value (N,) and the count of each label; bf16 and f16 go by their 65,536 codes."""
    if torch.isnan(values).any():
        raise ValueError("activations hold NaN; the model or its dtype is at fault.")
    if values.dtype in (torch.bfloat16, torch.float16):
        codes = (values + 0.0).view(torch.int16).numpy().view(np.uint16)  # + 0.0 turns −0 into +0
        return codes, np.bincount(codes, minlength=1 << 16)
    _, inverse, counts = np.unique(values.numpy(), return_inverse=True, return_counts=True)
    return inverse, counts


def entropy(counts: np.ndarray, n: int) -> float:
    """Plug-in entropy, in nats, of a label's counts that sum to n."""
    counts = counts[counts > 0]
    return float(np.log(n) - np.sum(counts * np.log(counts)) / n)
