"""Computes anew what records state and their own text decides: grades, answers, lengths, what was cut, reflections."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from acm.errors import UserError, shown
from acm.evaluation.grading import grade
from acm.evaluation.reflections import pattern_of
from acm.evaluation.server_answers import FRACTION, SLACK
from acm.evaluation.task_files import read_task
from acm.evaluation.thinking import THINK_CLOSE, THINK_OPEN, after_thinking, opened
from acm.running.imported_logs import LOG_ENGINE, RETOKENIZED
from acm.running.imported_settings import stops_of

SIGN = 3  # tokens, one for each byte of U+FFFD in UTF-8, or of the bytes that it took the place of
Grader = Callable[[str, str], dict[str, Any]]


def grader_of(task: str) -> Grader | None:
    """A function from a response's text and the gold to what a record says of the answer.

    None for tasks that are graded elsewhere: those of lm-evaluation-harness, and code, which would have to be run.
    """
    content = read_task(task)
    metrics = [one["metric"] for one in content.get("metric_list", [])]
    if "correct_string" in metrics:
        return graded_mathematics
    steps = [step for one in content.get("filter_list", []) for step in one["filter"]]
    if metrics == ["exact_match"] and [step["function"] for step in steps] == ["regex", "take_first"]:
        pattern, which = re.compile(steps[0]["regex_pattern"]), steps[0].get("group_select", 0)
        return lambda text, gold: graded_pattern(pattern, which, text, gold)
    return None


def graded_mathematics(text: str, gold: str) -> dict[str, Any]:
    """Both grades of a response to a mathematics task."""
    found = grade(text, gold)
    grades = {"correct": float(found.correct), "correct_string": float(found.correct_string)}
    return grades | {"answer": found.answer, "answer_from": found.source}


def graded_pattern(pattern: re.Pattern[str], which: int, text: str, gold: str) -> dict[str, Any]:
    """The grade of a response whose answer a pattern finds, as lm-evaluation-harness's filter ``regex`` does."""
    found = pattern.findall(text)
    answer = found[which].strip() if found else "[invalid]"
    return {"answer": answer, "correct": float(answer == gold)}


def again(
    record: dict[str, Any], grader: Grader | None, stops: list[str], cap: int, count: Callable[[str], int] | None
) -> dict[str, Any]:
    """What one record should say, as far as its text decides it. cap: tokens. count: None leaves lengths alone.

    A length that was counted from text, as those of logs, fills the cap a little below it.
    """
    text, prompt = record["response"], record.get("question")
    found: dict[str, Any] = {"reflections": len(pattern_of(record["task"]).findall(text))}
    if prompt is not None or THINK_OPEN in text or THINK_CLOSE in text:
        found["thinking_closed"] = after_thinking(opened(prompt or "") + text)[1]
    if grader:
        judged = text
        for stop in stops:
            judged = judged.split(stop)[0]
        found |= grader(opened(prompt or "") + judged, record["gold"])
    if count:
        length = recounted(record, count(text), cap)
        generated = length == record["length"] and LOG_ENGINE not in record["setting"]
        full = cap if generated else RETOKENIZED * cap
        found |= {"length": length, "truncated": length >= full and not any(stop in text for stop in stops)}
    return found


def recounted(record: dict[str, Any], tokens: int, cap: int) -> int:
    """The length that a record states where its text allows it, else that of its text.

    tokens: of the text, tokenized again. Of a response that fills the cap, up to half may be special tokens, which the
    text lacks. Bytes that make no character became one sign, U+FFFD, which stands for up to three tokens.
    """
    length = record["length"]
    signs = record["response"].count("\ufffd")
    if abs(tokens - length) <= SLACK + FRACTION * length + SIGN * signs:
        return int(length)
    lost = record["truncated"] and length == cap and cap / 2 <= tokens < length
    return int(length) if lost else tokens


def rechecked(
    name: str, records: pd.DataFrame, cap: int, prompt: str | None, count: Callable[[str], int] | None, replace: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The records of one method, and a line on each column that changed. cap: tokens. prompt: the profile's.

    UserError where a column differs from what is computed anew, unless it may be replaced.
    """
    rows: list[dict[str, Any]] = records.astype(object).where(records.notna(), None).to_dict("records")  # type: ignore[assignment]
    rules = {task: (grader_of(task), stops_of(task, prompt)) for task in {row["task"] for row in rows}}
    fresh = [again(row, *rules[row["task"]], cap, count) for row in rows]
    changed: dict[str, dict[int, Any]] = {}
    lines = []
    for column in records.columns:
        new = {
            i: found[column] for i, found in enumerate(fresh) if found.get(column, rows[i][column]) != rows[i][column]
        }
        if new:
            changed[column] = new
            first, value = next(iter(new.items()))
            lines.append(f"{column} of {len(new)} responses (first {place_of(rows[first], column, value)})")
    if lines and not replace:
        doubt = "is it another model's tokenizer? " if len(changed.get("length", ())) > len(rows) / 2 else ""
        raise UserError(
            f"records of {name} state other than their own text says: {', '.join(lines)}; {doubt}`acm import "
            "--recompute` replaces these."
        )
    return replaced(records, changed), lines


def place_of(row: dict[str, Any], column: str, value: Any) -> str:
    """Where a record differs, and how."""
    where = f"item {row['item']} of {row['task']}, repeat {row['repeat']}"
    return f"{where}: {shown(row[column])}, recomputed {shown(value)}"


def replaced(records: pd.DataFrame, changed: dict[str, dict[int, Any]]) -> pd.DataFrame:
    """The records with the values that changed, by row. Their setting notes how many."""
    if not changed:
        return records
    note = {"recomputed": {column: len(new) for column, new in changed.items()}}
    settings = {text: json.dumps(json.loads(text) | note) for text in records["setting"].unique()}
    records = records.assign(setting=records["setting"].map(settings))
    for column, new in changed.items():
        values = [new.get(i, value) for i, value in enumerate(records[column])]
        records[column] = pd.Series(values, dtype=records[column].dtype, index=records.index)
    return records
