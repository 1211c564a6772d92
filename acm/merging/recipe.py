"""Recipes in mergekit's own format, plus a few keys of ours.

    merge_method: ties
    base_model: abacus/checkpoints/abacus-fast
    models:
      - model: abacus/checkpoints/abacus-slow
        parameters: {density: 0.2}
    coefficients: coefficients.json      # ACM: replaces `weight`
    out_dtype: bfloat16

A parameter is a number, a list of numbers along the layers, or a list of `{filter, value}`, as in mergekit. Relative paths
resolve against the recipe's folder. Unknown keys are refused by name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from acm.errors import UserError, check_distinct, explain, unknown
from acm.merging.registry import FILES, FLAGS, IGNORED, METHODS, PER_MODEL, RANGES, MergeMethod

Dtype = Literal["float32", "bfloat16", "float16"]
Number = Annotated[float, Field(strict=True)]
FLOAT32 = 3.4e38  # its range, nearly
MAX_YAML = 10_000  # nodes once aliases are expanded, and KiB of the file


class ModelEntry(BaseModel):
    """One model of a recipe; its ``parameters`` override the recipe's. layer_range: of mergekit's slices, all layers only."""

    model_config = ConfigDict(extra="forbid")
    model: str
    parameters: dict[str, Any] = {}
    layer_range: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return Path(self.model).name


class Recipe(BaseModel):
    """A validated recipe. ``election`` defaults to mergekit's order, with ``coefficients`` to the papers'.

    coefficients: a coefficients.json, a CSV, λ along the layers, or {model: {layer: λ} or λ along the layers}.
    scope: whether TIES and breadcrumbs trim each tensor on its own (as mergekit) or all together (as the TIES paper).
    compatibility: ``paper`` keeps the base's config, tokenizer, rows and head as they are; docs/merging.md has the rules.
    tie_word_embeddings: of the result, where the models disagree.
    """

    model_config = ConfigDict(extra="forbid")
    merge_method: str
    base_model: str | None = None
    models: list[ModelEntry] = Field(min_length=1)
    parameters: dict[str, Any] = {}
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: str | None = None
    coefficients: str | list[Number] | dict[str, dict[str, Number] | list[Number]] | None = None
    election: Literal["weighted", "unweighted"] | None = None
    scope: Literal["tensor", "global"] = "tensor"
    compatibility: Literal["own", "paper"] = "own"
    tie_word_embeddings: bool | None = None
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def one_slice(cls, content: Any) -> Any:
        """mergekit's `slices` as `models`, where one slice holds all layers; the plan compares its range with the models."""
        if not isinstance(content, dict) or "slices" not in content:
            return content
        slices = content["slices"]
        if "models" in content or not isinstance(slices, list) or len(slices) != 1 or not isinstance(slices[0], dict):
            raise ValueError(
                "`slices` must be one slice of all layers; stacking layers of several models is not supported"
            )
        if odd := set(slices[0]) - {"sources", "parameters"}:
            raise ValueError(f"slices: {unknown('key', min(map(str, odd)), ['sources', 'parameters'])}")
        shared, own = content.get("parameters") or {}, slices[0].get("parameters") or {}
        if not isinstance(shared, dict) or not isinstance(own, dict):
            raise ValueError("slices: `parameters` must map names to values")
        parameters = shared | {
            key: conditions(value) + conditions(shared[key]) if key in shared else value for key, value in own.items()
        }
        rest = {key: value for key, value in content.items() if key != "slices"}
        return rest | {"models": slices[0].get("sources"), "parameters": parameters}

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
            check_parameters(entry.parameters, self.method, f"the parameters of {entry.model}", own=True)
        if self.base_model is None and self.method.needs_base:
            raise ValueError(f"{self.merge_method} needs `base_model`")
        if not self.finetuned:
            raise ValueError("`models` names no model besides the base")
        check_distinct((e.name for e in self.finetuned), "models by their folder name")
        least, most = self.method.models
        if not least <= len(self.finetuned) <= (most or len(self.finetuned)):
            wanted = f"exactly {least} model" if most == least == 1 else f"at least {least} models"
            raise ValueError(f"{self.merge_method} takes {wanted} besides the base, not {len(self.finetuned)}")
        if self.coefficients is not None and not self.method.takes_coefficients:
            raise ValueError(f"{self.merge_method} has no task vectors; use task_arithmetic with `normalize: true`")
        if self.scope == "global" and self.merge_method not in {"ties", "breadcrumbs", "breadcrumbs_ties"}:
            raise ValueError(
                f"`scope: global` is for ties and breadcrumbs; {self.merge_method} ranks no magnitudes over tensors"
            )
        self.check_values()
        return self

    def check_values(self) -> None:
        """ValueError for a required parameter that is missing, or weights that cannot be normalized."""
        for key in self.method.parameters:
            if key not in PER_MODEL and not (key == "t" and self.coefficients is not None):
                self.setting(key)
            elif key in PER_MODEL and not (key == "weight" and self.coefficients is not None):
                for entry in self.finetuned if self.merge_method != "aim" else self.finetuned[:1]:
                    self.setting(key, entry)
        if self.merge_method == "linear" and self.setting("normalize"):
            weights = [self.setting("weight", entry) for entry in self.finetuned]
            if all(isinstance(w, (int, float)) for w in weights) and abs(sum(weights)) < 1e-8:
                raise ValueError("the weights sum to 0, and `normalize` divides by their sum")

    @property
    def method(self) -> MergeMethod:
        return METHODS[self.merge_method]

    @property
    def finetuned(self) -> list[ModelEntry]:
        """The models to merge, by name, so that their order in the file changes no byte.

        linear and lore count the base in where it is listed; linear also where it is not, with the recipe's weight, as mergekit.
        """
        entries = [e for e in self.models if not self.is_base(e)]
        if self.merge_method in {"linear", "lore"} and self.base_model:
            own = [ModelEntry(model=self.base_model)] if self.merge_method == "linear" else []
            entries += [e for e in self.models if self.is_base(e)] or own
        return sorted(entries, key=lambda e: e.name)

    def is_base(self, entry: ModelEntry) -> bool:
        return self.base_model is not None and Path(entry.model) == Path(self.base_model)

    def setting(self, key: str, entry: ModelEntry | None = None, tensor: str = "", t: float = 0.0) -> Any:
        """The value that holds for a model and tensor: its own, else the recipe's, else the method's default.

        t: place of the tensor's layer, 0 (first) to 1 (last); without a tensor, the first value that is given.
        """
        for source in (entry.parameters if entry else {}, self.parameters, self.method.parameters):
            value = resolve(source.get(key), tensor, t)
            if value is not None:
                return value
        place = (f" for {entry.model}" if entry else "") + (f" at {tensor}" if tensor else "")
        raise UserError(f"{self.merge_method} needs `{key}`{place}")


def conditions(setting: Any) -> list:
    """A parameter as a list of `{filter, value}`."""
    if isinstance(setting, list) and any(isinstance(item, dict) for item in setting):
        return setting
    return [setting] if isinstance(setting, dict) else [{"value": setting}]


def resolve(setting: Any, tensor: str, t: float) -> Any:
    """mergekit's rules: a number holds everywhere; numbers are spaced evenly over the layers and interpolated between;
    of `{filter, value}`, the first whose filter occurs in the tensor's name holds. Tensors outside the blocks have t = 0."""
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return setting
    if isinstance(setting[0], dict):
        found = (c["value"] for c in setting if c.get("filter") in (None, "*") or not tensor or c["filter"] in tensor)
        return resolve(next(found, None), tensor, t)
    place = t * (len(setting) - 1)
    first = int(place)
    share = place - first
    return (1 - share) * setting[first] + share * setting[min(len(setting) - 1, first + 1)]


def check_parameters(values: dict[str, Any], method: MergeMethod, place: str, own: bool = False) -> None:
    """ValueError for a key that the method does not take, or a value of the wrong type or range. own: of one model."""
    for key, value in values.items():
        if key not in method.parameters and key not in IGNORED:
            raise ValueError(f"{place}: {unknown(f'key of {method.name}', key, method.parameters)}")
        if own and key not in PER_MODEL:
            raise ValueError(f"{place}: {key} holds for all models; set it under the recipe's `parameters`")
        for number in leaves(value, f"{place}: {key}", key not in FLAGS | FILES):
            check_value(number, key, place)


def leaves(setting: Any, place: str, nested: bool) -> list[Any]:
    """All values of a parameter; ValueError for a shape that mergekit's format does not have."""
    if isinstance(setting, dict) and nested:
        setting = [setting]
    if not isinstance(setting, list) or not nested:
        return [setting]
    if not setting:
        raise ValueError(f"{place} is an empty list")
    if not any(isinstance(item, (dict, list)) for item in setting):
        return setting
    for item in setting:
        if not isinstance(item, dict) or "value" not in item or set(item) - {"value", "filter"}:
            raise ValueError(
                f"{place} must be a number, a list of numbers, or a list of {{filter, value}}, not {setting!r}"
            )
        if not isinstance(item.get("filter"), (str, type(None))):
            raise ValueError(f"{place}: a filter is a part of a tensor's name, not {item['filter']!r}")
    return [value for item in setting for value in leaves(item["value"], place, nested)]


def check_value(value: Any, key: str, place: str) -> None:
    if key in FILES:
        if not isinstance(value, str):
            raise ValueError(f"{place}: {key} must be a file's path, not {value!r}")
        return
    wanted = bool if key in FLAGS else (int, float)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{place}: {key} must be {'true or false' if wanted is bool else 'a number'}, not {value!r}")
    test, meaning = RANGES.get(key, (lambda _: True, ""))
    if not test(value):
        raise ValueError(f"{place}: {key} is {meaning}, not {value}")
    if not abs(value) <= FLOAT32:
        raise ValueError(f"{place}: {key} must be a finite number in float32's range, not {value!r:.50}")


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
    """A YAML mapping from a file; UserError that names the file otherwise, before aliases could blow it up."""
    try:
        if path.stat().st_size > MAX_YAML << 10:
            raise UserError(f"{path} is too large for a recipe or profile ({path.stat().st_size >> 20} MiB).")
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root and expanded_size(root, {}) > MAX_YAML:
            raise UserError(f"{path} expands to more than {MAX_YAML} values through its aliases; write them out.")
        content = yaml.safe_load(text)
    except UserError:
        raise
    except (
        OSError,
        yaml.YAMLError,
        ValueError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:  # the last from YAML's own types
        raise UserError(f"{path} is not a readable YAML file: {error!s:.500}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines.")
    return content


def expanded_size(node: yaml.Node, known: dict[int, float]) -> float:
    """Number of nodes below and with this one, aliases written out; infinite for a node that holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        children = node.value if isinstance(node, (yaml.SequenceNode, yaml.MappingNode)) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(expanded_size(part, known) for part in parts)
    return known[id(node)]
