"""Computes the tensors that an adapter changes, one at a time, when they are read.

A matrix is computed in float64, rounded once to float32, and goes into a merge like that. peft computes B A in float32,
rounds it to the adapter's dtype and the sum to the base's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from acm.headers import TensorInfo, as_float32

BLOCK = 1 << 20  # entries of a matrix that are computed at a time


@dataclass(frozen=True)
class AdaptedTensor(TensorInfo):
    """A tensor that an adapter changes.

    file: the adapter's. dtype, shape, start, stop: as of the base's tensor. compute: gives the first entries (None:
    all), flat, as stored numbers or float32.
    """

    compute: Callable[[int | None], np.ndarray]

    def read(self) -> np.ndarray:
        """All entries, (size,). They are computed at each call, and held by the caller alone."""
        return self.compute(None)

    def numbers(self, stop: int | None = None) -> np.ndarray:
        """The first ``stop`` entries (default: all), (stop,) float32."""
        return as_float32(self.compute(stop))


def merged(
    base: TensorInfo, left: TensorInfo, right: TensorInfo, turned: bool, scaling: float, norms: TensorInfo | None,
    stop: int | None,
) -> np.ndarray:  # fmt: skip
    """W + scaling · left · right, flat float32.

    left, right: B and A; an embedding's A and B, which are turned. norms: of each row of the result; None: as they
    are. stop: how many entries; None: all.
    """
    rows, columns = base.shape
    b, a = (info.numbers().astype(np.float64).reshape(info.shape) for info in (left, right))
    if turned:
        b, a = b.T, a.T
    raw, lengths = base.read().reshape(rows, columns), None if norms is None else norms.numbers()[:, None]
    out = np.empty((rows if stop is None else min(rows, -(-stop // columns)), columns), np.float32)
    step = max(1, BLOCK // columns)
    with np.errstate(all="ignore"):  # the merge finds what is not finite
        for start in range(0, len(out), step):
            part = slice(start, min(start + step, len(out)))
            block = as_float32(raw[part]) + scaling * (b[part] @ a)
            if lengths is not None:
                block *= lengths[part] / np.linalg.norm(block, axis=1, keepdims=True)
            out[part] = block
    return out.reshape(-1)[:stop]


def shifted(base: TensorInfo, bias: TensorInfo, scaling: float, stop: int | None) -> np.ndarray:
    """A bias and the scaled bias of B, (stop,) float32."""
    return (base.numbers(stop) + scaling * bias.numbers(stop).astype(np.float64)).astype(np.float32)


def with_rows(base: TensorInfo, rows: TensorInfo, ids: list[int], stop: int | None) -> np.ndarray:
    """An embedding whose rows ``ids`` are others, flat float32."""
    found = base.numbers().reshape(base.shape).copy()
    found[ids] = rows.numbers().reshape(rows.shape)
    return found.reshape(-1)[:stop]


def as_stored(info: TensorInfo, stop: int | None) -> np.ndarray:
    """A tensor that the adapter holds whole."""
    return info.read()[:stop]
