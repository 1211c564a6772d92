"""Question 6 on fresh families: is a winner above the bar of other models too?

A winner was found on the shipped family. Fresh items are items for the same models. Fresh families are other models,
trained by the same recipe with other seeds and sizes. The frontier's records on them are those of question 5.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abacus.families import FOLDER, FRESH
from acm.merging.registry import METHODS
from acm.questions.rivals import EQUAL
from acm.questions.rivals_fresh import Winner, evaluated, raised
from acm.questions.study import SLIM, Study, apart, inside, joined
from acm.records import write_parquet
from acm.reporting.intervals import interval_columns
from acm.reporting.statistics import above_bar, average, bootstrap, describe, over_draws, share, verdict
from acm.reporting.tables import cell

ALL = "all"  # family of the row on all of them


def records_file(study: Study) -> Path:
    """Where question 5 has put its records of the fresh families."""
    return study.folder.parent / "rule" / "families.parquet"


def tested(found: list[Winner]) -> list[Winner]:
    """The winners that fresh families can test: methods at equal norm that read no statistics, of several models."""
    return [
        winner for winner in found
        if winner.trial.kind == "method" and winner.trial.setting == EQUAL and not winner.scene.alone
        and not METHODS[winner.trial.name].reads_files
    ]  # fmt: skip


def trained(study: Study, scene_models: set[str], root: Path = FOLDER) -> list[str]:
    """The fresh families that have these models, and records by question 5."""
    if not records_file(study).is_file():
        return []
    known = set(pd.read_parquet(records_file(study), columns=["family"])["family"])
    return [
        name for name in FRESH
        if name in known and all((root / name / model / "config.json").is_file() for model in scene_models)
    ]  # fmt: skip


def table_of(study: Study, found: list[Winner], root: Path = FOLDER) -> pd.DataFrame:
    """One row for each winner and family, and one of all families (:data:`ALL`); empty where none can be tested.

    above: points above the family's bar at its length; lead: above its raised bar. righter, longer: accuracy (points)
    and length (tokens) less the reference's, on the same items. Of one family intervals are over items, of all over
    items and families. verdict: on lead. The records are stored as ``families.parquet``.
    """
    rows: list[dict[str, Any]] = []
    stored = []
    for winner in tested(found):
        models = {winner.scene.base.name, *winner.scene.finetuned}
        parts, above, leads, label = [], [], [], winner.trial.label
        for name in trained(study, models, root):
            own = family_records(study, winner, name, root)
            stored.append(own)
            sample = bootstrap(own, [*own["method"].unique()], study.setting.tasks, seed=study.profile.seed)
            above.append(above_bar(sample, label, study.results.frontier))
            leads.append(above_bar(sample, label, raised(winner.scene, study.results.frontier)))
            parts.append(apart(sample, [(label, winner.scene.reference_name)]))
            facts = interval_columns("accuracy", share(sample, label))
            facts |= interval_columns("length", describe(average(sample, label, "length"), 1))
            rows.append(row_of(winner, name, above[-1], leads[-1]) | facts | parts[-1].columns())
        if leads:
            rows.append(row_of(winner, ALL, *map(over_draws, map(np.array, (above, leads)))) | joined(parts).columns())
    if stored:
        write_parquet(pd.concat(stored, ignore_index=True), study.folder / "families.parquet")
    return pd.DataFrame(rows)


def row_of(winner: Winner, family: str, above: np.ndarray, lead: np.ndarray) -> dict[str, Any]:
    """The columns that say which winner and family, and by how much it is above the two bars, each (draws + 1,)."""
    names = dict(zip(("scene", "rival", "setting"), winner.names, strict=True))
    bars = {"above": above, "lead": lead}
    columns = {
        key: value for name, of in bars.items() for key, value in interval_columns(name, describe(inside(of))).items()
    }
    return {"family": family, **names, **columns, "verdict": verdict(lead)}


def family_records(study: Study, winner: Winner, name: str, root: Path) -> pd.DataFrame:
    """Records of a family's frontier, of its reference and of the winner, on the items of the study."""
    known = pd.read_parquet(records_file(study)).query("family == @name")
    known = known[known["method"].isin(study.results.frontier)]
    if study.profile.items is not None:
        known = known[known["item"] < study.profile.items]
    finetuned = {model: root / name / model for model in winner.scene.finetuned}
    scene = replace(winner.scene, base=root / name / winner.scene.base.name, finetuned=finetuned)
    method = METHODS[winner.trial.name]
    trial = replace(winner.trial, recipe=scene.recipe(method, dict(method.example)))
    own = evaluated(study, scene, [trial], None)
    return pd.concat([known[SLIM], own[SLIM]], ignore_index=True).assign(family=name)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text."""
    titles = {"accuracy": "accuracy %", "length": "length, tokens", "above": "points above the bar",
              "lead": "points above the raised bar", "righter": "accuracy less the reference's",
              "longer": "length less the reference's"}  # fmt: skip
    cells = {
        title: table.apply(cell, axis=1, name=name, signed=name not in ("accuracy", "length"))
        for name, title in titles.items()
    }
    return pd.DataFrame({"rival": table["rival"], "family": table["family"], **cells, "verdict": table["verdict"]})


def told(table: pd.DataFrame) -> list[str]:
    """What the fresh families show of each winner, in sentences."""
    found = []
    rows: list[Any] = table[table["family"] == ALL].to_dict("records") if len(table) else []
    for row in rows:
        own = table[(table["rival"] == row["rival"]) & (table["scene"] == row["scene"]) & (table["family"] != ALL)]
        above, lead, points, tokens = (cell(row, name, signed=True) for name in ("above", "lead", "righter", "longer"))
        found += [
            f"Over {len(own)} fresh families {row['rival']} ({row['scene']}, {row['setting']}) is {above} points above "
            "the families' bars.",
            f"Shortened plain averages raise these bars, and {row['rival']} is {lead} points above the raised bars.",
            f"In {(own['verdict'] == 'above').sum()} of these families {row['rival']} is shown to be above the raised "
            "bar.",
            f"Accuracy and length of {row['rival']} minus those of each family's plain average: {points} points, "
            f"{tokens} tokens.",
        ]
    return found
