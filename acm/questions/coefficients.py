"""Question 2: do the coefficients matter? ACM's λ against uniform, permuted, reversed, null and magnitude-based ones, at equal length."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from acm.calibration.coefficients import SHIFTS, coefficients_from_table
from acm.calibration.texts import read_texts, select_texts
from acm.questions import variants
from acm.questions.study import Coefficients, Study, counted, inside
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS
from acm.reporting.statistics import Sample, above_frontier, average, describe, detectable, over_draws
from acm.reporting.tables import cell

QUESTION = "Do the coefficients matter?"
KINDS = {
    "acm": "ACM", "uniform": "uniform λ, same mean", "null": "λ of Gaussian noise", "permuted": "λ permuted over layers", "reversed": "order of λ reversed",
    "magnitude": "ACM's λ dealt by size of the task vector", "layer": "ACM, shift layer", "global": "ACM, shift global", "none": "ACM, no shift",
    "uniform-layer": "uniform, mean of shift layer", "uniform-global": "uniform, mean of shift global", "uniform-none": "uniform, mean without shift",
    "ties": "ACM-TIES", "uniform-ties": "TIES, uniform λ, same mean", "null-ties": "TIES, λ of Gaussian noise",
}  # fmt: skip
CONTROL_OF = {"uniform": "acm", "null": "acm", "permuted": "acm", "reversed": "acm", "magnitude": "acm", "uniform-layer": "layer",
              "uniform-global": "global", "uniform-none": "none", "uniform-ties": "ties", "null-ties": "ties"}  # fmt: skip
OWN = {"uniform", "null"}  # kinds with a merge for each calibration draw; the others are made of the first draw's λ
TIES = {"merge_method": "ties", "parameters": {"density": 0.2}}


def draw_coefficients(
    study: Study, pool: pd.DataFrame, seeds: list[int], shift: str, control: str = "none"
) -> list[Coefficients]:
    """λ of calibration sets chosen by K-means with these seeds from the texts of ``pool``."""
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
    """``<kind> <draw>`` → what to merge. Draws are calibration sets; permutations and single variants belong to the first."""
    real, null = (
        draw_coefficients(study, pool, seeds, study.setting.shift, control) for control in ("none", "gaussian")
    )
    first, base, finetuned = real[0], *study.models
    sizes = {name: variants.magnitudes(base, path) for name, path in finetuned.items()}
    found: dict[str, Coefficients] = {}
    for i, (acm, noise) in enumerate(zip(real, null, strict=True)):
        found |= {f"acm {i}": acm, f"uniform {i}": each(variants.uniform, acm), f"null {i}": noise}
    found |= {f"permuted {i}": each(variants.permuted, first, i) for i in range(permutations)}
    found["reversed 0"] = each(variants.reversed_order, first)
    found["magnitude 0"] = {name: variants.ranked(layers, sizes[name]) for name, layers in first.items()}
    for shift in (s for s in SHIFTS if s != study.setting.shift):
        other = draw_coefficients(study, pool, seeds[:1], shift)[0]
        found |= {f"{shift} 0": other, f"uniform-{shift} 0": each(variants.uniform, other)}
    ties = {"ties 0": first, "uniform-ties 0": each(variants.uniform, first), "null-ties 0": null[0]}
    return {k: {"coefficients": v} for k, v in found.items()} | {
        k: {"coefficients": v, **TIES} for k, v in ties.items()
    }


def each(change, coefficients: Coefficients, *arguments) -> Coefficients:
    return {name: change(layers, *arguments) for name, layers in coefficients.items()}


def names_of(sample: Sample, kind: str) -> list[str]:
    return [m for m in sample.methods if m.rpartition(" ")[0] == kind]


def comparison(sample: Sample, frontier: list[str]) -> pd.DataFrame:
    """Per kind of λ: accuracy, length, points above the frontier at equal length, and ACM's lead over it there, with 95 % intervals.

    Means over draws; intervals over items and draws. lead: ACM's points above the frontier less this kind's, paired by item and (for
    uniform and null) by calibration draw, else against ACM's first draw; detectable: the smallest true lead that would have been found (80 %
    power); outside: how many merges have a length outside the frontier's range. One such merge leaves its kind without points and lead.
    """
    rows = []
    residual = {m: above_frontier(sample, m, frontier) for kind in KINDS for m in names_of(sample, kind)}
    for kind in KINDS:
        names = names_of(sample, kind)
        if not names:
            continue
        row = {
            "kind": kind,
            "merges": len(names),
            "outside": sum(statistics.verdict(residual[m]) == "outside" for m in names),
        }
        for what, measure, scale in (("accuracy", lambda m: average(sample, m), 100), ("length", lambda m: average(sample, m, "length"), 1),
                                     ("above", residual.__getitem__, 100)):  # fmt: skip
            row |= interval_columns(what, describe(inside(over_draws(np.array([measure(m) for m in names]))), scale))
        if kind in CONTROL_OF:
            ours = CONTROL_OF[kind]
            paired = [(f"{ours} {name.rpartition(' ')[2] if kind in OWN else 0}", name) for name in names]
            lead = inside(over_draws(np.array([residual[a] - residual[b] for a, b in paired])))
            outcome = statistics.verdict(lead)
            row |= interval_columns("lead", describe(lead)) | {
                "detectable": np.nan if outcome == "outside" else 100 * detectable(lead),
                "verdict": outcome,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """Points above the frontier by kind of λ, and ACM's lead over each kind; bars: 95 %, grey: what could have been detected."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 0.45 * len(table) + 1.6), sharey=True)
    for axes, what in zip(panels, ("above", "lead"), strict=True):
        part = table.dropna(subset=[what])
        places = [len(table) - 1 - i for i in part.index]
        if what == "lead":
            axes.barh(
                places,
                2 * part["detectable"],
                left=-part["detectable"],
                height=0.75,
                color="0.9",
                label="smaller than could be detected",
            )
        colours = [COLOURS["control"] if k in CONTROL_OF else COLOURS["acm"] for k in part["kind"]]
        for y, colour, (_, r) in zip(places, colours, part.iterrows(), strict=True):
            arms = [[max(0.0, r[what] - r[f"{what}_low"])], [max(0.0, r[f"{what}_high"] - r[what])]]
            axes.errorbar(r[what], y, xerr=arms, fmt="o", color=colour, capsize=3)
        axes.axvline(0, color="0.3", lw=0.8)
    names = [
        f"{KINDS[r.kind]} ({r.merges}{f', {r.outside} outside the frontier' if r.outside else ''})"
        for r in table.itertuples()
    ]
    panels[0].set_yticks([len(table) - 1 - i for i in table.index], names)
    panels[0].set_xlabel("points of accuracy above the frontier, equal length")
    panels[1].set_xlabel("lead of ACM over it, points at equal length")
    panels[1].legend(loc="lower right", fontsize=9)
    return figure


def verdict(table: pd.DataFrame) -> tuple[str, dict]:
    """The answer in words, and the numbers it is made of."""
    rows = table.set_index("kind")
    lead = rows.loc[
        [k for k in CONTROL_OF if k in rows.index],
        ["lead", "lead_low", "lead_high", "detectable", "verdict", "merges", "outside"],
    ]
    numbers = {
        "lead": lead.T.to_dict(),
        "above": rows[["above", "above_low", "above_high"]].T.to_dict(),
        "length": rows["length"].to_dict(),
    }
    u = lead.loc["uniform"]
    head = {
        "above": "Yes: they beat one λ for all layers at the same mean.", "below": "Not for the better: one λ for all layers at the same mean is ahead.",
        "outside": "Undecided: the lengths lie outside the frontier.", "no difference shown": "No difference shown between them and one λ for all layers at the same mean.",
    }[u["verdict"]]  # fmt: skip

    def words(kind: str) -> str:
        r = lead.loc[kind]
        return "outside the frontier" if r["verdict"] == "outside" else cell(r, "lead", 2, signed=True)

    draws = counted(u["merges"], "calibration draw")
    found = (
        f"Over {draws}, {u['outside']} of the uniform merges and {rows.loc['acm', 'outside']} of ACM's have a length outside it."
        if u["verdict"] == "outside" else
        f"At equal length ACM's lead is {words('uniform')} points over {draws}, and {u['detectable']:.1f} points is the least true lead that this design finds "
        "in four of five cases."
    )  # fmt: skip
    others = [k for k in ("null", "permuted", "reversed", "magnitude") if k in lead.index]
    more = [f"Lead over other λ: {', '.join(f'{words(k)} ({KINDS[k]})' for k in others)}."] if others else []
    shifts = [k for k in lead.index if k.startswith("uniform-") and k != "uniform-ties"]
    if shifts:
        read = ", ".join(f"{words(k)} ({KINDS[CONTROL_OF[k]]})" for k in shifts)
        more.append(f"Read otherwise, one calibration set each, its lead over uniform λ at the same mean is {read}.")
    more.append(f"None of the {len(lead)} intervals is corrected for their number.")
    return " ".join([head, found, *more]), numbers
