"""Reads the source tensors of one output tensor, in chunks of a bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from acm.headers import as_float32
from acm.merging.plan import Job


class Stream:
    """The sources of a job, mapped once. What a first pass has read from the disk, later passes read at memory speed.

    step: entries of a chunk. check: called before each chunk; it may raise, to stop.
    """

    def __init__(self, job: Job, step: int, check: Callable[[], None]) -> None:
        self.job, self.step, self.check = job, step, check
        self.maps = [source.read() for source in job.sources]

    def stored(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(start, the sources' numbers as stored, flat) of each chunk, base first."""
        for start in range(0, self.job.size, self.step):
            self.check()
            stop = min(start + self.step, self.job.size)
            if self.job.rows:
                yield start, self.gathered(start, stop)
            else:
                yield start, [np.require(found[start:stop], requirements="A") for found in self.maps]

    def gathered(self, start: int, stop: int) -> list[np.ndarray]:
        """The chunk of each source, flat float32, with its rows in the output's order.

        A row that a model lacks is the base's. Where the base lacks it too, it is the mean of the models that have it,
        and zeros if none does.
        """
        assert self.job.rows
        columns = self.job.shape[-1]
        first, last = start // columns, -(-stop // columns)
        found, present = [], []
        for raw, rows in zip(self.maps, self.job.rows, strict=True):
            wanted = rows[first:last]
            found.append(as_float32(np.asarray(raw).reshape(-1, columns)[np.maximum(wanted, 0)]))
            present.append((wanted >= 0)[:, None])
        total = sum(np.where(p, x, np.float32(0)) for p, x in zip(present, found, strict=True))
        fill = np.where(present[0], found[0], total / np.maximum(sum(p.astype(np.float32) for p in present), 1))
        kept = slice(start - first * columns, stop - first * columns)
        return [np.where(p, x, fill).reshape(-1)[kept] for p, x in zip(present, found, strict=True)]
