"""Computes the coefficients of a layer rule; `rules.py` lists the rules and says what their symbols mean.

Each rule is one function here. :func:`gives` binds the function to its row. A rule that reads an MI table gets its rows
of one estimator and one control; any other rule gets the models. Beside them it gets its parameters, and it returns λ
for each layer of each fine-tuned model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import rankdata

from acm.calibration.coefficients import by_layer, coefficients_from_table
from acm.calibration.nulls import Coefficients, Layers, controlled, with_mean
from acm.calibration.rule_inputs import Models, check_named, read_models, read_table
from acm.calibration.rules import NONE, TABLE_CONTROLS, check_control, find, settings_of
from acm.calibration.task_vectors import Sizes, effective_ranks, sizes
from acm.errors import UserError, unknown
from acm.files import write_json

Settings = dict[str, Any]  # parameter → its value
Function = Callable[[Any, Settings], Coefficients]
FUNCTIONS: dict[str, Function] = {}  # rule → its function


def gives(name: str) -> Callable[[Function], Function]:
    """Bind a function to the rule of this name."""

    def bind(function: Function) -> Function:
        FUNCTIONS[name] = function
        return function

    return bind


def rule_coefficients(
    name: str,
    given: Mapping[str, object] | None = None,
    *,
    table: Path | None = None,
    base: str | Path | None = None,
    finetuned: Sequence[str | Path] = (),
    sensitivity: Path | None = None,
    found: Path | None = None,
    mean: float | None = None,
    control: str = NONE,
    seed: int = 0,
) -> dict[str, Any]:
    """What ``coefficients.json`` holds of a rule of :data:`acm.calibration.rules.RULES`.

    Its provenance is what a table knows of its texts.

    given: parameters of the rule. table: a calibration's ``mutual_information.parquet``. base, finetuned: folders, or
    adapters as :func:`acm.calibrate` takes them. sensitivity: a calibration's ``sensitivity.json``. found: coefficients
    of another pair, ``coefficients.json`` or a CSV file.
    mean: of λ over the layers, to which they are scaled before the control; None: λ as the rule gives them.
    control: of the MI table, for rules that read one, or of λ alone. seed: of the control ``permuted``.

    Raises UserError for unknown names, parameters out of range, inputs that the rule does not read or cannot do
    without, and models that do not fit.
    """
    rule = find(name)
    settings = settings_of(rule, given or {})
    check_control(rule, control)
    if mean is not None and not rule.scaled:
        raise UserError(f"the λ of {name} are taken as they are; leave --mean out.")
    check_named(rule, {"table": table, "sensitivity": sensitivity, "found": found}, [base, *finetuned])
    measured = control if control in TABLE_CONTROLS else NONE
    if table is not None:
        read: Any = read_table(table, rule.estimator or str(settings["estimator"]), measured)
    else:
        read = read_models(str(base), finetuned, sensitivity, found)
    result = FUNCTIONS[name](read, settings)
    result = result if mean is None else with_mean(result, mean)
    result = controlled(result, NONE if measured == control else control, seed)
    content = {"rule": name, "parameters": settings, "mean": mean, "control": control, "seed": seed}
    return content | {"coefficients": result, "provenance": dict(getattr(read, "attrs", {}))}


def write_rule(path: Path, content: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Store what :func:`rule_coefficients` gives as ``coefficients.json``, with more provenance."""
    write_json(path, content | {"provenance": provenance | content["provenance"]})


@gives("acm")
def acm(rows: pd.DataFrame, s: Settings) -> Coefficients:
    """ACM's λ, Eq. 2 of arXiv 2505.14009; see :func:`acm.layer_coefficients`."""
    return coefficients_from_table(rows, s["t"], s["shift"], rows["control"].iloc[0], s["estimator"])


@gives("cka")
def cka(rows: pd.DataFrame, s: Settings) -> Coefficients:
    """λ = 1 − mean CKA over texts: a layer whose activations stayed as they were keeps little of its task vector."""
    return {model: {k: 1 - v for k, v in layers.items()} for model, layers in text_means(rows).items()}


@gives("activation_shift")
def activation_shift(rows: pd.DataFrame, s: Settings) -> Coefficients:
    """λ = mean over texts of ‖a_i − a_0‖ / ‖a_0‖, which may be above 1."""
    return text_means(rows)


def text_means(rows: pd.DataFrame) -> Coefficients:
    """Of each fine-tuned model and layer, the mean over texts of the table's values."""
    found = {}
    for model, own in rows.groupby("finetuned", sort=False):
        layers, values = by_layer(own)
        found[str(model)] = dict(zip(layers, map(float, values.mean(axis=1)), strict=True))
    return found


@gives("lines")
def lines(models: Models, s: Settings) -> Coefficients:
    """a + b · l / (L − 1) in block l of L, a outside and in a single block (LiNeS, arXiv 2410.17146)."""
    a, b = s["a"], s.get("b", 1 - s["a"])
    last = max(1, sum(layer.isdigit() for layer in models.layers) - 1)
    own = {layer: a + b * int(layer) / last if layer.isdigit() else a for layer in models.layers}
    return {model: dict(own) for model in models.finetuned}


@gives("moved")
def moved(models: Models, s: Settings) -> Coefficients:
    """λ′ of another pair, by relative depth. UserError for a file of several models of which none is named."""
    if not models.found:
        raise UserError("the file of coefficients names no model; write one with `acm search` or `acm coefficients`.")
    name = s.get("model", next(iter(models.found)))
    if name not in models.found:
        raise unknown("model of the other pair", name, models.found)
    if "model" not in s and len(models.found) > 1:
        raise UserError(f"the coefficients are of {', '.join(models.found)}; give one, as in --set model={name}.")
    own = by_depth(models.found[name], models.layers)
    return {model: own | tied_head(models, model, own) for model in models.finetuned}


def tied_head(models: Models, model: str, layers: Layers) -> Layers:
    """λ of the head where it is the embedding, one tensor of both models; else empty."""
    tied = models.base.tied and models.finetuned[model].tied
    return {"lm_head": layers["embed"]} if tied else {}


def by_depth(found: Layers, layers: Sequence[str]) -> Layers:
    """λ′ of another pair for these layers: of a block by relative depth, linear in between, and as they are outside.

    found: λ′ by layer, at least one block. A head without λ′ has that of the embedding; another layer without λ′ has
    the mean of all.
    """
    own = [found[block] for block in sorted(filter(str.isdigit, found), key=int)]
    blocks = [layer for layer in layers if layer.isdigit()]
    places = np.interp(np.linspace(0, 1, len(blocks)), np.linspace(0, 1, len(own)), own)
    rest = dict.fromkeys(layers, float(np.mean([*found.values()])))
    rest |= {"lm_head": found["embed"]} if "embed" in found else {}
    rest |= {layer: float(value) for layer, value in found.items() if not layer.isdigit()}
    return {layer: rest[layer] for layer in layers} | dict(zip(blocks, map(float, places), strict=True))


@gives("equal_norm")
def equal_norm(models: Models, s: Settings) -> Coefficients:
    """c / ‖δ‖: every layer moves by the length c (DOGE, arXiv 2501.01230). A layer that did not change has λ = 0."""
    return by_size(models, lambda layers: {k: s["c"] / v.change**0.5 if v.change else 0.0 for k, v in layers.items()})


@gives("magnitude")
def magnitude(models: Models, s: Settings) -> Coefficients:
    """‖δ‖ / ‖θ_0‖ over its maximum, so the layer that changed most keeps all of its task vector.

    Equal models have λ = 0 everywhere. UserError for a layer of zeros in the base.
    """

    def shares(layers: dict[str, Sizes]) -> Layers:
        for layer, size in layers.items():
            if not size.base:
                raise UserError(f"all weights of layer {layer} of the base are 0, so no change is relative to them.")
        most = max(size.relative for size in layers.values())
        return {layer: size.relative / most if most else 0.0 for layer, size in layers.items()}

    return by_size(models, shares)


def by_size(models: Models, rule: Callable[[dict[str, Sizes]], Layers]) -> Coefficients:
    """A rule of the sizes of task vectors, for each fine-tuned model."""
    return {name: rule(sizes(models.base, model)) for name, model in models.finetuned.items()}


@gives("effective_rank")
def effective_rank(models: Models, s: Settings) -> Coefficients:
    """Effective rank of θ_0 over that of δ (after LARV, arXiv 2602.09413): few directions of change, a large λ."""
    found = {}
    for name, model in models.finetuned.items():
        ranks = effective_ranks(models.base, model)
        found[name] = {layer: base / change if change else 0.0 for layer, (base, change) in ranks.items()}
    return found


@gives("sensitivity")
def sensitivity(models: Models, s: Settings) -> Coefficients:
    """2 α σ((α s_i − (1 − α) s_0) / T): what ``merge_method: sens`` weighs δ with (arXiv 2502.12420)."""
    scale = 2 * s["alpha"]
    return {
        model: {layer: float(scale * expit(excess / s["temperature"])) for layer, excess in own.items()}
        for model, own in excesses(models, s["alpha"]).items()
    }


@gives("sensitivity_ranks")
def sensitivity_ranks(models: Models, s: Settings) -> Coefficients:
    """a + b · ρ, ρ the rank of :func:`excesses`. With b below 0 a block that is more sensitive keeps less of δ.

    A tied head has no rank of its own.
    """
    found = {}
    for model, own in excesses(models, s["alpha"]).items():
        tied = tied_head(models, model, own)
        layers = by_ranks({layer: value for layer, value in own.items() if layer not in tied}, s["a"], s["b"])
        found[model] = layers | tied_head(models, model, layers)
    return found


@gives("mi_ranks")
def mi_ranks(rows: pd.DataFrame, s: Settings) -> Coefficients:
    """a + b · ρ, ρ the rank of MI less its shuffled value. With b above 0 λ rises with it; ACM's λ falls with MI."""
    return {model: by_ranks(layers, s["a"], s["b"]) for model, layers in text_means(rows).items()}


def excesses(models: Models, alpha: float) -> Coefficients:
    """α s_i − (1 − α) s_0 of each model and block; 0 outside the blocks, where no sensitivity is measured."""
    base = models.sensitivity[models.base.name]
    return {
        model: {
            layer: alpha * models.sensitivity[model][layer] - (1 - alpha) * base[layer] if layer.isdigit() else 0.0
            for layer in models.layers
        }
        for model in models.finetuned
    }


def by_ranks(values: Layers, a: float, b: float) -> Layers:
    """a + b · ρ of each layer, ρ the rank of its value from −1 to 1; equal values have their mean."""
    middle = (len(values) + 1) / 2
    ranks = (rankdata([*values.values()]) - middle) / max(1, middle - 1)
    return {layer: float(a + b * rank) for layer, rank in zip(values, ranks, strict=True)}


@gives("fim")
def fim(models: Models, s: Settings) -> Coefficients:
    """Small where F · ‖δ‖² is large: there a step along δ changes the base's outputs most (arXiv 2603.21705)."""
    from acm.calibration.random_fisher import fisher_by_layer, random_tokens, vocabulary_of  # transformers: seconds
    from acm.calibration.walk import check_dtype
    from acm.devices import devices

    dtype, place = check_dtype(s["dtype"]), devices(s["device"])[0]
    ids = random_tokens(vocabulary_of(models.base), s["sequences"], s["length"], s["seed"])
    traces = fisher_by_layer(models.base, ids, dtype, place)
    fisher = {layer: trace.mean if s["entries"] == "mean" else trace.total for layer, trace in traces.items()}
    return by_size(models, lambda layers: cautious(fisher, layers, s))


def cautious(fisher: dict[str, float], layers: dict[str, Sizes], s: Settings) -> Layers:
    """factor · σ(slope · (offset − z)), z the log of F · ‖δ‖² less its mean over layers; then :func:`within`.

    A layer of score 0 has the sigmoid's limit, factor; it does not count in the mean.
    """
    scores = np.array([fisher[layer] * size.change for layer, size in layers.items()])
    with np.errstate(divide="ignore"):
        z = np.log(scores)
    if (known := z[scores > 0]).size:
        z = z - known.mean()
        z = z / known.std() if s["scale"] == "deviation" and known.std() > 0 else z
    values = s["factor"] * np.where(scores > 0, expit(s["slope"] * (s["offset"] - z)), 1.0)
    pairs = zip(values, layers.items(), strict=True)
    return {layer: within(float(value), size, s["tolerance"]) for value, (layer, size) in pairs}


def within(value: float, size: Sizes, tolerance: float) -> float:
    """The largest λ up to ``value`` for which ‖θ_0 + λ δ‖ / ‖θ_0‖ is between 1 − tolerance and 1 + tolerance.

    The squared norm is the parabola ‖θ_0‖² + 2 λ ⟨θ_0, δ⟩ + λ² ‖δ‖². ``value`` where all weights of the base are 0.
    """
    change, base, inner = size
    norm = base + 2 * value * inner + value * value * change
    least, most = base * max(0.0, 1 - tolerance) ** 2, base * (1 + tolerance) ** 2
    if not base or least <= norm <= most:
        return value
    sign, bound = (1, most) if norm > most else (-1, least)
    root = max(0.0, inner * inner - change * (base - bound)) ** 0.5
    return min(value, max(0.0, (-inner + sign * root) / change))
