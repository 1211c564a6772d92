"""Recipes in mergekit's own format, plus ``coefficients`` and ``election``.

    merge_method: ties
    base_model: abacus/checkpoints/abacus-fast
    models:
      - model: abacus/checkpoints/abacus-slow
        parameters: {density: 0.2}
    coefficients: coefficients.json      # ACM: replaces `weight`
    out_dtype: bfloat16

Relative paths resolve against the recipe's folder. Unknown keys are refused by name.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from acm.errors import UserError, check_distinct, explain, unknown
from acm.merging.methods import METHODS, MergeMethod

Dtype = Literal["float32", "bfloat16", "float16"]


class ModelEntry(BaseModel):
    """One model of a recipe; its ``parameters`` override the recipe's."""

    model_config = ConfigDict(extra="forbid")
    model: str
    parameters: dict[str, Any] = {}


class Recipe(BaseModel):
    """A validated recipe. ``election`` defaults to mergekit's order, with ``coefficients`` to the papers'."""

    model_config = ConfigDict(extra="forbid")
    merge_method: str
    base_model: str | None = None
    models: list[ModelEntry] = Field(min_length=1)
    parameters: dict[str, Any] = {}
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    coefficients: str | None = None
    election: Literal["weighted", "unweighted"] | None = None
    seed: int = 0

    @field_validator("merge_method")
    @classmethod
    def known_method(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(str(unknown("merge method", name, METHODS)))
        return name

    @model_validator(mode="after")
    def coherent(self) -> Recipe:
        check_parameters(self.parameters, self.method, "parameters")
        for entry in self.models:
            check_parameters(entry.parameters, self.method, f"the parameters of {entry.model}")
        if self.base_model is None and self.merge_method != "linear":
            raise ValueError(f"{self.merge_method} needs `base_model`")
        if not self.finetuned:
            raise ValueError("`models` names no model besides the base")
        check_distinct((Path(e.model).name for e in self.finetuned), "models by their folder name")
        if self.merge_method == "interpolation" and len(self.finetuned) != 1:
            raise ValueError("interpolation takes exactly one model besides the base")
        if self.coefficients and not self.method.takes_coefficients:
            raise ValueError(f"{self.merge_method} has no task vectors; use task_arithmetic with `normalize: true`")
        weights = [] if self.coefficients else [self.parameter("weight", entry) for entry in self.finetuned]
        if self.merge_method == "linear" and self.parameter("normalize") and abs(sum(weights)) < 1e-8:
            raise ValueError("the weights sum to 0, and `normalize` divides by their sum")
        return self

    @property
    def method(self) -> MergeMethod:
        return METHODS[self.merge_method]

    @property
    def finetuned(self) -> list[ModelEntry]:
        """The models to merge, by name, so that their order in the file changes no byte.

        linear counts the base in, as mergekit does: with its own entry, else with the recipe's weight.
        """
        entries = [e for e in self.models if not self.is_base(e)]
        if self.merge_method == "linear" and self.base_model:
            entries += [e for e in self.models if self.is_base(e)] or [ModelEntry(model=self.base_model)]
        return sorted(entries, key=lambda e: Path(e.model).name)

    def is_base(self, entry: ModelEntry) -> bool:
        return self.base_model is not None and Path(entry.model) == Path(self.base_model)

    def parameter(self, key: str, entry: ModelEntry | None = None) -> Any:
        """The value that holds for a model: its own, else the recipe's, else the method's default."""
        for source in (entry.parameters if entry else {}, self.parameters, self.method.parameters):
            if source.get(key) is not None:
                return source[key]
        raise ValueError(f"{self.merge_method} needs `{key}`" + (f" for {entry.model}" if entry else ""))


def check_parameters(values: dict[str, Any], method: MergeMethod, place: str) -> None:
    """ValueError for a key that the method does not take, or a value of the wrong type or range."""
    for key, value in values.items():
        if key not in method.parameters:
            raise ValueError(f"{place}: {unknown(f'key of {method.name}', key, method.parameters)}")
        wanted = bool if key == "normalize" else (int, float)
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"{place}: {key} must be {'true or false' if wanted is bool else 'a number'}, not {value!r}")
        if key == "density" and not 0 < value <= 1:
            raise ValueError(f"{place}: density is the fraction kept, in (0, 1], not {value}")
        if not math.isfinite(value):
            raise ValueError(f"{place}: {key} must be a finite number, not {value}")


def load_recipe(recipe: str | Path | dict | Recipe) -> tuple[Recipe, Path]:
    """The recipe and the folder that its relative paths start from (a dict's: the working directory)."""
    if isinstance(recipe, Recipe):
        return recipe, Path()
    source, folder, content = "the recipe", Path(), recipe
    if not isinstance(recipe, dict):
        source, folder = str(recipe), Path(recipe).parent
        content = read_yaml(Path(recipe))
    try:
        return Recipe.model_validate(content), folder
    except ValidationError as error:
        raise explain(error, source) from None


def read_yaml(path: Path) -> dict:
    """A YAML mapping from a file; UserError that names the file otherwise."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable YAML file: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines.")
    return content


def read_coefficients(path: Path, names: list[str], layers: set[str]) -> dict[str, dict[str, float]]:
    """``{finetuned: {layer: λ}}`` for these models; UserError for a model, layer or finite number that is missing."""
    try:
        found = dict(json.loads(path.read_text())["coefficients"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a readable coefficients file: {error!r}") from None
    for name in names:
        if name not in found:
            raise unknown(f"model in {path}", name, found)
        for layer in sorted(layers):
            value = found[name].get(layer) if isinstance(found[name], dict) else None
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UserError(f"{path}: λ of layer {layer} for {name} must be a finite number, not {value!r}.")
    return {name: found[name] for name in names}
