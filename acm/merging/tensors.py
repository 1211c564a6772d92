"""The tensors of a merge, one after another, straight into memory: no folder is written.

A search merges the same models hundreds of times. A loaded model takes the tensors as they come.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acm.checkpoints import layer_of
from acm.headers import STORED
from acm.merging.defaults import ALLOW_NAN, DEVICE, KERNELS
from acm.merging.engine import Runner
from acm.merging.place import place_of
from acm.merging.plan import Job, Plan, make_plan
from acm.merging.recipe import Recipe, load_recipe
from acm.merging.settings import layer_order

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MergedTensor:
    """A tensor of the result.

    stored: flat, as a file would hold it, bfloat16 as its bits in uint16. digest: xxh3 of these bytes, 16 hexadecimal
    digits.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: np.ndarray
    digest: str

    def values(self) -> torch.Tensor:
        """The numbers as a torch tensor of this shape, in float32. They are those of the file."""
        from acm.merging.primitives import widen

        return widen(self.stored).view(self.shape)


@dataclass
class Memory:
    """Holds one tensor at a time: a :class:`acm.merging.workspace.Place`."""

    finished: set[str] = field(default_factory=set)
    held: bytearray = field(default_factory=bytearray)
    digest: str = ""

    def write(self, job: Job, offset: int, data: memoryview) -> None:
        """Bytes of the tensor, from ``offset`` within it."""
        self.held[offset : offset + len(data)] = data

    def finish(self, job: Job, checksum: str) -> None:
        """The tensor is complete."""
        self.digest = checksum


def planned(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe, folder: str | os.PathLike[str] | None = None
) -> Plan:
    """The plan of a recipe, for :func:`merged_tensors`. Arguments and errors are those of :func:`acm.merge`."""
    loaded, home = load_recipe(recipe)
    return make_plan(loaded, home if folder is None else Path(folder), written=False).check()


def merged_tensors(
    plan: Plan, device: str = DEVICE, kernels: bool = KERNELS, allow_nan: bool = ALLOW_NAN, by_layer: bool = True
) -> Iterator[MergedTensor]:
    """The tensors of a merge, each merged when it is asked for, in the order of the layers or else of the files.

    Their bytes are those of the files that :func:`acm.merge` writes. Arguments and errors are those of ``acm.merge``.

    >>> from abacus import CHECKPOINTS
    >>> recipe = {
    ...     "merge_method": "task_arithmetic",
    ...     "base_model": str(CHECKPOINTS / "abacus-fast"),
    ...     "models": [{"model": str(CHECKPOINTS / "abacus-slow")}],
    ...     "parameters": {"weight": 0.5},
    ... }
    >>> first = next(merged_tensors(planned(recipe)))
    >>> first.name, first.shape
    ('model.embed_tokens.weight', (218, 128))
    """
    place = Memory()
    runner = Runner(plan, place, place_of(device, plan.recipe.method), 1, kernels, allow_nan)
    runner.look_through()
    layers = sorted(plan.jobs, key=lambda job: (layer_order(layer_of(job.name)), job.name))
    for job in layers if by_layer else plan.jobs:
        place.held = bytearray(job.bytes)
        runner.merge_one(job)
        yield MergedTensor(job.name, job.shape, job.dtype, np.frombuffer(place.held, STORED[job.dtype]), place.digest)
