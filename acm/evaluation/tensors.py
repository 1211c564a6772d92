"""Puts tensors into a loaded model of transformers, one after another, and tells what numbers it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xxhash

from acm.errors import UserError


class Tensor(Protocol):
    """A tensor of a model. dtype: as a file stores it. digest: xxh3 of its stored bytes, 16 hexadecimal digits."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def digest(self) -> str: ...
    def values(self) -> torch.Tensor:
        """The numbers in float32, of this shape."""


class Source(Protocol):
    """A model whose tensors come one after another.

    folder: all of its model folder but the numbers; its name is the model's. shapes: of its tensors, by name.
    identity: of the whole folder, known once the last tensor has passed.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def identity(self) -> str: ...
    def tensors(self) -> Iterator[Tensor]: ...


def misfit(model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What keeps a model from taking tensors of these names and shapes, in words; empty if nothing does."""
    held = {name: tuple(found.shape) for name, found in model.named_parameters()}
    if odd := sorted(shapes.items() - held.items()):
        return f"tensor {odd[0][0]} of the merge is none of the loaded {type(model).__name__}, or has another shape"
    if missing := held.keys() - shapes.keys():
        return f"the merge has no tensor {min(missing)}, which the loaded model has"
    return ""


@torch.no_grad()
def put(model: torch.nn.Module, tensors: Iterable[Tensor]) -> str:
    """Put tensors into a model in place of its own. Returns a checksum of their digests, 16 hexadecimal digits.

    UserError where the model has other tensors, and where its dtype cannot hold their numbers.
    """
    digest, held, taken = xxhash.xxh3_64(), dict(model.named_parameters()), {}
    for tensor in tensors:
        taken[tensor.name] = tensor.shape
        if tensor.name in held and tuple(held[tensor.name].shape) == tensor.shape:
            held[tensor.name].copy_(tensor.values())
        digest.update(f"{tensor.name}\0{tensor.digest}\0".encode())
    if why := misfit(model, taken):
        raise UserError(f"{why}; such a model can be merged into a folder and evaluated from there.")
    return digest.hexdigest()


def not_finite(model: torch.nn.Module) -> str:
    """The first tensor that holds NaN or infinity; empty without one."""
    return next((name for name, found in model.named_parameters() if not found.isfinite().all()), "")


def checksum(model: torch.nn.Module) -> str:
    """Hash (xxh3, 16 hexadecimal digits) of all numbers of a loaded model, with names, dtypes and shapes."""
    digest = xxhash.xxh3_64()
    for name, held in sorted(model.named_parameters()):
        digest.update(f"{name}\0{held.dtype}\0{tuple(held.shape)}\0".encode())
        digest.update(as_bytes(held).data)
    return digest.hexdigest()


def as_bytes(tensor: torch.Tensor) -> np.ndarray:
    """The bytes of a tensor on any device, in uint8, flat."""
    found: np.ndarray = tensor.detach().flatten().contiguous().view(torch.uint8).cpu().numpy()
    return found
