"""Compares two runs of one profile, response by response, and says what may have caused the differences."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from acm.profiles import Profile

KEYS = ["experiment", "method", "task", "item", "repeat"]


def differences(profile: Profile, new: Path, old: Path) -> list[str]:
    """One line for each experiment: how many responses, and which averages, differ. new, old: folders of reports."""
    return [f"{name}: {difference(profile, name, new / name, old / name)}" for name in profile.experiments]


def difference(profile: Profile, experiment: str, new: Path, old: Path) -> str:
    """What differs between two folders of one experiment, and why, in a few sentences."""
    if not (old / "records.parquet").is_file():
        return "no committed results to compare with."
    before, now = (pd.read_parquet(folder / "records.parquet") for folder in (old, new))
    both = side_by_side(before, now)
    changed = both[(both["found"] != "both") | (both["response_old"] != both["response_new"])]
    if changed.empty:
        return f"all {len(now)} responses are those of the committed results."
    in_both = changed[changed["found"] == "both"]
    sentences = [counted(both, len(in_both)), changes(before["setting"], now["setting"])]
    if "question" in in_both and len(in_both):
        from acm.reporting.near_ties import explain  # loads models

        sentences.append(explain(profile, experiment, in_both, new, old))
    return " ".join(sentences)


def side_by_side(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """One row for each response of either run, with ``_old`` and ``_new`` of response, correct and length.

    found: whether it is in both, ``left_only`` (old) or ``right_only``. question: where the new records have it.
    """
    compared = ["response", "correct", "length"]
    told = [column for column in ["question"] if column in new]
    kept = old[[*KEYS, *compared]]
    return kept.merge(
        new[[*KEYS, *compared, *told]], on=KEYS, how="outer", suffixes=("_old", "_new"), indicator="found"
    )


def counted(both: pd.DataFrame, changed: int) -> str:
    """How many responses differ, and by how much at most a method's averages do; how many are in one run alone."""
    alone = both["found"].map({"left_only": "not made any more", "right_only": "new"}).dropna().value_counts()
    told = "".join(f", {number} are {what}" for what, number in alone.items())
    means = both.groupby("method")[["correct_old", "correct_new", "length_old", "length_new"]].mean()
    accuracy = (means["correct_new"] - means["correct_old"]).abs().max() * 100
    length = (means["length_new"] / means["length_old"] - 1).abs().max() * 100
    return (
        f"{changed} of {(both['found'] == 'both').sum()} responses differ from the committed results{told}; at most "
        f"{accuracy:.1f} points of accuracy and {length:.1f} % of mean length for a method."
    )


def changes(old: Iterable[str], new: Iterable[str]) -> str:
    """Which code and versions are not those of the committed records. old, new: values of the column ``setting``."""
    before, now = facts(old), facts(new)
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if not names:
        return "Code and versions are the same."
    pairs = (f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}" for name in names)
    return f"What changed since: {', '.join(pairs)}."


def facts(settings: Iterable[str]) -> dict[str, str]:
    """What records were computed with, apart from the machine: the hash of the code, and the versions."""
    found: dict[str, set[str]] = {}
    for setting in map(json.loads, dict.fromkeys(settings)):
        for name, value in {"code": setting.get("source"), **(setting.get("versions") or {})}.items():
            found.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
