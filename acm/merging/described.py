"""A recipe as :func:`acm.show` and a notebook show it: what is merged, with which numbers. No model is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from acm.display import Shown, draw_by_layer
from acm.errors import shown

APART = {"merge_method", "base_model", "models", "parameters", "coefficients"}  # fields with rows of their own


def described(recipe: Any) -> Shown:
    """A row for each thing that a recipe sets; the plot has λ, where the recipe holds them.

    recipe: a :class:`acm.merging.recipe.Recipe`, whose module imports this one.
    """
    method, names = recipe.method, [shown(name) for name in recipe.names]
    rows = [("method", f"{method.title} ({method.name})")]
    rows += [("base", shown(recipe.base_model))] if recipe.base_model else []
    for entry in recipe.finetuned:
        own = ", ".join(f"{key} {told(value)}" for key, value in entry.parameters.items())
        rows.append(("model", shown(entry.model) + (f": {own}" if own else "")))
    rows += [(shown(key), told(value)) for key, value in recipe.parameters.items()]
    if recipe.coefficients is not None:
        rows.append(("coefficients", told(recipe.coefficients)))
    given = recipe.model_dump(exclude_defaults=True, exclude=APART)
    rows += [(key, told(value)) for key, value in given.items()]
    base = f" into {shown(Path(recipe.base_model).name)}" if recipe.base_model else ""
    caption = f"The merge is {method.formula} ({method.paper}); θ are weights, δ their differences from the base's, λ "
    caption += "fractions without unit."
    curves = numbers_of(recipe)
    draw = partial(draw_by_layer, curves=curves, quantity="λ, fraction") if curves else None
    table = pd.DataFrame({"value": [value for _, value in rows]}, [key for key, _ in rows])
    return Shown(f"{method.title}: {', '.join(names)}{base}", table, caption, draw)


def told(value: Any) -> str:
    """The value of a key on one line."""
    if isinstance(value, dict):
        return f"by layer, of {', '.join(map(shown, value))}" if "value" not in value else told([value])
    if isinstance(value, list):
        if all(isinstance(item, (int, float)) for item in value):
            return f"{', '.join(f'{item:g}' for item in value)} along the layers"
        return "; ".join(f"{told(item.get('value'))} where {shown(item.get('filter') or 'else')}" for item in value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else shown(value)


def numbers_of(recipe: Any) -> dict[str, dict[str, float]]:
    """Model → layer or place → λ, of the models whose λ the recipe holds as numbers along the layers."""
    held = recipe.coefficients
    if isinstance(held, list):
        held = dict.fromkeys(recipe.names, held)
    elif held is None and recipe.method.coefficient:
        key = recipe.method.coefficient.name
        held = {name: entry.parameters.get(key, recipe.parameters.get(key))
                for name, entry in zip(recipe.names, recipe.finetuned, strict=True)}  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for name, values in held.items() if isinstance(held, dict) else ():
        if isinstance(values, dict):
            found[name] = values
        elif isinstance(values, list) and all(isinstance(value, (int, float)) for value in values):
            found[name] = {str(place): value for place, value in enumerate(values)}
    return found
