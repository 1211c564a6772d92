"""Question 6 on fresh items: is a winner still above the bar on items that nobody looked at?

A winner is a trial that is above the bar at equal norm. It was found by looking at many trials, so it is merged again
and asked the fresh items of ``fresh.py``. The frontier's records on them are those of question 2. Where skills are
merged there is no bar, so their winners are not tested.

Two task vectors start from a base that plain interpolation of the two models does not know. Moving less far from it may
be all that a winner does. So plain averages of shorter task vectors are asked too, and a winner has to lie above the
raised bar: the bar through them and the frontier together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from acm.questions import fresh
from acm.questions.coefficients import judged, lead_over
from acm.questions.rivals import EQUAL, WEIGHED, Scene, Trial, merged, moved
from acm.questions.study import LEAST, SLIM, Study, evaluate_model, inside
from acm.records import write_parquet
from acm.reporting.comparison import p_text
from acm.reporting.intervals import Interval, interval_columns, interval_in
from acm.reporting.statistics import DRAWS, Sample, above_bar, average, describe, share
from acm.reporting.tables import cell

CONFIRMED = "above"  # the verdict of a winner that is above the raised bar on the fresh items
SHORTENED = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the plain average's task vector


@dataclass(frozen=True)
class Winner:
    """A trial that is above the bar at equal norm. first: by how many points, on the items where it was found."""

    scene: Scene
    trial: Trial
    first: Interval

    @property
    def names(self) -> tuple[str, str, str]:
        """Scene, rival and setting, by which tables know it."""
        return self.scene.name, self.trial.title, self.trial.setting


def raised(scene: Scene, frontier: list[str]) -> list[str]:
    """The methods of the raised bar. With one task vector shorter ones are on the frontier already."""
    return [*frontier, *(shorter(scene, factor) for factor in SHORTENED if not scene.alone)]


def shorter(scene: Scene, factor: float) -> str:
    """The shortened plain average's method in the records."""
    return f"{scene.reference_name} × {factor:g}"


def winners(tables: Iterable[tuple[Scene, pd.DataFrame]], trials: Iterable[list[Trial]]) -> list[Winner]:
    """The winners of all scenes with a bar.

    tables: of :func:`acm.questions.rivals_answer.table_of`, one for each scene. trials: of each scene, in the order of
    its table.
    """
    found = []
    for (scene, table), own in zip(tables, trials, strict=True):
        won = table["barred"] & (table["verdict"] == "above") & table["setting"].isin([EQUAL, WEIGHED])
        rows = zip(own, won, table.to_dict("records"), strict=True)
        found += [
            Winner(scene, trial, interval_in({str(key): value for key, value in row.items()}, "above"))
            for trial, is_one, row in rows if is_one
        ]  # fmt: skip
    return found


def frontier_file(study: Study) -> Path:
    """Where question 2 has put its records on the fresh items."""
    return study.folder.parent / "coefficients" / "fresh.parquet"


def left_out(study: Study, found: list[Winner]) -> str:
    """Why no winner can be tested, in a sentence; empty where one can."""
    if not found:
        return "No trial is above the bar at equal norm, so there is none to test on fresh items."
    if not fresh.tasks_of(study):
        return "The tasks of this profile have no fresh items, so the winners are not tested on any."
    path = frontier_file(study)
    if not path.is_file() or set(study.results.frontier) - set(pd.read_parquet(path, columns=["method"])["method"]):
        return "The winners are not tested on fresh items: question 2 comes first, which asks them of the frontier."
    return ""


def table_of(study: Study, found: list[Winner]) -> pd.DataFrame:
    """:func:`compared`, after winners and references are merged and evaluated. Stores all records as ``fresh.parquet``.

    The records of a scene are those of the frontier, of its reference and of its winners.
    """
    frontier, tasks = study.results.frontier, fresh.tasks_of(study)
    known = pd.read_parquet(frontier_file(study))
    known = known[known["method"].isin(frontier)]
    scenes = {winner.scene.name: winner.scene for winner in found}
    records = {}
    for name, scene in scenes.items():
        own = evaluated(study, scene, [winner.trial for winner in found if winner.scene.name == name], tasks)
        records[name] = pd.concat([known, own], ignore_index=True)[SLIM]
    together = [part.assign(scene=name) for name, part in records.items()]
    write_parquet(pd.concat(together, ignore_index=True), study.folder / "fresh.parquet")
    draws = max(DRAWS, 200 * len(found))  # p is 2 / (draws + 1) at least, and Holm multiplies it by the winners
    return compared(found, {name: study.sample(part, tasks, draws) for name, part in records.items()}, frontier)


def evaluated(study: Study, scene: Scene, trials: list[Trial], tasks: list[str] | None) -> pd.DataFrame:
    """Records of a scene's reference, shorter and whole, and of trials at its norm, merged again.

    tasks: None are the scene's own.
    """

    def records(model: Path, label: str) -> pd.DataFrame:
        return evaluate_model(model, study.profile, scene.experiment, study.folder, label, tasks)

    with merged(scene.reference, study.folder) as reference:
        norm, found = moved(scene.base, reference), [records(reference, scene.reference_name)]
        for factor in SHORTENED if not scene.alone else ():
            with merged(scene.scaled(reference, factor), study.folder) as part:
                found.append(records(part, shorter(scene, factor)))
    for trial in tqdm(trials, desc=f"{scene.name}, fresh", unit="winner", mininterval=10):
        with merged(trial.recipe, study.folder) as made:
            factor = norm / moved(scene.base, made)
            with merged(scene.scaled(made, factor), study.folder) as equal:
                found.append(records(equal, trial.label))
    return pd.concat(found, ignore_index=True)


def compared(found: list[Winner], samples: dict[str, Sample], frontier: list[str]) -> pd.DataFrame:
    """One row for each winner, with 95 % intervals over fresh items.

    first: points above the bar on the items where it was found. above: the same on the fresh items. lead: above the
    raised bar there. righter, longer: accuracy (points) and length (tokens) less the reference's, on the same items. p:
    of the lead; p_adjusted: by Holm for the winners. detectable: the smallest true lead that such a test finds (80 %
    power). verdict: on the lead, by p_adjusted; ``above`` confirms. samples: of each scene by name. n: items.
    """
    rows = []
    for winner in found:
        sample, label, reference = samples[winner.scene.name], winner.trial.label, winner.scene.reference_name
        above = {label: above_bar(sample, label, raised(winner.scene, frontier))}
        above[reference] = np.zeros_like(above[label])  # the lead is one over the bar itself
        plain = describe(inside(above_bar(sample, label, frontier)))
        rows.append({
            **dict(zip(("scene", "rival", "setting"), winner.names, strict=True)), "reference": reference,
            **interval_columns("accuracy", share(sample, label)),
            **interval_columns("length", describe(average(sample, label, "length"), 1)),
            **interval_columns("first", winner.first), **interval_columns("above", plain),
            **lead_over([(label, reference)], above, sample),
            "n": sum(sample.items.values()),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return judged(table, table["scene"].notna())


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text."""
    rows: list[Any] = table.to_dict("records")
    return pd.DataFrame([
        {
            "scene": row["scene"], "rival": row["rival"], "setting": row["setting"],
            "accuracy %": cell(row, "accuracy"), "length, tokens": cell(row, "length", 0),
            "points above, first items": cell(row, "first", 1, True),
            "points above, fresh items": cell(row, "above", 1, True),
            "points above the raised bar": cell(row, "lead", 1, True), "least detectable": f"{row['detectable']:.1f}",
            "p": p_text(row["p_adjusted"]), "accuracy less the reference's": cell(row, "righter", 1, True),
            "length less the reference's": cell(row, "longer", 1, True), "verdict": outcome(row),
        } for row in rows
    ])  # fmt: skip


def outcome(row: Any) -> str:
    """Whether a winner is confirmed, in words. row: of :func:`compared`."""
    words = {
        CONFIRMED: "confirmed",
        "below": "refuted: below the raised bar",
        "outside": "not confirmed: outside the bar",
    }
    return words.get(row["verdict"], "not confirmed")


def told(table: pd.DataFrame) -> list[str]:
    """What the fresh items show of each winner, in sentences."""
    rows: list[Any] = table.to_dict("records")
    found = []
    for row in rows:
        lead, above, first, points, tokens = (
            cell(row, name, signed=True) for name in ("lead", "above", "first", "righter", "longer")
        )
        place = "outside the bar's range" if row["verdict"] == "outside" else f"{above} points above the bar"
        found.append(f"On {row['n']:,} fresh items {row['rival']} ({row['scene']}, {row['setting']}) is {place}.")
        if row["verdict"] != "outside" and lead != above:
            found.append(f"Shortened plain averages raise that bar, and {row['rival']} is {lead} above the raised bar.")
        found += [
            *evidence(row, len(rows)),
            f"On the items where {row['rival']} was found, the same merge is {first} points above the bar.",
            f"Accuracy and length of {row['rival']} on the fresh items, minus those of {row['reference']}: {points} "
            f"points, {tokens} tokens.",
        ]
    return found


def evidence(row: Any, tests: int) -> list[str]:
    """Whether a winner is confirmed, and the test of its lead where there was one; in sentences. tests: how many."""
    result = f"On fresh items {row['rival']} is {outcome(row)}"
    if np.isnan(row["p_adjusted"]):
        return [f"{result}."]
    p = p_text(row["p_adjusted"])
    adjusted = f", adjusted by Holm for {tests} winners" if tests > 1 else ""
    least = f"The {LEAST} is {row['detectable']:.1f} points."
    return [f"{result} (p {p if p.startswith('<') else f'= {p}'}{adjusted}).", least]
