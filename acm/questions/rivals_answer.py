"""The tables and the answer of question 6, from the trials and records of ``rivals.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions import rivals_families, rivals_fresh
from acm.questions.rivals import EQUAL, USUAL, WEIGHED, Scene, Trial
from acm.questions.study import Study, apart, counted, inside
from acm.reporting.comparison import p_text
from acm.reporting.intervals import interval_columns
from acm.reporting.messages import joined
from acm.reporting.statistics import (
    DRAWS,
    Sample,
    above_bar,
    average,
    bootstrap_p,
    describe,
    holm,
    share,
)
from acm.reporting.statistics import verdict as judged
from acm.reporting.tables import cell

EQUALLY = "when all merges move the weights equally far"
UNCONFIRMED = (
    "No other method or rule is confirmed on fresh items to beat both plain interpolation and plain averages of equal "
    "length or shorter."
)
VERDICTS = {  # verdict → what a count of trials is followed by
    "above": "above", "below": "below", "no difference shown": "without a difference shown",
    "outside": "outside the bar's range",
}  # fmt: skip
SETTINGS = {  # how a rival is merged → in words
    USUAL: "as they are", EQUAL: "at equal norm", WEIGHED: "at equal norm with ACM's λ",
    "permuted": "at equal norm with their λ permuted", "reversed": "at equal norm with their λ reversed",
}  # fmt: skip
WORDS = 8  # in the names of winners, at most; where there are more, they are counted


def table_of(study: Study, scene: Scene, trials: list[Trial], records: pd.DataFrame) -> pd.DataFrame:
    """:func:`compared`, from the records of :func:`acm.questions.rivals.judge`.

    Where several skills are merged there is no bar.
    """
    tasks = study.profile.experiment(scene.experiment).tasks
    frontier = study.results.frontier if scene.experiment == study.experiment else []
    draws = max(DRAWS, 200 * len(trials))  # p is 2 / (draws + 1) at least, and Holm multiplies it by the trials
    return compared(scene, trials, study.sample(records, tasks, draws), frontier)


def compared(scene: Scene, trials: list[Trial], sample: Sample, frontier: list[str]) -> pd.DataFrame:
    """One row for each trial of a scene, with 95 % intervals. ValueError for too few draws to find anything.

    accuracy (percent), length (tokens). above: points above the bar at its length; where several skills are merged,
    points above plain averaging. righter, longer: accuracy (points) and length (tokens) less the reference's, on the
    same items. p_adjusted: of above, by Holm for all trials of the scene that are models of their own. verdict: by it.
    norm: ‖θ − θ_0‖ over the reference's. frontier: the methods of the bar; empty where there is none.
    """
    rows, drawn = [], []
    for trial in trials:
        label = trial.label
        lead = (
            above_bar(sample, label, frontier)
            if frontier
            else average(sample, label) - average(sample, scene.reference_name)
        )
        drawn.append(lead)
        rows.append({
            "scene": scene.name, "barred": bool(frontier), "kind": trial.kind, "rival": trial.title,
            "name": trial.name, "setting": trial.setting, "norm": trial.norm, "cosine": trial.cosine,
            "same_as": trial.same_as,
            **interval_columns("accuracy", share(sample, label)),
            **interval_columns("length", describe(average(sample, label, "length"), 1)),
            **interval_columns("above", describe(inside(lead))),
            **apart(sample, [(label, scene.reference_name)]).columns(),
            "n": sum(sample.items.values()),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    own = [i for i, trial in enumerate(trials) if not trial.same_as and judged(drawn[i]) != "outside"]
    if 2 * len(own) > 0.05 * len(drawn[0]):
        raise ValueError(f"{len(drawn[0]) - 1} draws are too few to adjust {len(own)} trials.")
    table["p_adjusted"] = np.nan
    table.loc[own, "p_adjusted"] = holm(np.array([bootstrap_p(drawn[i]) for i in own])) if own else []
    table["verdict"] = [outcome(row, lead) for (_, row), lead in zip(table.iterrows(), drawn, strict=True)]
    return table


def outcome(row: pd.Series, lead: np.ndarray) -> str:
    """The verdict on a trial: that of its interval, unless the adjusted p takes it back."""
    if row["same_as"]:
        return f"is {row['same_as']}"
    found = judged(lead)
    return found if found == "outside" or row["p_adjusted"] < 0.05 else "no difference shown"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text."""

    def cells(column: str, digits: int, signed: bool = False) -> pd.Series:
        return table.apply(cell, axis=1, name=column, digits=digits, signed=signed)

    return pd.DataFrame({
        "rival": table["rival"], "setting": table["setting"], "norm": table["norm"].map("{:.2f}".format),
        "cosine": table["cosine"].map("{:.2f}".format),
        "accuracy %": cells("accuracy", 1), "length, tokens": cells("length", 0),
        "points above": cells("above", 1, True), "p": table["p_adjusted"].map(p_text), "verdict": table["verdict"],
    })  # fmt: skip


def verdict(
    tables: list[tuple[Scene, pd.DataFrame]], fresh: pd.DataFrame | None = None, families: pd.DataFrame | None = None
) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of. It leads with equal norm, where no length is a help.

    fresh: of :func:`acm.questions.rivals_fresh.table_of`, if winners were tested on fresh items. The answer does not
    claim what they do not confirm. families: of :func:`acm.questions.rivals_families.table_of`.
    """
    numbers: dict[str, Any] = {
        scene.name: {kind: counts(table[table["kind"] == kind]) for kind in table["kind"].unique()}
        for scene, table in tables
    }
    every = [(scene, setting, words) for scene, kinds in numbers.items() for own in kinds.values()
             for setting, words in own.items()]  # fmt: skip
    equal = [found for found in every if found[1] in (EQUAL, WEIGHED)]
    winners = [(scene, name, setting) for scene, setting, words in equal for name in words["above"]]
    below = sum(len(words["below"]) for _, _, words in equal)
    total = sum(len(words[verdict]) for _, _, words in equal for verdict in VERDICTS)
    farther = sum(len(words["above"]) for _, setting, words in every if setting == USUAL)
    parts = [
        "At equal norm a merge moves the weights as far as plain interpolation at λ = 0.7, or as plain averaging.",
        f"At equal norm {below} of {counted(total, 'trial')} are below, where each model counts once.",
        f"Before merges are scaled to equal norm, {counted(farther, 'trial')} are above.",
        *(of_scene(scene, numbers[scene.name]) for scene, _ in tables),
        "Verdicts are adjusted by Holm for the trials of their scene, and not over several scenes.",
    ]
    if fresh is not None:
        numbers["fresh"] = fresh.to_dict("records")
        parts = [*rivals_fresh.told(fresh), *parts]
    elif winners:
        parts = ["These winners were not tested on fresh items.", *parts]
    if families is not None and len(families):
        numbers["families"] = families.to_dict("records")
        parts = [*rivals_families.told(families), *parts]
    barred = {scene.name: bool(table["barred"].all()) for scene, table in tables}
    return " ".join([*head(winners, fresh, barred), *parts]), numbers


def head(winners: list[tuple[str, str, str]], fresh: pd.DataFrame | None, barred: dict[str, bool]) -> list[str]:
    """The answer, and who the winners are; each a sentence.

    winners: scene, rival and setting of all that are above at equal norm. barred: scene → whether it has a bar; where
    it has none, trials are held against plain averaging.
    """
    stand = standing(winners, fresh)
    if winners and not stand:
        return [UNCONFIRMED]
    lines = {barred[scene] for scene, *_ in stand} if stand else {*barred.values()}
    against = " or ".join({True: "the bar", False: "plain averaging"}[line] for line in sorted(lines, reverse=True))
    if not stand:
        return [f"No other method or rule is shown to beat {against} {EQUALLY}."]
    names = [*dict.fromkeys(name for _, name, _ in stand)]
    rivals = f"The rival{'s' if len(names) > 1 else ''} {joined(names)}"
    if len(rivals.split()) > WORDS:
        rivals = counted(len(names), "rival")
    verb = "are" if len(names) > 1 else "is"
    told = "; ".join(f"{name} ({scene}, {setting})" for scene, name, setting in stand)
    return [f"{rivals} {verb} shown to beat {against} {EQUALLY}.", f"Above, with scene and setting: {told}."]


def standing(winners: list[tuple[str, str, str]], fresh: pd.DataFrame | None) -> list[tuple[str, str, str]]:
    """The winners that fresh items do not take back."""
    rows: list[Any] = [] if fresh is None else fresh.to_dict("records")
    lost = {(row["scene"], row["rival"], row["setting"]) for row in rows if row["verdict"] != rivals_fresh.CONFIRMED}
    return [winner for winner in winners if winner not in lost]


def counts(part: pd.DataFrame) -> dict[str, Any]:
    """Of the trials of a kind: by setting the rivals of each verdict, and those that are a model known before."""
    found: dict[str, Any] = {}
    for setting, rows in part.groupby("setting", sort=False):
        same = rows["same_as"] != ""
        found[str(setting)] = {word: list(rows.loc[~same & (rows["verdict"] == word), "rival"]) for word in VERDICTS}
        found[str(setting)]["same"] = dict(zip(rows.loc[same, "rival"], rows.loc[same, "same_as"], strict=True))
    return found


def of_scene(scene: Scene, kinds: dict[str, Any]) -> str:
    """The counts of a scene's trials, in a sentence. kinds: kind of trial → :func:`counts`."""
    parts = []
    for kind, found in kinds.items():
        for setting, own in found.items():
            words = [f"{len(own[verdict])} {name}" for verdict, name in VERDICTS.items() if own[verdict]]
            words += [f"{len(own['same'])} the same as an earlier model"] if own["same"] else []
            parts.append(f"{kind}s {SETTINGS.get(setting, setting)} {', '.join(words)}")
    return f"Trials in scene {scene.name}, {scene.title.replace(': ', ', ')}: {'; '.join(parts)}."
