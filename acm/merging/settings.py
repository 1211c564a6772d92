"""Collects what a recipe says of one tensor: coefficients, parameters, seeds, and numbers from files beside the models.

variable       symbol   shape               meaning
coefficients   λ_i      (models,)           weight of each task vector in this layer        Eq. 3
divisors                (models,)           with `normalize`, the merged sum is divided by the sum of these
scaling        α        ()                  the recipe's `lambda`
density        1 − k    (models,)           fraction of entries kept
gamma          γ        (models,)           fraction of the largest entries dropped
epsilon        ε        (models,)           half the spread of DELLA's keep probability
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acm.checkpoints import layer_of
from acm.errors import UserError, check_distinct, unknown
from acm.headers import TensorInfo, read_header
from acm.merging.mergekit import OUTSIDE
from acm.merging.parameters import FLOAT32, resolve
from acm.merging.recipe import ModelEntry, Recipe
from acm.merging.registry import MergeMethod
from acm.reading import read_json
from acm.records import read_coefficients

if TYPE_CHECKING:
    from torch import Tensor

LayerNumbers = dict[str, dict[str, float]]  # model → layer → number


@dataclass(frozen=True)
class Settings:
    """What holds for one tensor. A list has one entry for each fine-tuned model, in their order.

    divisors: the weights or, where ACM's λ stand in their place, ones. election: `weighted` or `unweighted`.
    keys: the two 32-bit words that seed the random mask of each model.
    numbers: the method's further parameters by name; a list where models may differ.
    layers: for each file that has a number for each layer: the base's number in this layer, then each model's; None
    outside the blocks.
    statistics: what a calibration knows of this tensor in each model (aim: in the base; led: in the base on each
    model's texts, then in each model), None where it knows nothing.
    has_base: whether there is a base; if not, its numbers are zeros.
    shape: of the whole tensor. start: place of a chunk's first entry in it. layer: its layer. depth: the layer's place
    along the blocks, from 0 (first) to 1 (last); 0 outside the blocks.
    prepared: what the method's `prepare` found. surveyed: what its survey of all tensors found.
    """

    coefficients: list[float]
    divisors: list[float] = field(default_factory=list)
    scaling: float = 1.0
    normalize: bool = False
    rescale: bool = False
    election: str = "weighted"
    density: list[float] = field(default_factory=list)
    gamma: list[float] = field(default_factory=list)
    epsilon: list[float] = field(default_factory=list)
    keys: list[tuple[int, int]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, list[float | None]] = field(default_factory=dict)
    statistics: list[Tensor | None] = field(default_factory=list)
    has_base: bool = True
    shape: tuple[int, ...] = ()
    start: int = 0
    layer: str = ""
    depth: float = 0.0
    prepared: Any = None
    surveyed: Any = None

    @property
    def is_matrix(self) -> bool:
        """Whether the method takes the tensor as a matrix: embedding and head only where `embeddings` says so."""
        return len(self.shape) == 2 and (self.numbers.get("embeddings", True) or self.layer not in OUTSIDE)


@dataclass(frozen=True)
class Inputs:
    """The files that a recipe names beside models, read.

    coefficients: λ of each layer, None without them. rule: of a file with coefficients, the layer rule that gave them,
    as of :func:`rule_of`; empty: unknown. layers: parameter → its numbers. statistics: the headers, of each model's
    file; of a method with two such parameters, first all of the first.
    """

    coefficients: LayerNumbers | None
    layers: dict[str, LayerNumbers]
    statistics: list[dict[str, TensorInfo]]
    rule: str = ""


def read_inputs(recipe: Recipe, folder: Path, layers: set[str], base: str) -> Inputs:
    """Read the files that a recipe names. UserError for one that is missing, unreadable or lacks a model or layer.

    folder: where relative paths start. layers: of the merged model. base: the base's name.
    """
    names = recipe.names
    coefficients = None if recipe.coefficients is None else layer_numbers(recipe.coefficients, folder, names, layers)
    blocks = {layer for layer in layers if layer.isdecimal()}
    numbers: dict[str, LayerNumbers] = {}
    statistics: list[dict[str, TensorInfo]] = []
    for parameter in recipe.method.takes:
        key = parameter.name
        if parameter.kind == "layers":
            check_distinct([base, *names], "models of `sensitivity`")
            numbers[key] = layer_numbers(recipe.setting(key), folder, [base, *names], blocks, key)
        elif parameter.kind == "statistics":
            statistics += [read_headers(folder / recipe.setting(key, entry)) for entry in recipe.measured]
    return Inputs(coefficients, numbers, statistics, rule_of(recipe.coefficients, folder))


def rule_of(given: Any, folder: Path) -> str:
    """The layer rule that a file of coefficients names, and its control if there is one: ``acm, gaussian``.

    Files by `acm calibrate` name an estimator and no rule, and are ACM's.
    """
    if not isinstance(given, str) or not given.endswith(".json"):
        return ""
    content = read_json(folder / given)
    named = [content.get("rule", "acm" if "estimator" in content else ""), content.get("control", "none")]
    words = [word for word in named if word != "none"]
    return ", ".join(words) if all(isinstance(word, str) and word.isidentifier() for word in words) else ""


def read_headers(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, or of all that lie in a folder."""
    if not path.is_dir():
        return read_header(path)
    found = {name: info for file in sorted(path.glob("*.safetensors")) for name, info in read_header(file).items()}
    if not found:
        raise UserError(f"{path} holds no safetensors file.")
    return found


def layer_numbers(
    given: Any, folder: Path, names: list[str], layers: set[str], key: str = "coefficients"
) -> LayerNumbers:
    """``{model: {layer: number}}`` for these models; UserError for a model, layer or finite number that is missing.

    given: what a recipe may say (:class:`Recipe`), or a file: JSON with this key, or CSV with the columns finetuned,
    layer and coefficient. A list runs along the layers as a parameter's does.
    """
    source = f"`{key}`"
    if isinstance(given, str):
        source, given = str(folder / given), read_coefficients(folder / given, key)
    if isinstance(given, list):
        given = dict.fromkeys(names, given)
    found: LayerNumbers = {}
    for name in names:
        known = (
            name if name in given else name.rpartition("+")[2]
        )  # of model+adapter, `acm calibrate` names the adapter
        if known not in given:
            raise unknown(f"model in {source}", name, given)
        own = given[known]
        if isinstance(own, list) and own and all(isinstance(v, (int, float)) for v in own):
            own = along_layers(own, layers, f"{source}: the list of {name}")
        if more := {*own} - layers - {*OUTSIDE} if isinstance(own, dict) else ():
            raise UserError(f"{source}: {name} has a number for layer {min(more)!s:.50}, which the models lack.")
        found[name] = {}
        for layer in sorted(layers):
            value = own.get(layer) if isinstance(own, dict) else own
            if value is None:
                raise UserError(f"{source} lacks layer {layer} of {name}; add its number.")
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= FLOAT32:
                what = "λ" if key == "coefficients" else key
                raise UserError(
                    f"{source}: {what} of layer {layer} for {name} must be a finite number, not {value!r:.50}."
                )
            found[name][layer] = value
    return found


def along_layers(values: list[float], layers: set[str], where: str) -> dict[str, float]:
    """The value of each layer, of a list that runs along them; UserError for more values than blocks."""
    blocks = [layer for layer in layers if layer.isdecimal()]
    if len(values) > max(1, len(blocks)):
        raise UserError(
            f"{where} has {len(values)} numbers, and runs along the models' {len(blocks)} blocks alone; a mapping of "
            "layers gives embed, norm and lm_head numbers of their own."
        )
    return {layer: resolve(values, "", place(layer, len(blocks))) for layer in layers}


def place(layer: str, blocks: int) -> float:
    """The place of a layer along the blocks, from 0 (first) to 1 (last). blocks: how many there are.

    Layers outside the blocks stand at 0 and take the first value, as in mergekit 0.1.5.
    """
    if not layer.isdecimal():
        return 0.0
    return int(layer) / (blocks - 1) if blocks > 1 else 1.0


def settings_of(recipe: Recipe, inputs: Inputs, base: str, name: str, shape: tuple[int, ...], blocks: int) -> Settings:
    """What holds for the tensor ``name`` of this shape; UserError for numbers that cannot go together.

    base: the base's name. blocks: how many the model has.
    """
    layer, entries = layer_of(name), recipe.finetuned
    t = place(layer, blocks)
    named: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for parameter in recipe.method.takes:
        if parameter.is_file or parameter is recipe.method.coefficient:
            continue
        holders = entries if parameter.per_model else [None]
        values = [recipe.setting(parameter.name, entry, name, t) for entry in holders]
        value = values if parameter.per_model else values[0]
        if parameter.setting:
            named[parameter.setting] = value
        else:
            numbers[parameter.name] = value
    if inputs.coefficients is None:
        coefficients = weights_of(recipe, entries, name, t)
        divisors, election = coefficients, recipe.election or "weighted"
    else:
        coefficients = [inputs.coefficients[model][layer] for model in recipe.names]
        divisors, election = [1.0] * len(entries), recipe.election or "unweighted"
    models = [base, *recipe.names]
    found = Settings(
        coefficients, divisors, election=election, keys=[key_of(recipe.seed, name, model) for model in recipe.names],
        numbers=numbers, layers={key: [held[m].get(layer) for m in models] for key, held in inputs.layers.items()},
        has_base=not (recipe.base_model is None and recipe.method.from_zero), shape=shape, layer=layer, depth=t,
        **named,
    )  # fmt: skip
    return check_settings(recipe.method, found, name)


def layer_order(layer: str) -> int:
    """Key that sorts layers from the embedding to the head."""
    return int(layer) if layer.isdecimal() else {"embed": -1, "norm": 1 << 30, "lm_head": 1 << 31}[layer]


def weights_of(recipe: Recipe, entries: list[ModelEntry], name: str, t: float) -> list[float]:
    """The recipe's own coefficients of a tensor, one for each model; ones for a method without such a parameter."""
    parameter = recipe.method.coefficient
    if parameter is None:
        return [1.0] * len(entries)
    if parameter.per_model:
        return [recipe.setting(parameter.name, entry, name, t) for entry in entries]
    return [recipe.setting(parameter.name, None, name, t)] * len(entries)


def check_settings(method: MergeMethod, settings: Settings, name: str) -> Settings:
    """UserError for numbers that are each in range but cannot go together at this tensor."""
    if (flag := method.normalizer) and method.needs_sum and settings.normalize and abs(sum(settings.divisors)) < 1e-8:
        raise UserError(f"the weights sum to 0 at {name}, and `{flag.name}` divides by their sum.")
    for density, epsilon in zip(settings.density, settings.epsilon, strict=False):
        if density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
            raise UserError(
                f"density ± epsilon must lie between 0 and 1, not {density} ± {epsilon} at {name}: "
                "they are keep probabilities."
            )
    return settings


def key_of(seed: int, tensor: str, model: str) -> tuple[int, int]:
    """The seed of one tensor's random mask, two 32-bit words. It depends on nothing but these three."""
    digest = hashlib.sha256(f"{seed}/{tensor}/{model}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def votes_of(coefficients: list[float], election: str) -> list[float]:
    """The factor of each task vector when a sign is elected: its λ, or one if the election is ``unweighted``."""
    return coefficients if election == "weighted" else [1.0] * len(coefficients)


def copied_model(method: MergeMethod, settings: Settings) -> int | None:
    """Which model's bytes the result must be, 0 being the base; None where there is something to compute.

    In float32, base + 1 · (f − base) is not f to the last bit. So a λ of exactly 1 or 0 copies.
    """
    weights = settings.coefficients
    if method.average:
        kept = [i for i, weight in enumerate(weights) if weight]
        alone = len(kept) == 1 and (settings.normalize or weights[kept[0]] == 1)
        return 1 + kept[0] if alone else None
    if method.copies == "nothing":
        return None
    by_ratio = method.from_zero and not any(settings.divisors)  # the recipe's own weights: 0 and 0 are equal shares
    if (not any(weights) and not by_ratio) or settings.scaling == 0:
        return 0
    whole = method.copies == "base or model" and len(weights) == 1 and weights[0] == 1 == settings.scaling
    return 1 if whole else None
