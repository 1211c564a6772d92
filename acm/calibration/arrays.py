"""Checks the arrays of activations that estimators take, and turns their values into labels.

Arrays stay where they lie: on the CPU, or on a GPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from acm.calibration.registry import label_estimators

CODE_DTYPES = (torch.bfloat16, torch.float16)  # the label of such a value is its 16 bits, read as a whole number
NEGATIVE_ZERO = np.uint16(0x8000)  # its code
DTYPES = (*CODE_DTYPES, torch.float32, torch.float64)
Labels = np.ndarray | Tensor  # whole numbers, of shape (n,): an array of the CPU, or a tensor on a GPU
MOST_ENTRIES = (1 << 31) - 1  # the most entries of an array: pairs of labels are counted in int32


def checked(x: np.ndarray | Tensor, y: np.ndarray | Tensor, finite: bool = False) -> tuple[Tensor, Tensor]:
    """Both arrays as tensors on one device.

    Raises ValueError for what no estimator takes: unlike shapes, dtypes or devices, other dtypes than ``DTYPES``, no
    entry, more entries than ``MOST_ENTRIES``, NaN. With ``finite`` it raises for infinity too.
    """
    left, right = as_tensor(x), as_tensor(y)
    if left.dtype != right.dtype or left.dtype not in DTYPES:
        raise ValueError(f"x and y must have one dtype, bf16, f16, f32 or f64, not {left.dtype} and {right.dtype}.")
    if left.device != right.device:
        raise ValueError(f"x and y must lie on one device, not on {left.device} and {right.device}.")
    if left.shape != right.shape or left.numel() == 0:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise ValueError(f"x and y must have one shape and at least one entry, not {shapes}.")
    if left.numel() > MOST_ENTRIES:
        raise ValueError(f"x and y may have {MOST_ENTRIES} entries at most, not {left.numel()}.")
    # NaN shows in minimum and maximum. Finding these is four times as fast as isnan on every entry.
    extremes = torch.stack([extreme for values in (left, right) for extreme in values.aminmax()])
    if extremes.isnan().any():
        raise ValueError("activations hold NaN; the model or its dtype is at fault.")
    if finite and extremes.isinf().any():
        raise ValueError(f"activations hold infinity, which only {', '.join(sorted(label_estimators()))} take.")
    return left, right


def as_tensor(values: np.ndarray | Tensor) -> Tensor:
    """The values as a tensor, without gradient.

    Arrays that torch cannot share are copied: read-only ones, reversed ones, those of foreign byte order.
    """
    if isinstance(values, np.ndarray):
        values = np.require(values, values.dtype.newbyteorder("="), ["C", "W"])
    return torch.as_tensor(values).detach()


def labels(values: Tensor) -> Labels:
    """The label of each value, flat. Labels of bf16 and f16 are codes, those of other dtypes ranks.

    Values on the CPU give an array, of uint16 for codes and of int64 for ranks. Values on a GPU give a tensor there: of
    int32 for codes, of int64 for ranks.
    """
    if values.device.type != "cpu":
        return labels_on_gpu(values.flatten())
    if values.dtype not in CODE_DTYPES:
        return np.unique(values.flatten().numpy() + 0.0, return_inverse=True)[1]  # + 0.0 turns −0 into +0
    codes = values.flatten().view(torch.int16).numpy().view(np.uint16)
    negative = codes == NEGATIVE_ZERO
    return np.where(negative, 0, codes) if negative.any() else codes


def labels_on_gpu(values: Tensor) -> Tensor:
    """The label of each value, in their shape."""
    values = values + 0.0
    if values.dtype in CODE_DTYPES:
        return values.view(torch.int16).int() & 0xFFFF
    return torch.unique(values, return_inverse=True)[1]


def permuted(given: Labels, rng: np.random.Generator) -> Labels:
    """The labels in a random order, which depends on their number alone."""
    if isinstance(given, np.ndarray):
        return rng.permutation(given)
    return given[torch.from_numpy(rng.permutation(len(given))).to(given.device)]
