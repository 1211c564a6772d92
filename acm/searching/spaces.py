"""Genomes: how a few numbers make the coefficients of a merge.

    genome   genes of each fine-tuned model                                     for
    one      one λ                                                              plain interpolation, any size
    depth    λ_p(d) = Σ_k a_k cos(π k d) for attention and for MLP, one λ for   many layers, few candidates
             embedding and head
    layer    one λ for each layer, or for each group of blocks in a row         few layers

    variable   symbol   meaning
    gene                a number that the search chooses, with its bounds
    depth      d        place of a block, 0 (first) to 1 (last)
    terms               how many cosines of `depth`, k = 0 … terms − 1

Layers in which a fine-tuned model does not differ from the base have no gene. A point becomes a recipe in mergekit's
own format: values along the layers, and filters for what lies outside the blocks or apart in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from acm.checkpoints import equal, layer_of
from acm.errors import UserError, unknown
from acm.merging.plan import Plan
from acm.merging.recipe import Recipe
from acm.merging.settings import layer_order

GENOMES = ("one", "depth", "layer")
LARGEST = 1e3  # of a bound
LOW, HIGH = -0.5, 1.5  # bounds of λ: a layer may be undone, or go beyond its fine-tuned model
PARTS = {"attention": "self_attn", "mlp": "mlp"}  # part of a block → the filter of its tensors
OUTSIDE = {"embed": "embedding and head", "lm_head": "embedding and head", "norm": "norm"}

Point = Mapping[str, float]  # gene → value


@dataclass(frozen=True)
class Space:
    """The genes of a search.

    plan: of the merge whose coefficients are chosen. genome: of :data:`GENOMES`. low, high: bounds of λ. group: blocks
    in a row that share a gene of `layer`. terms: of `depth`. also: further parameters of the method → their bounds.
    Raises UserError for a genome that the method does not take, and for bounds that leave no room.
    """

    plan: Plan
    genome: str = "layer"
    low: float = LOW
    high: float = HIGH
    group: int = 1
    terms: int = 3
    also: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.genome not in GENOMES:
            raise unknown("genome", self.genome, GENOMES)
        for name, value in (("group", self.group), ("terms", self.terms)):
            if value < 1:
                raise UserError(f"{name}: is {value}; give 1 or more.")
        if self.genome == "depth" and self.terms > self.plan.blocks:
            raise UserError(f"terms: is {self.terms}; give at most {self.plan.blocks}, one for each block.")
        for name, (low, high) in {"bounds": (self.low, self.high), **self.also}.items():
            if not -LARGEST <= low < high <= LARGEST:
                raise UserError(f"{name}: {low} to {high} are no bounds; give two numbers, the lower first.")
        self.check_method()

    def check_method(self) -> None:
        """UserError where the genome's coefficients are none of the method's."""
        method, recipe = self.plan.recipe.method, self.plan.recipe
        if method.coefficient is None or method.coefficient.everywhere or not method.takes_coefficients:
            raise UserError(
                f"no genome fits {method.name}, which has no coefficient that may differ between layers; choose "
                "a method that has, such as task_arithmetic or ties."
            )
        if recipe.coefficients is not None:
            raise UserError("`coefficients` stands in the recipe, and the search chooses them; remove it.")
        if bad := [value for value in (self.low, self.high) if not method.coefficient.test(value)]:
            raise UserError(
                f"bounds: {bad[0]} is out of range: {method.coefficient.name} is {method.coefficient.meaning}."
            )
        flag = method.normalizer
        if flag and len(recipe.finetuned) == 1 and recipe.setting(flag.name):
            raise UserError(
                f"`{flag.name}` divides by the coefficients, so with one fine-tuned model they change nothing; set "
                f"`{flag.name}: false` in the recipe."
            )
        if "lambda" in method.parameters and "lambda" not in self.also and recipe.setting("lambda") != 1:
            raise UserError("`lambda` in the recipe would multiply every λ of the search; remove it, or search it too.")
        known = {p.name: p for p in method.takes if p.kind == "number" and p is not method.coefficient}
        for name, bounds in self.also.items():
            if name not in known:
                raise unknown(f"number among the parameters of {method.name}", name, known)
            if bad := [value for value in bounds if not known[name].test(value)]:
                raise UserError(f"{name}: {bad[0]} is out of its range: {name} is {known[name].meaning}.")

    @cached_property
    def models(self) -> list[str]:
        """The fine-tuned models, or one nameless one for a coefficient that all share, such as SLERP's t."""
        method = self.plan.recipe.method
        return self.plan.recipe.names if method.coefficient and method.coefficient.per_model else [""]

    @cached_property
    def genes(self) -> dict[str, tuple[float, float]]:
        """Gene → its bounds, in a fixed order."""
        found: dict[str, tuple[float, float]] = {}
        for i, model in enumerate(self.models):
            prefix = f"{model} " if len(self.models) > 1 else ""
            found |= {prefix + name: bounds for name, bounds in self.own_genes(i).items()}
        return found | dict(self.also)

    def own_genes(self, model: int) -> dict[str, tuple[float, float]]:
        """The genes of one model."""
        free = (self.low, self.high)
        if self.genome == "one":
            return {"λ": free}
        layers = self.changed[model]
        outside = [layer for layer in layers if not layer.isdecimal()]
        if self.genome == "layer":
            inside = {self.group_of(layer) for layer in layers if layer.isdecimal()}
            names = [n for n in outside if n == "embed"] + sorted(inside, key=lambda n: int(n.split("–")[0]))
            return dict.fromkeys([*names, *(n for n in outside if n != "embed")], free)
        swing = (self.high - self.low) / 4
        found: dict[str, tuple[float, float]] = {}
        for part in PARTS:
            found |= {f"{part} {k}": (-swing / k, swing / k) if k else free for k in range(self.terms)}
        return found | dict.fromkeys((OUTSIDE[layer] for layer in outside), free)

    def group_of(self, block: str) -> str:
        """The gene of a block: ``5``, or ``5–9`` for a group."""
        first = int(block) // self.group * self.group
        last = min(first + self.group, self.plan.blocks) - 1
        return f"{first}" if first == last else f"{first}–{last}"

    @cached_property
    def changed(self) -> list[list[str]]:
        """The layers in which each fine-tuned model has other numbers than the base, in their order."""
        found = []
        for i in range(1, len(self.plan.recipe.finetuned) + 1):
            different = {layer_of(job.name) for job in self.plan.jobs if not equal(job.sources[0], job.sources[i])}
            found.append(sorted(different, key=layer_order))
        if len(self.models) < len(found):  # one coefficient for all
            found = [sorted({layer for own in found for layer in own}, key=layer_order)]
        return found

    def recipe(self, point: Point) -> Recipe:
        """The merge of a point, in mergekit's format."""
        recipe, coefficient = self.plan.recipe, self.plan.recipe.method.coefficient
        assert coefficient
        common = dict(recipe.parameters) | {name: point[name] for name in self.also}
        settings = [self.setting(point, i) for i in range(len(self.models))]
        entries = [  # what is searched holds for all models
            entry.model_copy(update={"parameters": {k: v for k, v in entry.parameters.items() if k not in self.also}})
            for entry in recipe.models
        ]
        if coefficient.per_model:
            common.pop(coefficient.name, None)
            own = {entry.model: setting for entry, setting in zip(recipe.finetuned, settings, strict=True)}
            entries = [
                entry.model_copy(update={"parameters": entry.parameters | {coefficient.name: own[entry.model]}})
                if entry.model in own else entry
                for entry in entries
            ]  # fmt: skip
        else:
            common[coefficient.name] = settings[0]
        return recipe.model_copy(update={"parameters": common, "models": entries})

    def layers(self, point: Point) -> dict[str, dict[str, float]]:
        """λ by layer of each fine-tuned model.

        A head without a gene has the embedding's λ, which it is tied to. Another layer without one has the mean: it
        equals the base's, so λ changes nothing there. Empty where λ differ within a block, and where all models share
        one coefficient.
        """
        if self.genome == "depth" or self.models == [""]:
            return {}
        blocks, found = [*map(str, range(self.plan.blocks))], {}
        for model in self.models:
            prefix = f"{model} " if len(self.models) > 1 else ""
            names = {layer: layer for layer in OUTSIDE} | {block: self.group_of(block) for block in blocks}
            names = {layer: prefix + ("λ" if self.genome == "one" else name) for layer, name in names.items()}
            own = {layer: float(point[name]) for layer, name in names.items() if name in point}
            every = dict.fromkeys(("embed", *blocks, "norm", "lm_head"), float(np.mean([*own.values()])))
            found[model] = every | ({"lm_head": own["embed"]} if "embed" in own else {}) | own
        return found

    def setting(self, point: Point, model: int) -> Any:
        """The coefficient of one model in a recipe: a number, or values by filter and along the layers."""
        prefix = f"{self.models[model]} " if len(self.models) > 1 else ""
        own = {name: point[prefix + name] for name in self.own_genes(model)}
        if self.genome == "one":
            return own["λ"]
        found: list[dict[str, Any]] = [
            {"filter": job.name, "value": own.get(layer if self.genome == "layer" else OUTSIDE[layer], 0.0)}
            for job, layer in ((job, layer_of(job.name)) for job in self.plan.jobs)
            if layer in OUTSIDE
        ]
        blocks = self.plan.blocks
        if self.genome == "layer":
            values = [own.get(self.group_of(str(block)), 0.0) for block in range(blocks)]
            return [*found, {"value": values}]
        curves = {part: self.curve([own[f"{part} {k}"] for k in range(self.terms)]) for part in PARTS}
        found += [{"filter": word, "value": curves[part]} for part, word in PARTS.items()]
        return [*found, {"value": np.mean([curves[part] for part in PARTS], axis=0).tolist()}]

    def curve(self, weights: list[float]) -> list[float]:
        """λ of each block from the weights of the cosines, within the bounds."""
        depth = np.linspace(0, 1, self.plan.blocks)
        found = np.sum([a * np.cos(np.pi * k * depth) for k, a in enumerate(weights)], axis=0)
        return [float(value) for value in np.clip(found, self.low, self.high)]
