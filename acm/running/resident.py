"""Merges that need no folder: one model stays loaded in this process and takes the weights of one after another.

A 7B merge in a folder is 15 GB written and read again, and an engine that starts anew. Here an engine starts once. A
model that does not fit into what is loaded (another vocabulary, config or tokenizer) starts it again, and a log line
says why. The folder stays the reference: it gives the same records.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from acm.errors import UserError
from acm.evaluation.harness import stay_loaded
from acm.evaluation.loaded import Loaded
from acm.evaluation.own_weights import check_weights_are_read
from acm.evaluation.tensors import Source
from acm.evaluation.vllm_weights import apart
from acm.identity import identity
from acm.merging.engine import merge
from acm.merging.plan import announce
from acm.merging.tensors import MergedTensor, merged_tensors, planned
from acm.merging.unwritten import Unwritten
from acm.paths import ROOT
from acm.profiles import Profile

LOG = logging.getLogger(__name__)
PASSING = ".passing"  # where in an experiment's folder a merge has its model folder while an engine takes it
MERGING = "cpu"  # where the merges are made: the engine fills the GPU


class Stored:
    """A model folder as a source of tensors: those of its merge with nothing else, which are its own.

    UserError for a model that cannot be merged.
    """

    def __init__(self, folder: Path) -> None:
        alone = {"model": str(folder), "parameters": {"weight": 1.0}}
        self.plan = planned({"merge_method": "linear", "models": [alone]})
        self.folder, self.identity = folder, identity(folder)
        self.shapes = {job.name: job.shape for job in self.plan.jobs}

    def tensors(self) -> Iterator[MergedTensor]:
        """Its tensors, by layer."""
        return merged_tensors(self.plan, MERGING)


class Resident:
    """What a process has loaded: one model at most.

    card, shapes, bytes: of the merge that was taken last, its model card, its tensors and their size as stored.
    """

    def __init__(self) -> None:
        self.model: Loaded | None = None
        self.key: object = None  # of the merge that the model is
        self.card, self.bytes = "", 0
        self.shapes: Mapping[str, tuple[int, ...]] = {}

    def hold(self, profile: Profile, experiment: str, method: str) -> Loaded:
        """A parent or merge of a profile, behind the profile's engine. Errors are those of acm.merge and acm.evaluate.

        A merge is there at once if it was asked for last, and its recipe, inputs and engine are what they were. Another
        model ends what was returned before: to ask that raises UserError.
        """
        parents, cap = profile.experiment(experiment).parents, profile.cap(experiment)
        if method in parents:
            self.key = None
            return self.parent(parents[method], profile, cap)
        plan = planned(profile.recipe(experiment, method), ROOT)
        key = (method, plan.digest, profile.engine, cap)
        if self.key != key or not self.model:
            self.key = None
            announce(plan)
            with passing(profile.folder / experiment / PASSING / method) as place:
                self.model = self.merged(Unwritten(plan, place / method, MERGING), profile, cap)
            self.key = key
        return self.model

    def parent(self, folder: Path, profile: Profile, cap: int) -> Loaded:
        """A model that lies in a folder: taken into what is loaded, if it fits, else loaded."""
        check_weights_are_read(folder, profile.backend)
        try:
            source = Stored(folder)
        except UserError:  # what cannot be merged may still be evaluated
            return self.start(folder, profile, cap, identity(folder))
        return self.take(source, profile, cap) or self.start(folder, profile, cap, source.identity)

    def merged(self, source: Unwritten, profile: Profile, cap: int) -> Loaded:
        """A merge: taken into what is loaded, if it fits, else into an engine that starts for it."""
        self.card, self.shapes, self.bytes = source.card, source.shapes, source.plan.bytes
        if taken := self.take(source, profile, cap):
            return taken
        if not (why := apart(profile.engine)):
            why = self.start(source.folder, profile, cap).misfit(source)
            if not why:
                return self.fill(source)
            self.close()
        LOG.warning("%s: %s, so it is merged into a folder for a moment.", source.folder.name, why)
        shutil.rmtree(source.folder)
        folder = merge(source.plan.recipe, source.folder, ROOT, MERGING)
        return self.start(folder, profile, cap, identity(folder))

    def take(self, source: Source, profile: Profile, cap: int) -> Loaded | None:
        """The loaded model with the source's weights; None where they do not fit, and a note that says why."""
        if not self.model:
            return None
        other = self.model.engine != profile.engine or self.model.max_tokens < cap
        if why := "its engine has other settings" if other else self.model.misfit(source):
            LOG.info("%s is loaded anew: %s.", source.folder.name, why)
            return None
        return self.fill(source)

    def fill(self, source: Source) -> Loaded:
        """A handle of what is loaded, with the source's weights. If that fails, nothing stays loaded."""
        assert self.model
        self.model = replace(self.model)
        try:
            self.model.take(source)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                self.close()
            raise
        return self.model

    def close(self) -> None:
        """End what is loaded, if anything is."""
        held, self.model = self.model, None
        if held:
            held.close()
        gc.collect()

    def start(self, folder: Path, profile: Profile, cap: int, known: str = "") -> Loaded:
        """Load a folder, once what was loaded before is gone. known: its identity."""
        self.close()
        self.model = stay_loaded(folder, profile.engine, cap, known)
        return self.model


@contextlib.contextmanager
def passing(folder: Path) -> Iterator[Path]:
    """A place for model folders that ends with the block. What a killed process left there is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


RESIDENT = Resident()  # of this process
