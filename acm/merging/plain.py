"""Merges a tensor in plain torch: every method, every dtype, every device.

Importing this module imports torch. The engine imports it only where the fused loops of `fused.py` do not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from acm.headers import STORED, TensorInfo
from acm.merging import (
    methods,  # noqa: F401  registers the functions of all methods
    primitives,
)
from acm.merging.functions import FUNCTIONS, PREPARE, SURVEY
from acm.merging.plan import Job
from acm.merging.primitives import count_magnitudes, narrow, widen
from acm.merging.registry import MergeMethod
from acm.merging.settings import Settings
from acm.merging.stream import Stream

if TYPE_CHECKING:
    from acm.merging.functions import Measure

CHUNK = 1 << 16  # entries: a few float32 buffers of them fit a core's cache
GPU_CHUNK = 1 << 23  # entries on a GPU: a transfer has a fixed cost, about that of a megabyte


class PlainMerger:
    """Merges by a method in plain torch on one device. allow_nan: merge NaN and infinity instead of giving zeros."""

    def __init__(self, method: MergeMethod, device: torch.device, allow_nan: bool) -> None:
        self.method, self.device, self.allow_nan = method, device, allow_nan

    def start_thread(self) -> None:
        """Called first in each worker thread: tensors run side by side, so each takes one thread."""
        torch.set_num_threads(1)

    def chunks_of(self, job: Job) -> str:
        """The method's own, but ``flat`` for a matrix that it does not take as one.

        Such are embeddings, and weights without the Gram matrices that the method solves for. Bands are rows of a tall
        matrix; any other tensor is whole.
        """
        own, matrix = self.method.chunks, len(job.shape) == 2
        averaged = not job.settings.is_matrix or (self.method.statistics == "gram" and None in job.statistics)
        if own in ("whole", "bands") and matrix and averaged:
            return "flat"
        tall = matrix and job.shape[0] >= job.shape[1] and not job.settings.numbers.get(self.method.whole_if)
        return "whole" if own == "bands" and not tall else own

    def step(self, job: Job) -> int:
        """Entries of a chunk, at least one: a fixed number, whole rows of about as many, ROWS rows, or all.

        A vector is one row.
        """
        row = max(1, math.prod(job.shape[1:] if len(job.shape) > 1 else job.shape))
        chunk = CHUNK if self.device.type == "cpu" else GPU_CHUNK
        steps = {"flat": chunk, "rows": max(1, chunk // row) * row, "bands": primitives.ROWS * row}
        return steps.get(self.chunks_of(job), max(1, job.size))

    def memory(self, job: Job) -> int:
        """Bytes that a chunk of every model takes in float32, with as much for the work; 0 for a CPU's small ones."""
        small = self.device.type == "cpu" and self.chunks_of(job) not in ("whole", "bands")
        held = 0 if small else min(self.step(job), job.size)
        return 8 * held * len(job.sources)

    @torch.inference_mode()
    def survey(
        self, every: Callable[[Callable[[Stream, Settings], np.ndarray]], np.ndarray], settings: Settings
    ) -> Any:
        """What the method's survey finds in all tensors; None for a method without one."""
        if self.method.name not in SURVEY:
            return None

        def each(measure: Measure) -> np.ndarray:
            return every(torch.inference_mode()(lambda stream, own: measure(lambda: self.chunks(stream), own)))

        return SURVEY[self.method.name](each, settings)

    @torch.inference_mode()
    def prepare(self, stream: Stream, settings: Settings) -> Any:
        """What the method's `prepare` finds in the whole tensor; None for a method without one."""
        if self.method.name not in PREPARE:
            return None
        walk = self.measured if self.method.statistics else self.chunks
        return PREPARE[self.method.name](lambda: walk(stream), settings)

    @torch.inference_mode()
    def count(self, stream: Stream, buckets: np.ndarray | None) -> np.ndarray:
        """Histograms of the magnitudes of a tensor's task vectors: :func:`acm.merging.primitives.count_magnitudes`."""
        return count_magnitudes(lambda: self.chunks(stream), len(stream.job.sources) - 1, buckets)

    def chunks(self, stream: Stream) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The base's and the models' numbers of each chunk, float32, on the device, in the form of :meth:`shaped`."""
        for _, stored in stream.stored():
            base, *finetuned = self.shaped(stream.job, stored)
            yield origin(base, stream.job.settings), finetuned

    def measured(self, stream: Stream) -> Iterator[tuple[Tensor, list[Tensor], list[Tensor | None]]]:
        """The same, with the statistics of each chunk."""
        for start, stored in stream.stored():
            base, *finetuned = self.shaped(stream.job, stored)
            yield origin(base, stream.job.settings), finetuned, self.statistics(stream.job, start, base.numel())

    def shaped(self, job: Job, stored: list[np.ndarray]) -> list[Tensor]:
        """A chunk of each source as float32 on the device: flat, or rows of a matrix."""
        tensors = [widen(raw, self.device) for raw in stored]
        by_row = self.chunks_of(job) != "flat" and len(job.shape) > 1
        return [tensor.view(-1, *job.shape[1:]) if by_row else tensor for tensor in tensors]

    @torch.inference_mode()
    def merged(
        self, job: Job, stored: list[np.ndarray], settings: Settings, copied: int | None, bad: np.ndarray
    ) -> np.ndarray:
        """A chunk of the result, flat, as it is stored.

        stored: the chunk of each source, base first. copied: the source that is copied; None: merge.
        bad: (sources,) int64, counts of NaN and infinity, added to.
        """
        tensors = self.shaped(job, stored)
        bad += [int((~torch.isfinite(tensor)).sum()) for tensor in tensors]
        if bad.any() and not self.allow_nan:
            return np.zeros(stored[0].size, STORED[job.dtype])  # refused in a moment, with the count
        found = self.apply(job, tensors, settings) if copied is None else tensors[copied]
        return narrow(found.reshape(-1), job.dtype)

    def apply(self, job: Job, tensors: list[Tensor], settings: Settings) -> Tensor:
        """The method on a chunk, float32."""
        found = self.statistics(job, settings.start, tensors[0].numel())
        base = origin(tensors[0], settings)
        return FUNCTIONS[self.method.name](base, tensors[1:], replace(settings, statistics=found))

    def statistics(self, job: Job, start: int, size: int) -> list[Tensor | None]:
        """What a calibration knows of a chunk."""
        return [self.statistic(info, start, size) for info in job.statistics]

    def statistic(self, info: TensorInfo | None, start: int, size: int) -> Tensor | None:
        """A statistic of a chunk: the chunk's own entries where it has one for each entry, else all of it."""
        if info is None:
            return None
        raw = info.read()
        if self.method.statistics == "entries":
            return widen(raw[start : start + size], self.device)
        if self.method.statistics == "diagonal":
            return widen(raw[:: info.shape[1] + 1], self.device)
        return widen(raw, self.device).view(info.shape)


def origin(base: Tensor, settings: Settings) -> Tensor:
    """Where task vectors start: at the base, or at zeros where the recipe names none and the method takes that."""
    return base if settings.has_base else torch.zeros_like(base)
