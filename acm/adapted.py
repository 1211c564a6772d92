"""Computes the tensors that an adapter changes, some rows at a time, while they are read.

A matrix is computed in float64, rounded once to float32, and goes into a merge like that. peft computes in float32 and
rounds the sum to the base's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from acm.headers import TensorInfo, as_float32

BLOCK = 1 << 20  # entries that are computed at a time
Rows = Callable[[slice], np.ndarray]  # some rows → their numbers, float32 or as stored


@dataclass(frozen=True)
class AdaptedTensor(TensorInfo):
    """A tensor that an adapter changes.

    file: the adapter's. dtype, start, stop: as of the base's tensor. prepare: gives what computes rows.
    """

    prepare: Callable[[], Rows]

    def read(self) -> Any:
        """All entries, (size,), as something whose slices are arrays; see :class:`Computed`."""
        return Computed(self.prepare(), self.shape)

    def numbers(self, stop: int | None = None) -> np.ndarray:
        """The first ``stop`` entries (default: all), (stop,) float32."""
        return as_float32(self.read()[:stop])


class Computed:
    """Flat numbers of a tensor, computed by whole blocks of rows. It holds one block: the last.

    The blocks are the same whatever is asked for, since the last bit of a matrix product depends on them.
    """

    def __init__(self, rows: Rows, shape: tuple[int, ...]) -> None:
        self.rows, self.size, columns = rows, math.prod(shape), math.prod(shape[1:])
        self.step = max(1, BLOCK // max(1, columns))
        self.width = self.step * columns
        self.last, self.held = -1, np.empty(0, np.float32)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.size)
        first = start // self.width
        blocks = [self.block(i) for i in range(first, -(-stop // self.width))]
        flat = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return flat[start - first * self.width : stop - first * self.width]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32, copy=False)

    def block(self, i: int) -> np.ndarray:
        """A block's numbers, flat."""
        if i != self.last:
            self.last, self.held = i, self.rows(slice(i * self.step, (i + 1) * self.step)).reshape(-1)
        return self.held


def merged(
    base: TensorInfo, left: TensorInfo, right: TensorInfo, turned: bool, norms: TensorInfo | None, scaling: float
) -> Rows:
    """W + scaling · left · right, float32.

    left, right: B and A; an embedding's A and B, which are turned. norms: of each row of the result; None: as they are.
    """
    columns, raw = base.shape[1], base.read()
    b, a = (info.numbers().astype(np.float64).reshape(info.shape) for info in (left, right))
    if turned:
        b, a = b.T, a.T
    with np.errstate(all="ignore"):  # the merge finds what is not finite
        a = scaling * a
    lengths = None if norms is None else norms.numbers()[:, None]

    def rows(part: slice) -> np.ndarray:
        with np.errstate(all="ignore"):
            found = b[part] @ a
            found += as_float32(raw[part.start * columns : part.stop * columns]).reshape(-1, columns)
            if lengths is not None:
                found *= lengths[part] / np.linalg.norm(found, axis=1, keepdims=True)
            return found.astype(np.float32)

    return rows


def shifted(base: TensorInfo, bias: TensorInfo, scaling: float) -> Rows:
    """A bias and the scaled bias of B, float32."""
    with np.errstate(all="ignore"):
        found = (base.numbers() + scaling * bias.numbers().astype(np.float64)).astype(np.float32)
    return lambda part: found[part]


def with_rows(base: TensorInfo, trained: TensorInfo, ids: list[int]) -> Rows:
    """An embedding whose rows ``ids`` are others, float32."""
    columns, raw, own = base.shape[1], base.read(), trained.numbers().reshape(trained.shape)
    places = np.asarray(ids)

    def rows(part: slice) -> np.ndarray:
        found = as_float32(raw[part.start * columns : part.stop * columns]).reshape(-1, columns).copy()
        inside = (places >= part.start) & (places < part.stop)
        found[places[inside] - part.start] = own[inside]
        return found

    return rows


def as_stored(info: TensorInfo) -> Rows:
    """A tensor that the adapter holds whole, as it is stored."""
    raw = info.read().reshape(info.shape)
    return lambda part: raw[part]
