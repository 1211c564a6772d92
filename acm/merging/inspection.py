"""Inspects task vectors before any merge: which scores their entries and their matrices have, as tables.

`parts.py` reads the models, `diagnostics.py` and `spectra.py` compute the scores.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from acm.adapters import Adapted, name_of, open_model
from acm.checkpoints import Checkpoint
from acm.errors import UserError, check_distinct
from acm.merging.compatibility import Finding, model_findings
from acm.merging.diagnostics import OWN, PAIR, pair_scores, pairs, ratio, vector_scores
from acm.merging.engine import cores
from acm.merging.parts import Walk, common_parts
from acm.merging.plan import count_blocks
from acm.merging.weights import folder_findings, tied_output

TOP = 0.1  # fraction of the singular directions whose overlap is measured
ALL = "all"  # layer or kind of a row that sums over all of them
RANKS = ("effective_rank", "stable_rank")
OVERLAPS = ("overlap_left", "overlap_left_null", "overlap_right", "overlap_right_null")
INTERFERENCE = ("interference", "relative_interference", "interference_null")


@dataclass(frozen=True)
class Inspection:
    """What was found. base, finetuned: names. notes: what speaks against a merge, or should be known.

    top: as of :func:`inspect`. embeddings: whether embedding and head were decomposed too. fast: whether nothing was.

    Each table has one row for all layers and kinds, for each layer, for each kind, and for each kind of each layer:
    the columns ``layer`` and ``kind`` say which, or ``all``. Entries are summed over the tensors of a row, ranks and
    other scores of matrices are means over its matrices.

    vectors: one task vector (column ``model``). pairs: two (``first``, ``second``). together: all of them.
    """

    base: str
    finetuned: list[str]
    notes: list[str]
    top: float
    embeddings: bool
    fast: bool
    vectors: pd.DataFrame
    pairs: pd.DataFrame
    together: pd.DataFrame


def inspect(
    base: str | os.PathLike[str],
    finetuned: Sequence[str | os.PathLike[str]],
    top: float = TOP,
    fast: bool = False,
    embeddings: bool = False,
    threads: int | None = None,
) -> Inspection:
    """The scores of the task vectors of fine-tuned models, from the weights alone.

    Args:
        base: the model that they were fine-tuned from: a folder, a hub id, or either with ``+`` and an adapter.
        finetuned: at least one model, likewise. With one, there are no pairs.
        top: the overlap is that of the first max(1, int(top · r)) singular directions, r the smaller side.
        fast: leave the decompositions out.
        embeddings: decompose embedding and head too.
        threads: tensors that are read at a time. Default: one for each core.

    Raises:
        UserError: for models that are missing, unlike or broken, as in a merge, and for NaN or infinity in them.
    """
    if not 0 < top <= 1:
        raise UserError(f"top: is {top}, and must be a fraction in (0, 1].")
    models, notes = open_models(os.fspath(base), [os.fspath(path) for path in finetuned])
    names = [model.name for model in models]
    parts, more = common_parts(models)
    found = Walk(parts, top, fast, embeddings, threads or cores()).run()
    tables = (vector_table(found, names[1:]), pair_table(found, names[1:]), common_table(found, len(models) - 1))
    return Inspection(names[0], names[1:], [*map(str, notes), *more], top, embeddings, fast, *tables)


def open_models(base: str, finetuned: list[str]) -> tuple[list[Checkpoint], list[Finding]]:
    """The models, base first, and what is known of them; UserError that lists what speaks against comparing them."""
    check_distinct(map(name_of, finetuned), "fine-tuned models")
    models = [open_model(base, Path())]
    models += [open_model(name, Path(), models[0]) for name in finetuned]
    adapters = [model for model in models if isinstance(model, Adapted)]
    found = [Finding("note", model.note) for model in adapters]
    found += [Finding("warning", model.warning) for model in adapters if model.warning]
    compared = model_findings(models)
    found += compared + folder_findings(models, all(finding.level != "error" for finding in compared))
    found += [finding for finding in tied_output(models, None, paper=False)[1] if finding.level == "error"]
    if errors := [finding.text for finding in found if finding.level == "error"]:
        raise UserError("these models do not fit:\n  " + "\n  ".join(errors) if len(errors) > 1 else errors[0])
    count_blocks(models[0])
    return models, found


def vector_table(walk: Walk, names: list[str]) -> pd.DataFrame:
    """`Inspection.vectors`."""
    rows = []
    for i, model in enumerate(names):
        for part in walk.parts:
            sums, spectra = walk.sums[part.name], walk.spectra.get(part.name)
            ranks = spectra.ranks[i] if spectra else (math.nan, math.nan)
            rows.append({
                "model": model, "layer": part.layer, "kind": part.kind, "entries": part.size,
                "base_squares": sums.own[0, 0], **dict(zip(OWN, sums.own[i + 1], strict=True)),
                **dict(zip(RANKS, ranks, strict=True)), "full_rank": min(part.shape) if spectra else math.nan,
            })  # fmt: skip
    table = grouped(rows, ["model"], [*RANKS, "full_rank"])
    whole = table.groupby("model")["squares"].transform("max")  # of the row of all layers and kinds
    return table.assign(**vector_scores(table), share=ratio(table["squares"], whole))


def pair_table(walk: Walk, names: list[str]) -> pd.DataFrame:
    """`Inspection.pairs`; empty with one model."""
    rows = []
    for p, (i, j) in enumerate(pairs(len(names))):
        for part in walk.parts:
            sums, spectra = walk.sums[part.name], walk.spectra.get(part.name)
            sides = {
                f"{side}_{key}": value
                for side, model in (("first", i), ("second", j))
                for key, value in zip(OWN, sums.own[model + 1], strict=True)
            }
            rows.append({
                "first": names[i], "second": names[j], "layer": part.layer, "kind": part.kind, "entries": part.size,
                **sides, **dict(zip(PAIR, sums.pairs[p], strict=True)),
                **dict(zip(OVERLAPS, spectra.overlaps[p] if spectra else [math.nan] * 4, strict=True)),
            })  # fmt: skip
    if not rows:
        return pd.DataFrame()
    table = grouped(rows, ["first", "second"], OVERLAPS)
    return table.assign(**pair_scores(table))


def common_table(walk: Walk, models: int) -> pd.DataFrame:
    """`Inspection.together`; empty with one model, and without decompositions."""
    rows = [
        {"layer": part.layer, "kind": part.kind}
        | dict(zip(INTERFERENCE, walk.spectra[part.name].interference, strict=True))
        for part in walk.parts
        if part.name in walk.spectra and models > 1
    ]
    return grouped(rows, [], INTERFERENCE) if rows else pd.DataFrame()


def grouped(rows: list[dict[str, Any]], who: list[str], means: Sequence[str]) -> pd.DataFrame:
    """The rows of all tensors together, of each layer, of each kind, and of each kind of each layer.

    who: columns that tell models apart. means: columns that are averaged, without NaN; the others are summed.
    """
    frame, keys = pd.DataFrame(rows), [*who, "layer", "kind"]
    every = [frame.assign(layer=ALL, kind=ALL), frame.assign(kind=ALL), frame.assign(layer=ALL), frame]
    how = {column: "mean" if column in means else "sum" for column in frame if column not in keys}
    return pd.concat(every).groupby(keys, sort=False, as_index=False).agg(how)
