"""Writes an inspection as text, Markdown or JSON: each score beside its null, and beside what it was worth so far.

What a score was worth is the rank correlation of its values with the outcomes of measured merges. Question 7 measures
it, and ``acm keep`` puts it into WORTH.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from acm import escaping
from acm.merging.inspection import ALL, Inspection
from acm.paths import PACKAGE
from acm.reporting.intervals import interval_text

WORTH = PACKAGE / "reporting" / "worth.json"
UNKNOWN = "not validated"
LEVELS = {"vectors": ("task vector",), "pairs": ("pair",), "together": ("pair",)}  # table → what its scores are of
ONE_MODEL = (
    "Scores of pairs are left out: with one fine-tuned model there is one task vector, and nothing that it could "
    "conflict with."
)
FAST = "Ranks, overlaps and interference are left out (--fast)."
EXPLANATION = (
    "null: what chance alone would give, or a bound. foretold: how many outcomes of measured merges the score is shown "
    "to go with (rank correlation, p below 0.05 after Holm). docs/inspect.md explains each score."
)
DROPPED_SIGN = "Model Kinship's code drops the sign of the cosine; it is kept here."


@dataclass(frozen=True)
class Score:
    """One score. name: its column in a table of :class:`Inspection`. title: as texts call it.

    null: its null in words, from the row; empty where there is none. decomposed: whether ``fast`` leaves it out.
    """

    name: str
    title: str
    table: str
    null: Callable[[pd.Series], str] = lambda row: ""
    decomposed: bool = False


def full_rank(row: pd.Series) -> str:
    """No null, but the bound of a rank."""
    return f"at most {number(row['full_rank'])}"


def sign_null(row: pd.Series) -> str:
    """The null of the sign conflict, and what the correlation alone would give."""
    return f"independent {band(row, 'sign')}; normal at this r {number(row['sign_expected'])}"


def weighted_null(row: pd.Series) -> str:
    """The null of the weighted sign conflict."""
    return f"independent {band(row, 'weighted')}"


def band(row: pd.Series, name: str) -> str:
    """Where the conflicts of independent signs lie."""
    return f"0.5 ± {row[f'{name}_half_width']:.2g}"


def random(column: str) -> Callable[[pd.Series], str]:
    """The null of directions: what random ones have."""
    return lambda row: f"random {number(row[column])}"


SCORES = (
    Score("norm", "‖δ‖", "vectors"),
    Score("relative_norm", "‖δ‖ / ‖θ_0‖", "vectors"),
    Score("embedding_share", "share of ‖δ‖² in the embedding", "vectors"),
    Score("head_share", "share of ‖δ‖² in the head", "vectors"),
    Score("effective_rank", "effective rank, mean", "vectors", full_rank, True),
    Score("stable_rank", "stable rank, mean", "vectors", full_rank, True),
    Score("pearson", "Pearson's r", "pairs", lambda row: "unrelated 0"),
    Score("cosine", "cosine", "pairs", lambda row: "unrelated 0"),
    Score("distance", "distance ‖δ_i − δ_j‖", "pairs", lambda row: f"orthogonal {number(math.hypot(*norms(row)))}"),
    Score("sign_conflict", "sign conflict", "pairs", sign_null),
    Score("weighted_conflict", "sign conflict by min(|δ_i|, |δ_j|)", "pairs", weighted_null),
    Score("overlap_left", "overlap of left directions", "pairs", random("overlap_left_null"), True),
    Score("overlap_right", "overlap of right directions", "pairs", random("overlap_right_null"), True),
    Score("interference", "interference of TSV-M, mean", "together", decomposed=True),
    Score("relative_interference", "interference / Σσ, mean", "together", random("interference_null"), True),
)  # fmt: skip


def norms(row: pd.Series) -> tuple[float, float]:
    """‖δ‖ of either model of a pair."""
    return math.sqrt(row["first_squares"]), math.sqrt(row["second_squares"])


def number(value: float) -> str:
    """Four significant digits; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:#.4g}".rstrip(".")


def percent(value: float) -> str:
    """A share in percent; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def read_worth(path: Path = WORTH) -> list[dict[str, Any]]:
    """How well each score foretold outcomes of merges; empty where the file is not there.

    Each row has of (pair, task vector or layer), score, outcome, families, merges, rank_correlation, low, high, p (by
    Holm for all rows), and in_kind, in_kind_low, in_kind_high: the same after the mean of each kind of merge is taken
    away, or null.
    """
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def worth_text(score: Score, worth: list[dict[str, Any]]) -> str:
    """Of how many outcomes a score is shown to foretell something: those whose p is below 5 %.

    Rows on single layers do not count for a score of a whole task vector.
    """
    rows = [row for row in worth if row["score"] == score.name and row["of"] in LEVELS[score.table]]
    shown = sum(row["p"] < 0.05 for row in rows)
    return f"{shown or 'none'} of {len(rows)} outcome{'s' * (len(rows) > 1)}" if rows else UNKNOWN


def worth_lines(scores: list[Score], worth: list[dict[str, Any]]) -> list[list[str]]:
    """One line for each outcome that one of these scores was held against, of whole task vectors and of layers."""
    lines = [
        ["score", "of a", "outcome of measured merges", "rank correlation", "within a kind", "p", "merges", "families"]
    ]
    for score in scores:
        for row in (row for row in worth if row["score"] == score.name):
            found = interval_text(row["rank_correlation"], row["low"], row["high"], 2, signed=True)
            kinds = row["in_kind"] is not None
            within = (
                interval_text(row["in_kind"], row["in_kind_low"], row["in_kind_high"], 2, signed=True) if kinds else "–"
            )
            counts = [f"{row['p']:.2g}", str(row["merges"]), str(row["families"])]
            lines.append([score.title, row["of"], row["outcome"], found, within, *counts])
    return lines


Tables = list[tuple[str, list[list[str]]]]  # a heading, and rows of cells of which the first is the head


def tables(found: Inspection, worth: list[dict[str, Any]]) -> Tables:
    """All tables of an inspection, with their headings."""
    made: Tables = []
    for model in found.finetuned:
        rows = found.vectors[found.vectors["model"] == model]
        made.append((f"task vector of {model}", whole(with_shares(rows), "vectors", found.fast, worth)))
        columns = ["norm", "relative_norm", "share", *([] if found.fast else ["effective_rank", "stable_rank"])]
        made += [(f"{model}, by {by}", by_part(rows, by, columns)) for by in ("layer", "kind")]
    for (first, second), rows in found.pairs.groupby(["first", "second"], sort=False) if len(found.pairs) else ():
        made.append((f"{first} and {second}", whole(total(rows), "pairs", found.fast, worth)))
        columns = ["pearson", "cosine", "distance", "sign_conflict", "sign_half_width", "sign_expected"]
        columns += ["weighted_conflict", "weighted_half_width"]
        columns += [] if found.fast else ["overlap_left", "overlap_left_null", "overlap_right", "overlap_right_null"]
        made += [(f"{first} and {second}, by {by}", by_part(rows, by, columns)) for by in ("layer", "kind")]
    if len(found.together):
        made.append(("all task vectors together", whole(total(found.together), "together", found.fast, worth)))
        columns = ["interference", "relative_interference", "interference_null"]
        made.append(("all together, by layer", by_part(found.together, "layer", columns)))
    shown = {"vectors": True, "pairs": len(found.pairs) > 0, "together": len(found.together) > 0}
    told = worth_lines([s for s in SCORES if shown[s.table] and not (found.fast and s.decomposed)], worth)
    return [*made, ("what the scores foretold", told)] if len(told) > 1 else made


def total(rows: pd.DataFrame) -> pd.Series:
    """The row of all layers and kinds."""
    return rows[(rows["layer"] == ALL) & (rows["kind"] == ALL)].iloc[0]


def with_shares(rows: pd.DataFrame) -> pd.Series:
    """The row of a whole task vector, with the shares of embedding and head."""
    share = rows[rows["layer"] == ALL].set_index("kind")["share"]
    return pd.concat(
        [total(rows), pd.Series({f"{kind}_share": share.get(kind, math.nan) for kind in ("embedding", "head")})]
    )


def whole(row: pd.Series, table: str, fast: bool, worth: list[dict[str, Any]]) -> list[list[str]]:
    """One line for each score: its value, its null, and what it foretold."""
    lines = [["score", "value", "null", "foretold"]]
    for score in SCORES:
        if score.table == table and not (fast and score.decomposed):
            shown = percent if score.name.endswith("_share") else number
            lines.append([score.title, shown(row[score.name]), score.null(row), worth_text(score, worth)])
    return lines


HEADS = {
    "norm": "‖δ‖", "relative_norm": "‖δ‖ / ‖θ_0‖", "share": "share of ‖δ‖²", "effective_rank": "effective rank",
    "stable_rank": "stable rank", "pearson": "r", "cosine": "cosine", "distance": "distance",
    "sign_conflict": "conflict", "sign_half_width": "0.5 ±", "sign_expected": "normal at r",
    "weighted_conflict": "weighted", "weighted_half_width": "0.5 ±",
    "overlap_left": "left", "overlap_left_null": "random", "overlap_right": "right", "overlap_right_null": "random",
    "interference": "interference", "relative_interference": "/ Σσ", "interference_null": "random",
}  # fmt: skip


def by_part(rows: pd.DataFrame, by: str, columns: list[str]) -> list[list[str]]:
    """One line for each layer, or for each kind."""
    other = "kind" if by == "layer" else "layer"
    chosen = rows[(rows[other] == ALL) & (rows[by] != ALL)]
    lines = [[by, *(HEADS[column] for column in columns)]]
    for _, row in chosen.iterrows():
        lines.append([row[by], *(percent(row[c]) if c == "share" else number(row[c]) for c in columns)])
    return lines


def drawn(rows: list[list[str]], markdown: bool) -> str:
    """A table as text, or in Markdown; the first column is left-aligned, the others as they come."""
    write = escaping.markdown if markdown else escaping.literal
    cells = [[write(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    rule = ["-" * width for width in widths]
    lines = [padded[0], rule, *padded[1:]]
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def remarks(found: Inspection) -> list[str]:
    """What a reader should know of the numbers."""
    return [
        *found.notes,
        *([ONE_MODEL] if len(found.finetuned) == 1 else [DROPPED_SIGN]),
        *([FAST] if found.fast else []),
    ]


def as_text(found: Inspection, worth: list[dict[str, Any]], markdown: bool = False) -> str:
    """All tables and remarks, as text or Markdown. docs/inspect.md says what each score means."""
    write = escaping.markdown if markdown else escaping.literal
    parts = [write(f"Task vectors from {found.base}: {', '.join(found.finetuned)}")]
    parts += [write(remark) for remark in remarks(found)]
    for heading, rows in tables(found, worth):
        parts += [f"## {write(heading)}" if markdown else write(heading), drawn(rows, markdown)]
    return "\n\n".join([*parts, write(EXPLANATION)])


def as_json(found: Inspection, worth: list[dict[str, Any]]) -> dict[str, Any]:
    """The tables of an inspection for programs. NaN becomes null."""

    def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
        shown = table.astype(object).where(table.notna(), None)
        return [dict(zip(map(str, table.columns), row, strict=True)) for row in shown.to_numpy()]

    return {
        "base": found.base,
        "finetuned": found.finetuned,
        "settings": {"top": found.top, "embeddings": found.embeddings, "fast": found.fast},
        "notes": remarks(found),
        "scores": {score.name: {"title": score.title, "foretold": worth_text(score, worth)} for score in SCORES},
        "vectors": rows(found.vectors),
        "pairs": rows(found.pairs),
        "together": rows(found.together),
        "worth": worth,
    }
