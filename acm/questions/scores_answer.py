"""The answer to question 7 in words, from the rank correlations of ``scores_worth.py``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from acm.questions.scores_worth import DEPTH, KEPT, OWN, POINTS, TOKENS
from acm.reporting.comparison import p_text
from acm.reporting.intervals import interval_in, interval_text

NONE_DOES = "No score of `acm inspect` is shown to foretell what a merge does."
SAID = {  # outcome → in a sentence
    KEPT: "how much accuracy an average of two models keeps",
    OWN: "how much of a model's own skill an average keeps",
    POINTS: "the points that the layer alone adds",
    TOKENS: "the tokens that the layer alone adds",
}


def verdict(table: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of. table: of :func:`acm.questions.scores_worth.tests`."""
    scores = table[table["score"] != DEPTH]
    found = scores[scores["shown"]]
    kinds = scores[scores["in_kind"].notna()]
    apart = int(((kinds["in_kind_low"] > 0) | (kinds["in_kind_high"] < 0)).sum())
    parts = []
    if len(found):
        told = [f"{scored(row)} and {SAID[row['outcome']]} {found_text(row)}" for _, row in found.iterrows()]
        kept = found["outcome"].isin([KEPT, OWN]).any()
        parts += [] if kept else ["No score is shown to foretell what an average of two models keeps."]
        parts += [f"Rank correlations that are shown: {'; '.join(told)}."]
    parts += [
        f"Depth alone, a control, and {SAID[row['outcome']]}: {found_text(row)}."
        for _, row in table[table["score"] == DEPTH].iterrows()
    ]
    cosine = scores[(scores["score"] == "cosine") & scores["unlike"].notna()]
    parts += [
        f"Cosine of a pair and {SAID[row['outcome']]}: {found_text(row)}. Without pairs of like skills "
        f"this rank correlation is {row['unlike']:+.2f}."
        for _, row in cosine.iterrows()
    ]
    if len(kinds):
        parts.append(
            f"Within a kind of merge {apart} of {len(kinds)} intervals exclude 0. These intervals are not adjusted."
        )
    parts.append(
        f"Numbers are rank correlations with 95 % intervals. Each p is adjusted by Holm for {len(table)} tests. "
        "Bootstrap draws take families, items, and kinds of pair, models or depths anew. With four models the "
        "intervals are rough."
    )
    numbers = {"tests": table.drop(columns="title").to_dict("records"), "shown": len(found)}
    return " ".join([answer(found, len(scores)), *parts]), numbers


def answer(found: pd.DataFrame, tests: int) -> str:
    """The plain sentence. found: the rows of scores that are shown. tests: how many rows of scores there are."""
    if not len(found):
        return NONE_DOES
    row = found.iloc[0]
    if len(found) == 1:
        return f"Only {scored(row)} is shown to foretell an outcome, {SAID[row['outcome']]}."
    return f"Scores of `acm inspect` are shown to foretell what a merge does in {len(found)} of {tests} tests."


def scored(row: pd.Series) -> str:
    """A score and what it is of, in a sentence."""
    if row["score"] == "norm":
        return "the size ‖δ‖ of a layer's update" if row["of"] == "layer" else f"the size ‖δ‖ of a {row['of']}"
    return f"the {row['title']} of a {row['of']}"


def found_text(row: pd.Series) -> str:
    """ρ with its interval and p."""
    return f"{interval_text(**interval_in(row, 'found'), digits=2, signed=True)}, p {p_text(row['p_adjusted'])}"
