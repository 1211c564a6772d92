"""Reads the parameters of a recipe: checks their form and range, and finds the value that holds for a tensor.

A parameter has one of mergekit's forms:

    weight: 0.5                                        the same value everywhere
    weight: [0.2, 0.9]                                 values spaced evenly over the layers, interpolated between
    weight: [{filter: mlp, value: 0.3}, {value: 0.5}]  the first value whose filter occurs in the tensor's name

`registry.py` says which values each parameter may have.
"""

from __future__ import annotations

from typing import Any

from acm.errors import brief, unknown
from acm.merging.registry import MergeMethod, Parameter

# Flags that mergekit's method has and ours lacks: true would change the result.
MERGEKIT_ALONE = {("rescale", "ties"), ("rescale", "breadcrumbs"), ("rescale", "breadcrumbs_ties"),
                  ("filter_wise", "model_stock")}  # fmt: skip
FLOAT32 = 3.4e38  # nearly the largest float32


def conditions(setting: Any) -> list[Any]:
    """A parameter as a list of ``{filter, value}``."""
    if isinstance(setting, list) and any(isinstance(item, dict) for item in setting):
        return setting
    return [setting] if isinstance(setting, dict) else [{"value": setting}]


def resolve(setting: Any, tensor: str, t: float) -> Any:
    """The value of a parameter for a tensor, by mergekit's rules; None where no filter fits.

    t: place of the tensor's layer, 0 (first) to 1 (last); tensors outside the blocks are at 0. tensor: its name;
    without a name every filter fits.
    """
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return setting
    if isinstance(setting[0], dict):
        fitting = (c for c in setting if c.get("filter") in (None, "*") or not tensor or c["filter"] in tensor)
        found = (resolve(c["value"], tensor, t) for c in fitting)
        return next((value for value in found if value is not None), None)
    place = t * (len(setting) - 1)
    first = int(place)
    if isinstance(setting[first], bool):
        return setting[first]
    share = place - first
    return (1 - share) * setting[first] + share * setting[min(len(setting) - 1, first + 1)]


def check_parameters(values: dict[str, Any], method: MergeMethod, place: str, own: bool = False) -> None:
    """ValueError for a key that the method does not take, or a value of the wrong type or range.

    place: where the values stand, for the message. own: whether they are one model's.
    """
    known = method.parameters | method.idle
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{place}: {unknown(f'key of {method.name}', key, method.parameters)}")
        parameter = known[key]
        if own and key in method.parameters and not parameter.per_model:
            raise ValueError(f"{place}: {key} holds for all models; set it under the recipe's `parameters`")
        if parameter.everywhere and isinstance(value, (list, dict)):
            raise ValueError(f"{place}: {key} holds for the whole model; give it one value, not {value!r:.50}")
        for leaf in [value] if parameter.is_file else leaves(value, f"{place}: {key}"):
            check_value(leaf, parameter, place)
            if leaf is True and (key, method.name) in MERGEKIT_ALONE:
                raise ValueError(f"{place}: {key} of {method.name} is mergekit's alone; remove it, or merge with that")


def leaves(setting: Any, place: str) -> list[Any]:
    """All values of a number's parameter; ValueError for a shape that mergekit's format does not have."""
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
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
    return [value for item in setting for value in leaves(item["value"], place)]


def check_value(value: Any, parameter: Parameter, place: str) -> None:
    """ValueError for one value that the parameter cannot have."""
    key = parameter.name
    if parameter.is_file:
        if not isinstance(value, str):
            raise ValueError(f"{place}: {key} must be a file's path, not {brief(value)}")
        return
    if parameter.kind == "flag":
        if not isinstance(value, bool):
            raise ValueError(f"{place}: {key} must be true or false, not {brief(value)}")
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{place}: {key} must be a number, not {brief(value)}")
    if not parameter.test(value):
        raise ValueError(f"{place}: {key} is {parameter.meaning}, not {brief(value)}")
    if not abs(value) <= FLOAT32:
        raise ValueError(f"{place}: {key} must be a finite number in float32's range, not {brief(value)}")
