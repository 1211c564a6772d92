"""Shows what the public functions return: recipes, tables of mutual information, coefficients, records, comparisons.

Each kind is told by its type or by the columns that the formats promise. Numbers come from the functions that make the
report's tables; the drawings are in ``show_plots.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from acm.calibration import defaults
from acm.calibration.registry import CONTROLS, ESTIMATORS
from acm.display import Shown, draw_by_layer
from acm.errors import UserError, listed, shown, unknown
from acm.merging.recipe import Recipe, load_recipe
from acm.reporting import comparison, show_plots
from acm.reporting.comparison_sources import settings_of
from acm.reporting.statistics import bootstrap
from acm.reporting.tables import cell, long_table

KINDS = (
    "a recipe, a table of mutual information (acm.calibrate), coefficients (acm.layer_coefficients or a "
    "coefficients.json), records (acm.evaluate) or a comparison (acm.reporting.comparison.compare)"
)
INFORMATION = {"finetuned", "layer", "sample", "estimator", "control", "value"}
COEFFICIENTS = {"layer", "coefficient"}
RECORDS = {"method", "task", "item", "repeat", "correct", "length", "truncated"}
COMPARED = ["n", *(f"{name}{end}" for name in ("first", "second", "difference") for end in ("", "_low", "_high")),
            "only_first", "only_second", "p_adjusted", "detectable"]  # fmt: skip
COMPARISON = {"against", "method", "measure", "task", *COMPARED}
OUTSIDE = {"embed", "norm", "lm_head"}  # layers that are no blocks
SEVERAL = 3  # columns that a title names
FRACTION = "λ is a fraction without unit: 0 keeps the base, 1 takes the whole task vector"


def show(x: Any, *, estimator: str | None = None) -> Shown:
    """An object of this package as a title, a small table with intervals, a sentence and a small plot.

    x: a :class:`Recipe` or a mapping with ``merge_method``; the DataFrame of :func:`acm.calibrate`; coefficients, as
    the mapping of ``coefficients.json``, as model → layer → λ, as a DataFrame (columns layer, coefficient and
    finetuned, or layers × models) or as the array (layers,) of :func:`acm.layer_coefficients`; the DataFrame of
    :func:`acm.evaluate`; or a comparison, as :func:`acm.reporting.comparison.compare` or ``acm compare --format json``
    gives it.
    estimator: of a table of mutual information that holds several; None: ``plug-in``, else its first.

    Returns what a notebook shows as a table beside its plot. ``print`` gives text, and ``.plot()`` the plot's axes.
    Raises UserError for anything else, for tables without rows, for a λ or a response that comes twice, for methods
    that lack items of others, and for a method of several models.

    The λ of three layers:

    >>> import numpy as np
    >>> import acm
    >>> mi = np.array([[4.0, 4.5], [2.0, 3.0], [5.0, 5.0]])
    >>> acm.show(acm.layer_coefficients(mi))
    Coefficients λ of 3 layers, from 0.500 to 0.584
    <BLANKLINE>
           λ
    0  0.543
    1  0.584
    2  0.500
    <BLANKLINE>
    λ is a fraction without unit: 0 keeps the base, 1 takes the whole task vector.
    """
    if isinstance(x, Recipe):
        return x.shown
    if isinstance(x, Mapping):
        return show_mapping(x)
    if isinstance(x, np.ndarray) and x.ndim == 1 and x.size and np.issubdtype(x.dtype, np.floating):
        return show_coefficients({"λ": {str(place): float(value) for place, value in enumerate(x)}})
    if not isinstance(x, pd.DataFrame):
        raise UserError(f"acm.show takes {KINDS}, not {described(x)}.")
    if x.empty:
        raise UserError(f"this DataFrame has no rows; acm.show takes {KINDS}.")
    columns = {str(name) for name in x.columns}
    if columns >= COMPARISON:
        return show_comparison(x)
    if columns >= RECORDS:
        return show_records(x)
    if columns >= INFORMATION:
        return show_information(x, estimator)
    if columns >= COEFFICIENTS and pd.api.types.is_numeric_dtype(x["coefficient"]):
        return show_coefficients(by_model(x))
    if all(is_layer(name) for name in x.index) and all(pd.api.types.is_numeric_dtype(kind) for kind in x.dtypes):
        names = [": ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in x.columns]
        columns_of = ((name, floats(x.iloc[:, i])) for i, name in enumerate(names))
        cells = ((name, layer, value) for name, own in columns_of for layer, value in zip(x.index, own, strict=True))
        return show_coefficients(distinct(cells))
    raise UserError(f"acm.show takes {KINDS}, not a DataFrame with the columns {listed(x.columns)}.")


def by_model(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Model → layer → λ, of a table with the columns layer, coefficient, and where it has them finetuned and part."""
    models = table["finetuned"] if "finetuned" in table else repeat("λ", len(table))
    parts = table["part"].astype(object).fillna("") if "part" in table else repeat("", len(table))  # of CSV files: NaN
    layers = [f"{layer}.{part}" if part else str(layer) for layer, part in zip(table["layer"], parts, strict=True)]
    return distinct(zip(map(str, models), layers, floats(table["coefficient"]), strict=True))


def distinct(cells: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    """Model → layer → λ, of (model, layer, λ); UserError for a layer that comes twice."""
    curves: dict[str, dict[str, float]] = {}
    for model, layer, value in cells:
        curve = curves.setdefault(model, {})
        if layer in curve:
            whose = "" if model == "λ" else f" of {shown(model)}"
            raise UserError(f"several λ for layer {shown(layer)}{whose}; show those of one t, one control and so on.")
        curve[layer] = value
    return curves


def floats(column: pd.Series) -> list[float]:
    """The numbers of a column; NaN where one is absent."""
    return [float(value) for value in column.to_numpy(float, na_value=math.nan)]


def with_numbers(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The table with these columns as numbers; UserError where they hold anything else."""
    found = {}
    for name in names:
        try:
            found[name] = pd.to_numeric(table[name])
        except (ValueError, TypeError):
            raise UserError(f"column '{name}' must hold numbers alone; leave out the rows with others.") from None
    return table.assign(**found)


def described(x: object) -> str:
    """What something is, for a message."""
    return f"an array of shape {x.shape} and type {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"


def is_layer(name: object) -> bool:
    """Whether it is the name of a layer."""
    return isinstance(name, str) and (name in OUTSIDE or name.isdecimal())


def show_mapping(x: Mapping[Any, Any]) -> Shown:
    """A recipe, coefficients or a comparison that came as a mapping."""
    if "merge_method" in x:
        return load_recipe(x)[0].shown
    rows = x["rows"] if {"first", "others", "rows"} <= x.keys() else None
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) and row.keys() >= COMPARISON for row in rows):
        return show_comparison(pd.DataFrame(rows))
    held = x.get("coefficients", x)
    if isinstance(held, Mapping) and held and all(isinstance(of, Mapping) and of for of in held.values()):
        values = [value for of in held.values() for value in of.values()]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            cells = [(str(m), str(layer), float(value)) for m, of in held.items() for layer, value in of.items()]
            return show_coefficients(distinct(cells), x if "coefficients" in x else {})
    raise UserError(f"acm.show takes {KINDS}, not a mapping with the keys {listed(x)}.")


def show_coefficients(curves: dict[str, dict[str, float]], facts: Mapping[Any, Any] | None = None) -> Shown:
    """λ: a row for each layer, a column for each model. facts: t, shift, estimator, control, where they are known."""
    facts = facts or {}
    layers = list(dict.fromkeys(layer for curve in curves.values() for layer in curve))
    values = np.array([[curve.get(layer, math.nan) for curve in curves.values()] for layer in layers])
    if np.isinf(values).any() or np.isnan(values).all():
        what = "an infinite number" if np.isinf(values).any() else "no finite number"
        raise UserError(f"these coefficients hold {what}; calibrate again.")
    how = [f"{key} {shown(facts[key])}" for key in ("t", "shift", "estimator", "control") if key in facts]
    whole = {head if is_layer(head := name.partition(".")[0]) else name for name in layers}  # 0.mlp is of layer 0
    whose = f"of {len(whole)} layers" if [*curves] == ["λ"] or len(curves) > SEVERAL else f"of {listed(curves)}"
    title = f"Coefficients λ {whose}, from {np.nanmin(values):.3f} to {np.nanmax(values):.3f}"
    caption = f"{FRACTION}{'; ' if how else ''}{', '.join(how)}."
    texts = [["–" if math.isnan(value) else f"{value:.3f}" for value in row] for row in values]
    table = pd.DataFrame(texts, [shown(layer) for layer in layers], [shown(name) for name in curves])
    return Shown(title, table, caption, partial(draw_by_layer, curves=curves, quantity="λ, fraction"))


def show_information(table: pd.DataFrame, estimator: str | None = None) -> Shown:
    """Mutual information: a row for each model and layer, a column for each control; means over the texts."""
    table = with_numbers(table, ["value"])
    held = [*dict.fromkeys(map(str, table["estimator"]))]
    chosen = estimator or (defaults.ESTIMATOR if defaults.ESTIMATOR in held else held[0])
    if chosen not in held:
        raise UserError(f"this table has no estimator '{shown(chosen)}'; it has {listed(held)}.")
    own = table[table["estimator"] == chosen]
    models, several = [*own["finetuned"].unique()], own["finetuned"].nunique() > 1
    means = own.groupby(["finetuned", "layer", "control"], sort=False, as_index=False)["value"].mean()
    curves: dict[str, dict[str, float]] = {}
    rows: dict[str, dict[str, str]] = {}
    for model, layer, control, value in means.itertuples(index=False, name=None):
        title = CONTROLS[control].label if control in CONTROLS else shown(control)
        rows.setdefault(f"{shown(model)} {layer}" if several else shown(layer), {})[title] = f"{value:.3f}"
        curves.setdefault(f"{model}, {title}" if several else title, {})[str(layer)] = float(value)
    unit = ESTIMATORS[chosen].unit if chosen in ESTIMATORS else "unit unknown"
    caption = (
        f"Means over n = {own['sample'].nunique()} calibration texts, {unit}, by {shown(chosen)}; what a null "
        "has too does not come from matching tokens."
    )
    texts = pd.DataFrame(rows).T.fillna("–")
    draw = partial(draw_by_layer, curves=curves, quantity=unit)
    return Shown(f"Mutual information of base and {listed(models)}, by layer", texts, caption, draw)


def show_records(records: pd.DataFrame) -> Shown:
    """Records: a row for each method, mean over tasks; of one method a row for each task and their mean."""
    if "experiment" in records and records["experiment"].nunique() > 1:
        raise UserError(
            f"these records are of several experiments ({listed(records['experiment'].unique())}); show those of one: "
            "records[records['experiment'] == …]."
        )
    check_responses(records)
    records = with_numbers(records, ["correct", "length", "truncated"])
    methods, tasks = ([*dict.fromkeys(records[name])] for name in ("method", "task"))
    try:
        sample = bootstrap(records, methods, tasks)
        table = long_table(records, sample, methods[0])
    except ValueError as error:
        raise UserError(str(error)) from None
    if len(methods) > 1:
        rows, kind, what = table[table["task"] == "average"], "method", f"{len(methods)} methods"
    else:
        rows, kind, what = table if len(tasks) > 1 else table[:1], "task", shown(methods[0])
    columns = {"accuracy, %": "accuracy", "length, tokens": "length", "truncated, %": "truncated"}
    texts = {title: [cell(row, name) for _, row in rows.iterrows()] for title, name in columns.items()}
    frame = pd.DataFrame({"n": rows["n"].map(str).to_list(), **texts}, [shown(name) for name in rows[kind]])
    mean = ", mean over tasks" if len(methods) > 1 and len(tasks) > 1 else ""
    repeated = f" with {sample.repeats} responses each" if sample.repeats > 1 else ""
    caption = f"n items{repeated}{mean}; 95 % intervals, by bootstrap over items, of shares by Wilson."
    return Shown(f"{what} on {listed(tasks)}", frame, caption, partial(show_plots.records, rows=rows, kind=kind))


def check_responses(records: pd.DataFrame) -> None:
    """UserError for rows without a key, for a response that comes twice, and for a method of several models."""
    keys = ["method", "task", "item", "repeat"]
    if records[keys].isna().to_numpy().any():
        lacking = " or ".join(keys)
        raise UserError(f"rows of these records lack {lacking}; leave them out: records.dropna(subset={keys}).")
    mend = 'name each model by itself: acm.evaluate(…, labels={"method": …})'
    for method, rows in records.groupby("method"):
        names = {str(name) for name in rows.get("model", ())}
        settings = rows.drop_duplicates("setting").groupby("setting") if "setting" in rows else ()
        hashes = {str(settings_of(row).get("model")) for _, row in settings}
        for models in (names, hashes):
            if len(models) > 1:
                raise UserError(f"method '{shown(method)}' is of several models ({listed(sorted(models))}); {mend}.")
    if len(twice := records[records.duplicated(keys)]):
        method, task, item, number = (shown(name) for name in twice[keys].iloc[0])
        told = f"method '{method}' has several responses to item {item} of {task} in repeat {number}"
        raise UserError(f"{told}; show the rows of one run, or {mend}.")


def show_comparison(table: pd.DataFrame) -> Shown:
    """A comparison: a row for each measure and task, of several pairs of each measure's mean over tasks alone."""
    table = with_numbers(table, COMPARED)
    if odd := {*table["measure"].map(str)} - comparison.MEASURES.keys():
        raise unknown("measure", min(odd), comparison.MEASURES)
    pairs = [*table[["against", "method"]].drop_duplicates().itertuples(index=False, name=None)]
    same = table.groupby("measure")[["only_first", "only_second"]].transform("sum").sum(axis=1) == 0
    told = table[table["p_adjusted"].notna() | ~same]  # of the measures that are not tested those that differ
    parts = []
    for first, other in pairs:
        part = comparison.shown(told, first, other).rename(columns={first: "first", other: "second"}).map(str)
        if len(pairs) > 1:
            part = part.drop_duplicates("measure", keep="last")  # the mean over tasks
            part["measure"] = f"{shown(other)}: " + part["measure"]
        parts.append(part.set_axis(part["measure"] + ", " + part["task"].map(shown)).drop(columns=["measure", "task"]))
    findings = [comparison.finding(table, first, other) for first, other in pairs]
    first, other = (shown(name) for name in pairs[0])
    who = f"{other} less {first}" if len(pairs) == 1 else "second less first"
    caption = (
        f"Differences are {who} on the same n items, with 95 % intervals; length in tokens; `only` counts items on "
        f"which one alone is higher; p by Holm for {int(table['p_adjusted'].notna().sum())} tests."
    )
    return Shown(" ".join(map(shown, findings)), pd.concat(parts), caption, partial(show_plots.comparison, table=table))
