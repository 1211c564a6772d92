"""Reads the headers of safetensors files: which tensors a file holds, and where their bytes lie.

Model files are not trusted. A header is checked before any weight is read: every tensor must lie inside its file, have
as many bytes as its shape and dtype say, and overlap no other tensor.
"""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from acm.errors import UserError
from acm.reading import distinct_pairs

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # the file's code → the name used everywhere else
STORED: dict[str, np.dtype] = {  # how numpy reads each dtype; numpy has no bfloat16, so its bits are read
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype("<u2"),
    "float16": np.dtype("<f2"),
}
LFS = b"version "  # what a file of Git LFS begins with that was cloned without its content
MAX_HEADER = 100 << 20  # bytes; the safetensors library's own limit
# Endings of names of tensors that are computed, not trained. Old conversions store such tensors; they are skipped.
BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies.

    dtype: float32, bfloat16 or float16. start, stop: range of its bytes in the file. key: its name in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    key: str = field(default="", kw_only=True)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def read(self) -> np.ndarray:
        """All entries, (size,), mapped from the file and read only. bfloat16 comes as its bits, in uint16."""
        if not self.size:
            return np.empty(0, STORED[self.dtype])
        return np.memmap(self.file, STORED[self.dtype], "r", self.start, (self.size,))

    def numbers(self, stop: int | None = None) -> np.ndarray:
        """The first ``stop`` entries (default: all), (stop,) float32."""
        return as_float32(self.read()[:stop])


def as_float32(raw: np.ndarray) -> np.ndarray:
    """Stored numbers as float32, same shape. raw: float32, float16, or uint16 that holds the bits of bfloat16."""
    if raw.dtype == np.uint16:
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file by name, without buffers.

    Only the header is read. UserError for a file that is absent, cut off, no safetensors file, or whose header claims
    what cannot be.
    """

    def refuse(why: str) -> UserError:
        return UserError(f"{path} is not a sound safetensors file: {why}; fetch it again.")

    try:
        status = path.stat()  # resolves links
    except (OSError, ValueError):  # absent, a link to itself, or no name at all
        raise refuse("it does not exist") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe or device could block
        raise refuse("it is not a regular file")
    size = status.st_size
    with path.open("rb") as file:
        first = file.read(8)
        if first == LFS:
            raise UserError(f"{path} is a pointer of Git LFS, not the file itself; `git lfs pull` fetches it.")
        length = int.from_bytes(first, "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise refuse(f"its header claims {length} bytes, of {size} in the file")
        text = file.read(length)
    try:
        content = json.loads(text, object_pairs_hook=distinct_pairs)
    except (ValueError, RecursionError) as error:
        raise refuse(f"its header is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise refuse("its header is not a JSON object")
    content.pop("__metadata__", None)
    check_dtypes(path, content)
    try:
        return check_tensors(path, content, 8 + length, size)
    except ValueError as error:
        raise refuse(str(error)) from None


def check_dtypes(path: Path, content: dict[str, Any]) -> None:
    """UserError for a tensor of a dtype that nothing here computes with."""
    for name, entry in content.items():
        code = entry.get("dtype", "F32") if isinstance(entry, dict) else "F32"
        if str(code) not in DTYPES and not name.endswith(BUFFERS):
            raise UserError(
                f"{path}: tensor {name} has the dtype {code}, and only {', '.join(DTYPES)} can be merged. A quantised "
                "model cannot be: take the model that it was made from. Any other: convert it to bfloat16."
            )


def check_tensors(path: Path, content: dict[str, Any], data: int, size: int) -> dict[str, TensorInfo]:
    """The entries of a header, checked; ValueError that says what is wrong.

    data: the byte at which the tensors begin. size: bytes of the file.
    """
    if odd := [name for name in content if not name.isprintable()]:
        raise ValueError(f"{odd[0]!r} is no name of a tensor")
    found = {}
    for name, entry in content.items():
        if name.endswith(BUFFERS):
            continue
        try:
            found[name] = tensor_info(path, name, entry, data, size)
        except ValueError as error:
            raise ValueError(f"tensor {name} {error}") from None
    ranges = sorted((info.start, info.stop, name) for name, info in found.items() if info.size)
    for (_, stop, first), (start, _, second) in pairwise(ranges):
        if start < stop:
            raise ValueError(f"tensors {first} and {second} overlap")
    return found


def tensor_info(path: Path, name: str, entry: Any, data: int, size: int) -> TensorInfo:
    """One entry of a header, checked; ValueError that says what is wrong. data, size: as in :func:`check_tensors`."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError("lacks dtype, shape or data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    listed = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    numbers = [*shape, *offsets] if listed else [None]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError("has a shape or offsets that are not whole numbers")
    dtype, (start, stop) = DTYPES[code], offsets
    if stop - start != math.prod(shape) * STORED[dtype].itemsize:
        raise ValueError(f"of shape {shape} and dtype {code} cannot have {stop - start} bytes")
    if data + stop > size:
        raise ValueError(f"ends at byte {data + stop}, past the end of the file ({size}): it is cut off")
    return TensorInfo(path, dtype, tuple(shape), data + start, data + stop, key=name)
