"""The answer to question 2 in words, from the tables of ``coefficients.py`` and ``fresh.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions.coefficients import CONTROL_OF, KINDS
from acm.questions.fresh import NAMES
from acm.questions.study import APART, counted
from acm.reporting.tables import cell

HEADS = {  # verdict on the lead over uniform λ → the answer's first sentence
    "above": "Yes: ACM's λ beat one λ for all layers at the same mean.",
    "below": "Not for the better: one λ for all layers at the same mean is ahead of ACM's.",
    "outside": "Undecided: the lengths lie outside the frontier.",
    "no difference shown": "ACM's λ are not shown to beat one λ for all layers at the same mean.",
}
NOR_NOISE = "ACM's λ are shown to beat neither one λ for all layers at the same mean nor λ of pure noise."
NOR_SIZED = f"{NOR_NOISE[:-1]}, nor do λ measured on texts of the paper's size beat their mean."


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
    parts = [over_uniform(lead["uniform"], rows["acm"]), on_the_same_items(rows), *others(lead, rows, base_length)]
    decisive = {kind: lead[kind]["verdict"] for kind in lead}
    if fresh is not None:
        numbers["fresh"] = fresh.to_dict("records")
        decisive |= dict(fresh[fresh["ours"].isin(["acm", "sized"])].set_index("theirs")["verdict"])
        parts = [*told(fresh), *parts]
    return " ".join([head(decisive), *parts, after_holm(lead)]), numbers


def head(decisive: dict[str, str]) -> str:
    """The answer in a sentence. decisive: kind → the verdict on ACM's lead over it."""
    alike = [decisive.get(kind) == "no difference shown" for kind in ("uniform", "null", "uniform-sized")]
    return NOR_SIZED if all(alike) else NOR_NOISE if all(alike[:2]) else HEADS[decisive["uniform"]]


def others(lead: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]], base_length: float) -> list[str]:
    """ACM's lead over other λ than uniform ones, and with other shifts, in sentences."""
    parts = []
    if kinds := [k for k in ("null", "permuted", "reversed", "magnitude") if k in lead]:
        parts.append(f"Lead over other λ: {', '.join(f'{words(lead[k])} ({KINDS[k]})' for k in kinds)}.")
    if shifts := [k for k in lead if k.startswith("uniform-") and k != "uniform-ties"]:
        of = {k: f"{KINDS[CONTROL_OF[k]]}, {rows[CONTROL_OF[k]]['length']:.0f} tokens" for k in shifts}
        read = ", ".join(f"{words(lead[k])} ({of[k]})" for k in shifts)
        same = "Read otherwise, one calibration set each, its lead over uniform λ at the same mean is"
        parts.append(f"{same} {read}; the base has {base_length:.0f} tokens.")
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
        same.append(f"{ours} less {theirs} {points} points, {tokens} tokens")
        shown += [f"that of {ours} over {theirs}"] if row["verdict"] in ("above", "below") else []
    tested = int(fresh["p_adjusted"].notna().sum())
    return [
        f"On {rows[0]['n']:,} fresh items the leads in points above the bar, each with the least true lead that this "
        f"design finds in four of five cases and the number of calibration sets, are: {'; '.join(leads)}.",
        f"Of the {counted(tested, 'lead')} that were tested here, adjusted together by Holm, "
        f"{' and '.join(shown) or 'none'} can be told from zero.",
        f"Accuracy and length on these items: {'; '.join(same)}.",
    ]


def over_uniform(uniform: dict[str, Any], acm: dict[str, Any]) -> str:
    """ACM's lead over uniform λ in a sentence, or why there is none."""
    draws, least = counted(uniform["merges"], "calibration draw"), uniform["detectable"]
    if uniform["verdict"] == "outside":
        merges = f"{uniform['outside']} of the uniform merges and {acm['outside']} of ACM's"
        return f"Over {draws}, {merges} have a length outside it."
    found = f"On the benchmark's items ACM's lead over uniform λ is {words(uniform)} points above the bar over {draws}"
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
    leads = f"Of the {counted(len(tested), 'lead')} on these items that were tested, adjusted together by Holm"
    return f"{leads}, {' and '.join(stand) or 'none'} can be told from zero. The intervals here are not adjusted."


def words(row: dict[str, Any]) -> str:
    """A lead with its interval, or that it has none."""
    return "outside the frontier" if row["verdict"] == "outside" else cell(row, "lead", 2, signed=True)
