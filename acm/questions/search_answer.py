"""The answer of question 8 in words, from the tables of ``search.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions.search import ALL, Judged, apart_of
from acm.questions.study import counted
from acm.reporting.intervals import interval_in, interval_text
from acm.reporting.statistics import bootstrap_p, describe, detectable, holm, over_draws, verdict

SAMPLERS = {"cmaes": "CMA-ES", "tpe": "TPE", "nsga2": "NSGA-II", "random": "random search"}
WORTH = 2.0  # points; a layer whose λ is worth less at the best point is called flat


def tested_rules(searches: list[Judged]) -> pd.DataFrame:
    """The λ that were had without a search of their own, over the searches that did not find them.

    One row for each trial that all of these have: trial, kind, lead (points above the bar, mean over searches) and
    accuracy and length less one λ's at the target, each with 95 % intervals over items and searches; p_adjusted by Holm
    for all rows; detectable; above: in how many searches the lead's own interval is above 0.
    """
    names = [set(judged.trials["trial"]) if len(judged.trials) else set() for judged in searches]
    shared = (
        [trial for trial in searches[0].trials["trial"] if all(trial in own for own in names)] if all(names) else []
    )
    rows = []
    for trial in shared:
        leads = np.array([judged.lead(trial) for judged in searches])
        all_of = over_draws(leads)
        kind = searches[0].trials.set_index("trial")["kind"][trial]
        rows.append({
            "trial": trial, "kind": kind, **columns("lead", describe(all_of)), **apart_of(searches, trial),
            "p": bootstrap_p(all_of), "detectable": 100 * detectable(all_of),
            "above": sum(verdict(lead) == "above" for lead in leads), "searches": len(searches),
            "inside": int(np.isfinite(leads[:, 0]).sum()),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    if len(table):
        known = table["p"].notna()
        table["p_adjusted"] = np.nan
        table.loc[known, "p_adjusted"] = holm(table.loc[known, "p"].to_numpy())
    return table


def columns(name: str, interval: Any) -> dict[str, float]:
    """The columns of an interval; NaN where a search has no lead within its bar."""
    return {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}


def told(row: Any, name: str, unit: str, digits: int = 1) -> str:
    """A signed value with its interval and unit."""
    return f"{interval_text(**interval_in(row, name), signed=True, digits=digits)} {unit}"


def answer(table: pd.DataFrame, rules: pd.DataFrame) -> str:
    """The plain sentence. table: of :func:`acm.questions.search.summary`. rules: of :func:`tested_rules`."""
    own = table["search"].isin([table["search"].iloc[0], ALL])
    tested = table[(table["sampler"] != "random") & (own | ~table["search"].isin(families(table)))]
    tested, beside = tested[own[tested.index]], tested[~own[tested.index]]
    above = above_of(tested)
    places = " and ".join(dict.fromkeys(place(name) for name in above["search"]))
    if not len(above):
        head = "None is shown to: λ by layer that a search found are not above the bar of one λ on fresh items"
    elif len(above) == len(tested):
        head = (f"Yes, by search: on fresh items of {places}, λ by layer that a search found are "
                f"{above['lead'].min():.0f} to {above['lead'].max():.0f} points above the bar of one λ")  # fmt: skip
    else:
        head = f"In part: λ by layer that a search found are above the bar of one λ on {places} alone"
    if len(beside):
        known = set(above_of(beside)["search"])
        said = [
            f"on {place(name)} they {'are' if name in known else 'are not shown to be'}" for name in beside["search"]
        ]
        head = f"{head}; {'; '.join(dict.fromkeys(said))}"
    if not len(rules):
        return f"{head}."
    winners = rules[(rules["p_adjusted"] < 0.05) & (rules["lead"] > 0)]
    if len(winners):
        return f"{head}; without search of their own, {' and '.join(winners['trial'])} are above it too."
    return f"{head}; no λ without a search of its own is shown to be."


def families(table: pd.DataFrame) -> list[str]:
    """The searches between the first and all others together."""
    names = [*dict.fromkeys(table["search"])]
    return names[1 : names.index(ALL)] if ALL in names else []


def above_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are shown to be above the bar."""
    return rows[(rows["p_adjusted"] < 0.05) & (rows["lead"] > 0)]


def place(search: str) -> str:
    """The models of a search in words."""
    return {"abacus": "the shipped family", ALL: "the fresh families", "smol": "the pretrained weights of smol"}.get(
        search, search
    )


def arms_told(table: pd.DataFrame, targets: dict[str, float]) -> list[str]:
    """What each row of the summary says, of the first search and of all others together."""
    found = []
    shown = table[~table["search"].isin(families(table))]
    for (search, target), part in shown.groupby(["search", "target"], sort=False):
        search, target = str(search), str(target)
        rows = part.set_index("sampler")
        sampler, *_ = [name for name in rows.index if name != "random"]
        row = rows.loc[sampler]
        length = f", {targets[target]:.0f} tokens" if search == table["search"].iloc[0] else ""
        text = (
            f"Of {place(search)} at {target_told(target)}{length}: {SAMPLERS[sampler]} {told(row, 'lead', 'points')} "
            f"above the bar (mean of {counted(int(row['n']), 'search')}; less than {row['detectable']:.1f} would have "
            f"been missed), against the one λ of the same items {told(row, 'righter', 'points')} and "
            f"{told(row, 'longer', 'tokens', 0)}, optimism {row['optimism']:+.1f}"
        )
        if "random" in rows.index:
            text += f"; random search {told(rows.loc['random'], 'lead', 'points')}"
        found.append(f"{text}.".replace("searchs", "searches"))
    return found


def target_told(target: str) -> str:
    """A target's label in words."""
    return f"{target[:-1]} tokens" if target.endswith("t") else f"the length where one λ has {target} % of its best"


def layers_told(table: pd.DataFrame, flat: pd.DataFrame) -> list[str]:
    """Where the found λ agree, and which of them matter. table: of ``coefficients``. flat: of ``flatness``."""
    ends = table.groupby("layer", sort=False)["coefficient"].agg(["min", "max", "mean"])
    points = table.groupby(["search", "target", "seed"]).ngroups
    below, high = [*ends.index[ends["max"] < 0]], [*ends.index[ends["min"] > table["coefficient"].mean()]]
    found = [
        f"Over {counted(points, 'point')}, λ is below 0 in {listed(below)} every time, and above the mean of all λ in "
        f"{listed(high)} every time."
    ]
    if len(flat):
        worst = flat.sort_values("lost").iloc[-1]
        cheap = int((flat["lost"] < WORTH).sum())
        found.append(
            f"Of single λ set back to their mean, {worst['what']} costs most ({told(worst, 'lost', 'points')}); "
            f"{cheap} of {len(flat)} cost less than {WORTH:g} points."
        )
    return found


def listed(layers: list[str]) -> str:
    """Layers in words."""
    return ", ".join(f"block {x}" if x[0].isdigit() else {"embed": "the embedding", "lm_head": "the head"}.get(x, x)
                     for x in layers) or "no layer"  # fmt: skip


def rules_told(rules: pd.DataFrame, ranks: pd.DataFrame) -> list[str]:
    """What was had without search. ranks: of ``order_of_layers``."""
    found = []
    if len(ranks.columns):
        where = "others" if "others" in ranks else ranks.columns[0]
        best = str(ranks[where].abs().idxmax())
        found.append(
            f"Of {counted(len(ranks), 'quantity').replace('quantitys', 'quantities')} that can be known beforehand, "
            f"{best} orders the layers most as the found λ do (ρ {ranks[where][best]:+.2f})."
        )
    for _, row in rules.iterrows():
        missed = f"; less than {row['detectable']:.1f} would have been missed" if row["p_adjusted"] >= 0.05 else ""
        found.append(f"{row['trial']}: {told(row, 'lead', 'points')} above the bar{missed}.")
    return found


def verdict_of(
    table: pd.DataFrame,
    found: pd.DataFrame,
    flat: pd.DataFrame,
    rules: pd.DataFrame,
    ranks: pd.DataFrame,
    first: Judged,
) -> tuple[str, dict[str, Any]]:
    """The verdict, and the numbers that it is made of.

    table: of ``summary``. found: of ``coefficients``. flat: of ``flatness``. rules: of :func:`tested_rules`. ranks: of
    ``order_of_layers``. first: the search with several seeds.
    """
    sentences = [answer(table, rules), *arms_told(table, first.targets), *layers_told(found, flat)]
    sentences += rules_told(rules, ranks)
    numbers = {"summary": table, "rules": rules, "flatness": flat, "coefficients": found,
               "ranks": ranks.rename_axis("quantity").reset_index()}  # fmt: skip
    return " ".join(sentences), {name: part.to_dict("records") for name, part in numbers.items()}
