"""The answer of question 8 in words, from the tables of ``search.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions.search import ALL, Judged, adjusted, apart_of
from acm.questions.search_nulls import BEST
from acm.questions.search_points import MOVED, RANKS
from acm.questions.study import counted, inside
from acm.reporting.intervals import interval_columns, interval_in, interval_text
from acm.reporting.statistics import bootstrap_p, describe, detectable, over_draws, verdict
from acm.searching.spaces import PARTS

SAMPLERS = {"cmaes": "CMA-ES", "tpe": "TPE", "nsga2": "NSGA-II", "random": "random search"}
PLACES = {"abacus": "the shipped family", "four": "the shipped family with four λ", ALL: "the fresh families",
          "smol": "the pretrained weights of smol"}  # fmt: skip
NULLS = {"blocks alike": "where all blocks share their mean λ", "blocks dealt": "where the λ of the blocks are dealt "
         "to them at random", "head alone": "where all but the head share one λ"}  # fmt: skip
OF_BLOCKS = ("blocks alike", "blocks dealt")  # nulls that take away which block has which λ, and that alone
TITLES = {
    "best λ, moved": "the best λ moved from the shipped family",
    "mean λ, moved": "the mean λ of its seeds moved from the shipped family",
    "best λ of four, moved": "the best four λ moved from the shipped family",
    "mean λ of four, moved": "the mean four λ moved from the shipped family",
}  # fmt: skip
PARTS_TOLD = {"attention": "attention", "mlp": "MLP"}
WORTH = 2.0  # points; a λ that is worth less at the best point is said to be worth little


def tested_rules(searches: list[Judged]) -> pd.DataFrame:
    """The λ that were had without a search of their own, over the searches that did not find them.

    One row for each trial that all of these have: trial, kind, lead (points above the bar, mean over searches); righter
    (points) and longer (tokens): less one λ's at the target; each with 95 % intervals over items and searches.
    p_adjusted by Holm for all rows; detectable. above: searches whose own interval of the lead is above 0; within:
    searches in which it lies in the bar's range. Where that is not all, there is no lead.
    """
    names = [set(judged.trials["trial"]) if len(judged.trials) else set() for judged in searches]
    shared = set.intersection(*names) if names else set()
    rows = []
    for _, trial in (searches[0].trials if shared else pd.DataFrame()).iterrows():
        if trial["kind"] in ("one", "control") or trial["trial"] not in shared:
            continue
        leads = [inside(judged.lead(trial["trial"])) for judged in searches]
        together = inside(over_draws(np.array(leads)))
        rows.append({
            "trial": trial["trial"], "kind": trial["kind"], **interval_columns("lead", describe(together)),
            **apart_of(searches, trial["trial"]), "p": bootstrap_p(together), "detectable": 100 * detectable(together),
            "above": sum(verdict(lead) == "above" for lead in leads), "searches": len(searches),
            "within": int(np.isfinite([lead[0] for lead in leads]).sum()),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_adjusted=adjusted(table["p"])) if len(table) else table


def told(row: Any, name: str, unit: str, digits: int = 1) -> str:
    """A signed value with its interval and unit."""
    return f"{interval_text(**interval_in(row, name), signed=True, digits=digits)} {unit}"


def answer(table: pd.DataFrame, rules: pd.DataFrame, nulls: pd.DataFrame, finer: pd.DataFrame) -> str:
    """The plain sentence.

    table: of :func:`acm.questions.search.summary`, of searches by layer. rules: of :func:`tested_rules`. nulls: of
    :func:`acm.questions.search_nulls.null_table`. finer: of ``finer_table`` there.
    """
    tested = table[table["tested"]]
    won = shown(tested, "lead")
    above, others = tested[won], tested[~won]
    if not len(above):
        head = "None is shown to: λ by layer that a search found are not shown to be above the bar of one λ"
    else:
        low, high = above["lead"].min(), above["lead"].max()
        size = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
        yes = "In part" if len(others) else "Yes"
        head = (f"{yes}, by search: on fresh items of {where(above, tested)} λ by layer that a search found are {size} "
                "points above the bar of one λ")  # fmt: skip
        if len(finer):
            head += f", but not shown to beat {finer['few'].iloc[0]} λ, which blocks share"
            more = ", ".join(finer.loc[shown(finer, "less"), "target"])
            head += f" (but at {more} %)" if more else ""
        head += f"; on {where(others, tested)} no lead is shown" if len(others) else ""
    if not len(rules):
        return f"{head}."
    winners = [*rules.loc[shown(rules, "lead"), "trial"]]
    if not winners:
        return f"{head}; no λ without a search of its own is shown to be."
    head += f"; without a search of their own, {named(winners)} lead on the fresh families too"
    return f"{head}{beyond_nulls(winners, nulls)}."


def beyond_nulls(winners: list[str], nulls: pd.DataFrame) -> str:
    """Which of the winners that have null merges are more than those that take away which block has which λ."""
    if not len(nulls):
        return ""
    won = set(nulls.loc[shown(nulls, "less"), ["of", "null"]].itertuples(index=False, name=None))
    left = [trial for trial in winners if all((trial, null) in won for null in OF_BLOCKS)]
    which = f"of which {named(left)}" if left else "but none"
    return f", {which} more than with the λ of the blocks alike or dealt at random"


def shown(rows: pd.DataFrame, name: str) -> pd.Series:
    """Whether a column is shown to be above 0, after Holm."""
    return (rows["p_adjusted"] < 0.05) & (rows[name] > 0)


def named(trials: list[str]) -> str:
    """Trials in few words."""
    ranks = " and of ".join(trial.removeprefix(RANKS) for trial in trials if trial.startswith(RANKS))
    found = ["λ moved from the shipped family"] if any(trial.endswith(MOVED) for trial in trials) else []
    found += [f"λ by the ranks of {ranks}"] if ranks else []
    found += [trial for trial in trials if not trial.endswith(MOVED) and not trial.startswith(RANKS)]
    return " and ".join(found)


def title(trial: str) -> str:
    """A trial in words."""
    if trial.startswith(BEST):
        return f"the best λ at {target_told(trial.removeprefix(BEST))}"
    return TITLES.get(trial, f"λ by the {trial}" if trial.startswith(RANKS) else trial)


def where(rows: pd.DataFrame, tested: pd.DataFrame) -> str:
    """The searches of some tested rows in words, with their targets where not all of the search's are among them."""
    named = []
    for name in dict.fromkeys(rows["search"]):
        targets = [*rows.loc[rows["search"] == name, "target"]]
        part = len(targets) < (tested["search"] == name).sum()
        named.append(PLACES.get(name, name) + (f" at {', '.join(targets)} %" if part else ""))
    return " and ".join(named)


def arms_told(table: pd.DataFrame, targets: dict[str, float]) -> list[str]:
    """What each tested row of the summary says, with random search beside it. targets: of the first search."""
    found = []
    for _, row in table[table["tested"]].iterrows():
        place, target = PLACES.get(row["search"], row["search"]), row["target"]
        here = (
            f" ({targets[target]:.0f} tokens)" if row["search"] == table["search"].iloc[0] and target in targets else ""
        )
        if not np.isfinite(row["lead"]):
            found.append(f"Of {place} at {target_told(target)}{here}: outside the range of one λ.")
            continue
        text = (
            f"Of {place} at {target_told(target)}{here}: {SAMPLERS[row['sampler']]} {told(row, 'lead', 'points')} "
            f"above the bar (mean of {counted(int(row['n']), 'point')}; less than {row['detectable']:.1f} would have "
            f"been missed), against the one λ of the same items {told(row, 'righter', 'points')} and "
            f"{told(row, 'longer', 'tokens', 0)}, optimism {row['optimism']:+.1f} points"
        )
        same = table[(table["search"] == row["search"]) & (table["target"] == target) & (table["sampler"] == "random")]
        text += "".join(f"; random search {told(other, 'lead', 'points')}" for _, other in same.iterrows())
        found.append(f"{text}.")
    return found


def target_told(target: str) -> str:
    """A target's label in words."""
    if not target:
        return "any length"
    return f"{target[:-1]} tokens" if target.endswith("t") else f"the length where one λ has {target} % of its best"


def layers_told(table: pd.DataFrame, flat: pd.DataFrame) -> list[str]:
    """Where the found λ agree, and which of them matter.

    table: of ``coefficients``, of all searches; the first target of each, and layers that all have. flat: of
    ``flatness``.
    """
    table = table[table["target"] == table.groupby("search")["target"].transform("first")]
    points = table.groupby(["search", "target", "seed"]).ngroups
    ends = table.groupby("layer", sort=False)["coefficient"].agg(["min", "max", "size"]).query("size == @points")
    below, high = [*ends.index[ends["max"] < 0]], [*ends.index[ends["min"] > table["coefficient"].mean()]]
    found = [
        f"In all {counted(points, 'point')} at the first target, λ is below 0 in {listed(below)}, and above the mean "
        f"of all λ in {listed(high)}."
    ]
    for target, part in flat.dropna(subset=["lost"]).groupby("target", sort=False):
        single, whole = part[~part["what"].isin(PARTS)], part[part["what"].isin(PARTS)]
        if len(single):
            worst = single.sort_values("lost").iloc[-1]
            found.append(
                f"Of single λ set back to the mean of all at {target_told(str(target))}, that of "
                f"{listed([worst['what']])} costs most ({told(worst, 'lost', 'points')}); "
                f"{(single['lost'] < WORTH).sum()} of {len(single)} cost less than {WORTH:g} points"
                + "".join(
                    f"; {PARTS_TOLD[row['what']]} of all blocks {told(row, 'lost', 'points')}"
                    for _, row in whole.iterrows()
                )
                + "."
            )
    return found


def listed(layers: list[str]) -> str:
    """Layers in words."""
    words = {"embed": "the embedding", "lm_head": "the head", "norm": "the last norm"}
    return ", ".join(words.get(layer, f"block {layer}") for layer in layers) or "no layer"


def rules_told(rules: pd.DataFrame, ranks: pd.DataFrame) -> list[str]:
    """What was had without search. ranks: of ``order_of_layers``; depth is a control there."""
    found = []
    known = ranks.drop(index="depth", errors="ignore").dropna(subset=["p_adjusted"]) if len(ranks) else ranks
    if len(known):
        first = known.columns[0]
        best = str(known[first].abs().idxmax())
        ordering = [str(name) for name in known.index[known["p_adjusted"] < 0.05]]
        found.append(
            f"Of {len(known)} quantities that can be known beforehand, {best} orders the layers most as the found λ do "
            f"(ρ {known[first][best]:+.2f}; {known['others'][best]:+.2f} in the mean over other families); "
            f"{' and '.join(ordering) or 'none'} of them is shown to."
        )
    return found + leads_told(rules, "the fresh families")


def leads_told(rules: pd.DataFrame, place: str) -> list[str]:
    """The leads of λ without a search of their own. place: the models, in words."""
    found = []
    for _, row in rules.iterrows():
        name = f"Over {place}, {title(row['trial'])}"
        if not np.isfinite(row["lead"]):
            found.append(f"{name}: in the bar's range in {row['within']} of {counted(row['searches'], 'pair')}.")
            continue
        missed = f"; less than {row['detectable']:.1f} would have been missed" if row["p_adjusted"] >= 0.05 else ""
        found.append(f"{name}: {told(row, 'lead', 'points')} above the bar{missed}.")
    return found


def nulls_told(at_home: pd.DataFrame, nulls: pd.DataFrame, finer: pd.DataFrame) -> list[str]:
    """What is lost without the place of each λ.

    at_home: of the best points of the first search, over items alone. nulls: of the fresh families. finer: of
    ``finer_table``.
    """
    found = ["What follows is accuracy less the price of each token above the target."]
    for place, part in (("the shipped family, over items alone", at_home), ("the fresh families", nulls)):
        for of, rows in part.groupby("of", sort=False) if len(part) else ():
            losses = ", ".join(f"{told(row, 'less', 'points')} {NULLS[row['null']]}" + missed(row)
                               for _, row in rows.iterrows())  # fmt: skip
            found.append(f"On {place}, {title(str(of))} lose {losses}.")
    for _, row in finer.iterrows():
        place = PLACES.get(row["search"], row["search"])
        found.append(
            f"λ for every layer less the best of {place}, at {target_told(row['target'])}: "
            f"{told(row, 'less', 'points')}{missed(row)}."
        )
    return found if len(found) > 1 else []


def missed(row: Any) -> str:
    """What would have been missed where nothing is shown."""
    return "" if row["p_adjusted"] < 0.05 else f" (not shown; less than {row['detectable']:.1f} would have been missed)"


def verdict_of(tables: dict[str, pd.DataFrame], first: Judged) -> tuple[str, dict[str, Any]]:
    """The verdict, and the numbers that it is made of.

    tables: ``summary``, ``coefficients``, ``flatness`` of the functions of these names; ``ranks`` of
    ``order_of_layers``; ``rules`` of :func:`tested_rules` over the fresh families, ``elsewhere`` over other models;
    ``nulls`` of ``null_table`` over the families, ``at_home`` over the first search, ``finer`` of ``finer_table``.
    first: the search with several seeds.
    """
    table, rules, nulls, finer = (tables[name] for name in ("summary", "rules", "nulls", "finer"))
    by_layer = table[~table["search"].isin(finer["search"] if len(finer) else [])]
    sentences = [answer(by_layer, rules, nulls, finer), *arms_told(table, first.targets)]
    sentences += layers_told(tables["coefficients"], tables["flatness"]) + rules_told(rules, tables["ranks"])
    sentences += nulls_told(tables["at_home"], nulls, finer) + leads_told(tables["elsewhere"], PLACES["smol"])
    stored = tables | {"ranks": tables["ranks"].rename_axis("quantity").reset_index()}
    return " ".join(sentences), {name: part.to_dict("records") for name, part in stored.items()}
