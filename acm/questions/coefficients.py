"""Question 2: do the coefficients matter?

Merges with ACM's λ are compared with merges that have other λ: uniform λ of the same mean; ACM's λ permuted, reversed,
or assigned by the size of the task vector; λ of noise; λ with other shifts. They are compared twice: by their points
above the bar at their own length, and by accuracy and length on the same items. ``fresh.py`` repeats the decisive
comparisons on more items, ``coefficients_answer.py`` puts all into words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.calibration.coefficients import coefficients_from_table, uniform
from acm.calibration.nulls import Layers, permuted
from acm.calibration.registry import SHIFTS
from acm.calibration.texts import read_texts, select_texts
from acm.errors import UserError, unknown
from acm.questions import variants
from acm.questions.messages import on_leads
from acm.questions.study import Coefficients, Study, apart, inside
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS, TEXT, mark_better, sheet
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

QUESTION = "Do the coefficients matter?"
FAR = 5.0  # points from the kinds' median: a kind farther off would hide the others' differences
LETTERS = 23  # of a row's name in a figure, on one line
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
    "sized": "ACM, texts of the paper's size",
    "uniform-layer": "uniform, mean of shift layer",
    "uniform-global": "uniform, mean of shift global",
    "uniform-none": "uniform, mean without shift",
    "uniform-sized": "uniform, mean of texts of the paper's size",
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
    "uniform-sized": "sized",
    "uniform-ties": "ties",
    "null-ties": "ties",
}
OWN = {"uniform", "null"}  # kinds with a merge for each calibration draw; other kinds use the λ of the first draw
TIES = {"merge_method": "ties", "parameters": {"density": 0.2}}


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


def merges(
    study: Study, pool: pd.DataFrame, seeds: list[int], permutations: int, large: Coefficients,
    kinds: Collection[str] = tuple(KINDS),
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """``<kind> <draw>`` → what to merge.

    pool: the MI table of many texts. A draw is a calibration set; permutations and single variants belong to the first.
    large: λ of :func:`acm.questions.sizes.large_coefficients`. kinds: those of :data:`KINDS` that are wanted.
    """
    if odd := set(kinds) - {*KINDS}:
        raise unknown("kind of coefficients", min(odd), KINDS)
    needed = {"acm", "uniform"}.union(CONTROL_OF[kind] for kind in kinds if kind in CONTROL_OF)
    if absent := needed - set(kinds):
        raise UserError(f"kinds: lacks {min(absent)}, which others are compared with; add it.")
    shift = study.setting.shift
    real, null = (draw_coefficients(study, pool, seeds, shift, control) for control in ("none", "gaussian"))
    first, (base, finetuned) = real[0], study.models
    sizes = {name: variants.magnitudes(base, path) for name, path in finetuned.items()}
    found: dict[str, Coefficients] = {}
    for i, (acm, noise) in enumerate(zip(real, null, strict=True)):
        found |= {f"acm {i}": acm, f"uniform {i}": each(uniform, acm), f"null {i}": noise}
    found |= {f"permuted {i}": each(permuted, first, i) for i in range(permutations)}
    found["reversed 0"] = each(variants.reversed_order, first)
    found["magnitude 0"] = {name: variants.ranked(layers, sizes[name]) for name, layers in first.items()}
    for other in (s for s in SHIFTS if s != shift):
        shifted = draw_coefficients(study, pool, seeds[:1], other)[0]
        found |= {f"{other} 0": shifted, f"uniform-{other} 0": each(uniform, shifted)}
    found |= {"sized 0": large, "uniform-sized 0": each(uniform, large)}
    ties = {"ties 0": first, "uniform-ties 0": each(uniform, first), "null-ties 0": null[0]}
    together: dict[str, dict[str, Any]] = {name: {"coefficients": coefficients} for name, coefficients in found.items()}
    together |= {name: {"coefficients": coefficients, **TIES} for name, coefficients in ties.items()}
    return {name: recipe for name, recipe in together.items() if name.rpartition(" ")[0] in kinds}


def each(change: Callable[..., Layers], coefficients: Coefficients, *arguments: Any) -> Coefficients:
    """The coefficients of each fine-tuned model, changed."""
    return {name: change(layers, *arguments) for name, layers in coefficients.items()}


def names_of(sample: Sample, kind: str) -> list[str]:
    """The merges of a kind."""
    return [m for m in sample.methods if m.rpartition(" ")[0] == kind]


def comparison(sample: Sample, frontier: list[str]) -> pd.DataFrame:
    """One row for each kind of λ, with 95 % intervals over items and calibration draws; means over draws.

    accuracy (percent), length (tokens). above: points of accuracy above the bar at its length. lead: ACM's
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
            row |= lead_over(paired(kind, names), above, sample)
        rows.append(row)
    table = pd.DataFrame(rows)
    return judged(table, table["kind"].isin(CONTROL_OF)) if "lead" in table else table


def lead_over(pairs: list[tuple[str, str]], above: dict[str, np.ndarray], sample: Sample) -> dict[str, Any]:
    """lead, righter, longer, p and error of the first merges of the pairs. above: merge → points above the bar."""
    lead = inside(over_draws(np.array([above[ours] - above[theirs] for ours, theirs in pairs])))
    found = apart(sample, pairs)
    tested = not np.isnan(lead[0]) and np.abs(found.drawn["righter"]).max() > statistics.ROUNDING
    p, error = (bootstrap_p(lead), 100 * float(np.nanstd(lead[1:]))) if tested else (np.nan, np.nan)
    return {**interval_columns("lead", describe(lead)), **found.columns(), "p": p, "error": error}


def paired(kind: str, names: list[str]) -> list[tuple[str, str]]:
    """The merge with ACM's λ that each merge of a kind is compared with, and that merge."""
    return [(f"{CONTROL_OF[kind]} {name.rpartition(' ')[2] if kind in OWN else 0}", name) for name in names]


def judged(table: pd.DataFrame, compared: pd.Series) -> pd.DataFrame:
    """The rows with p_adjusted, detectable and the verdict: above, below, no difference shown, or outside.

    compared: which rows have a lead, or would have one inside the frontier's range.
    """
    tested = table["p"].notna()
    table.loc[tested, "p_adjusted"] = holm(table.loc[tested, "p"].to_numpy(float))
    table["detectable"] = [least_detectable(error, max(1, tested.sum())) for error in table.pop("error")]
    known = table.loc[compared, "lead"].notna()
    table.loc[compared, "verdict"] = np.where(known, "no difference shown", "outside")
    shown = tested & (table["p_adjusted"] < 0.05)
    table.loc[shown, "verdict"] = np.where(table.loc[shown, "lead"] > 0, "above", "below")
    return table


def draw(table: pd.DataFrame) -> Figure:
    """ACM's lead over each kind of λ, and below it each kind's points above the bar.

    Bars: 95 %. Grey: leads smaller than could have been detected. A kind that lies far off has its number at the edge
    instead. table: of :func:`comparison`.
    """
    led = table[table["lead"].notna()] if "lead" in table else table[:0]
    verdicts = [str(found) for found in led["verdict"]] if len(led) else []
    heights = [max(1, len(led)), len(table)]
    figure, panels = sheet(on_leads(verdicts), 2.0 + 0.52 * sum(heights), 2, height_ratios=heights)
    if len(led):
        least = led["detectable"]
        panels[0].barh(places(led), 2 * least, left=-least, height=0.75, color="0.9")
    far = (table["above"] - table["above"].median()).abs() > FAR
    draw_rows(panels[0], led, "lead", np.zeros(len(led), bool))
    draw_rows(panels[1], table, "above", far.to_numpy())
    panels[0].set_xlabel("lead of ACM over it, points above\nthe bar (grey: too small to detect)")
    panels[1].set_xlabel("points of accuracy above the bar")
    mark_better(panels[1], "→")
    return figure


def places(rows: pd.DataFrame) -> np.ndarray:
    """The heights of rows, the first on top."""
    return len(rows) - 1 - np.arange(len(rows))


def draw_rows(axes: Axes, rows: pd.DataFrame, what: str, far: np.ndarray) -> None:
    """A value with its interval for each row. far: which rows lie off, and are written at the edge."""
    axes.set_yticks(places(rows), [fill(label(row), LETTERS) for row in rows.to_dict("records")])
    axes.set_ylim(-1.1, max(1, len(rows)) - 0.4)
    axes.axvline(0, color="0.3", lw=0.8)
    for y, row, off in zip(places(rows), rows.to_dict("records"), far, strict=True):
        colour = COLOURS["control" if row["kind"] in CONTROL_OF else "acm"]
        if off:
            place = (0.02 if row[what] < 0 else 0.98, y)
            side = "left" if row[what] < 0 else "right"
            style: dict[str, Any] = {"ha": side, "va": "center", "fontsize": TEXT, "color": colour}
            axes.text(*place, f"off the axis: {row[what]:+.1f}", transform=axes.get_yaxis_transform(), **style)
        elif not np.isnan(row[what]):
            arms = [[max(0.0, row[what] - row[f"{what}_low"])], [max(0.0, row[f"{what}_high"] - row[what])]]
            axes.errorbar(row[what], y, xerr=arms, fmt="o", color=colour, capsize=3)


def label(row: dict[Hashable, Any]) -> str:
    """A kind of λ in words, with the number of its merges."""
    outside = f", {row['outside']} outside the frontier" if row["outside"] else ""
    return f"{KINDS[row['kind']]} ({row['merges']}{outside})"
