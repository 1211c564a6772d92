"""The tables, the figures and the answer of question 6, from the trials and records of ``rivals.py``."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.merging.registry import METHODS
from acm.questions.rivals import DEFAULT, EQUAL, Scene, Trial
from acm.questions.study import Study, apart, counted, inside
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS
from acm.reporting.statistics import (
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

NONE_DOES = "None is shown to: at equal norm no method and no rule for λ by layer is above"
BAR, AVERAGE = "points above the bar", "points above plain averaging"
DRAWN = {DEFAULT: ("o", "0.55"), EQUAL: ("D", COLOURS["acm"]), "ACM": ("^", COLOURS["baseline"])}
DRAWN |= {control: (mark, COLOURS["control"]) for control, mark in (("permuted", "v"), ("reversed", "<"))}


def title_of(trial: Trial) -> str:
    """The rival's name in tables."""
    return METHODS[trial.name].title if trial.kind == "method" else trial.name


def table_of(study: Study, scene: Scene, trials: list[Trial], records: pd.DataFrame) -> pd.DataFrame:
    """:func:`compared`, from the records of :func:`acm.questions.rivals.judge`.

    Where several skills are merged there is no bar.
    """
    tasks = study.profile.experiment(scene.experiment).tasks
    frontier = study.results.frontier if scene.experiment == study.experiment else []
    return compared(scene, trials, study.sample(records, tasks), frontier)


def compared(scene: Scene, trials: list[Trial], sample: Sample, frontier: list[str]) -> pd.DataFrame:
    """One row for each trial of a scene, with 95 % intervals.

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
            "scene": scene.name, "barred": bool(frontier), "kind": trial.kind, "rival": title_of(trial),
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
        "points above": cells("above", 1, True), "verdict": table["verdict"],
    })  # fmt: skip


def draw(tables: list[tuple[Scene, pd.DataFrame]], kind: str) -> Figure:
    """Points above the bar of the trials of a kind, a panel for each scene; rivals in the order of the first."""
    parts = [(scene, table[(table["kind"] == kind) & (table["same_as"] == "")]) for scene, table in tables]
    parts = [(scene, part) for scene, part in parts if len(part)]
    names = list(dict.fromkeys(name for _, part in parts for name in part["rival"]))
    size = (1.2 + 4.4 * len(parts), 1.6 + 0.3 * len(names))
    figure, grid = plt.subplots(1, len(parts), figsize=size, squeeze=False, sharey=True)
    for axes, (scene, part) in zip(grid.flat, parts, strict=True):
        draw_panel(axes, part, names)
        axes.set_title(fill(scene.title, 30), fontsize=11)
        axes.set(xlabel=BAR if part["barred"].all() else AVERAGE)
    grid[0, 0].set_yticks(range(len(names)), names)
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    handles = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncol=2 if len(parts) == 1 else len(handles)
    )
    return figure


def draw_panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    """The trials of one scene."""
    settings = [setting for setting in DRAWN if setting in set(part["setting"])]
    for i, setting in enumerate(settings):
        rows = part[part["setting"] == setting]
        places = np.array([names.index(name) for name in rows["rival"]]) + 0.6 * ((i + 0.5) / len(settings) - 0.5)
        arms = np.maximum([rows["above"] - rows["above_low"], rows["above_high"] - rows["above"]], 0)
        mark, colour = DRAWN[setting]
        axes.errorbar(rows["above"], places, xerr=arms, fmt=mark, color=colour, ms=4, lw=1, label=setting)
    axes.axvline(0, color="0.3", lw=0.8)
    for place in range(1, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="0.95", zorder=0)


def verdict(tables: list[tuple[Scene, pd.DataFrame]]) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of."""
    numbers, parts = {}, []
    for scene, table in tables:
        own = numbers[scene.name] = {kind: counts(table[table["kind"] == kind]) for kind in table["kind"].unique()}
        parts.append(f"Of {scene.title}: {'; '.join(told(kind, found) for kind, found in own.items())}.")
    winners = [name for own in numbers.values() for found in own.values() for name in found[EQUAL]["above"]]
    losers = sum(len(found[EQUAL]["below"]) for own in numbers.values() for found in own.values())
    named = list(dict.fromkeys(winners))
    does = f"Some do: at equal norm {', '.join(named)} {'is' if len(named) == 1 else 'are'} above"
    head = f"{does if named else NONE_DOES} the bar or plain averaging."
    after = f"At equal norm {counted(losers, 'trial')} of all scenes {'is' if losers == 1 else 'are'} below."
    holms = "All verdicts are adjusted by Holm for the trials of their scene."
    return " ".join([head, after, *parts, holms]), numbers


def counts(part: pd.DataFrame) -> dict[str, Any]:
    """Of the trials of a kind: by setting the rivals that are above, below, neither, outside, and other models."""
    found: dict[str, Any] = {}
    for setting, rows in part.groupby("setting", sort=False):
        same = rows["same_as"] != ""
        found[str(setting)] = {
            word: list(rows.loc[~same & (rows["verdict"] == word), "rival"])
            for word in ("above", "below", "no difference shown", "outside")
        } | {"same": dict(zip(rows.loc[same, "rival"], rows.loc[same, "same_as"], strict=True))}
    found.setdefault(EQUAL, {"above": [], "below": [], "no difference shown": [], "outside": [], "same": {}})
    return found


def told(kind: str, found: dict[str, Any]) -> str:
    """The counts of a kind of trial, in words."""
    parts = []
    for setting, own in found.items():
        several = {"above": own["above"], "below": own["below"], "not told apart": own["no difference shown"],
                   "outside": own["outside"], "a model known before": list(own["same"])}  # fmt: skip
        stand = ", ".join(
            f"{len(names)} {word}" + (f" ({', '.join(names)})" if word == "above" and names else "")
            for word, names in several.items()
            if names
        )
        parts.append(f"{setting}: {stand or 'none'}")
    return f"{kind}s, {'; '.join(parts)}"
