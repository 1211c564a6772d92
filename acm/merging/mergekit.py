"""Reads mergekit's spellings: turns whatever mergekit 0.1.5 writes and accepts into the plain form of a recipe.

mergekit says one thing in many ways: a model as text or as a mapping, all layers as `models`, as `slices` or within
`modules`, true as 1.0, a number as text, nothing as an empty block. What only mergekit can do is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from acm.errors import listed, shown, unknown
from acm.merging.parameters import FLOAT32, conditions, leaves, resolve
from acm.merging.registry import METHODS

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}
PROGRAMS = {  # a key of a file that another program of mergekit reads → the program, and what it makes
    "experts": ("mergekit-moe", "a mixture of experts"), "gate_mode": ("mergekit-moe", "a mixture of experts"),
    "genome": ("mergekit-evolve", "a search for a recipe"), "layer_slices": ("bakllama", "a stack of layers"),
}  # fmt: skip
BY_MERGEKIT = "make the model with mergekit; its folder can then be a model of a recipe here"
STACKED = f"stacks or drops layers, which is not supported: {BY_MERGEKIT}"
# Layer outside the blocks → a text that the names of its tensors contain.
OUTSIDE = {"embed": "embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
TEMPLATES = ("alpaca", "chatml", "exaone", "llama3", "mistral")  # templates that mergekit has by name
FLAG = TypeAdapter(bool)


def plain_form(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's content in the plain form; ValueError that names what has none."""
    found = {key: value for key, value in content.items() if value is not None and key != "name"}
    for key, (program, what) in PROGRAMS.items():
        if key in found:
            raise ValueError(
                f"`{key}` belongs to {program}, which makes {what}: run {program}, not a merge, on this file"
            )
    found = with_slices(with_modules(found))
    if "tokenizer" in found:
        found = with_tokenizer(found, found.pop("tokenizer"))
    for key in ("base_model", "tokenizer_source"):
        if key in found:
            found[key] = model_name(found[key], key)
    if isinstance(found.get("models"), list):
        found["models"] = [entry_form(entry, found.get("merge_method")) for entry in found["models"]]
    for key in ("dtype", "out_dtype"):
        if isinstance(found.get(key), str):
            name = found[key].removeprefix("torch.")
            found[key] = DTYPES.get(name, name)
    if isinstance(found.get("parameters"), dict):
        found["parameters"] = values(found["parameters"], found.get("merge_method"))
    if "coefficients" in found:
        found["coefficients"] = coefficients_form(found["coefficients"])
    return copied(found)


def coefficients_form(given: Any) -> Any:
    """Coefficients within a recipe, with numbers in place of their texts and texts in place of numbers of layers."""
    if isinstance(given, dict):
        return {str(key): coefficients_form(value) for key, value in given.items()}
    if isinstance(given, list):
        return [coefficients_form(value) for value in given]
    return value_form(given, False)


def entry_form(entry: Any, method: Any) -> Any:
    """One of `models`: its name as text, its parameters as numbers."""
    if not isinstance(entry, dict):
        return entry
    found = {key: value for key, value in entry.items() if value is not None}
    if "model" in found:
        found["model"] = model_name(found["model"], "model")
    if isinstance(found.get("parameters"), dict):
        found["parameters"] = values(found["parameters"], method)
    return found


def model_name(given: Any, key: str) -> Any:
    """A model as text: a path or hub id, then ``@revision`` and ``+adapter`` where mergekit's mapping has them."""
    if not isinstance(given, dict):
        return given
    check_keys(given, ("model", "lora", "override_architecture", "path", "revision"), key)
    if given.get("override_architecture") is not None:
        raise ValueError(
            f"{key}: `override_architecture` is not supported; remove it: tensors are found by their own names"
        )
    if "path" in given:
        return f"{given['path']}@{given['revision']}" if given.get("revision") else given["path"]
    name, adapter = model_name(given.get("model"), key), model_name(given.get("lora"), key)
    return name if adapter is None else f"{name}+{adapter}"


def with_modules(content: dict[str, Any]) -> dict[str, Any]:
    """mergekit's `modules`, where it is the one module `default`, as `models` or `slices`."""
    if not (modules := content.pop("modules", None)):
        return content
    if not isinstance(modules, dict) or not all(isinstance(module, dict) for module in modules.values()):
        raise ValueError("`modules` must map a name, `default`, to a mapping with `models` or `slices`")
    if list(modules) != ["default"]:
        raise ValueError(
            f"`modules` may hold `default` alone, not {listed(modules)}: models of several parts (text, vision) are "
            f"not supported; {BY_MERGEKIT}"
        )
    module = {key: value for key, value in modules["default"].items() if value is not None}
    check_keys(module, ("models", "slices", "parameters"), "modules.default")
    rest = {key: value for key, value in module.items() if key != "parameters"}
    if both := content.keys() & rest.keys():
        raise ValueError(f"`{min(both)}` stands in `modules` too; keep one")
    return content | rest | laid_over(module.get("parameters"), content)


def with_slices(content: dict[str, Any]) -> dict[str, Any]:
    """mergekit's `slices`, where together they are all layers of the same models in their order, as `models`."""
    if not (slices := content.pop("slices", None)):
        return content
    if content.get("models"):
        raise ValueError("`models` and `slices` both say what is merged; keep one")
    if not isinstance(slices, list) or not all(isinstance(part, dict) for part in slices):
        raise ValueError("`slices` must be a list of mappings with `sources`")
    slices = [{key: value for key, value in part.items() if value is not None} for part in slices]
    for part in slices:
        check_keys(part, ("sources", "parameters", "base_model"), "slices")
        base = model_name(part.get("base_model"), "base_model")
        if base is not None and content.setdefault("base_model", base) != base:
            raise ValueError("slices: `base_model` must be the same everywhere; a merge has one base")
    if len(slices) == 1:
        return content | {"models": slices[0].get("sources")} | laid_over(slices[0].get("parameters"), content)
    return content | joined(slices, content)


def joined(slices: list[dict[str, Any]], content: dict[str, Any]) -> dict[str, Any]:
    """`models` and `parameters` that say the same as several slices.

    A parameter that moves along the layers does so within each slice, as in mergekit.
    """
    method, ranges = content.get("merge_method"), [range_of(part) for part in slices]
    named = [sources_of(part, method) for part in slices]
    starts, stops = zip(*ranges, strict=True)
    if starts != (0, *stops[:-1]) or any(sources.keys() != named[0].keys() for sources in named):
        raise ValueError(f"`slices` {STACKED}")
    models = []
    for model in named[0]:
        own = [sources[model] for sources in named]
        models.append({"model": model, "layer_range": (0, stops[-1]), "parameters": by_layer(own, ranges)})
    shared = [laid_over(part.get("parameters"), content).get("parameters") or {} for part in slices]
    return {"models": models, "parameters": by_layer([values(given, method) for given in shared], ranges)}


def sources_of(part: dict[str, Any], method: Any) -> dict[str, dict[str, Any]]:
    """The models of a slice → their parameters."""
    found = {}
    for source in part["sources"]:
        check_keys(source, ("model", "layer_range", "parameters"), "slices: sources")
        entry = {"parameters": {}} | entry_form(source, method)
        if not isinstance(entry.get("model"), str) or not isinstance(entry["parameters"], dict):
            raise ValueError("slices: each of `sources` needs a `model`, and `parameters` must map names to values")
        if entry["model"] in found:
            raise ValueError(f"slices: {shown(entry['model'])} comes twice in one slice")
        found[entry["model"]] = entry["parameters"]
    return found


def range_of(part: dict[str, Any]) -> tuple[int, int]:
    """The layers of a slice, first and end; ValueError where its models disagree, since that moves layers."""
    sources = part.get("sources")
    if not isinstance(sources, list) or not sources or not all(isinstance(source, dict) for source in sources):
        raise ValueError("slices: `sources` must be a list of models with `layer_range`")
    ranges = [source.get("layer_range") for source in sources]
    for found in ranges:
        if not isinstance(found, (list, tuple)) or [type(number) for number in found] != [int, int]:
            raise ValueError(f"slices: `layer_range` must be two whole numbers, [first, end], not {shown(found)}")
    if any(found != ranges[0] for found in ranges) or ranges[0][0] >= ranges[0][1]:
        raise ValueError(f"`slices` {STACKED}")
    return tuple(ranges[0])


def by_layer(given: list[dict[str, Any]], ranges: list[tuple[int, int]]) -> dict[str, Any]:
    """Parameters of slices as parameters that say for each layer, by a filter, what holds in it.

    What comes before the blocks goes by the first slice, what comes after them by the last, both at its beginning.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for number, (parameters, (start, stop)) in enumerate(zip(given, ranges, strict=True)):
        places = {
            f".layers.{i}.": (i - start) / (stop - start - 1) if stop - start > 1 else 1.0 for i in range(start, stop)
        }
        places |= {OUTSIDE["embed"]: 0.0} if number == 0 else {}
        places |= {OUTSIDE["norm"]: 0.0, OUTSIDE["lm_head"]: 0.0} if number == len(ranges) - 1 else {}
        for key, value in parameters.items():
            for leaf in leaves(value, f"slices: {key}"):
                if not isinstance(leaf, (int, float)) or not abs(leaf) <= FLOAT32:
                    raise ValueError(f"slices: {key} must be a finite number, not {shown(leaf)}")
            found.setdefault(key, []).extend({"filter": part, "value": at(value, t)} for part, t in places.items())
    return found


def at(setting: Any, t: float) -> Any:
    """A parameter with each list along the layers replaced by its value at a place. t: 0 (first) to 1 (last)."""
    if isinstance(setting, dict) or (isinstance(setting, list) and any(isinstance(item, dict) for item in setting)):
        return [condition | {"value": at(condition["value"], t)} for condition in conditions(setting)]
    return resolve(setting, "", t)


def laid_over(own: Any, content: dict[str, Any]) -> dict[str, Any]:
    """`parameters` where those of a part come first, then those of the whole recipe."""
    shared = content.get("parameters") or {}
    own = own or {}
    if not isinstance(shared, dict) or not isinstance(own, dict):
        raise ValueError("`parameters` must map names to values")
    over = {key: conditions(value) + conditions(shared[key]) if key in shared else value for key, value in own.items()}
    return {"parameters": shared | over} if shared or over else {}


def with_tokenizer(content: dict[str, Any], block: Any) -> dict[str, Any]:
    """mergekit's `tokenizer` block as `tokenizer_source` and `pad_to_multiple_of`."""
    if not isinstance(block, dict):
        raise ValueError("`tokenizer` must be a mapping with `source`; `tokenizer_source` takes a name")
    if "tokenizer_source" in content:
        raise ValueError("`tokenizer` and `tokenizer_source` both name the tokenizer's source; keep one")
    block = {key: value for key, value in block.items() if value is not None}
    check_keys(block, ("source", "tokens", "pad_to_multiple_of"), "tokenizer")
    if block.get("tokens"):
        raise ValueError(
            "`tokenizer.tokens`, embeddings of single tokens, is not supported: remove it (a token that some models "
            f"lack gets the base's row, else the mean of the models that have it), or {BY_MERGEKIT}"
        )
    found = content | {"tokenizer_source": block.get("source", "union")}
    return found | {key: block[key] for key in ("pad_to_multiple_of",) if key in block}


def values(given: dict[str, Any], method: Any) -> dict[str, Any]:
    """Parameters with numbers in place of their texts, and true and false in place of 1 and 0 where a flag stands."""
    if not isinstance(method, str) or method not in METHODS:
        return given
    known = METHODS[method].parameters | METHODS[method].idle
    files = {key for key, found in known.items() if found.is_file}
    flags = {key for key, found in known.items() if found.kind == "flag"}
    return {key: value if key in files else value_form(value, key in flags) for key, value in given.items()}


def value_form(value: Any, flag: bool) -> Any:
    """A parameter's value, at whatever depth, as :func:`values`. What has no such form stays as it is."""
    if isinstance(value, dict):
        return {key: value_form(item, flag) if key == "value" else item for key, item in value.items()}
    if isinstance(value, list):
        return [value_form(item, flag) for item in value]
    if flag:
        try:
            return FLAG.validate_python(value)
        except ValidationError:
            return value
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def copied(content: dict[str, Any]) -> dict[str, Any]:
    """mergekit's passthrough of all layers of one model, which copies it, as `linear` with all weight on it."""
    models = content.get("models")
    if content.get("merge_method") != "passthrough":
        return content
    model = models[0] if isinstance(models, list) and len(models) == 1 and isinstance(models[0], dict) else {}
    if not model or content.get("parameters") or model.get("parameters"):
        raise ValueError(f"`merge_method: passthrough` of several models, or with a scale, {STACKED}")
    if content.pop("base_model", None) not in (None, model.get("model")):
        raise ValueError("`merge_method: passthrough` copies one model; remove `base_model`")
    return content | {"merge_method": "linear", "parameters": {"weight": 1.0}}


def template_text(given: str) -> str:
    """A recipe's `chat_template`: ``auto``, or a template's text, read from mergekit where its name stands for it.

    ValueError for a name that the installed mergekit does not have, and where none is installed.
    """
    if given == "auto" or (len(given) >= 20 and "{" in given):  # as mergekit tells a template from a name
        return given
    package = find_spec("mergekit")
    path = Path(package.origin or "").parent / "_data" / "chat_templates" / f"{given}.jinja" if package else Path()
    if re.fullmatch(r"[\w-]+", given) and path.is_file():
        return path.read_text(encoding="utf-8")
    if given in TEMPLATES:
        raise ValueError(
            f"'{given}' is a template that comes with mergekit: install that, or write the template's text, or `auto`, "
            "the most common template of the models"
        )
    raise ValueError("must be `auto`, the most common template of the models, or the text of a Jinja template")


def check_keys(given: dict[str, Any], known: tuple[str, ...], place: str) -> None:
    """ValueError for a key that mergekit's format does not have at this place."""
    if odd := given.keys() - set(known):
        raise ValueError(f"{place}: {unknown('key', min(map(str, odd)), known)}")
