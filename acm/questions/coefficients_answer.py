"""The answer to question 2 in words, from the tables of ``coefficients.py`` and ``fresh.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions.coefficients import CONTROL_OF, KINDS
from acm.questions.fresh import NAMES
from acm.questions.study import APART, LEAST, counted
from acm.reporting.tables import cell

HEADS = {  # verdict on the lead over uniform λ → the answer
    "above": "ACM's λ by layer beat one λ for all layers with the same mean.",
    "below": "One λ for all layers beats ACM's λ by layer with the same mean.",
    "outside": "ACM's λ by layer are not shown to matter, because some merges have lengths outside the bar's range.",
    "no difference shown": "ACM's λ by layer are not shown to beat one λ for all layers with the same mean.",
}
NOR_NOISE = "ACM's λ by layer are not shown to beat one λ for all layers with the same mean, or λ of pure noise."
NOR_SIZED = "Nor are λ that were measured on texts of the paper's size shown to beat their own mean."
MEANT = (
    "Uniform λ are one λ for all layers, the mean of ACM's. A lead is by how many points one merge lies farther above "
    "the bar than another."
)


def verdict(table: pd.DataFrame, base_length: float, fresh: pd.DataFrame | None = None) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of.

    table: of :func:`comparison`. base_length: the base's mean length, tokens. fresh: of
    :func:`acm.questions.fresh.contrasts`; the answer leans on it where it is there.
    """
    rows = {str(row["kind"]): {str(column): value for column, value in row.items()} for row in table.to_dict("records")}
    kinds = [kind for kind in CONTROL_OF if kind in rows]
    columns = ("lead", "lead_low", "lead_high", "detectable", "p_adjusted", "verdict", "merges", "outside")
    differences = [f"{what}{end}" for what in APART for end in ("", "_low", "_high")]
    lead = {kind: {column: rows[kind][column] for column in columns} for kind in kinds}
    above = {kind: {c: row[c] for c in ("above", "above_low", "above_high")} for kind, row in rows.items()}
    same_items = {kind: {column: rows[kind][column] for column in differences} for kind in kinds}
    numbers: dict[str, Any] = {"lead": lead, "above": above, "same_items": same_items}
    numbers |= {"length": {kind: row["length"] for kind, row in rows.items()}}
    parts = [over_uniform(lead["uniform"], rows["acm"]), *on_the_same_items(rows), *others(lead, rows, base_length)]
    decisive = {kind: lead[kind]["verdict"] for kind in lead}
    if fresh is not None:
        numbers["fresh"] = fresh.to_dict("records")
        decisive |= dict(fresh[fresh["ours"].isin(["acm", "sized"])].set_index("theirs")["verdict"])
        parts = [*told(fresh), *parts]
    return " ".join([*head(decisive), MEANT, *parts, after_holm(lead)]), numbers


def head(decisive: dict[str, str]) -> list[str]:
    """The answer, and what else is not shown; each a sentence. decisive: kind → the verdict on ACM's lead over it."""
    alike = [decisive.get(kind) == "no difference shown" for kind in ("uniform", "null", "uniform-sized")]
    if not all(alike[:2]):
        return [HEADS[decisive["uniform"]]]
    return [NOR_NOISE, NOR_SIZED] if alike[2] else [NOR_NOISE]


def others(lead: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]], base_length: float) -> list[str]:
    """ACM's lead over other λ than uniform ones, and with other shifts, in sentences."""
    parts = []
    if kinds := [k for k in ("null", "permuted", "reversed", "magnitude") if k in lead]:
        told = "; ".join(f"{KINDS[k]} {words(lead[k])}" for k in kinds)
        parts.append(f"ACM's lead over other λ on the benchmark's items: {told}.")
    if shifts := [k for k in lead if k.startswith("uniform-") and k != "uniform-ties"]:
        of = {k: f"{KINDS[CONTROL_OF[k]]} ({rows[CONTROL_OF[k]]['length']:.0f} tokens)" for k in shifts}
        read = "; ".join(f"{of[k]} {words(lead[k])}" for k in shifts)
        same = "Lead over uniform λ of the same mean where ACM's λ are read otherwise, from one calibration set each"
        parts.append(f"{same}: {read}. The base has {base_length:.0f} tokens on average.")
    return parts


def told(fresh: pd.DataFrame) -> list[str]:
    """What the fresh items show, in sentences. fresh: of :func:`acm.questions.fresh.contrasts`."""
    rows: list[Any] = fresh.to_dict("records")
    leads, same, shown = [], [], []
    for row in rows:
        ours, theirs = NAMES[row["ours"]], NAMES[row["theirs"]]
        points, tokens = (cell(row, what, 1, signed=True) for what in APART)
        least = "" if np.isnan(row["detectable"]) else f" ({row['detectable']:.1f})"
        leads.append(f"{ours} over {theirs} {words(row)}{least}, {counted(row['draws'], 'set')}")
        same.append(f"{ours} minus {theirs} {points} points, {tokens} tokens")
        shown += [f"that of {ours} over {theirs}"] if row["verdict"] in ("above", "below") else []
    tested = int(fresh["p_adjusted"].notna().sum())
    return [
        f"Leads on {rows[0]['n']:,} fresh items, with the {LEAST} in parentheses, and the number of calibration sets: "
        f"{'; '.join(leads)}.",
        f"Of the {counted(tested, 'lead')} tested on fresh items, adjusted together by Holm, {from_zero(shown)}.",
        f"Accuracy and length on the fresh items: {'; '.join(same)}.",
    ]


def over_uniform(uniform: dict[str, Any], acm: dict[str, Any]) -> str:
    """ACM's lead over uniform λ in a sentence, or why there is none."""
    draws, least = counted(uniform["merges"], "calibration draw"), uniform["detectable"]
    if uniform["verdict"] == "outside":
        merges = f"{uniform['outside']} of the uniform merges and {acm['outside']} of ACM's"
        return f"Over {draws}, {merges} have a length outside the bar's range."
    found = f"On the benchmark's items ACM's lead over uniform λ is {words(uniform)} points over {draws}."
    if np.isnan(least):
        return f"{found} This lead is not tested, because both get the same items right."
    return f"{found} The {LEAST} is {least:.1f} points on these items."


def on_the_same_items(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What ACM's accuracy and length are minus those of uniform λ, and of noise's; each a sentence."""
    return [
        f"ACM's accuracy and length on the benchmark's items, minus those of {KINDS[kind]}: "
        f"{cell(rows[kind], 'righter', 1, signed=True)} points, {cell(rows[kind], 'longer', 1, signed=True)} tokens."
        for kind in ("uniform", "null") if kind in rows
    ]  # fmt: skip


def after_holm(lead: dict[str, dict[str, Any]]) -> str:
    """Which leads are shown to differ from 0, in sentences. lead: kind → its row."""
    tested = [kind for kind in lead if not np.isnan(lead[kind]["p_adjusted"])]
    stand = [f"that over {KINDS[kind]}" for kind in tested if lead[kind]["verdict"] in ("above", "below")]
    leads = f"Of the {counted(len(tested), 'lead')} tested on the benchmark's items, adjusted together by Holm"
    return f"{leads}, {from_zero(stand)}. The intervals are not adjusted."


def from_zero(leads: list[str]) -> str:
    """Which leads are shown to differ from 0, as the end of a sentence."""
    if not leads:
        return "none is shown to differ from 0"
    return f"{'these are' if len(leads) > 1 else 'one is'} shown to differ from 0: {'; '.join(leads)}"


def words(row: dict[str, Any]) -> str:
    """A lead with its interval, or that it has none."""
    return "outside the bar's range" if row["verdict"] == "outside" else cell(row, "lead", 2, signed=True)
