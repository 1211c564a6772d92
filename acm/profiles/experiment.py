"""An experiment of a profile: a base with its fine-tuned models, tasks and methods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from acm import hub
from acm.calibration import defaults
from acm.calibration.registry import ESTIMATORS, SHIFTS
from acm.errors import check_distinct, explain, shown, unknown
from acm.evaluation.prompts import PROMPTS
from acm.evaluation.settings import Sampling
from acm.merging.recipe import Recipe
from acm.paths import ROOT
from acm.profiles.calibration import Calibration, Commit
from acm.profiles.standard import STANDARD_METHODS, Method
from acm.records import coefficients_name
from acm.schema import Strict, like, one_of, optional
from acm.shapes import Shape

NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"  # what names files: a profile with its variants, an experiment, a method
OF_NAME = "of letters (A to Z), digits, `.`, `_` and `-`, the first a letter or digit"
NO_FILE = re.compile(r"[<>{}\x00-\x1f]")  # what Snakemake reads as more than a character of a file's name
Name = Annotated[str, like(NAME, OF_NAME)]
Prompt = Annotated[str, one_of("prompt", PROMPTS)]


class Experiment(Strict):
    """One base with its fine-tuned models, tasks and methods. Lengths are compared with those of ``reference``.

    base, finetuned: folders, or ids of the model hub (``owner/name``), which `python -m acm fetch` downloads.
    revisions: hub id → commit. Without one, fetch takes the newest and prints it.
    max_tokens: token cap of a response; None: the profile's. caps: model or method → its lower cap.
    prompt: of all; None: the tasks' usual one. prompts: model or method → its own.
    temperature, top_p: as in :class:`Sampling`. repeats: responses to each item (avg@k).
    compatibility, tie_word_embeddings, tokenizer_source (`base`, `union` or a model's folder name): of all merges, as
    in a recipe.
    made_by: the command that makes the models, where they are neither here nor on the hub. shape: of these models, for
    the plan. Neither changes a result, so neither is part of the profile's hash.
    t, shift, estimator: of the coefficients. frontier: λ of the points of plain interpolation.
    """

    base: str
    finetuned: list[str] = Field(min_length=1)
    revisions: dict[str, Commit] = optional({})
    reference: str
    tasks: list[str] = Field(min_length=1)
    calibration: Calibration
    max_tokens: int | None = Field(None, ge=1)
    caps: dict[str, Annotated[int, Field(ge=1)]] = optional({})
    prompt: Prompt | None = optional(None)
    prompts: dict[str, Prompt] = optional({})
    temperature: float = optional(Sampling.temperature)
    top_p: float = optional(Sampling.top_p)
    repeats: int = optional(1, ge=1)
    compatibility: Literal["own", "paper"] | None = optional(None)
    tie_word_embeddings: bool | None = optional(None)
    tokenizer_source: str | None = optional(None)
    made_by: str | None = Field(None, exclude=True)
    shape: Shape | None = Field(None, exclude=True)
    t: float = defaults.T
    shift: Annotated[str, one_of("shift", SHIFTS)] = defaults.SHIFT
    estimator: Annotated[str, one_of("estimator", ESTIMATORS)] = defaults.ESTIMATOR
    frontier: list[float] = Field([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    methods: dict[Name, Method] = Field({})

    @model_validator(mode="before")
    @classmethod
    def standard_methods(cls, values: Any) -> Any:
        return values if not isinstance(values, dict) or "methods" in values else values | {"methods": STANDARD_METHODS}

    @model_validator(mode="after")
    def coherent(self) -> Experiment:
        folders = [Path(p).name for p in (self.base, *self.finetuned)]
        if not self.methods or not self.frontier:
            raise ValueError("`methods` and `frontier` must each have at least one entry")
        check_distinct([*folders, *self.method_names], "of the models' folders, methods and frontier points")
        check_distinct(self.tasks, "tasks")
        Sampling(self.temperature, self.top_p)  # raises for a value out of its range
        if bad := [n for n in folders if NO_FILE.search(n)]:
            raise ValueError(f"files of a run have a model's name, so '{shown(bad[0])}' needs another: link to it")
        if self.reference not in self.parents:
            raise ValueError(str(unknown("reference model", self.reference, self.parents)))
        if self.tokenizer_source and self.tokenizer_source not in (sources := ["base", "union", *self.parents]):
            raise ValueError(f"tokenizer_source: {unknown('source', self.tokenizer_source, sources)}")
        for key in ("caps", "prompts"):
            if odd := set(getattr(self, key)) - {*self.models}:
                raise ValueError(f"{key}: {unknown('model or method', min(odd), self.models)}")
        if odd := set(self.revisions) - {self.base, *self.finetuned}:
            raise ValueError(f"revisions: {unknown('model', min(odd), [self.base, *self.finetuned])}")
        for name in self.method_names:
            self.recipe(name, Path())  # raises for a bad method
        return self

    @property
    def parents(self) -> dict[str, Path]:
        """Folder name → path of the base and the fine-tuned models, base first."""
        return {Path(p).name: ROOT / self.path(p) for p in (self.base, *self.finetuned)}

    @property
    def hub_models(self) -> dict[str, str | None]:
        """Hub id → commit of the models that are no folders here."""
        return {p: self.revisions.get(p) for p in (self.base, *self.finetuned) if hub.is_hub(p)}

    def path(self, model: str) -> str:
        """A model's folder as the profile gives it. Of a hub model, where fetch puts it, from the repository's root."""
        if not hub.is_hub(model):
            return model
        link = hub.link(model, self.revisions.get(model))
        return str(link.relative_to(ROOT) if link.is_relative_to(ROOT) else link)  # outside a clone it lies elsewhere

    @property
    def method_names(self) -> list[str]:
        """All that is merged: the methods, then the points of the frontier."""
        return [*self.methods, *(frontier_name(c) for c in self.frontier)]

    @property
    def models(self) -> list[str]:
        """All that is evaluated: the parents, then all that is merged."""
        return [*self.parents, *self.method_names]

    @property
    def parts(self) -> dict[str, tuple[str, int]]:
        """``<task>-<repeat>`` → task and repeat, in the order of the records.

        A part is what one job evaluates where the profile's `jobs` says task.
        """
        return {f"{task}-{repeat}": (task, repeat) for task in self.tasks for repeat in range(self.repeats)}

    def calls(self, part: str = "") -> list[tuple[list[str], int]]:
        """Tasks and repeat of each call of :func:`acm.evaluate`. Without a part: all tasks, once for each repeat."""
        if not part:
            return [(self.tasks, repeat) for repeat in range(self.repeats)]
        if part not in self.parts:
            raise unknown("part", part, self.parts)
        task, repeat = self.parts[part]
        return [([task], repeat)]

    def recipe(self, name: str, coefficients: Path) -> Recipe:
        """The recipe of a method, with paths as in the profile. coefficients: the folder of the coefficient files.

        Raises UserError for an unknown method, and ValueError for a method that makes no valid recipe.
        """
        frontier = {frontier_name(c): c for c in self.frontier}
        if name not in self.methods and name not in frontier:
            raise unknown("method", name, self.method_names)
        method = self.methods.get(name) or Method(merge_method="task_arithmetic", parameters={"weight": frontier[name]})
        content = {
            "merge_method": method.merge_method,
            "base_model": None if method.merge_method == "linear" and not method.include_base else self.path(self.base),
            "models": [{"model": self.path(m)} for m in self.finetuned],
            "parameters": method.parameters,
            "seed": method.seed,
            "tie_word_embeddings": self.tie_word_embeddings,
            "tokenizer_source": self.tokenizer_source,
        }
        if self.compatibility:
            content["compatibility"] = self.compatibility
        if method.coefficients:
            content["coefficients"] = str(coefficients / coefficients_name(method.coefficients))
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            raise ValueError(str(explain(error, f"method {name}"))) from None


def frontier_name(coefficient: float) -> str:
    """The name of a point of the frontier, as a method."""
    return f"frontier-{coefficient:g}"
