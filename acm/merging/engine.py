"""Runs a plan: merges every tensor of the models, chunk by chunk, into preallocated shards.

Arithmetic is in float32, whatever dtype is stored. (The paper's code merges in bf16 and differs by rounding alone.)
Each worker thread takes one tensor and holds a few chunks of it. So memory does not grow with the model. Methods that
need whole matrices hold one large matrix of every model at a time, or as many small ones as fit in WHOLE bytes. Those
that need only square matrices of its smaller side read a tall matrix in bands of rows. Chunk size, threads, shards and
interruptions change no byte of the result.

Two modules merge a tensor. `fused.py` has the most used methods as compiled loops, for the CPU. `plain.py` has every
method in torch. The import of torch takes a second, so `plain.py` is imported only for what `fused.py` cannot do.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from acm.devices import devices
from acm.errors import UserError, os_reason
from acm.headers import STORED
from acm.merging.card import write_companions
from acm.merging.defaults import ALLOW_NAN, DEVICE, HASH_INPUTS, KERNELS, THREADS
from acm.merging.gate import Gate
from acm.merging.magnitudes import trim_bounds
from acm.merging.place import place_of
from acm.merging.plan import Job, Plan, announce, make_plan, work_folder
from acm.merging.recipe import Recipe, load_recipe
from acm.merging.settings import Settings, copied_model
from acm.merging.stream import Stream
from acm.merging.workspace import Place, Workspace, disk_errors
from acm.progress import Progress

if TYPE_CHECKING:
    from acm.merging.fused import FusedMerger
    from acm.merging.plain import PlainMerger

LOG = logging.getLogger(__name__)
WHOLE = 1 << 28  # bytes of whole matrices that are worked on side by side
EXPONENTS = {"float32": 0x7F800000, "bfloat16": 0x7F80, "float16": 0x7C00}  # bits of infinity; NaN has greater


def merge(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    out: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    device: str = DEVICE,
    threads: int | None = THREADS,
    kernels: bool = KERNELS,
    allow_nan: bool = ALLOW_NAN,
    hash_inputs: bool = HASH_INPUTS,
) -> Path:
    """Merge models as a recipe says, into the model folder ``out``, which appears complete or not at all.

    Merging halfway between the two embedded models:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from abacus import CHECKPOINTS
    >>> import acm
    >>> recipe = {
    ...     "merge_method": "task_arithmetic",
    ...     "base_model": str(CHECKPOINTS / "abacus-fast"),
    ...     "models": [{"model": str(CHECKPOINTS / "abacus-slow")}],
    ...     "parameters": {"weight": 0.5},
    ... }
    >>> out = acm.merge(recipe, Path(tempfile.mkdtemp()) / "halfway")
    >>> sorted(path.name for path in out.iterdir() if path.suffix == ".safetensors")
    ['model.safetensors']

    Args:
        recipe: the path of a YAML file in mergekit's format, a mapping of the same content, or a :class:`Recipe`.
            With ``coefficients`` it merges by ACM's λ for each layer (Eq. 3 of arXiv:2505.14009).
        out: the folder to make. It holds what a Hugging Face model folder holds, the recipe and a model card.
        folder: where the recipe's relative paths start. Default: the recipe file's folder, else the working directory.
        device: ``cpu``, ``cuda``, ``cuda:0``, or ``auto``: a GPU for methods without a compiled loop, else the CPU.
        threads: tensors that are merged at a time. Default: one for each core.
        kernels: whether compiled loops are used where there are some. Without them the bytes are the same.
        allow_nan: merge inputs that hold NaN or infinity instead of stopping.
        hash_inputs: put the SHA-256 of every input into the model card. It costs a pass over the inputs.

    Returns:
        ``out``. Interrupted, a merge leaves ``.<out>.part`` beside ``out``; the same call continues from there.

    Raises:
        UserError: for a bad recipe, for models that are missing, unlike or broken, for an ``out`` that exists or is
            being written, and for a device that is not there.
    """
    loaded, home = load_recipe(recipe)
    out = Path(out)
    check_output(out, [])
    place = place_of(device, loaded.method)
    plan = make_plan(loaded, home if folder is None else Path(folder), out).check()
    check_output(out, [folder for model in plan.models for folder in model.folders])
    announce(plan)
    with Workspace(plan, out, "+nan" if allow_nan else "") as work, disk_errors(out):
        if work.finished:
            LOG.info("continuing an interrupted merge: %d of %d tensors are there.", len(work.finished), len(plan.jobs))
        Runner(plan, work, place, threads or cores(), kernels, allow_nan).run()
        write_companions(work.folder, plan, hash_inputs)
        work.publish()
    return out


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_output(out: Path, inputs: list[Path]) -> None:
    """UserError for an output that exists already, that cannot exist, or that lies inside an input."""
    try:
        taken = os.path.lexists(out)
        work_folder(out).exists()
    except OSError as error:
        raise UserError(f"output folder {out} cannot be made ({os_reason(error)}); name another.") from None
    if taken:
        raise UserError(f"output folder {out} exists; remove it or name another.")
    if within := [folder for folder in inputs if out.resolve().is_relative_to(folder.resolve())]:
        raise UserError(f"output folder {out} lies in the model folder {within[0]}; name one outside.")


def not_finite(stored: np.ndarray, dtype: str) -> int:
    """How many numbers are NaN or infinite. stored: flat, in this dtype, bfloat16 as its bits."""
    infinity = EXPONENTS[dtype]
    magnitudes = stored.view(np.uint32) & 0x7FFFFFFF if dtype == "float32" else stored.view(np.uint16) & 0x7FFF
    return int((magnitudes >= infinity).sum()) if magnitudes.max(initial=0) >= infinity else 0


class Runner:
    """Merges all tensors of a plan that their place does not hold yet.

    device: cpu, or a GPU's name. threads: tensors at a time. kernels, allow_nan: as of :func:`merge`.
    """

    def __init__(self, plan: Plan, work: Place, device: str, threads: int, kernels: bool, allow_nan: bool) -> None:
        self.plan, self.work, self.threads, self.allow_nan = plan, work, threads, allow_nan
        self.written: Callable[[int], object] = lambda count: None  # told of bytes
        self.thresholds: np.ndarray | None = None
        self.surveyed: Any = None
        self.sound: set[str] = set()  # tensors that a survey has looked through
        self.stopped, self.gate = False, Gate(WHOLE)
        method = plan.recipe.method
        fuse = kernels and device == "cpu" and bool(method.kernel)
        # torch is needed for what has no loop, for float16, and for SLERP's angle.
        self.plain: PlainMerger | None = None
        if not fuse or method.kernel == "arc" or any(job.dtype == "float16" for job in plan.jobs):
            from acm.merging.plain import PlainMerger

            self.plain = PlainMerger(method, devices(device)[0], allow_nan)
        self.fused: FusedMerger | None = None
        if fuse:
            from acm.merging.fused import FusedMerger  # takes half a second

            self.fused = FusedMerger(method, self.plain)

    def run(self) -> None:
        """Merge what is left to do."""
        todo = [job for job in self.plan.jobs if job.name not in self.work.finished]
        if todo:
            self.look_through()
        done = self.plan.bytes - sum(job.bytes for job in todo)
        with Progress(self.plan.bytes, done, f"merging ({self.plan.recipe.merge_method})") as progress:
            self.written = progress.update
            self.each(self.merge_one, todo)

    def look_through(self) -> None:
        """What the method must know of all tensors before the first is merged."""
        if self.plan.recipe.scope == "global":
            self.thresholds = self.global_thresholds()
        elif self.plain:
            self.surveyed = self.plain.survey(self.surveying, self.plan.jobs[0].settings)

    def merger(self, job: Job) -> FusedMerger | PlainMerger:
        """What merges this tensor."""
        found = self.plain if job.dtype == "float16" else self.fused or self.plain
        assert found
        return found

    def each(self, work: Callable[[Job], None], jobs: list[Job]) -> None:
        """Run over jobs in worker threads, largest first; the first error stops all."""
        jobs = sorted(jobs, key=lambda job: (-job.bytes, job.name))
        pool = ThreadPoolExecutor(self.threads, initializer=self.plain.start_thread if self.plain else None)

        def gated(job: Job) -> None:
            with self.gate.holding(self.plain.memory(job) if self.plain and not self.fused else 0):
                work(job)

        futures = [pool.submit(gated, job) for job in jobs]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except RuntimeError as error:  # what Python makes of an interrupt at a bad moment of its own wait
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        finally:
            self.stopped = True
            pool.shutdown(cancel_futures=True)
            self.stopped = False

    def merge_one(self, job: Job) -> None:
        """Merge one tensor, or copy it, and tell the workspace.

        UserError for NaN and infinity in a source, and for numbers of the result that the stored dtype cannot hold.
        """
        merger = self.merger(job)
        settings = replace(job.settings, prepared=self.thresholds, surveyed=self.surveyed)
        copied = copied_model(self.plan.recipe.method, settings)
        if copied is not None and not job.rows:  # rows that a model lacks come from the others
            job, copied = replace(job, sources=[job.sources[copied]]), 0
        stream = Stream(job, merger.step(job), self.check)
        if copied is None and settings.prepared is None and job.size:
            settings = replace(settings, prepared=merger.prepare(stream, settings))
        digest, bad, lost = xxhash.xxh3_64(), np.zeros(len(job.sources), np.int64), 0
        for start, stored in stream.stored():
            merged = merger.merged(job, stored, replace(settings, start=start), copied, bad)
            lost += not_finite(merged, job.dtype)
            data = merged.data.cast("B")
            digest.update(data)
            self.work.write(job, start * STORED[job.dtype].itemsize, data)
            self.written(len(data))
        self.refuse(job, bad)
        if lost and not self.allow_nan:
            raise UserError(
                f"{lost} values of tensor {job.name} are too large for {job.dtype}: the result would have infinity. "
                "Choose `out_dtype: bfloat16` or `float32`, or smaller weights."
            )
        self.work.finish(job, digest.hexdigest())

    def refuse(self, job: Job, bad: Iterable[int]) -> None:
        """UserError for a source with NaN or infinity, unless they are allowed. bad: how many each source has."""
        for source, count in zip(job.sources, bad, strict=True):
            if count and not self.allow_nan:
                raise UserError(
                    f"{source.file}: tensor {job.name} holds {count} values that are NaN or infinite; "
                    "fetch or train it again, or merge with --allow-nan."
                )

    def check(self) -> None:
        """Called between chunks: raises once another tensor has failed."""
        if self.stopped:
            raise InterruptedError("another tensor failed")

    def global_thresholds(self) -> np.ndarray:
        """Bounds of |δ| over all tensors together: the histograms of every tensor, added up."""
        jobs = [job for job in self.plan.jobs if job.size]

        def count(buckets: np.ndarray | None) -> np.ndarray:
            return self.added(lambda stream, _: self.merger(stream.job).count(stream, buckets))

        return trim_bounds(jobs[0].settings, sum(job.size for job in jobs), count)

    def surveying(self, measure: Callable[[Stream, Settings], np.ndarray]) -> np.ndarray:
        """:meth:`added` of sound tensors: what is not finite in one would spoil the merge of all others."""

        def of_sound(stream: Stream, settings: Settings) -> np.ndarray:
            job = stream.job
            if job.name in self.sound:
                return measure(stream, settings)
            dtypes = ["float32" if job.rows else source.dtype for source in job.sources]
            counts = [list(map(not_finite, stored, dtypes)) for _, stored in stream.stored()]
            self.refuse(job, np.sum(counts, axis=0))
            self.sound.add(job.name)
            return measure(stream, settings)

        return self.added(of_sound)

    def added(self, measure: Callable[[Stream, Settings], np.ndarray]) -> np.ndarray:
        """What is measured of each tensor, added up: whole numbers as they come, others in the order of the names."""
        found: dict[str, np.ndarray] = {}
        lock = threading.Lock()

        def add(job: Job) -> None:
            value = measure(Stream(job, self.merger(job).step(job), self.check), job.settings)
            with lock:
                key = job.name if value.dtype.kind == "f" else ""
                found[key] = found[key] + value if key in found else value

        self.each(add, [job for job in self.plan.jobs if job.size])
        return reduce(np.add, (found[name] for name in sorted(found)))
