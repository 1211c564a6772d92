"""Reads profiles. A profile is a YAML file with everything that a run depends on: the one dial of the pipeline.

It names models, calibration texts, methods, tasks and generation settings. One profile is made for a laptop, another
for a GPU machine. Relative paths start from the repository's root. Unknown keys are refused. A variant changes some
keys of every experiment of a profile; see ``variants.py``.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from acm.errors import explain, unknown
from acm.evaluation.settings import BACKENDS, MAX_TOKENS, Engine, Sampling
from acm.evaluation.vllm_arguments import VllmArguments
from acm.merging.recipe import Recipe
from acm.paths import ROOT, RUNS
from acm.profiles.engines import check_arguments
from acm.profiles.experiment import NAME, OF_NAME, Experiment, Name
from acm.profiles.questions import Asked
from acm.profiles.searches import SearchBlock
from acm.profiles.variants import read_profile
from acm.schema import Strict, like, one_of, optional
from acm.shapes import BYTES

SHARE = 8  # models that one job on the CPU takes at most, where `jobs` says several


class Profile(Strict):
    """Everything that a run depends on.

    name: the file's, with variants. items: how many of each task, from its start; None: all. max_tokens: token cap.
    batch_size, dtype, device, backend, model_args, deterministic: of the engine, see :class:`Engine`.
    jobs: what one process evaluates. ``several``: a share of the models, each merged just before. ``model``: a model.
    ``task``: one task of a model in one repeat. With ``task`` alone a batch holds the items of one task, which can
    change a response. So ``task`` is part of the hash, and the other two are not.
    merges: where the merges of ``several`` go. ``memory``: into the model that stays loaded. ``folder``: into model
    folders, to be shared, and for small models on the CPU. The records are the same, so it is no part of the hash.
    questions: those that are asked, each with parameters of its notebook; None: all. searches: searches of
    coefficients, by name. Neither is part of the hash.
    """

    name: Annotated[str, like(rf"{NAME}(\+{NAME})*", f"a file's name {OF_NAME}")]
    title: str = ""
    items: int | None = Field(None, ge=1)
    batch_size: int = Field(Engine.batch_size, ge=1)
    max_tokens: int = Field(MAX_TOKENS, ge=1)
    dtype: Annotated[str, one_of("dtype", BYTES)] = "bfloat16"
    device: str = Engine.device
    seed: int = Sampling.seed
    backend: Annotated[str, one_of("backend", BACKENDS)] = optional(Engine.backend)
    model_args: VllmArguments = optional(VllmArguments())
    deterministic: bool = optional(Engine.deterministic)
    jobs: Literal["several", "model", "task"] = Field("model", exclude_if=lambda jobs: jobs != "task")
    merges: Literal["memory", "folder"] = Field("memory", exclude=True)
    questions: Asked | None = Field(None, exclude=True)
    searches: dict[Name, SearchBlock] = Field({}, exclude=True)
    experiments: dict[Name, Experiment] = Field(min_length=1)

    @model_validator(mode="after")
    def coherent(self) -> Profile:
        folders = {"logs", "notebooks", "questions", "searches", "results", "tables", "figures"}
        if taken := folders & set(self.experiments):
            raise ValueError(f"no experiment can be called '{min(taken)}': a folder of the run has that name")
        if self.jobs == "several" and self.merges == "folder" and self.device != "cpu":
            raise ValueError(
                f"merges: folder with jobs: several is for small models on the CPU, and device is {self.device}; "
                "say memory, or jobs: model"
            )
        for name, search in self.searches.items():
            if search.experiment and search.experiment not in self.experiments:
                raise ValueError(f"searches: {name}: {unknown('experiment', search.experiment, self.experiments)}")
        check_arguments(self.backend, self.model_args, max(map(self.cap, self.experiments)))
        _ = self.engine  # raises for what the engine does not take
        return self

    @property
    def hash(self) -> str:
        """Hash (16 hexadecimal digits) of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where the run works: ``runs/<profile>``."""
        return RUNS / self.name

    @property
    def in_memory(self) -> bool:
        """Whether merges are evaluated without a folder of their own."""
        return self.jobs == "several" and self.merges == "memory"

    @property
    def folderless(self) -> bool:
        """Whether no merge takes room on the disk. Several GPUs are handed each as a folder, for a moment."""
        return self.in_memory and (self.model_args.tensor_parallel_size or 1) == 1

    def shares(self, experiment: str) -> list[list[str]]:
        """The models of an experiment in order, in as few even lists of at most SHARE as hold them; one list on a GPU.

        A share is what one job merges and evaluates where `jobs` says several. An engine on a GPU starts slowly.
        """
        models = self.experiment(experiment).models
        count = math.ceil(len(models) / SHARE) if self.device == "cpu" else 1
        return [models[len(models) * i // count : len(models) * (i + 1) // count] for i in range(count)]

    def cap(self, experiment: str, method: str = "") -> int:
        """Token cap of an experiment's responses. Of a model or method that has a lower cap, that one."""
        setting = self.experiment(experiment)
        general = setting.max_tokens or self.max_tokens
        return min(general, setting.caps.get(method, general))

    @property
    def engine(self) -> Engine:
        """What runs the models."""
        more = self.model_args.model_dump(), self.deterministic
        return Engine(self.backend, self.dtype, self.device, self.batch_size, *more)

    def evaluation(self, experiment: str, method: str = "", repeat: int = 0) -> dict[str, Any]:
        """How :func:`acm.evaluate` is called for a model or method: items, max_tokens, prompt, sampling and engine.

        Without a method, these are the settings of all that have no cap or prompt of their own.
        """
        e = self.experiment(experiment)
        return {
            "items": self.items,
            "max_tokens": self.cap(experiment, method),
            "prompt": e.prompts.get(method, e.prompt),
            "sampling": Sampling(e.temperature, e.top_p, repeat, self.seed),
            "engine": self.engine,
        }

    def recipe(self, experiment: str, method: str) -> Recipe:
        """The recipe of a method; its coefficients lie in the run's folder, and paths start from the repository's root.

        UserError for an unknown experiment or method.
        """
        folder = self.folder / experiment
        own = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        return self.experiment(experiment).recipe(method, own)

    def experiment(self, name: str) -> Experiment:
        """An experiment by its name. UserError for an unknown one."""
        if name not in self.experiments:
            raise unknown(f"experiment of profile {self.name}", name, self.experiments)
        return self.experiments[name]


def load_profile(name: str) -> Profile:
    """The profile ``profiles/<name>.yaml``, or the YAML file at that path. Each ``+variant`` after it is laid over it.

    Raises UserError for a profile or variant that is unknown or not valid.
    """
    place, content = read_profile(name)
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        raise explain(error, place, Profile) from None
