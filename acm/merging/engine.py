"""Runs a plan: streams every tensor of all models through a method, chunk by chunk, into preallocated shards.

Arithmetic is in float32 whatever is stored (the paper's code merges in bf16 and differs by rounding alone). Worker threads
take one tensor each; what they hold is a few chunks, so memory does not grow with the model, except for the methods that need
whole matrices. Chunk size, threads, shards and interruptions change no byte.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from acm.checkpoints import STORED, TensorInfo
from acm.errors import UserError
from acm.merging import fused
from acm.merging.card import write_companions
from acm.merging.methods import FUNCTIONS, PREPARE, trim_bounds
from acm.merging.plan import Job, Plan, make_plan
from acm.merging.primitives import count_magnitudes, narrow, widen
from acm.merging.recipe import Recipe, load_recipe
from acm.merging.settings import Settings, copied_model
from acm.merging.stream import Stream
from acm.merging.workspace import Workspace, disk_errors
from acm.progress import Progress

LOG = logging.getLogger(__name__)
CHUNK = 1 << 16  # entries: a few float32 buffers of them fit a core's cache
STRETCH = 1 << 20  # entries, of the fused kernels, which walk blocks within it


def merge(recipe: str | Path | dict | Recipe, out: str | Path, folder: Path | None = None, device: str = "auto",
          threads: int | None = None, kernels: bool = True, allow_nan: bool = False, hash_inputs: bool = False) -> Path:  # fmt: skip
    """Merge as the recipe says into the model folder ``out``, which appears complete or not at all.

    recipe: path, dict or Recipe. folder: where its relative paths start (default: the recipe file's folder, else the
    working directory). device: auto, cpu or cuda. threads: tensors at a time (default: one per core). kernels: fused loops
    where they apply; the bytes are the same without. allow_nan: merge inputs with NaN or infinity instead of stopping.
    hash_inputs: SHA-256 of every input in the model card, which costs a pass over them.

    Interrupted, it leaves ``.<out>.part`` beside ``out`` and continues from there when run again. Returns ``out``. Raises
    UserError for a bad recipe, missing, unlike or broken models, an ``out`` that exists or is being written.
    """
    recipe, home = load_recipe(recipe)
    out = Path(out)
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    check_output(out, [])
    plan = make_plan(recipe, folder or home, out).check()
    check_output(out, [model.folder for model in plan.models])
    for finding in plan.findings:
        LOG.log(logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding)
    with Workspace(plan, out, "+nan" if allow_nan else "") as work, disk_errors(out):
        if work.finished:
            LOG.info("continuing an interrupted merge: %d of %d tensors are there.", len(work.finished), len(plan.jobs))
        Runner(plan, work, place, threads or cores(), kernels, allow_nan).run()
        write_companions(work.part, plan, hash_inputs)
        work.publish()
    return out


def cores() -> int:
    """Cores that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )  # macOS has no affinity


def check_output(out: Path, inputs: list[Path]) -> None:
    """UserError for an output that exists, cannot, or lies in an input."""
    try:
        taken = os.path.lexists(out)
        out.parent.joinpath(f".{out.name}.part").exists()
    except OSError as error:
        raise UserError(f"output folder {out} cannot be made ({error.strerror}); name another.") from None
    if taken:
        raise UserError(f"output folder {out} exists; remove it or name another.")
    if within := [folder for folder in inputs if out.resolve().is_relative_to(folder.resolve())]:
        raise UserError(f"output folder {out} lies in the model folder {within[0]}; name one outside.")


class Runner:
    """Merges all tensors of a plan that the workspace does not hold yet."""

    def __init__(
        self, plan: Plan, work: Workspace, device: torch.device, threads: int, kernels: bool, allow_nan: bool
    ) -> None:
        self.plan, self.work, self.device, self.threads, self.allow_nan = plan, work, device, threads, allow_nan
        self.method = plan.recipe.method
        self.fused = kernels and device.type == "cpu" and self.method.name in fused.METHODS
        self.thresholds: np.ndarray | None = None
        self.stopped = False

    def run(self) -> None:
        todo = [job for job in self.plan.jobs if job.name not in self.work.finished]
        if todo and self.plan.recipe.scope == "global":
            self.thresholds = self.global_thresholds()
        self.progress = Progress(
            self.plan.bytes, self.plan.bytes - sum(job.bytes for job in todo), f"merging ({self.method.name})"
        )
        with self.progress:
            self.each(self.merge_one, todo)

    def each(self, work: Callable[[Job], None], jobs: list[Job]) -> None:
        """Run over jobs in worker threads, largest first; the first error stops all."""
        jobs = sorted(jobs, key=lambda job: (-job.bytes, job.name))
        pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        futures = [pool.submit(self.guarded, work, job) for job in jobs]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        finally:
            self.stopped = True
            pool.shutdown(cancel_futures=True)
            self.stopped = False

    def guarded(self, work: Callable[[Job], None], job: Job) -> None:
        with torch.inference_mode():
            work(job)

    def merge_one(self, job: Job) -> None:
        settings = replace(job.settings, prepared=self.thresholds)
        copied = copied_model(self.plan.recipe, settings)
        if copied is not None and not job.rows:  # rows that a model lacks come from the others
            job, copied = replace(job, sources=[job.sources[copied]]), 0
        stream = self.stream(job)
        if copied is None and self.method.name in PREPARE and settings.prepared is None and job.size:
            settings = replace(settings, prepared=self.prepare(job, stream, settings))
        digest, bad = xxhash.xxh3_64(), np.zeros(len(job.sources), np.int64)
        for start, stored in stream.stored():
            data = memoryview(self.merged(job, stored, replace(settings, start=start), copied, bad)).cast("B")
            digest.update(data)
            self.work.write(job, start * STORED[job.dtype].itemsize, data)
            self.progress.update(len(data))
        for source, count in zip(job.sources, bad, strict=True):
            if count and not self.allow_nan:
                raise UserError(f"{source.file}: tensor {job.name} holds {count} values that are NaN or infinite; fetch or train it "
                                "again, or merge with --allow-nan.")  # fmt: skip
        self.work.finish(job, digest.hexdigest())

    def prepare(self, job: Job, stream: Stream, settings: Settings) -> object:
        """What the method needs to know of the whole tensor first."""
        if self.fused and self.method.name in fused.TRIMMED:
            return trim_bounds(settings, job.size, lambda buckets: self.count(stream, buckets))
        return PREPARE[self.method.name](lambda: stream.chunks(self.device), settings)

    def count(self, stream: Stream, buckets: np.ndarray | None) -> np.ndarray:
        """Histograms of the magnitudes of a tensor's task vectors."""
        models = len(stream.job.sources) - 1
        if self.fused:
            return fused.count_magnitudes((stored for _, stored in stream.stored()), models, buckets)
        return count_magnitudes(lambda: stream.chunks(self.device), models, buckets)

    def merged(
        self, job: Job, stored: list[np.ndarray], settings: Settings, copied: int | None, bad: np.ndarray
    ) -> np.ndarray:
        """A stretch of the result as it is stored, or of a source that is copied; ``bad`` counts NaN and infinity of each source."""
        if self.fused and job.dtype != "float16":
            out = np.empty(stored[0].size, STORED[job.dtype])
            if copied is None:
                fused.run(self.method.name, stored, settings, out, bad)
            else:
                fused.copy(stored[copied], out, bad[copied : copied + 1])
            return out
        tensors = [widen(raw).to(self.device) for raw in stored]
        bad += [int((~torch.isfinite(tensor)).sum()) for tensor in tensors]
        if bad.any() and not self.allow_nan:
            return np.zeros(stored[0].size, STORED[job.dtype])  # refused in a moment, with the count
        merged = self.apply(job, tensors, settings) if copied is None else tensors[copied]
        return narrow(merged.reshape(-1).cpu(), job.dtype)

    def apply(self, job: Job, tensors: list[Tensor], settings: Settings) -> Tensor:
        """The method on one stretch of a tensor, float32: flat, or rows of a matrix."""
        by_row = self.method.chunks != "flat" and len(job.shape) > 1
        tensors = [tensor.view(-1, *job.shape[1:]) if by_row else tensor for tensor in tensors]
        found = [self.statistic(info, job, settings.start, tensors[0].numel()) for info in job.statistics]
        return FUNCTIONS[self.method.name](tensors[0], tensors[1:], replace(settings, statistics=found))

    def statistic(self, info: TensorInfo | None, job: Job, start: int, size: int) -> Tensor | None:
        """A statistic of the stretch: the same stretch where it has the tensor's shape, else all of it."""
        if info is None:
            return None
        raw = info.read()
        if info.shape == job.shape and self.method.name == "fisher":
            return widen(raw[start : start + size]).to(self.device)
        return widen(raw).view(info.shape).to(self.device)

    def stream(self, job: Job) -> Stream:
        row = max(1, math.prod(job.shape[1:]))
        step = {"flat": STRETCH if self.fused else CHUNK, "rows": max(1, CHUNK // row) * row, "whole": max(1, job.size)}
        return Stream(job, step[self.method.chunks], self.check)

    def check(self) -> None:
        if self.stopped:
            raise InterruptedError("another tensor failed")

    def global_thresholds(self) -> np.ndarray:
        """Bounds of |δ| over all tensors together: the histograms of every tensor, added up."""
        jobs, lock = [job for job in self.plan.jobs if job.size], threading.Lock()

        def count(buckets: np.ndarray | None) -> np.ndarray:
            total = np.zeros((), np.int64)

            def add(job: Job) -> None:
                nonlocal total
                found = self.count(self.stream(job), buckets)
                with lock:
                    total = total + found

            self.each(add, jobs)
            return total

        return trim_bounds(jobs[0].settings, sum(job.size for job in jobs), count)
