"""Computes what the response browser shows: one question and the responses of all models to it.

Questions on which the models' answers differ come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from acm.errors import UserError
from acm.evaluation.reflections import pattern_of
from acm.hypertext import shown
from acm.widgets.markup import card, cards

FILTERS = {  # name → what a question must have, and the column of :func:`questions` that must be above a number
    "differ": ("disagreement", "answers", 1),
    "wrong": ("a wrong answer", "wrong", 0),
    "truncated": ("a response cut by the cap", "truncated", 0),
}
NEEDED = ("method", "task", "item", "answer", "response", "length", "correct")


def questions(records: pd.DataFrame) -> pd.DataFrame:
    """One row for each task and item, those first on which the models' answers differ most.

    Columns: question; gold, the right answer; answers, how many different ones; right, the share of right ones; wrong
    and truncated, whether there is such a response; models, how many. Ties go by how evenly the models split into right
    and wrong, then by the order of the records. UserError for records without texts.
    """
    if absent := [column for column in NEEDED if column not in records]:
        told = f"these records have no column '{absent[0]}', so there are no responses to browse"
        raise UserError(f"{told}; choose others.")
    if records.empty:
        raise UserError("there are no records; choose other tasks or methods.")
    answers = records.assign(said=records["answer"].astype(str))
    groups = answers.groupby(["task", "item"], sort=False)
    found = groups.agg(answers=("said", "nunique"), right=("correct", "mean"), models=("method", "nunique"))
    found["wrong"] = found["right"] < 1
    found["truncated"] = groups["truncated"].max() if "truncated" in records else False
    for column in ("question", "gold"):
        found[column] = groups[column].first() if column in records else ""
    found["evenness"] = -(found["right"] - 0.5).abs()
    found = found.sort_values(["answers", "evenness"], ascending=False, kind="stable")
    return found.drop(columns="evenness").reset_index()


def matching(listed: pd.DataFrame, text: str = "", task: str = "", only: Iterable[str] = ()) -> pd.DataFrame:
    """The questions of a task (empty: all) that contain a text, in any case. only: names of ``FILTERS``, all of which
    must hold."""
    kept = listed if not task else listed[listed["task"] == task]
    for name in only:
        _, column, above = FILTERS[name]
        kept = kept[kept[column] > above]
    return kept[kept["question"].astype(str).str.contains(text, case=False, regex=False)] if text else kept


def unlike(questions: Iterable[object]) -> list[str]:
    """Questions without the words that all of them begin with."""
    texts = [str(question) for question in questions]
    start = parting(min(texts), max(texts)) or 0 if texts else 0  # all share what the first and last of the alphabet do
    return [text[start:] for text in texts]


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """The responses to one question, rare answers first, then by answer; equal ones in the order of the records."""
    said = rows["answer"].astype(str)
    keyed = rows.assign(shared=said.map(said.value_counts()), said=said)
    return keyed.sort_values(["shared", "said"], kind="stable").drop(columns=["shared", "said"])


def parting(text: str, other: str) -> int | None:
    """Where a text parts from another: at the beginning of its first word that differs. None for equal texts."""
    if text == other:
        return None
    place = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    while place and not text[place - 1].isspace():
        place -= 1
    return place


def page(records: pd.DataFrame, task: str, item: int, methods: Sequence[str] = (), beside: str = "") -> str:
    """HTML of all responses to a question, escaped, with reflections marked; equal responses share a card.

    methods: whose responses; empty: all. beside: the method from whose response the others part; the place is marked.
    UserError where there are none.
    """
    asked = records[(records["task"] == task) & (records["item"] == item)]
    rows = asked[asked["method"].isin(methods)] if methods else asked
    if rows.empty:
        raise UserError(f"no response to item {item} of {task} by the chosen models.")
    texts = asked.loc[asked["method"] == beside, "response"]
    first = str(texts.iloc[0]) if len(texts) else None
    pattern, made = pattern_of(task), []
    for _, alike in ordered(rows).groupby(["response", "answer", "correct"], sort=False, dropna=False):
        row = {str(column): value for column, value in alike.iloc[0].items()}
        title = " · ".join(dict.fromkeys(alike["method"].astype(str)))
        place = None if first is None else parting(str(row["response"]), first)
        made.append(card(title, row, pattern, parting=place))
    shared = rows["answer"].astype(str).nunique()
    words = "all answer alike" if shared == 1 else f"{shared} different answers"
    told = f"{len(rows)} responses, {len(made)} different texts, {words}"
    marks = f"; shaded: where it parts from {shown(beside)}" if first is not None else ""
    return f"<p><strong>{told}</strong> (rarest first; yellow: reflections{marks})</p>{cards(made)}"
