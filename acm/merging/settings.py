"""What a recipe says of each tensor: coefficients, parameters, seeds and statistics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acm.checkpoints import TensorInfo, layer_of, read_header
from acm.errors import UserError, unknown
from acm.merging.recipe import FLOAT32, Recipe, resolve
from acm.records import read_coefficients

if TYPE_CHECKING:
    from torch import Tensor

FIELDS = {"weight", "t", "normalize", "rescale", "lambda", "density", "gamma", "epsilon", "statistics", "sensitivity"}


@dataclass(frozen=True)
class Settings:
    """What holds for one tensor: numbers per model are lists, in the order of the models.

    keys: seeds of the random masks. shape: of the whole tensor. start: place of a chunk's first entry in it.
    statistics: calibration statistics of each model (aim: of the base alone), None where there are none for this tensor.
    prepared: what the method's `prepare` found.
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
    numbers: dict[str, float] = field(default_factory=dict)  # further parameters of the method: t, rank, mu, omega …
    statistics: list[Tensor | None] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    start: int = 0
    prepared: Any = None


@dataclass(frozen=True)
class Inputs:
    """Files that a recipe names beside models, read: λ per model and layer, sensitivities, headers of statistics."""

    coefficients: dict[str, dict[str, float]] | None
    sensitivity: dict[str, dict[str, float]] | None
    statistics: list[dict[str, TensorInfo]]


def read_inputs(recipe: Recipe, folder: Path, layers: set[str], base: str) -> Inputs:
    """UserError for a file that is missing, unreadable or lacks a model, layer or number."""
    names = [entry.name for entry in recipe.finetuned]
    coefficients = None if recipe.coefficients is None else layer_numbers(recipe.coefficients, folder, names, layers)
    sensitivity = None
    if "sensitivity" in recipe.method.parameters:
        blocks = {layer for layer in layers if layer.isdecimal()}
        sensitivity = layer_numbers(recipe.setting("sensitivity"), folder, [base, *names], blocks, "sensitivity")
    entries = recipe.finetuned if "statistics" in recipe.method.parameters else []
    entries = entries[:1] if recipe.merge_method == "aim" else entries
    statistics = [read_headers(folder / recipe.setting("statistics", entry)) for entry in entries]
    return Inputs(coefficients, sensitivity, statistics)


def read_headers(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, or of all that lie in a folder."""
    if not path.is_dir():
        return read_header(path)
    found = {name: info for file in sorted(path.glob("*.safetensors")) for name, info in read_header(file).items()}
    if not found:
        raise UserError(f"{path} holds no safetensors file.")
    return found


def layer_numbers(given: Any, folder: Path, names: list[str], layers: set[str],
                  key: str = "coefficients") -> dict[str, dict[str, float]]:  # fmt: skip
    """``{finetuned: {layer: λ}}`` for these models; UserError for a model, layer or finite number that is missing.

    given: what a recipe may say (:class:`Recipe`), or a file: JSON with this key, or CSV with the columns finetuned, layer and
    coefficient. A list runs along the layers as a parameter's does.
    """
    source = f"`{key}`"
    if isinstance(given, str):
        source, given = str(folder / given), read_coefficients(folder / given, key)
    if isinstance(given, list):
        given = dict.fromkeys(names, given)
    found = {}
    for name in names:
        if name not in given:
            raise unknown(f"model in {source}", name, given)
        own = given[name]
        if isinstance(own, list) and own and all(isinstance(v, (int, float)) for v in own):
            own = along_layers(own, layers)
        found[name] = {layer: own.get(layer) if isinstance(own, dict) else None for layer in layers}
        for layer, value in sorted(found[name].items()):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= FLOAT32:
                raise UserError(
                    f"{source}: {'λ' if key == 'coefficients' else key} of layer {layer} for {name} must be a finite number, not {value!r:.50}."
                )
    return found


def along_layers(values: list[float], layers: set[str]) -> dict[str, float]:
    blocks = sorted((layer for layer in layers if layer.isdecimal()), key=int)
    return {layer: resolve(values, "", place(layer, len(blocks))) for layer in layers}


def place(layer: str, blocks: int) -> float:
    """Where on a list of values a layer stands, 0 to 1; as in mergekit 0.1.5, layers outside the blocks take the first value."""
    return (int(layer) / (blocks - 1) if blocks > 1 else 1.0) if layer.isdecimal() else 0.0


def settings_of(recipe: Recipe, inputs: Inputs, base: str, name: str, shape: tuple[int, ...], blocks: int) -> Settings:
    """What holds for one tensor."""
    layer, entries = layer_of(name), recipe.finetuned
    t = place(layer, blocks)

    def per_model(key: str) -> list[float]:
        return [recipe.setting(key, entry, name, t) for entry in entries]

    def one(key: str, default: Any) -> Any:
        return recipe.setting(key, None, name, t) if key in recipe.method.parameters else default

    keys = set(recipe.method.parameters)
    if inputs.coefficients is not None:
        coefficients = [inputs.coefficients[entry.name][layer] for entry in entries]
        divisors = [1.0] * len(entries)
    else:
        coefficients = per_model("weight") if "weight" in keys else [one("t", 1.0)] * len(entries)
        divisors = coefficients
    numbers = {key: one(key, None) for key in keys - FIELDS}
    if inputs.sensitivity is not None:
        pair = [inputs.sensitivity[model].get(layer) for model in (base, entries[0].name)]
        numbers |= dict(
            zip(("c_0", "c_1"), sensitivity_pair(*pair, numbers["alpha"], numbers["temperature"]), strict=True)
        )
    found = Settings(
        coefficients, divisors, one("lambda", 1.0), one("normalize", False), one("rescale", False),
        recipe.election or ("weighted" if inputs.coefficients is None else "unweighted"),
        *(per_model(key) if key in keys else [] for key in ("density", "gamma", "epsilon")),
        [key_of(recipe.seed, name, entry.name) for entry in entries], numbers, shape=shape,
    )  # fmt: skip
    return check_settings(recipe, found, name)


def check_settings(recipe: Recipe, settings: Settings, name: str) -> Settings:
    """UserError for numbers that are each in range but cannot go together at this tensor."""
    if recipe.merge_method == "linear" and settings.normalize and abs(sum(settings.coefficients)) < 1e-8:
        raise UserError(f"the weights sum to 0 at {name}, and `normalize` divides by their sum.")
    for density, epsilon in zip(settings.density, settings.epsilon, strict=False):
        if density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
            raise UserError(
                f"density ± epsilon must lie between 0 and 1, not {density} ± {epsilon} at {name}: they are keep probabilities."
            )
    return settings


def sensitivity_pair(
    base: float | None, finetuned: float | None, alpha: float, temperature: float
) -> tuple[float, float]:
    """Sens-Merging's coefficients of a layer: twice the softmax of ((1 − α) s_0, α s_1) / T; (1, 1) outside the blocks.

    Whether T divides or multiplies the paper leaves open; as everywhere else, it divides here.
    """
    if base is None or finetuned is None:
        return 1.0, 1.0
    second = float(1 / (1 + np.exp(np.clip(((1 - alpha) * base - alpha * finetuned) / temperature, -700, 700))))
    return 2 * (1 - second), 2 * second


def key_of(seed: int, tensor: str, model: str) -> tuple[int, int]:
    """The seed of one tensor's random mask: depends on nothing but these three."""
    digest = hashlib.sha256(f"{seed}/{tensor}/{model}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def copied_model(recipe: Recipe, settings: Settings) -> int | None:
    """Which model's bytes the result must be, 0 being the base; None where there is something to compute.

    float32 base + 1 · (f − base) is not f to the last bit, so a λ of exactly 1 or 0 copies.
    """
    weights, method = settings.coefficients, recipe.merge_method
    if method == "linear":
        kept = [i for i, w in enumerate(weights) if w]
        return 1 + kept[0] if len(kept) == 1 and (settings.normalize or weights[kept[0]] == 1) else None
    if method in {"lore", "sens"}:
        return None
    if not any(weights) or settings.scaling == 0:
        return 0
    plain = method in {"task_arithmetic", "interpolation", "slerp"} and len(weights) == 1
    return 1 if plain and weights[0] == 1 == settings.scaling else None
