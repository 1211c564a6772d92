"""Reads every tensor of a base and its fine-tuned models for an inspection, side by side in worker threads.

Entries are read in chunks, so their sums take a few megabytes at any size of the models. Decompositions hold one large
matrix of every model at a time, or as many small ones as fit in WHOLE bytes. Neither the size of a chunk nor the number
of threads changes a number.
"""

from __future__ import annotations

import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from acm.architectures import EMBEDDING, HEAD
from acm.checkpoints import Checkpoint, layer_of, unlike
from acm.errors import UserError
from acm.headers import STORED, TensorInfo
from acm.merging.diagnostics import Sums, add_entries, no_sums
from acm.merging.engine import WHOLE
from acm.merging.gate import Gate
from acm.merging.settings import layer_order
from acm.progress import Progress

if TYPE_CHECKING:
    from acm.merging.spectra import Spectra

CHUNK = 1 << 18  # entries of each model that are read at a time
KINDS = ("embedding", "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "norm", "other", "head")


@dataclass(frozen=True)
class Part:
    """One tensor, as far as all models have it. sources: the base's, then each model's."""

    name: str
    shape: tuple[int, ...]
    sources: list[TensorInfo]

    @property
    def layer(self) -> str:
        """Where it stands: ``embed``, ``0`` … ``L−1``, ``norm`` or ``lm_head``."""
        return layer_of(self.name)

    @property
    def kind(self) -> str:
        """What it is for: one of :data:`KINDS`. A bias counts to its matrix."""
        if self.name in (EMBEDDING, HEAD):
            return "embedding" if self.name == EMBEDDING else "head"
        found = re.search(r"\.(\w+)_proj\.", self.name)
        kind = found[1] if found else "norm" if "norm" in self.name else "other"
        return kind if kind in KINDS else "other"

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of the base's, as it is stored."""
        return self.size * STORED[self.sources[0].dtype].itemsize


def common_parts(models: list[Checkpoint]) -> tuple[list[Part], list[str]]:
    """Every tensor of the models, layer by layer, and notes on what of them is compared.

    Embedding and head are cut to the rows that all have. A tied model's head is its embedding; where all are tied,
    there is no head.
    """
    names = [*models[0].tensors]
    if any(HEAD in model.tensors for model in models):
        names = [*dict.fromkeys((*names, HEAD))]
    parts, notes = [], []
    for name in names:
        sources = [model.head if name == HEAD else model.tensors[name] for model in models]
        shapes = [source.shape for source in sources]
        for model, shape in zip(models[1:], shapes[1:], strict=True):
            if shape[1:] != shapes[0][1:] or len(shape) != len(shapes[0]):
                raise unlike(models[0], model, [f"{name}: {shapes[0]} against {shape}"])
        rows = min(shape[0] for shape in shapes) if shapes[0] else 0
        if rows < max((shape[0] for shape in shapes if shape), default=0):
            each = ", ".join(f"{model.name} {shape[0]}" for model, shape in zip(models, shapes, strict=True))
            notes.append(f"note: rows of {name}: {each}; the first {rows} of each are compared, by their number.")
        parts.append(Part(name, (rows, *shapes[0][1:]) if shapes[0] else (), sources))
    if HEAD in names and (tied := [model.name for model in models if model.tied]):
        notes.append(f"note: the head of {', '.join(tied)} is its embedding; it is compared with the others' heads.")
    parts.sort(key=lambda part: (layer_order(part.layer), KINDS.index(part.kind), part.name))
    return [part for part in parts if part.size], notes


@dataclass
class Walk:
    """Reads every tensor once, and matrices that are decomposed once more, in worker threads.

    top, fast, embeddings, threads: as of :func:`acm.merging.inspection.inspect`. sums, spectra: by the tensor's name.
    """

    parts: list[Part]
    top: float
    fast: bool
    embeddings: bool
    threads: int
    sums: dict[str, Sums] = field(default_factory=dict)
    spectra: dict[str, Spectra] = field(default_factory=dict)

    def run(self) -> Walk:
        """Itself, once all is read; the first error stops all."""
        self.gate, self.stopped = Gate(WHOLE), threading.Event()
        everything = sum(part.bytes * (1 + self.decomposes(part)) for part in self.parts)
        pool = ThreadPoolExecutor(self.threads, initializer=None if self.fast else one_thread)
        with Progress(everything, 0, "inspecting") as self.progress:
            try:
                largest = sorted(self.parts, key=lambda part: (-part.size, part.name))
                for done in as_completed([pool.submit(self.read, part) for part in largest]):
                    done.result()
            finally:
                self.stopped.set()
                pool.shutdown(cancel_futures=True)
        return self

    def decomposes(self, part: Part) -> bool:
        """Whether the singular values of this tensor are wanted."""
        return not self.fast and len(part.shape) == 2 and (self.embeddings or part.kind not in ("embedding", "head"))

    def read(self, part: Part) -> None:
        """Sum over the entries of a tensor, chunk by chunk, then decompose it. UserError for NaN and infinity."""
        sums, maps = no_sums(len(part.sources) - 1), [source.read() for source in part.sources]
        for start in range(0, part.size, CHUNK):
            stop = min(start + CHUNK, part.size)
            self.check()
            add_entries([np.require(found[start:stop], requirements="A") for found in maps], sums)
            self.progress.update((stop - start) * part.bytes // part.size)
        for source, bad in zip(part.sources, sums.bad, strict=True):
            if bad:
                what = f"tensor {part.name} holds {bad:.0f} values that are NaN or infinite"
                raise UserError(f"{source.file}: {what}; fetch or train it again.")
        self.sums[part.name] = sums
        if self.decomposes(part):
            held = 4 * part.size * (len(part.sources) + 1) + 8 * min(part.shape) ** 2 * (len(part.sources) + 5)
            with self.gate.holding(held):
                self.check()
                self.spectra[part.name] = decompose(part, self.top)
            self.progress.update(part.bytes)

    def check(self) -> None:
        """Called before each chunk: raises once another tensor has failed."""
        if self.stopped.is_set():
            raise InterruptedError("another tensor failed")


def one_thread() -> None:
    """Called first in each worker: tensors are decomposed side by side, so each takes one thread of torch."""
    import torch

    torch.set_num_threads(1)


def decompose(part: Part, top: float) -> Spectra:
    """The spectra of a matrix of every model, which is held whole, in float32."""
    import torch

    from acm.merging.primitives import widen
    from acm.merging.spectra import rounding, spectra

    with torch.inference_mode():
        base, *models = (widen(np.asarray(source.read()[: part.size])).view(part.shape) for source in part.sources)
        floor = rounding([base, *models])
        return spectra([model.sub_(base) for model in models], top, floor)
