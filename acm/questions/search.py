"""Question 8: does any λ by layer beat one λ for all, and can it be had without search?

The searches are :mod:`acm.searching`'s, the trials beside them those of ``search_trials.py``. Both are only read here.
All stand on fresh items, which chose nothing. The bar is plain interpolation's, with the points that its own search
found. A lead is points above the bar at equal length. *Against one λ* compares with the point of plain interpolation
that the same items chose for the same target: accuracy and length on the same fresh items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acm.files import digest
from acm.questions.layers import rank_correlation
from acm.questions.search_points import FACTS, LAYERS, RECORDS
from acm.questions.study import apart, inside, joined
from acm.reading import read_json
from acm.reporting.intervals import Interval, interval_columns
from acm.reporting.statistics import (
    above_bar,
    average,
    bootstrap,
    bootstrap_p,
    describe,
    detectable,
    holm,
    over_draws,
    share,
    verdict,
)
from acm.searching.front import length_at
from acm.searching.objective import Objective
from acm.searching.points import FRONT, best_points, layers_of, mean_layers, parts_of, point_of

QUESTION = "Does any λ by layer beat one λ for all, and can it be had without search?"
DRAWS = 4000
ALL = "all others"  # the rows of all searches but the first


class Judged:
    """A finished search with its trials, on its fresh items.

    folder: of the search. first: the number of the first fresh item of each task that counts.
    """

    def __init__(self, folder: Path, first: int = 0) -> None:
        self.folder, self.name = folder, folder.name
        self.front = pd.read_csv(folder / FRONT)
        self.front["point"] = [point_of(row) for _, row in self.front.iterrows()]
        self.candidates = pd.read_parquet(folder / "candidates.parquet")
        self.settings = read_json(folder / "search.json")["settings"]
        parts = [pd.read_parquet(folder / "fresh.parquet").rename(columns={"point": "method"})]
        self.trials = trials_in(folder)
        if len(self.trials):
            parts.append(pd.read_parquet(folder / RECORDS).rename(columns={"trial": "method"}))
        records = pd.concat(parts, ignore_index=True)
        records = records[records["item"] >= first]
        self.sample = bootstrap(records, [*records["method"].unique()], [*records["task"].unique()], DRAWS)
        self.leads: dict[str, np.ndarray] = {}

    @cached_property
    def layers(self) -> pd.DataFrame | None:
        """Quantities by layer; None where nothing was tried."""
        place = self.folder / LAYERS
        return pd.read_parquet(place).set_index("layer") if len(self.trials) else None

    @property
    def bar(self) -> list[str]:
        """The points of plain interpolation: those that the search judged, and the others of its front."""
        judged = [*self.front.loc[self.front["arm"] == "one", "point"]]
        return judged + ([*self.trials.query("kind == 'one'")["trial"]] if len(self.trials) else [])

    def lead(self, method: str) -> np.ndarray:
        """Points above the bar at its length, fractions, (draws + 1,)."""
        if method not in self.leads:
            self.leads[method] = above_bar(self.sample, method, self.bar)
        return self.leads[method]

    @cached_property
    def targets(self) -> dict[str, float]:
        """Label of a target → its length in tokens, on the items that chose."""
        one = self.candidates[self.candidates["arm"] == "one"]
        labels = [label for label in best_points(self.front) if label]
        return {t: float(t[:-1]) if t.endswith("t") else length_at(one, float(t) / 100) for t in labels}

    def plain(self, target: str) -> str:
        """The point of plain interpolation of the highest value at a target, on the items that chose.

        Among the points that were asked fresh items. Without a target its accuracy is the value.
        """
        one = self.candidates[self.candidates["arm"] == "one"]
        one = one.assign(point=[point_of(row) for _, row in one.iterrows()]).set_index("point").loc[self.bar]
        goal = self.targets.get(target, math.inf)
        return str(Objective(goal, self.settings["price"]).value(one["accuracy"], one["tokens"]).idxmax())

    def best(self) -> pd.DataFrame:
        """One row for each arm but plain interpolation's: its best point, on fresh items, with 95 % intervals.

        search, sampler, target, seed, point; chose_accuracy (percent), chose_tokens: on the items that chose; accuracy
        (percent), length (tokens), lead (points); righter (points), longer (tokens): less one λ's; optimism (points).
        """
        rows = []
        for _, row in self.front[(self.front["role"] == "best")].iterrows():
            (sampler, target, seed), point = parts_of(row["arm"]), row["point"]
            rows.append({
                "search": self.name, "sampler": sampler, "target": target, "seed": seed, "point": point,
                "chose_accuracy": row["accuracy"], "chose_tokens": row["tokens"],
                **interval_columns("accuracy", share(self.sample, point)),
                **interval_columns("length", describe(average(self.sample, point, "length"), 1)),
                **interval_columns("lead", describe(inside(self.lead(point)))),
                **apart(self.sample, [(point, self.plain(target))]).columns(),
                **interval_columns("optimism", optimism(row, self.sample.items)),
            })  # fmt: skip
        return pd.DataFrame(rows)

    def tried(self) -> pd.DataFrame:
        """One row for each trial: kind, target; accuracy (percent), length (tokens), lead (points), each with 95 %."""
        rows = []
        for _, row in self.trials.iterrows():
            name = row["trial"]
            rows.append({
                "search": self.name, "trial": name, "kind": row["kind"], "target": row["target"],
                **interval_columns("accuracy", share(self.sample, name)),
                **interval_columns("length", describe(average(self.sample, name, "length"), 1)),
                **interval_columns("lead", describe(inside(self.lead(name)))),
                "verdict": verdict(self.lead(name)),
            })  # fmt: skip
        return pd.DataFrame(rows)


def trials_in(folder: Path) -> pd.DataFrame:
    """The facts of the trials in a search's folder; empty where there are none of this front."""
    if not (folder / FACTS).is_file():
        return pd.DataFrame()
    table = pd.read_csv(folder / FACTS, dtype={"target": str}).fillna({"target": ""})
    return table if set(table["front"]) == {digest(folder / FRONT)} else pd.DataFrame()


def optimism(row: pd.Series, items: dict[str, int]) -> Interval:
    """Accuracy on the items that chose less that on fresh ones, points, with a 95 % interval of independent samples."""
    gap, error = row["accuracy"] - row["fresh_accuracy"], 0.0
    for accuracy, asked in ((row["accuracy"], row["asked"]), (row["fresh_accuracy"], sum(items.values()))):
        part = (accuracy / 100 * asked + 1) / (asked + 2)  # one item of each kind more, so that no width is 0
        error += 100**2 * part * (1 - part) / asked
    return {"value": gap, "low": gap - 1.96 * math.sqrt(error), "high": gap + 1.96 * math.sqrt(error)}


def summary(searches: list[Judged], beside: Sequence[Judged] = ()) -> pd.DataFrame:
    """What the arms have: a row for each search, target and sampler, mean over seeds, and one of all other searches.

    The first search is the one with several seeds; the others are families, together in the rows ``all others``.
    beside: of other models, each for itself. lead, righter, longer, optimism as in :meth:`Judged.best`; intervals are
    over items, and over seeds or families. detectable: the least true lead (points) that would have been found. p: of
    the lead. tested: the sampler's rows of the first search, of all others together (each where they cannot be pooled)
    and of those beside; p_adjusted: by Holm for these. n: points.
    """
    first, *others = searches
    rows = [row_of(first.name, [(first, part)]) for _, part in by_arm(first)]
    rows += [row_of(judged.name, [(judged, part)]) for judged in others for _, part in by_arm(judged)]
    pooled = len(others) > 1 and all(judged.sample.items == others[0].sample.items for judged in others)
    if pooled:
        table = pd.concat([judged.best().assign(judged=i) for i, judged in enumerate(others)])
        for _, part in table.groupby(["sampler", "target"], sort=False):
            own = [(others[int(i)], part[part["judged"] == i]) for i in part["judged"].unique()]
            rows.append(row_of(ALL, own))
    rows += [row_of(judged.name, [(judged, part)]) for judged in beside for _, part in by_arm(judged)]
    table = pd.DataFrame(rows)
    names = [first.name, *([ALL] if pooled else [j.name for j in others]), *(judged.name for judged in beside)]
    table["tested"] = (table["sampler"] != "random") & table["search"].isin(names)
    table["p_adjusted"] = adjusted(table["p"].where(table["tested"]))
    return table


def adjusted(p: pd.Series) -> pd.Series:
    """p-values adjusted by Holm for their number; those that are NaN stay so and do not count."""
    known = p.dropna()
    return pd.Series(holm(known.to_numpy()), known.index).reindex(p.index) if len(known) else p


def by_arm(judged: Judged) -> Any:
    """The best points of a search by sampler and target."""
    return judged.best().groupby(["sampler", "target"], sort=False)


def row_of(name: str, parts: list[tuple[Judged, pd.DataFrame]]) -> dict[str, Any]:
    """The means of some best points. parts: of each search its points."""
    leads = inside(over_draws(np.array([judged.lead(point) for judged, part in parts for point in part["point"]])))
    pairs = [apart(j.sample, [(p, j.plain(t)) for p, t in zip(part["point"], part["target"], strict=True)])
             for j, part in parts]  # fmt: skip
    first = parts[0][1].iloc[0]
    return {
        "search": name, "sampler": first["sampler"], "target": first["target"],
        "n": sum(len(part) for _, part in parts),
        **interval_columns("lead", describe(leads)),
        **joined(pairs).columns(),
        "optimism": float(np.mean([x for _, part in parts for x in part["optimism"]])),
        "detectable": 100 * detectable(leads), "p": bootstrap_p(leads), "verdict": verdict(leads),
    }  # fmt: skip


def order_of_layers(searches: list[Judged]) -> pd.DataFrame:
    """How each quantity orders the layers, against the λ that were found: Spearman's ρ.

    One row for each quantity: ρ of every search at its first target, with the mean λ of its seeds. others: mean ρ of
    all searches but the first. p: of the first search, by permutation; p_adjusted: by Holm for all quantities.
    """
    rows: dict[str, dict[str, float]] = {}
    for i, judged in enumerate(searches):
        found = pd.Series(mean_layers(next(iter(best_points(judged.front).values()))))
        for quantity, values in (judged.layers if judged.layers is not None else pd.DataFrame()).items():
            both = pd.concat([values, found], axis=1, join="inner").dropna().to_numpy()
            own, p = rank_correlation(*both.T) if len(both) > 2 else (math.nan, math.nan)
            rows.setdefault(str(quantity), {})[judged.name] = own
            rows[str(quantity)] |= {"p": p} if i == 0 else {}
    table = pd.DataFrame(rows).T
    if not len(table):
        return table
    table["others"] = table[[judged.name for judged in searches[1:] if judged.name in table]].mean(axis=1)
    return table.assign(p_adjusted=adjusted(table["p"]))


def coefficients(searches: list[Judged]) -> pd.DataFrame:
    """The λ of every best point of the sampler, by layer: the columns search, target, seed, layer, coefficient."""
    rows = []
    for judged in searches:
        for target, points in best_points(judged.front).items():
            for point in points:
                facts = {"search": judged.name, "target": target, "seed": parts_of(point["arm"])[2]}
                rows += [facts | {"layer": k, "coefficient": v} for k, v in layers_of(point).items()]
    return pd.DataFrame(rows)


def apart_of(searches: list[Judged], trial: str) -> dict[str, float]:
    """A trial less one λ at the first target, mean over searches: righter (points) and longer (tokens)."""
    parts = [apart(judged.sample, [(trial, judged.plain(next(iter(judged.targets))))]) for judged in searches]
    return joined(parts).columns()


def flatness(judged: Judged) -> pd.DataFrame:
    """What each layer's λ is worth: the lead of the best point less that with this λ back at the mean, points.

    One row for each trial of the kind ``back``: what (layer or part), target; lost, NaN where it lies outside the bar's
    range; righter (points) and longer (tokens): the trial's less the best point's. 95 % intervals.
    """
    rows = []
    for _, row in judged.trials[judged.trials["kind"] == "back"].iterrows() if len(judged.trials) else ():
        point = point_of(best_points(judged.front)[row["target"]][0])
        lost = inside(judged.lead(point) - judged.lead(row["trial"]))
        pair = apart(judged.sample, [(row["trial"], point)]).columns()
        rows.append({"what": row["trial"].partition(" back")[0], "target": row["target"],
                     **interval_columns("lost", describe(lost)), **pair})  # fmt: skip
    return pd.DataFrame(rows, columns=None if rows else ["what", "target", "lost"])
