"""Computes what the response browser shows: one question and the responses of all models to it.

Questions on which the models' answers differ come first.
"""

from __future__ import annotations

import pandas as pd

from acm.errors import UserError
from acm.evaluation.reflections import pattern_of
from acm.widgets.markup import card, cards

NEEDED = ("method", "task", "item", "answer", "response", "length", "correct")


def questions(records: pd.DataFrame) -> pd.DataFrame:
    """One row for each task and item, those first on which the models' answers differ most.

    Columns: question; gold, the right answer; answers, how many different ones; right, the share of right ones; models,
    how many. Ties go by how evenly the models split into right and wrong, then by the order of the records. UserError
    for records without texts.
    """
    if absent := [column for column in NEEDED if column not in records]:
        told = f"these records have no column '{absent[0]}', so there are no responses to browse"
        raise UserError(f"{told}; choose others.")
    if records.empty:
        raise UserError("there are no records; choose other tasks or methods.")
    answers = records.assign(said=records["answer"].astype(str))
    groups = answers.groupby(["task", "item"], sort=False)
    found = groups.agg(answers=("said", "nunique"), right=("correct", "mean"), models=("method", "nunique"))
    for column in ("question", "gold"):
        found[column] = groups[column].first() if column in records else ""
    found["evenness"] = -(found["right"] - 0.5).abs()
    found = found.sort_values(["answers", "evenness"], ascending=False, kind="stable")
    return found.drop(columns="evenness").reset_index()


def matching(listed: pd.DataFrame, text: str = "", task: str = "") -> pd.DataFrame:
    """The questions of a task (empty: all) that contain a text, in any case."""
    kept = listed if not task else listed[listed["task"] == task]
    return kept[kept["question"].astype(str).str.contains(text, case=False, regex=False)] if text else kept


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """The responses to one question, rare answers first, then by answer; equal ones in the order of the records."""
    said = rows["answer"].astype(str)
    keyed = rows.assign(shared=said.map(said.value_counts()), said=said)
    return keyed.sort_values(["shared", "said"], kind="stable").drop(columns=["shared", "said"])


def page(records: pd.DataFrame, task: str, item: int, methods: tuple[str, ...] = ()) -> str:
    """HTML of all responses to a question, escaped, with reflections marked.

    methods: whose responses; empty: all. UserError where there are none.
    """
    rows = records[(records["task"] == task) & (records["item"] == item)]
    rows = rows[rows["method"].isin(methods)] if methods else rows
    if rows.empty:
        raise UserError(f"no response to item {item} of {task} by the chosen models.")
    shared = rows["answer"].astype(str).value_counts()
    pattern = pattern_of(task)
    texts = ({str(column): value for column, value in row.items()} for row in ordered(rows).to_dict("records"))
    made = [card(str(row["method"]), row, pattern) for row in texts]
    words = "all answer alike" if len(shared) == 1 else f"{len(shared)} different answers"
    return f"<p><strong>{len(rows)} responses, {words}</strong> (rarest first; yellow: reflections)</p>{cards(made)}"
