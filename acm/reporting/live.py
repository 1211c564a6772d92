"""Writes ``live.json``: what a page needs to let a reader merge a pair in a browser and compare with our results.

    presets     λ by layer of ACM, of the Gaussian null, and of the best point of a search by layer
    frontier    plain interpolation, parents included: λ, accuracy (percent), length (tokens), length reduction against
                the slow parent (percent, mean over tasks of each task's reduction), 95 % intervals, n
    methods     the same of every method
    challenge   items that the reader's merge answers, with ACM-TA's grade and length, and the slow parent's length, of
                each; no search chose by them

Numbers are means over tasks, those of the table ``main`` (:func:`acm.reporting.tables.long_table`). An experiment has
the file where a browser can hold its two models, where decoding is greedy, and where records hold their questions.
`acm publish` writes it. From committed results, without a run:

    write_live(Results(load_profile("tiny"), "long-to-short", "reports"))
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acm.files import write_json
from acm.reading import read_json
from acm.records import coefficients_name
from acm.reporting.intervals import Row
from acm.reporting.results import Results
from acm.reporting.tables import TABLES
from acm.searching.points import FRONT, best_points, layers_of, models_of, parts_of, point_of

LIVE = "live.json"
AGAINST = "ACM-TA"  # whose presets and grades stand beside the reader's
ASKED = 50  # items of the challenge
MOST = 20 * 10**6  # bytes of a model's weights
MEASURES = [f"{name}{end}" for name in ("accuracy", "length") for end in ("", "_low", "_high")]
REDUCTION = {  # name here → column of the table, whose sign is the other
    "reduction": "length_change", "reduction_low": "length_change_high", "reduction_high": "length_change_low",
}  # fmt: skip
TITLES = {"acm": ("ACM", "none"), "noise": ("Gaussian noise", "gaussian")}  # preset → title, and control of its λ


def write_live(results: Results) -> Path | None:
    """Write the file beside an experiment's records; None where :func:`applies` says that it has none."""
    if not applies(results):
        return None
    path = results.folder / LIVE
    write_json(path, live(results), ensure_ascii=False, allow_nan=False)
    return path


def applies(results: Results) -> bool:
    """Whether a reader's browser could repeat the experiment's merges."""
    experiment = results.experiment
    if not results.pair or AGAINST not in experiment.methods or experiment.repeats > 1 or experiment.temperature:
        return False
    sizes = [sum(file.stat().st_size for file in p.glob("*.safetensors")) for p in experiment.parents.values()]
    return all(0 < size <= MOST for size in sizes) and "question" in results.records


def live(results: Results) -> dict[str, Any]:
    """The file's content."""
    base, finetuned = results.experiment.parents
    presets = coefficient_presets(results, finetuned)
    layers = [*presets["acm"]["coefficients"]]
    if found := searched(results, layers):
        presets["search"] = found
    table = TABLES["main"].numbers(results).query("task == 'average'")
    means = {row["method"]: numbers(row) for _, row in table.iterrows()}
    swept = {0.0: base} | {value: name for value, name in results.swept.items() if 0 < value < 1} | {1.0: finetuned}
    return {
        "profile": results.profile.name, "experiment": results.name, "base": base, "finetuned": finetuned,
        "cap": results.profile.cap(results.name), "layers": layers, "presets": presets,
        "frontier": [{"lambda": value, **means[swept[value]]} for value in sorted(swept)],
        "methods": [{"method": name, **means[name]} for name in results.experiment.methods],
        "challenge": {"against": AGAINST, "items": challenge(results)},
        "provenance": results.provenance,
    }  # fmt: skip


def numbers(row: Row) -> dict[str, float | int]:
    """Accuracy, length, reduction and n of a row of the table, with as many digits as its CSV file."""
    # 0 less the value: a change of 0 is written 0, and not −0
    shorter = {name: 0.0 - round(float(row[column]), 4) for name, column in REDUCTION.items()}
    return {name: round(float(row[name]), 4) for name in MEASURES} | shorter | {"n": int(row["n"])}


def coefficient_presets(results: Results, finetuned: str) -> dict[str, dict[str, Any]]:
    """The presets whose λ come from the experiment's calibration."""
    return {
        name: {
            "title": title, "method": "task_arithmetic", "coefficients": results.coefficients[control][finetuned],
            "provenance": read_json(results.path(coefficients_name(control)))["provenance"],
        }
        for name, (title, control) in TITLES.items()
    }  # fmt: skip


def searched(results: Results, layers: list[str]) -> dict[str, Any] | None:
    """The best point of the first search by layer of the experiment's models, as a preset; None where none lies there.

    Of the search's targets it is the one whose best point is nearest :data:`AGAINST` in length, so that a reader can
    compare their accuracy. Best is by the items that chose, not by the fresh ones.
    The challenge asks none of the items that chose.
    """
    records = results.records
    parents = records.loc[records["method"].isin([*results.experiment.parents]), "setting"].unique()
    identities = {json.loads(setting)["model"] for setting in parents}
    length = records.loc[records["method"] == AGAINST].groupby("task")["length"].mean().mean()
    pair = results.experiment.base, results.experiment.finetuned
    for name, block in results.profile.searches.items():
        folder = results.folder.parent / "searches" / name
        fits = models_of(results.profile, name) == pair and block.merge_method == "task_arithmetic"
        if not fits or not (folder / FRONT).is_file() or not (folder / "search.json").is_file():
            continue
        facts, front = read_json(folder / "search.json"), pd.read_csv(folder / FRONT)
        points = [rows[0] for rows in best_points(front).values()] if "value" in front else []
        points = [point for point in points if [*layers_of(point)] == layers]
        if points and set(facts["models"]) == identities:
            nearest = points[int(np.argmin([abs(point["tokens"] - length) for point in points]))]
            return search_preset(name, nearest, facts)
    return None


def search_preset(search: str, point: pd.Series, facts: dict[str, Any]) -> dict[str, Any]:
    """A point of a search as a preset. facts: of its ``search.json``."""
    sampler, target, _ = parts_of(point["arm"])
    settings = facts["settings"]
    chosen = settings["validation"]
    measured = {
        "accuracy": round(float(point["fresh_accuracy"]), 4), "length": round(float(point["fresh_tokens"]), 4),
        "n": int(point["fresh_asked"]),
    } if settings["fresh"] else {}  # fmt: skip
    return {
        "title": f"Search, target {target} %" if not target.endswith("t") else f"Search, target {target[:-1]} tokens",
        "method": "task_arithmetic",
        "coefficients": layers_of(point),
        "note": f"Items {chosen['first']} to {chosen['end'] - 1} of {', '.join(chosen['tasks'])} chose these λ.",
        "provenance": {
            "search": search, "point": point_of(point), "sampler": sampler, "candidates": settings["candidates"],
            "chosen_on": settings["validation"], "accuracy": round(float(point["accuracy"]), 4),
            "length": round(float(point["tokens"]), 4), "n": int(point["asked"]),
            "fresh": measured, "source": facts["source"], "versions": facts["versions"],
        },
    }  # fmt: skip


def challenge(results: Results) -> list[dict[str, Any]]:
    """Items of the tasks in turn, with question, gold answer, ACM-TA's grade and length, and slow's length (tokens).

    They come after those on which the profile's searches choose λ, so that no preset has seen them. Where none are
    left, the list is empty.
    """
    pair, profile = (results.experiment.base, results.experiment.finetuned), results.profile
    seen = [block.items[1] for name, block in profile.searches.items() if models_of(profile, name) == pair]
    records = results.records
    own = records[(records["method"] == AGAINST) & (records["item"] >= max(seen, default=0))].sort_values("item")
    parts = [part.assign(turn=range(len(part))) for part in (own[own["task"] == t] for t in results.experiment.tasks)]
    rows = pd.concat(parts).sort_values("turn", kind="stable").head(ASKED)
    slow = records[records["method"] == [*results.experiment.parents][1]].set_index(["task", "item"])["length"]
    return [
        {
            "task": row["task"], "item": int(row["item"]), "question": row["question"], "gold": row["gold"],
            "correct": bool(row["correct"]), "length": int(row["length"]),
            "slow": int(slow[row["task"], row["item"]]),
        }
        for _, row in rows.iterrows()
    ]  # fmt: skip
