"""Computes the row of a submission from its records alone: accuracy, length, truncated share, and the verdict.

The same records give the same row anywhere. Numbers are rounded to four digits. Only the provenance, which names
versions and the code, differs between machines.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from acm.errors import listed, shown
from acm.escaping import figure_text, literal
from acm.records import provenance
from acm.reporting.intervals import Interval, interval_in, interval_text
from acm.reporting.plotting import COLOURS, MARKERS, label_points
from acm.reporting.results import Results, exceptions, sampling
from acm.reporting.statistics import Sample, bootstrap, curve, on_bar
from acm.reporting.tables import long_table, verdict_table
from acm.running.imported_checks import one_setting
from acm.sharing.submission import Submitted

MEASURES = ("accuracy", "length", "truncated")
NONE = "none"  # the verdict where there is none
FORMAT = 1
LARGEST = sys.float_info.max  # of a stated number; a larger whole number is no float


def sample_of(submitted: Submitted) -> Sample:
    """The bootstrap of the submission's records: parents and frontier as far as they are there, then the method."""
    records = pd.concat(submitted.records.values(), ignore_index=True)
    seed, tasks = submitted.profile.seed, submitted.setting.tasks
    names = [name for name in submitted.context if name in submitted.records]
    return bootstrap(records, [*names, submitted.stated.method], tasks, seed=seed)


def why_no_verdict(submitted: Submitted) -> str:
    """Why the method has no verdict, in a sentence; empty where it has one."""
    results = Results(submitted.profile, submitted.experiment)
    if not results.pair:
        return "Several models are merged, so there is no plain interpolation between two parents."
    if lacking := [name for name in results.frontier if name not in submitted.records]:
        if len(lacking) == len(results.frontier):
            return "No frontier in the folder, and none among the committed records of this profile."
        return f"The frontier lacks {listed(lacking)}."
    return ""


def compute_row(submitted: Submitted, sample: Sample) -> dict[str, Any]:
    """The row, as JSON can hold it. sample: of :func:`sample_of`."""
    stated, setting, profile = submitted.stated, submitted.setting, submitted.profile
    method, records = stated.method, pd.concat(submitted.records.values(), ignore_index=True)
    reference = setting.reference if setting.reference in sample.methods else method
    table = long_table(records, sample, reference)
    means: dict[str, Any] = {row["method"]: row for _, row in table[table["task"] == "average"].iterrows()}
    why, verdict = why_no_verdict(submitted), None
    if not why:
        verdict = verdict_table(sample, [method], Results(profile, submitted.experiment).frontier).iloc[0]
    return {
        "format": FORMAT,
        "pair": submitted.pair,
        **stated.model_dump(mode="json"),
        "profile": profile.name, "profile_hash": profile.hash, "experiment": submitted.experiment,
        "n": sample.items, "repeats": sample.repeats, "cap": profile.cap(submitted.experiment, method),
        "generated": sampling(setting) + exceptions(setting),
        **{name: rounded(interval_in(means[method], name)) for name in MEASURES},
        "length_change": rounded(interval_in(means[method], "length_change")) if reference != method else None,
        "bar": None if verdict is None else rounded(interval_in(verdict, "bar")),
        "verdict": NONE if verdict is None else verdict["verdict"],
        "why_no_verdict": why,
        "borrowed": submitted.borrowed,
        "points": {name: {m: round(float(means[name][m]), 4) for m in MEASURES[:2]} for name in sample.methods},
        "evaluated_with": evaluated_with(submitted),
        "provenance": provenance("sharing"),
    }  # fmt: skip


def rounded(interval: Interval) -> dict[str, float] | None:
    """An interval to four digits; None where there is none."""
    if math.isnan(interval["value"]):
        return None
    return {"value": round(interval["value"], 4), "low": round(interval["low"], 4), "high": round(interval["high"], 4)}


def evaluated_with(submitted: Submitted) -> dict[str, Any]:
    """Engine, versions and the like of the method's records, as they state them."""
    found = one_setting("records", submitted.records[submitted.stated.method])
    kept = ("engine", "backend", "dtype", "device", "batch_size", "max_tokens", "seed", "model", "source", "versions")
    return {key: found[key] for key in kept if key in found}


def differences(stated: Any, found: Any, place: str = "") -> list[str]:
    """Where a stated row differs from the one that was found. Numbers may differ in the fourth digit."""
    if isinstance(stated, dict) and isinstance(found, dict):
        keys = [key for key in found.keys() | stated.keys() if (place, key) != ("", "provenance")]
        ways = {key: f"{place}.{key}".lstrip(".") for key in sorted(keys)}
        inner = (
            [f"{way} is {'missing' if key in found else 'none of its keys'}"]
            if (key in stated) != (key in found)
            else differences(stated[key], found[key], way)
            for key, way in ways.items()
        )
        return [line for lines in inner for line in lines]
    return (
        [] if alike(stated, found) else [f"{place} is {shown(json.dumps(stated))}, computed anew {json.dumps(found)}"]
    )


def alike(stated: Any, found: Any) -> bool:
    """Whether two values of a row are the same: numbers up to the fourth digit, and true is no number."""
    numbers = [type(value) in (int, float) for value in (stated, found)]
    if all(numbers):
        return bool(abs(stated) <= LARGEST and math.isclose(stated, found, abs_tol=2e-4))
    return bool(type(stated) is type(found) and stated == found)


def cells(row: dict[str, Any]) -> dict[str, str]:
    """The texts of a row in a table."""
    hours = "–" if row["hours"] is None else f"{row['hours']:g}"
    return {
        "method": row["method"],
        "accuracy %": text_of(row["accuracy"]),
        "length, tokens": text_of(row["length"], 0),
        "truncated %": text_of(row["truncated"]),
        "points above the bar": text_of(row["bar"], signed=True),
        "verdict": row["verdict"],
        "n": f"{sum(row['n'].values())} × {row['repeats']}" if row["repeats"] > 1 else f"{sum(row['n'].values())}",
        "profile": row["profile"],
        "hardware": row["hardware"],
        "hours": hours,
        "by": row["who"],
        "date": row["date"],
    }


def text_of(interval: Interval | None, digits: int = 1, signed: bool = False) -> str:
    """An interval as text; a dash for none."""
    return "–" if interval is None else interval_text(**interval, digits=digits, signed=signed)


def draw(row: dict[str, Any], sample: Sample, frontier: list[str], parents: list[str]) -> Figure:
    """Accuracy against length: the method with its intervals, the parents, and the bar where there is a verdict."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    if row["verdict"] != NONE:
        lengths, shares = curve(sample, frontier)
        kept = on_bar(shares[0])
        axes.plot(lengths[0], 100 * shares[0], ".--", color=COLOURS["frontier"], lw=1, label="plain interpolation")
        axes.plot(lengths[0, kept], 100 * shares[0, kept], "-", color=COLOURS["frontier"], lw=2, label="the bar")
    for name in (name for name in parents if name in row["points"]):
        point = row["points"][name]
        place = point["length"], point["accuracy"]
        axes.plot(*place, MARKERS["parent"], color=COLOURS["parent"], gid=literal(name))
    arms: dict[str, Any] = {
        f"{side}err": [[row[m]["value"] - row[m]["low"]], [row[m]["high"] - row[m]["value"]]]
        for side, m in (("x", "length"), ("y", "accuracy"))
    }
    place = row["length"]["value"], row["accuracy"]["value"]
    bars = axes.errorbar(*place, fmt=MARKERS["acm"], color=COLOURS["acm"], **arms)
    bars.lines[0].set_gid(literal(row["method"]))
    axes.set(xlabel="mean length, tokens", ylabel="accuracy, % (mean over tasks)", title=figure_text(row["pair"]))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=9, loc="lower right")
    label_points(axes)
    return figure
