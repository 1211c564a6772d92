"""Question 2: do the coefficients matter?

Merges with ACM's λ are compared with merges that have other λ: uniform λ of the same mean; ACM's λ permuted, reversed,
or assigned by the size of the task vector; λ of noise; λ with other shifts. They are compared twice: by their points
above the bar at their own length, and by accuracy and length on the same items.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.registry import SHIFTS
from acm.calibration.texts import read_texts, select_texts
from acm.questions import variants
from acm.questions.study import APART, Coefficients, Study, apart, apart_columns, counted, inside
from acm.questions.variants import Layers
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS
from acm.reporting.statistics import (
    Sample,
    above_bar,
    average,
    bootstrap_p,
    describe,
    holm,
    least_detectable,
    over_draws,
)
from acm.reporting.tables import cell

QUESTION = "Do the coefficients matter?"
KINDS = {  # kind of λ → its name in words
    "acm": "ACM",
    "uniform": "uniform λ, same mean",
    "null": "λ of Gaussian noise",
    "permuted": "λ permuted over layers",
    "reversed": "order of λ reversed",
    "magnitude": "ACM's λ dealt by size of the task vector",
    "layer": "ACM, shift layer",
    "global": "ACM, shift global",
    "none": "ACM, no shift",
    "uniform-layer": "uniform, mean of shift layer",
    "uniform-global": "uniform, mean of shift global",
    "uniform-none": "uniform, mean without shift",
    "ties": "ACM-TIES",
    "uniform-ties": "TIES with uniform λ, same mean",
    "null-ties": "TIES with λ of Gaussian noise",
}
CONTROL_OF = {  # kind → the kind that it is compared with
    "uniform": "acm",
    "null": "acm",
    "permuted": "acm",
    "reversed": "acm",
    "magnitude": "acm",
    "uniform-layer": "layer",
    "uniform-global": "global",
    "uniform-none": "none",
    "uniform-ties": "ties",
    "null-ties": "ties",
}
OWN = {"uniform", "null"}  # kinds with a merge for each calibration draw; other kinds use the λ of the first draw
TIES = {"merge_method": "ties", "parameters": {"density": 0.2}}
HEADS = {  # verdict on the lead over uniform λ → the answer's first sentence
    "above": "Yes: they beat one λ for all layers at the same mean.",
    "below": "Not for the better: one λ for all layers at the same mean is ahead.",
    "outside": "Undecided: the lengths lie outside the frontier.",
    "no difference shown": "No difference shown between them and one λ for all layers at the same mean.",
}


def draw_coefficients(
    study: Study, pool: pd.DataFrame, seeds: list[int], shift: str, control: str = "none"
) -> list[Coefficients]:
    """λ of calibration sets, which K-means with these seeds chooses from the texts of ``pool`` (their MI table)."""
    source = study.setting.calibration
    texts = read_texts(source.source, source.field)[: pool["sample"].nunique()]
    place = {text: i for i, text in enumerate(texts)}
    found = []
    for seed in seeds:
        chosen = [place[text] for text in select_texts(texts, source.clusters, source.per_cluster, seed)]
        part = pool[pool["sample"].isin(chosen)]
        found.append(coefficients_from_table(part, study.setting.t, shift, control, study.setting.estimator))
    return found


def merges(study: Study, pool: pd.DataFrame, seeds: list[int], permutations: int) -> dict[str, dict]:
    """``<kind> <draw>`` → what to merge.

    pool: the MI table of many texts. A draw is a calibration set; permutations and single variants belong to the first.
    """
    shift = study.setting.shift
    real, null = (draw_coefficients(study, pool, seeds, shift, control) for control in ("none", "gaussian"))
    first, (base, finetuned) = real[0], study.models
    sizes = {name: variants.magnitudes(base, path) for name, path in finetuned.items()}
    found: dict[str, Coefficients] = {}
    for i, (acm, noise) in enumerate(zip(real, null, strict=True)):
        found |= {f"acm {i}": acm, f"uniform {i}": each(variants.uniform, acm), f"null {i}": noise}
    found |= {f"permuted {i}": each(variants.permuted, first, i) for i in range(permutations)}
    found["reversed 0"] = each(variants.reversed_order, first)
    found["magnitude 0"] = {name: variants.ranked(layers, sizes[name]) for name, layers in first.items()}
    for other in (s for s in SHIFTS if s != shift):
        shifted = draw_coefficients(study, pool, seeds[:1], other)[0]
        found |= {f"{other} 0": shifted, f"uniform-{other} 0": each(variants.uniform, shifted)}
    ties = {"ties 0": first, "uniform-ties 0": each(variants.uniform, first), "null-ties 0": null[0]}
    plain = {name: {"coefficients": coefficients} for name, coefficients in found.items()}
    return plain | {name: {"coefficients": coefficients, **TIES} for name, coefficients in ties.items()}


def each(change: Callable[..., Layers], coefficients: Coefficients, *arguments: Any) -> Coefficients:
    """The coefficients of each fine-tuned model, changed."""
    return {name: change(layers, *arguments) for name, layers in coefficients.items()}


def names_of(sample: Sample, kind: str) -> list[str]:
    """The merges of a kind."""
    return [m for m in sample.methods if m.rpartition(" ")[0] == kind]


def comparison(sample: Sample, frontier: list[str]) -> pd.DataFrame:
    """One row for each kind of λ, with 95 % intervals over items and calibration draws; means over draws.

    accuracy (percent), length (tokens). above: points of accuracy above the bar at this length or shorter. lead: ACM's
    points above the bar less this kind's. righter, longer: ACM's accuracy (points) and length (tokens) less this
    kind's. These three are paired by item and, for uniform and null, by calibration draw; the other kinds are compared
    with ACM's first draw. p: of the lead; p_adjusted: by Holm for all leads that were tested. A lead over merges that
    get the same items right is a price of tokens alone, and is not tested. detectable: the smallest true lead that such
    a test finds (80 % power). verdict: on the lead, by p_adjusted. merges: how many. outside: how many of them have a
    length outside the frontier's range. One such merge leaves its kind without points and lead.
    """
    above = {m: above_bar(sample, m, frontier) for kind in KINDS for m in names_of(sample, kind)}
    rows = []
    for kind in KINDS:
        names = names_of(sample, kind)
        if not names:
            continue
        outside = sum(statistics.verdict(above[m]) == "outside" for m in names)
        row: dict[str, Any] = {"kind": kind, "merges": len(names), "outside": outside}
        measures = {
            "accuracy": ([average(sample, m) for m in names], 100),
            "length": ([average(sample, m, "length") for m in names], 1),
            "above": ([above[m] for m in names], 100),
        }
        for what, (values, scale) in measures.items():
            row |= interval_columns(what, describe(inside(over_draws(np.array(values))), scale))
        if kind in CONTROL_OF:
            row |= lead_over(kind, names, above, sample)
        rows.append(row)
    return judged(pd.DataFrame(rows)) if any("lead" in row for row in rows) else pd.DataFrame(rows)


def lead_over(kind: str, names: list[str], above: dict[str, np.ndarray], sample: Sample) -> dict[str, Any]:
    """lead, righter, longer, p and error of ACM over the merges of a kind. above: merge → points above the bar."""
    pairs = paired(kind, names)
    lead = inside(over_draws(np.array([above[ours] - above[theirs] for ours, theirs in pairs])))
    found = apart(sample, pairs)
    tested = not np.isnan(lead[0]) and np.abs(found["righter"]).max() > statistics.ROUNDING
    p, error = (bootstrap_p(lead), 100 * float(np.nanstd(lead[1:]))) if tested else (np.nan, np.nan)
    return {**interval_columns("lead", describe(lead)), **apart_columns(found), "p": p, "error": error}


def paired(kind: str, names: list[str]) -> list[tuple[str, str]]:
    """The merge with ACM's λ that each merge of a kind is compared with, and that merge."""
    return [(f"{CONTROL_OF[kind]} {name.rpartition(' ')[2] if kind in OWN else 0}", name) for name in names]


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with p_adjusted, detectable and the verdict: above, below, no difference shown, or outside."""
    tested, compared = table["p"].notna(), table["kind"].isin(CONTROL_OF)
    table.loc[tested, "p_adjusted"] = holm(table.loc[tested, "p"].to_numpy(float))
    table["detectable"] = [least_detectable(error, max(1, tested.sum())) for error in table.pop("error")]
    known = table.loc[compared, "lead"].notna()
    table.loc[compared, "verdict"] = np.where(known, "no difference shown", "outside")
    shown = tested & (table["p_adjusted"] < 0.05)
    table.loc[shown, "verdict"] = np.where(table.loc[shown, "lead"] > 0, "above", "below")
    return table


def draw(table: pd.DataFrame) -> Figure:
    """Points above the bar by kind of λ, and ACM's lead over each kind.

    Bars: 95 %. Grey: leads smaller than could have been detected. table: of :func:`comparison`.
    """
    figure, panels = plt.subplots(1, 2, figsize=(13, 0.45 * len(table) + 1.6), sharey=True)
    places = len(table) - 1 - np.arange(len(table))
    for axes, what in zip(panels, ("above", "lead"), strict=True):
        known = table[what].notna().to_numpy()
        part, heights = table[known], places[known]
        if what == "lead":
            least, words = part["detectable"], "smaller than could be detected"
            axes.barh(heights, 2 * least, left=-least, height=0.75, color="0.9", label=words)
        for y, row in zip(heights, part.to_dict("records"), strict=True):
            colour = COLOURS["control" if row["kind"] in CONTROL_OF else "acm"]
            arms = [[max(0.0, row[what] - row[f"{what}_low"])], [max(0.0, row[f"{what}_high"] - row[what])]]
            axes.errorbar(row[what], y, xerr=arms, fmt="o", color=colour, capsize=3)
        axes.axvline(0, color="0.3", lw=0.8)
    panels[0].set_yticks(places, [label(row) for row in table.to_dict("records")])
    panels[0].set_xlabel("points of accuracy above the bar")
    panels[1].set_xlabel("lead of ACM over it, points above the bar")
    panels[1].legend(loc="upper right", fontsize=9)  # ACM has no lead over itself
    return figure


def label(row: dict[Hashable, Any]) -> str:
    """A kind of λ in words, with the number of its merges."""
    outside = f", {row['outside']} outside the frontier" if row["outside"] else ""
    return f"{KINDS[row['kind']]} ({row['merges']}{outside})"


def verdict(table: pd.DataFrame, base_length: float) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of.

    table: of :func:`comparison`. base_length: the base's mean length, tokens.
    """
    rows = {str(row["kind"]): {str(column): value for column, value in row.items()} for row in table.to_dict("records")}
    kinds = [kind for kind in CONTROL_OF if kind in rows]
    columns = ("lead", "lead_low", "lead_high", "detectable", "p_adjusted", "verdict", "merges", "outside")
    differences = [f"{what}{end}" for what in APART for end in ("", "_low", "_high")]
    lead = {kind: {column: rows[kind][column] for column in columns} for kind in kinds}
    above = {kind: {c: row[c] for c in ("above", "above_low", "above_high")} for kind, row in rows.items()}
    same_items = {kind: {column: rows[kind][column] for column in differences} for kind in kinds}
    numbers = {"lead": lead, "above": above, "same_items": same_items}
    numbers |= {"length": {kind: row["length"] for kind, row in rows.items()}}
    parts = [HEADS[lead["uniform"]["verdict"]], over_uniform(lead["uniform"], rows["acm"]), on_the_same_items(rows)]
    if others := [k for k in ("null", "permuted", "reversed", "magnitude") if k in lead]:
        parts.append(f"Lead over other λ: {', '.join(f'{words(lead[k])} ({KINDS[k]})' for k in others)}.")
    if shifts := [k for k in lead if k.startswith("uniform-") and k != "uniform-ties"]:
        of = {k: f"{KINDS[CONTROL_OF[k]]}, {rows[CONTROL_OF[k]]['length']:.0f} tokens" for k in shifts}
        read = ", ".join(f"{words(lead[k])} ({of[k]})" for k in shifts)
        same = "Read otherwise, one calibration set each, its lead over uniform λ at the same mean is"
        parts.append(f"{same} {read}; the base has {base_length:.0f} tokens.")
    parts.append(after_holm(lead))
    return " ".join(parts), numbers


def over_uniform(uniform: dict[str, Any], acm: dict[str, Any]) -> str:
    """ACM's lead over uniform λ in a sentence, or why there is none."""
    draws, least = counted(uniform["merges"], "calibration draw"), uniform["detectable"]
    if uniform["verdict"] == "outside":
        merges = f"{uniform['outside']} of the uniform merges and {acm['outside']} of ACM's"
        return f"Over {draws}, {merges} have a length outside it."
    found = f"Above the bar ACM's lead is {words(uniform)} points over {draws}"
    if np.isnan(least):
        return f"{found}; both get the same items right, so it is not tested."
    return f"{found}, and {least:.1f} points is the least true lead that this design finds in four of five cases."


def on_the_same_items(rows: dict[str, dict[str, Any]]) -> str:
    """What ACM's accuracy and length are less those of uniform λ, and of noise's."""
    told = [
        f"less those of {KINDS[kind]}: {cell(rows[kind], 'righter', 1, signed=True)} points, "
        f"{cell(rows[kind], 'longer', 1, signed=True)} tokens"
        for kind in ("uniform", "null") if kind in rows
    ]  # fmt: skip
    return f"On the same items, ACM's accuracy and length {'; '.join(told)}."


def after_holm(lead: dict[str, dict[str, Any]]) -> str:
    """Which leads can be told from zero, in a sentence. lead: kind → its row."""
    tested = [kind for kind in lead if not np.isnan(lead[kind]["p_adjusted"])]
    stand = [f"that over {KINDS[kind]}" for kind in tested if lead[kind]["verdict"] in ("above", "below")]
    leads = f"Of the {counted(len(tested), 'lead')} that were tested, adjusted together by Holm"
    return f"{leads}, {' and '.join(stand) or 'none'} can be told from zero. The intervals here are not adjusted."


def words(row: dict[str, Any]) -> str:
    """A lead with its interval, or that it has none."""
    return "outside the frontier" if row["verdict"] == "outside" else cell(row, "lead", 2, signed=True)
