"""Reads and checks what a layer rule follows from: an MI table, models, sensitivities, coefficients of another pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acm.adapters import name_of, open_folders
from acm.calibration.nulls import Layers
from acm.calibration.rules import LARGEST, Input, Rule
from acm.calibration.task_vectors import layers_of
from acm.checkpoints import Checkpoint, check_same_shape
from acm.errors import UserError, check_distinct, shown, unknown
from acm.records import read_coefficients

OUTSIDE = ("embed", "norm", "lm_head")  # layers outside the blocks
COLUMNS = ("finetuned", "layer", "sample", "estimator", "control", "value")  # of an MI table that a rule reads
NAMED: dict[Input, str] = {
    "table": "an MI table (--table)",
    "models": "a base and fine-tuned models (--base and --finetuned)",
    "sensitivity": "a file of sensitivities (--sensitivity)",
    "found": "coefficients of another pair (--coefficients)",
}


@dataclass(frozen=True)
class Models:
    """The models of a rule.

    layers: ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``. sensitivity: model → block → its sensitivity; empty where
    the rule reads none. found: another pair's fine-tuned model → layer → λ′; likewise.
    """

    base: Checkpoint
    finetuned: dict[str, Checkpoint]
    layers: list[str]
    sensitivity: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Layers] = field(default_factory=dict)


def check_named(rule: Rule, files: Mapping[Input, Path | None], models: Sequence[object]) -> None:
    """UserError for an input that the rule needs and does not get, or gets and does not read.

    files: of the other inputs. models: the base and each fine-tuned model. None: not named.
    """
    given: dict[Input, bool] = {name: path is not None for name, path in files.items()}
    given["models"] = any(model is not None for model in models)
    whole = given | {"models": len(models) > 1 and None not in models}
    for what, words in NAMED.items():
        if given[what] and what not in rule.needs:
            raise UserError(f"the rule {rule.name} does not read {words}; leave that out.")
        if what in rule.needs and not whole[what]:
            raise UserError(f"the rule {rule.name} reads {words}; name what is missing.")


def read_models(
    base: str | Path, finetuned: Sequence[str | Path], sensitivity: Path | None = None, found: Path | None = None
) -> Models:
    """The models, opened. UserError for what cannot be read, and for models that do not have the same layers."""
    names = [name_of(path) for path in finetuned]
    check_distinct(names, "fine-tuned models by their folder name")
    first, others = open_folders(base, dict(zip(names, finetuned, strict=True)))
    layers = layers_of(first)
    for model in others.values():
        layers_of(model)  # raises for one that is missing
        check_same_shape(first, model, vocabulary=False)
    return Models(first, others, layers, read_sensitivity(sensitivity, [first.name, *names], layers), read_found(found))


def read_table(path: Path, estimator: str, control: str) -> pd.DataFrame:
    """The rows of an MI table with this estimator and control, whole and finite. UserError for a file without them."""
    if not path.is_file():
        raise UserError(f"no MI table at {path}; calibrate first, or name another file.")
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # whatever pyarrow makes of a foreign file
        raise UserError(f"{path} is not a readable parquet file ({type(error).__name__}); calibrate again.") from None
    if lacking := [column for column in COLUMNS if column not in table]:
        raise UserError(f"{path} is no MI table: it lacks the column {lacking[0]}.")
    found = table
    for column, value in (("estimator", estimator), ("control", control)):
        found = found[found[column] == value]
        if found.empty:
            raise UserError(f"{path} has no rows of the {column} {value}; calibrate with --{column} {value} too.")
    for model, rows in found.groupby("finetuned"):
        counts = pd.crosstab(rows["layer"], rows["sample"])
        if not (counts == 1).all(axis=None):
            raise UserError(f"{path} lacks a text of {shown(model)} in some layer, or has it twice; calibrate again.")
    values = pd.to_numeric(found["value"], errors="coerce")
    if len(odd := found[~np.isfinite(values)]):
        where = f"text {odd['sample'].iloc[0]} at layer {shown(odd['layer'].iloc[0])}"
        raise UserError(f"{path} has no finite {estimator} of {where}; calibrate without that text.")
    return found


def read_sensitivity(path: Path | None, models: list[str], layers: list[str]) -> dict[str, Any]:
    """Sensitivities of these models; none without a file. UserError for a block without a number from 0."""
    if path is None:
        return {}
    check_distinct(models, "models of a file of sensitivities")
    found, blocks = read_coefficients(path, "sensitivity"), [layer for layer in layers if layer.isdigit()]
    for model in models:
        if model not in found:
            raise unknown(f"model in {path}", model, found)
        own = found[model] if isinstance(found[model], dict) else {}
        for block in blocks:
            value = own.get(block)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < np.inf:
                raise UserError(f"{path}: the sensitivity of layer {block} of {shown(model)} must be a number from 0.")
    return found


def read_found(path: Path | None) -> dict[str, Layers]:
    """λ′ by layer of each fine-tuned model of another pair; none without a file.

    UserError for a layer of no known name, a λ′ that is no finite number, and blocks with a gap.
    """
    found: dict[str, Layers] = read_coefficients(path) if path else {}
    for model, layers in found.items():
        if not isinstance(layers, dict) or not layers:
            raise UserError(f"{path}: the coefficients of {shown(model)} map no layer to a number.")
        blocks = [layer for layer in layers if layer not in OUTSIDE]
        if sorted(blocks) != sorted(map(str, range(len(blocks)))) or not blocks:
            raise UserError(
                f"{path}: the layers of {shown(model)} must be {', '.join(OUTSIDE)} and blocks from 0 without a gap."
            )
        for layer, value in layers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
                raise UserError(f"{path}: the coefficient of layer {layer} of {shown(model)} must be a finite number.")
    return found
