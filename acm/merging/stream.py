"""One output tensor's sources, walked in stretches of a bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from acm.checkpoints import as_float32
from acm.merging.plan import Job
from acm.merging.primitives import widen


class Stream:
    """The sources of a job, mapped once: what a first pass has faulted in, the next passes read at memory speed.

    step: entries of a stretch. check: called before each stretch, may raise to stop.
    """

    def __init__(self, job: Job, step: int, check: Callable[[], None]) -> None:
        self.job, self.step, self.check = job, step, check
        self.maps = [source.read() for source in job.sources]

    def stored(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(start, the sources' numbers as stored) along the tensor, flat."""
        for start in range(0, self.job.size, self.step):
            self.check()
            stop = min(start + self.step, self.job.size)
            if self.job.rows:
                yield start, self.gathered(start, stop)
            else:
                yield start, [np.require(found[start:stop], requirements="A") for found in self.maps]

    def chunks(self, device: torch.device) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The base's and the models' numbers, float32, on the device."""
        for _, stored in self.stored():
            base, *finetuned = (widen(raw).to(device) for raw in stored)
            yield base, finetuned

    def gathered(self, start: int, stop: int) -> list[np.ndarray]:
        """The stretch of each source, float32, with its rows in the output's order. A row that a model lacks is the base's; where
        the base lacks it too, the mean of the models that have it (zeros if none)."""
        columns = self.job.shape[-1]
        first, last = start // columns, -(-stop // columns)
        found, present = [], []
        for raw, rows in zip(self.maps, self.job.rows, strict=True):
            wanted = rows[first:last]
            found.append(as_float32(raw.reshape(-1, columns)[np.maximum(wanted, 0)]))
            present.append((wanted >= 0)[:, None])
        total = sum(np.where(p, x, np.float32(0)) for p, x in zip(present, found, strict=True))
        fill = np.where(present[0], found[0], total / np.maximum(sum(p.astype(np.float32) for p in present), 1))
        kept = slice(start - first * columns, stop - first * columns)
        return [np.where(p, x, fill).reshape(-1)[kept] for p, x in zip(present, found, strict=True)]
