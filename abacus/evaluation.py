"""Evaluates a trained family on the benchmarks: its models, and plain interpolation between fast and slow.

The recipe is judged by this alone: by :func:`conditions` on the parents and on plain interpolation between them, and by
:func:`skills` on the plain average.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from abacus.problems import apply
from acm import Engine, evaluate, merge
from acm.reporting.statistics import average, bootstrap, interval

ENGINE = Engine(batch_size=250)
CHECK = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)\. check: [^,]*, (yes|no)\.")


def parent_records(family: Path, tasks: list[str], items: int, max_tokens: int) -> pd.DataFrame:
    """Records of every model of a family on these tasks."""
    models = sorted(p for p in family.glob("abacus-*") if p.is_dir())
    keep = family / "batches"
    found = [evaluate(m, tasks, items=items, max_tokens=max_tokens, engine=ENGINE, keep=keep) for m in models]
    return pd.concat(found, ignore_index=True)


def frontier_records(family: Path, tasks: list[str], items: int, max_tokens: int) -> pd.DataFrame:
    """Records of base + λ (slow − fast), λ = 0, 0.1 … 1; the column method holds λ."""
    found = []
    for k in range(11):
        entry = {"model": str(family / "abacus-slow"), "parameters": {"weight": k / 10}}
        recipe = {"merge_method": "interpolation", "base_model": str(family / "abacus-fast"), "models": [entry]}
        found.append(merged_records(recipe, f"{k / 10:.1f}", family, tasks, items, max_tokens))
    return pd.concat(found, ignore_index=True)


def average_records(family: Path, tasks: list[str], items: int, max_tokens: int) -> pd.DataFrame:
    """Records of the plain average of the two skills; the column method is ``average``."""
    models = [{"model": str(family / f"abacus-{skill}"), "parameters": {"weight": 1.0}} for skill in ("sums", "words")]
    recipe = {"merge_method": "linear", "models": models}
    return merged_records(recipe, "average", family, tasks, items, max_tokens)


def merged_records(
    recipe: dict[str, Any], name: str, family: Path, tasks: list[str], items: int, max_tokens: int
) -> pd.DataFrame:
    """Records of a merge, which is not kept; the column method is ``name``."""
    merged = family / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merge(recipe, merged)
    labels = {"method": name}
    keep = family / "batches"
    found = evaluate(merged, tasks, items=items, max_tokens=max_tokens, engine=ENGINE, keep=keep, labels=labels)
    shutil.rmtree(merged)
    return found


def conditions(records: pd.DataFrame, points: list[str], tasks: list[str]) -> dict[str, tuple[Any, bool]]:
    """What the recipe must give, each with what was found and whether it holds.

    points: methods of the records from the fast parent (λ = 0) along λ to the slow one (λ = 1). A fall of accuracy is
    one whose paired 95 % interval lies below 0. A step is a point between the parents that is more than 8 points of
    accuracy or 15 % of the slow parent's length away from the step before.
    """
    sample = bootstrap(records, points, tasks)
    accuracy = [100 * average(sample, point) for point in points]
    length = [average(sample, point, "length")[0] for point in points]
    falls = [
        f"{points[i]} to {points[j]}"
        for i, j in itertools.combinations(range(len(points)), 2)
        if interval(accuracy[j] - accuracy[i])[1] < 0
    ]
    fast, slow, ratio = accuracy[0][0], accuracy[-1][0], length[-1] / length[0]
    steps = count_steps([values[0] for values in accuracy], length)
    return {
        "fast, % right": (round(fast, 1), 30 <= fast <= 60),
        "slow, % right": (round(slow, 1), slow >= 90),
        "slow's length over fast's": (round(ratio, 2), ratio >= 4),
        "falls of accuracy": (falls, not falls),
        "steps between the parents": (steps, steps >= 4),
    }


def count_steps(accuracy: list[float], length: list[float]) -> int:
    """How many points between the first and the last are a step away from the one before. Percent and tokens."""
    last, steps = 0, 0
    for k in range(1, len(accuracy) - 1):
        if abs(accuracy[k] - accuracy[last]) > 8 or abs(length[k] - length[last]) > 0.15 * length[-1]:
            last, steps = k, steps + 1
    return steps


def checks(responses: Iterable[str]) -> dict[str, int]:
    """What the checks of written steps say: their number, how many say no, and how many of either are wrong."""
    found = [match.groups() for response in responses for match in CHECK.finditer(response)]
    right = [apply(op, int(a), int(b)) == int(c) and (op != "/" or int(a) % int(b) == 0) for a, op, b, c, _ in found]
    said = [word for *_, word in found]
    return {
        "checks": len(found),
        "no": said.count("no"),
        "no, wrongly": sum(word == "no" and true for word, true in zip(said, right, strict=True)),
        "yes, wrongly": sum(word == "yes" and not true for word, true in zip(said, right, strict=True)),
    }


def norm(base: Path, finetuned: Path) -> float:
    """Euclidean norm of a task vector, of the shipped weights."""
    before, after = (load_file(folder / "model.safetensors") for folder in (base, finetuned))
    return sum((after[name].double() - before[name].double()).square().sum().item() for name in before) ** 0.5


def skills(records: pd.DataFrame, family: Path) -> pd.DataFrame:
    """What each skill's model and the average of both get right of its task, in percent, and the task vector's norm.

    records: of the family's models and of ``average``. kept: the average's gain over the base, as a percentage of the
    skill's gain over the base.
    """
    right = 100 * records.pivot_table(index="method", columns="task", values="correct")
    rows = {}
    for skill in ("sums", "words"):
        column = right[f"abacus_{skill}"]
        base, own, average = (column[name] for name in ("abacus-base", f"abacus-{skill}", "average"))
        rows[skill] = {
            "norm": norm(family / "abacus-base", family / f"abacus-{skill}"), "base %": base, "skill's model %": own,
            "average %": average, "kept of the gain %": 100 * (average - base) / (own - base) if own != base else 0.0,
        }  # fmt: skip
    return pd.DataFrame(rows).T
