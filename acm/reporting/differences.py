"""What differs between two runs of one profile: response by response, and what may have caused it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from acm.profiles import Profile

KEYS = ["experiment", "method", "task", "item", "repeat"]


def differences(profile: Profile, new: Path, old: Path) -> list[str]:
    """One line for each experiment: how many responses, and which averages, differ. new, old: folders of reports."""
    lines = []
    for experiment in profile.experiments:
        before, now = (folder / experiment / "records.parquet" for folder in (old, new))
        if before.is_file():
            lines.append(f"{experiment}: {compare(pd.read_parquet(before), pd.read_parquet(now))}")
        else:
            lines.append(f"{experiment}: no committed results to compare with.")
    return lines


def compare(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """What differs between the committed records and those of a run."""
    both = old.merge(new, on=KEYS, how="outer", suffixes=("_old", "_new"), indicator="found")
    changed = (both["found"] != "both") | (both["response_old"] != both["response_new"])
    if not changed.any():
        return f"all {len(new)} responses are those of the committed results."
    means = both.groupby("method")[["correct_old", "correct_new", "length_old", "length_new"]].mean()
    accuracy = (means["correct_new"] - means["correct_old"]).abs().max() * 100
    length = (means["length_new"] / means["length_old"] - 1).abs().max() * 100
    return (
        f"{changed.sum()} of {len(both)} responses differ from the committed results; at most {accuracy:.1f} points "
        f"of accuracy and {length:.1f} % of mean length for a method. {cause(old['setting'], new['setting'])}"
    )


def cause(old: Iterable[str], new: Iterable[str]) -> str:
    """Which code and versions are not those of the committed records; where all are, the machine is left.

    old, new: values of the column ``setting``.
    """
    before, now = (facts(settings) for settings in (old, new))
    changes = [f"{what}: {before.get(what, 'none')} → {now.get(what, 'none')}" for what in sorted({*before, *now})
               if before.get(what) != now.get(what)]  # fmt: skip
    if not changes:
        return "Code and versions are the same: another processor rounds differently."
    return f"What changed too: {'; '.join(changes)}."


def facts(settings: Iterable[str]) -> dict[str, str]:
    """What records were computed with, apart from the machine: the hash of the code, and the versions."""
    found: dict[str, set[str]] = {}
    for setting in map(json.loads, dict.fromkeys(settings)):
        for what, value in {"code": setting.get("source"), **(setting.get("versions") or {})}.items():
            found.setdefault(what, set()).add(str(value))
    return {what: ", ".join(sorted(values)) for what, values in found.items()}
