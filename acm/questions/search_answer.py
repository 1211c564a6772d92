"""The answer of question 8 in words, from the tables of ``search.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions.search import Judged, adjusted, apart_of
from acm.questions.search_words import (
    NULLS,
    OF_BLOCKS,
    PARTS_TOLD,
    PLACES,
    SAMPLERS,
    listed,
    missed,
    named,
    plainly,
    shown,
    target_told,
    title,
    told,
    where,
)
from acm.questions.study import LEAST, counted, inside
from acm.reporting.intervals import interval_columns
from acm.reporting.messages import joined
from acm.reporting.statistics import bootstrap_p, describe, detectable, over_draws, verdict
from acm.searching.spaces import PARTS

ALONE = "; no λ without a new search is shown to"
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


def answer(table: pd.DataFrame, rules: pd.DataFrame) -> str:
    """The plain sentence.

    table: of :func:`acm.questions.search.summary`, of searches by layer. rules: of :func:`tested_rules`.
    """
    tested = table[table["tested"]]
    above, winners = int(shown(tested, "lead").sum()), len(rules) and shown(rules, "lead").any()
    if not above:
        if not len(rules):
            return "λ by layer from a search are not shown to beat one λ for all."
        if not winners:
            return "λ by layer are not shown to beat one λ for all, with or without a search."
        return "λ by layer from a search are not shown to beat one λ for all, but some λ without a new search are."
    head = f"λ by layer from a search beat one λ for all in {above} of {counted(len(tested), 'test')}"
    if not len(rules):
        return f"{head}."
    return f"{head}{', and some λ without a new search do too' if winners else ALONE}."


def leads(table: pd.DataFrame, rules: pd.DataFrame, nulls: pd.DataFrame, finer: pd.DataFrame) -> list[str]:
    """Where λ by layer lead, and by how much; each a sentence.

    table, rules: of :func:`answer`. nulls: of :func:`acm.questions.search_nulls.null_table`. finer: of ``finer_table``
    there.
    """
    tested = table[table["tested"]]
    won = shown(tested, "lead")
    above, others, found = tested[won], tested[~won], []
    if len(above):
        low, high = above["lead"].min(), above["lead"].max()
        size = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
        found.append(f"On fresh items of {where(above, tested)}, λ from a search lie {size} points above the bar.")
    if len(others):
        found.append(f"On fresh items of {where(others, tested)}, no lead over one λ is shown.")
    if len(above) and len(finer):
        won = shown(finer, "less")
        few = f"{finer['few'].iloc[0]} λ that blocks share"
        at = joined([*map(target_told, finer.loc[won, "target"])])
        more = f", except at {at}" if won.any() and not won.all() else ""
        found.append(f"λ for every layer are {'' if won.all() else 'not '}shown to beat {few}{more}.")
    if not len(rules):
        return found
    winners = [*rules.loc[shown(rules, "lead"), "trial"]]
    if not winners:
        return [*found, "Without a new search, no λ are shown to lead on the fresh families."]
    found.append(f"Without a new search, {named(winners)} lead on the fresh families.")
    return found + beyond_nulls(winners, nulls)


def beyond_nulls(winners: list[str], nulls: pd.DataFrame) -> list[str]:
    """Which of the winners that have null merges are more than those that take away which block has which λ."""
    if not len(nulls):
        return []
    won = set(nulls.loc[shown(nulls, "less"), ["of", "null"]].itertuples(index=False, name=None))
    left = [trial for trial in winners if all((trial, null) in won for null in OF_BLOCKS)]
    lead = f"Of these λ, {named(left)}" if left else "None of these λ"
    return [f"{lead} are shown to beat both of their null merges, where λ of blocks are all alike or dealt at random."]


def arms_told(table: pd.DataFrame, targets: dict[str, float]) -> list[str]:
    """What each tested row of the summary says, with random search beside it. targets: of the first search."""
    found = []
    for _, row in table[table["tested"]].iterrows():
        place, target = PLACES.get(row["search"], row["search"]), row["target"]
        here = (
            f" ({targets[target]:.0f} tokens)" if row["search"] == table["search"].iloc[0] and target in targets else ""
        )
        head = f"Search of {place} at {target_told(target)}{here}"
        if not np.isfinite(row["lead"]):
            found.append(f"{head}: outside the bar's range.")
            continue
        parts = [
            f"{SAMPLERS[row['sampler']]} {told(row, 'lead', 'points')} above the bar, mean of "
            f"{counted(int(row['n']), 'best point')} ({LEAST}: {row['detectable']:.1f})",
            f"{SAMPLERS[row['sampler']]} minus the one λ that the same items chose {told(row, 'righter', 'points')} "
            f"and {told(row, 'longer', 'tokens', 0)}",
            f"accuracy on the items that chose minus that on fresh items {row['optimism']:+.1f} points",
        ]
        same = table[(table["search"] == row["search"]) & (table["target"] == target) & (table["sampler"] == "random")]
        parts += [f"random search {told(other, 'lead', 'points')} above the bar" for _, other in same.iterrows()]
        found.append(f"{head}: {'; '.join(parts)}.")
    return found


def layers_told(table: pd.DataFrame, flat: pd.DataFrame) -> list[str]:
    """Where the found λ agree, and which of them matter.

    table: of ``coefficients``, of all searches; the first target of each, and layers that all have. flat: of
    ``flatness``.
    """
    table = table[table["target"] == table.groupby("search")["target"].transform("first")]
    points = table.groupby(["search", "target", "seed"]).ngroups
    ends = table.groupby("layer", sort=False)["coefficient"].agg(["min", "max", "size"]).query("size == @points")
    below, high = [*ends.index[ends["max"] < 0]], [*ends.index[ends["min"] > table["coefficient"].mean()]]
    all_points = f"In all {counted(points, 'best point')} at the first target length λ is"
    found = [f"{all_points} below 0 in {listed(below)}.", f"{all_points} above the mean of all λ in {listed(high)}."]
    for target, part in flat.dropna(subset=["lost"]).groupby("target", sort=False):
        single, whole = part[~part["what"].isin(PARTS)], part[part["what"].isin(PARTS)]
        if len(single):
            worst = single.sort_values("lost").iloc[-1]
            parts = [f"{listed([worst['what']])}, the most of single layers, {told(worst, 'lost', 'points')}"]
            parts += [
                f"{PARTS_TOLD[row['what']]} of all blocks {told(row, 'lost', 'points')}" for _, row in whole.iterrows()
            ]
            parts.append(f"{(single['lost'] < WORTH).sum()} of {len(single)} single layers less than {WORTH:g} points")
            found.append(f"Lost where λ go back to the mean of all, at {target_told(str(target))}: {'; '.join(parts)}.")
    return found


def rules_told(rules: pd.DataFrame, ranks: pd.DataFrame) -> list[str]:
    """What was had without search. ranks: of ``order_of_layers``; depth is a control there."""
    found = []
    known = ranks.drop(index="depth", errors="ignore").dropna(subset=["p_adjusted"]) if len(ranks) else ranks
    if len(known):
        first = known.columns[0]
        best = str(known[first].abs().idxmax())
        ordering = [plainly(str(name)) for name in known.index[known["p_adjusted"] < 0.05]]
        found += [
            f"Of {len(known)} quantities that can be known beforehand, {plainly(best)} goes most with the found λ over "
            f"the layers (rank correlation {known[first][best]:+.2f}, and {known['others'][best]:+.2f} on average "
            "over other families).",
            f"Of these quantities, {joined(ordering) or 'none'} {'are' if len(ordering) > 1 else 'is'} shown to go "
            "with the found λ.",
        ]
    return found + leads_told(rules, "the fresh families")


def leads_told(rules: pd.DataFrame, place: str) -> list[str]:
    """The leads of λ without a search of their own, in a sentence. place: the models, in words."""
    parts = [
        f"{title(row['trial'])} {told(row, 'lead', 'points')}{missed(row)}"
        if np.isfinite(row["lead"])
        else f"{title(row['trial'])} in the bar's range for {row['within']} of {counted(row['searches'], 'pair')} alone"
        for _, row in rules.iterrows()
    ]
    return [f"Without a new search, above the bar over {place}: {'; '.join(parts)}."] if parts else []


def nulls_told(at_home: pd.DataFrame, nulls: pd.DataFrame, finer: pd.DataFrame) -> list[str]:
    """What is lost without the place of each λ.

    at_home: of the best points of the first search, over items alone. nulls: of the fresh families. finer: of
    ``finer_table``.
    """
    found = ["The next losses are of accuracy minus the price of each token above the target length."]
    for place, part in (("the shipped family, over items alone", at_home), ("the fresh families", nulls)):
        for of, rows in part.groupby("of", sort=False) if len(part) else ():
            losses = "; ".join(f"{told(row, 'less', 'points')} {NULLS[row['null']]}" + missed(row)
                               for _, row in rows.iterrows())  # fmt: skip
            found.append(f"Lost on {place}, by {title(str(of))}: {losses}.")
    for _, row in finer.iterrows():
        place = PLACES.get(row["search"], row["search"])
        found.append(
            f"λ for every layer minus the best of {place}, at {target_told(row['target'])}: "
            f"{told(row, 'less', 'points')}{missed(row)}."
        )
    return found if len(found) > 1 else []


def verdict_of(tables: dict[str, pd.DataFrame], first: Judged) -> tuple[str, dict[str, Any]]:
    """The verdict, and the numbers that it is made of.

    tables: ``summary``, ``coefficients``, ``flatness`` of the functions of these names; ``ranks`` of
    ``order_of_layers``; ``rules`` of :func:`tested_rules` over the fresh families, ``elsewhere`` over other models;
    ``nulls`` of ``null_table`` over the families, ``at_home`` over the first search, ``finer`` of ``finer_table``.
    first: the search with several seeds.
    """
    table, rules, nulls, finer = (tables[name] for name in ("summary", "rules", "nulls", "finer"))
    by_layer = table[~table["search"].isin(finer["search"] if len(finer) else [])]
    sentences = [answer(by_layer, rules), *leads(by_layer, rules, nulls, finer), *arms_told(table, first.targets)]
    sentences.append(f'Where "not shown" stands below, the number beside it is the {LEAST}.')
    sentences += layers_told(tables["coefficients"], tables["flatness"]) + rules_told(rules, tables["ranks"])
    sentences += nulls_told(tables["at_home"], nulls, finer) + leads_told(tables["elsewhere"], PLACES["smol"])
    stored = tables | {"ranks": tables["ranks"].rename_axis("quantity").reset_index()}
    return " ".join(sentences), {name: part.to_dict("records") for name, part in stored.items()}
