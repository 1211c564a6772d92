"""Reads what :mod:`acm.reporting.comparison` compares: records, or logs of lm-evaluation-harness of any task.

A source is a path, with ``#METHOD`` behind it where several methods lie there. Two sources go together where they have
the same items, and each item the same gold answer. A prompt or setting that differs is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acm.errors import UserError, listed, unknown
from acm.evaluation.thinking import after_thinking, opened
from acm.running.imported import gather
from acm.running.imported_given import chosen
from acm.running.imported_logs import RETOKENIZED, task_of, token_counter
from acm.running.imported_samples import decoded
from acm.running.imported_settings import CAPS
from acm.running.imported_tables import read_table

ITEM = ["task", "item", "repeat"]
# Settings that do not tell two sets of responses apart.
NOT_COMPARED = ("model", "tasks", "source", "versions", "device", "batch_size", "repeat", "concurrency")


@dataclass(frozen=True)
class Reading:
    """How logs are read: metrics and filters that count (empty: the only one of a log), and the tokenizer's folder."""

    metrics: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    tokenizer: Path | None = None


def read_sources(
    sources: list[str], reading: Reading, tasks: list[str] | None = None, common: bool = False
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The records of all sources under one label each, the labels, and notes on what is not alike.

    tasks: these alone; None: all. common: compare the items that all sources have, and leave out the others. Raises
    UserError for a source that cannot be read or holds several methods, and for unlike items or gold answers.
    """
    frames = [with_tasks(read_source(source, reading), tasks, source) for source in sources]
    labels = distinct([frame["method"].iloc[0] for frame in frames], sources)
    notes = [note for frame, label in zip(frames[1:], labels[1:], strict=True) for note in unlike_settings(
        frames[0], frame, labels[0], label)]  # fmt: skip
    shared = set.intersection(*(set(frame[ITEM].itertuples(index=False, name=None)) for frame in frames))
    for frame, source in zip(frames, sources, strict=True):
        if (extra := len(frame) - len(shared)) and not (common and shared):
            remedy = "--common compares the items that all have." if shared else "They share none."
            raise UserError(f"{source} has {extra} responses to items or tasks that another source lacks. {remedy}")
        if extra:
            notes.append(f"{source}: {extra} of {len(frame)} responses are left out, since another source lacks them.")
    order = [key for key in frames[0][ITEM].itertuples(index=False, name=None) if key in shared]
    kept = [frame.set_index(ITEM).loc[order].reset_index().assign(method=label)
            for frame, label in zip(frames, labels, strict=True)]  # fmt: skip
    for frame, source in zip(kept[1:], sources[1:], strict=True):
        notes += check_alike(kept[0], frame, sources[0], source)
    return pd.concat(kept, ignore_index=True), labels, notes


def read_source(source: str, reading: Reading) -> pd.DataFrame:
    """The records of the one method that a source names."""
    path, mark, method = source.rpartition("#")
    if not mark or Path(source).exists():
        path, method = source, ""
    tables, logs = gather([Path(path)])
    if tables and logs:
        raise UserError(f"{path} holds records and logs of lm-eval; name one of the files.")
    frame = pd.concat([read_records(t) for t in tables] if tables else [read_log(log, reading) for log in logs])
    names = list(dict.fromkeys(map(str, frame["method"])))
    if method and method not in names:
        raise unknown(f"method in {path}", method, names)
    if not method and len(names) > 1:
        raise UserError(f"{path} holds {len(names)} methods; name one, such as '{path}#{names[0]}': {listed(names)}.")
    frame = frame[frame["method"] == (method or names[0])]
    if "experiment" in frame and frame["experiment"].nunique() > 1:
        raise UserError(f"{path} holds {method or names[0]} of several experiments; name the file of one.")
    if len(twice := frame[frame.duplicated(ITEM)]):
        task, item = twice.iloc[0][["task", "item"]]
        raise UserError(f"{path} has item {item} of {task} twice; name one file, or remove the copy.")
    return frame.reset_index(drop=True)


def with_tasks(frame: pd.DataFrame, tasks: list[str] | None, source: str) -> pd.DataFrame:
    """The records of these tasks; UserError for one that a source lacks."""
    for task in tasks or []:
        if task not in set(frame["task"]):
            raise unknown(f"task of {source}", task, dict.fromkeys(map(str, frame["task"])))
    return frame[frame["task"].isin(tasks)] if tasks else frame


def read_records(path: Path) -> pd.DataFrame:
    """A table of records whose grades are from 0 to 1."""
    frame = read_table(path)
    if not frame["correct"].between(0, 1).all():
        raise UserError(f"{path} has a grade that is not from 0 to 1; evaluate again.")
    return frame


def read_log(path: Path, reading: Reading) -> pd.DataFrame:
    """The samples of a log, of any task, as records. Without a tokenizer nothing is known of lengths."""
    count = token_counter(reading.tokenizer) if reading.tokenizer else None
    rows: list[dict[str, Any]] = []
    metrics: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        sample = read_sample(line, place)
        metrics = metrics or [*map(str, sample["metrics"])]
        metric = chosen("metric", metrics, reading.metrics, str(path))
        value = sample.get(metric)
        if isinstance(value, str) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UserError(f"{place}: {metric} is {value!r:.50}, not a number from 0 to 1; choose another --metric.")
        rows.append({
            "method": path.parent.name, "task": task_of(path), "item": sample["doc_id"], "repeat": 0,
            "correct": float(value), "gold": str(sample["target"]), "question": asked(sample)[0],
            "filter": sample["filter"], **length_of(sample, count),
        })  # fmt: skip
    if not rows:
        raise UserError(f"{path} holds no sample.")
    kept = chosen("filter", (row["filter"] for row in rows), reading.filters, str(path))
    return pd.DataFrame([row for row in rows if row["filter"] == kept])


def read_sample(line: bytes, place: str) -> dict[str, Any]:
    """One sample of a log, with what a comparison needs."""
    sample = decoded(line, place)
    kinds = {"doc_id": int, "target": str, "filter": str, "metrics": list, "resps": list}
    if not isinstance(sample, dict):
        raise UserError(f"{place} is no sample; is it a log of lm-eval?")
    for key, kind in kinds.items():
        if not isinstance(sample.get(key), kind):
            raise UserError(f"{place} has no {key} as lm-eval writes it; is it a log of lm-eval 0.4.5 or later?")
    return sample


def length_of(sample: dict[str, Any], count: Callable[[str], int] | None) -> dict[str, Any]:
    """The length of a sample's response in tokens of its text, whether its own cap cut it, and its thinking."""
    texts = sample["resps"][0] if sample["resps"] else None
    text = texts[0] if isinstance(texts, list) and texts else texts
    prompt, settings = asked(sample)
    if not isinstance(text, str) or not isinstance(settings, dict):  # a task that generates no text
        return {}
    found: dict[str, Any] = {"thinking_closed": after_thinking(opened(str(prompt)) + text)[1]}
    if count is None:
        return found
    length = count(text)
    caps = [settings[name] for name in CAPS if name in settings]
    cut = {"truncated": length >= RETOKENIZED * caps[0]} if caps and isinstance(caps[0], int) else {}
    return found | {"length": length} | cut


def asked(sample: dict[str, Any]) -> tuple[object, object]:
    """The prompt of a sample, and its settings of generation; None where the log has none."""
    given = sample.get("arguments")
    given = given.get("gen_args_0") if isinstance(given, dict) else None
    return (given.get("arg_0"), given.get("arg_1")) if isinstance(given, dict) else (None, None)


def distinct(names: list[str], sources: list[str]) -> list[str]:
    """A label for each source: its method's name, with the source behind it where the name is another's too."""
    return [
        f"{name} ({source})" if names.count(name) > 1 else name for name, source in zip(names, sources, strict=True)
    ]


def unlike_settings(ours: pd.DataFrame, theirs: pd.DataFrame, first: str, second: str) -> list[str]:
    """A note for each setting of generation in which two sets of records differ."""
    if "setting" not in ours or "setting" not in theirs:
        return []
    one, two = (settings_of(frame) for frame in (ours, theirs))
    keys = [key for key in {**one, **two} if key not in NOT_COMPARED and one.get(key) != two.get(key)]
    return [
        f"{key} is {one.get(key, 'the usual')} in {first} and {two.get(key, 'the usual')} in {second}." for key in keys
    ]


def settings_of(frame: pd.DataFrame) -> dict[str, Any]:
    """The setting of the first record; empty where it is not readable."""
    try:
        found = json.loads(frame["setting"].iloc[0])
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_alike(ours: pd.DataFrame, theirs: pd.DataFrame, first: str, second: str) -> list[str]:
    """UserError where gold answers differ; a note where prompts do. Both have the same items in the same order."""
    unlike = np.flatnonzero(ours["gold"].astype(str).to_numpy() != theirs["gold"].astype(str).to_numpy())
    if len(unlike):
        one, other = ours.iloc[unlike[0]], theirs.iloc[unlike[0]]
        raise UserError(
            f"item {one['item']} of {one['task']} has the gold answer {one['gold']!r:.40} in {first} and "
            f"{other['gold']!r:.40} in {second}; they were asked other questions."
        )
    if "question" not in ours or "question" not in theirs:
        return []
    asked_both = ours["question"].notna() & theirs["question"].notna()
    other = int(((ours["question"] != theirs["question"]) & asked_both).sum())
    return [f"{other} of {len(ours)} prompts differ between {first} and {second}."] if other else []
