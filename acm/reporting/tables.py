"""Tables from records alone: frame in, table out. Every cell has its n and a 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from acm.reporting import statistics
from acm.reporting.intervals import interval_columns, interval_in, interval_text
from acm.reporting.results import Results
from acm.reporting.statistics import Sample, describe, share


def long_table(records: pd.DataFrame, sample: Sample, reference: str) -> pd.DataFrame:
    """One row per (method, task) and one per (method, "average"), the source of the main and general tables.

    accuracy in percent, length in tokens, length_change in percent of the reference's, each with _low and _high
    (95 %); length_change_of_means: ratio of mean lengths; truncated in percent of the responses; n items.
    """
    cut = statistics.bootstrap(records.assign(correct=records["truncated"].astype(float)), sample.methods, sample.tasks)
    rows = []
    base = sample.length[sample.row(reference)]
    for i, method in enumerate(sample.methods):
        for k, task in enumerate(sample.tasks):
            rows.append({
                "method": method, "task": task, "n": sample.items[task],
                **interval_columns("accuracy", share(sample, method, task)),
                **interval_columns("length", describe(sample.length[i, k], 1)),
                **interval_columns("length_change", describe(sample.length[i, k] / base[k] - 1)),
                **interval_columns("truncated", share(cut, method, task)),
            })  # fmt: skip
        rows.append({
            "method": method, "task": "average", "n": sum(sample.items.values()),
            **interval_columns("accuracy", share(sample, method)),
            **interval_columns("length", describe(statistics.average(sample, method, "length"), 1)),
            **interval_columns("length_change", describe(statistics.length_change(sample, method, reference))),
            **interval_columns("length_change_of_means", describe(statistics.length_change_of_means(sample, method, reference))),
            **interval_columns("truncated", share(cut, method)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def cell(row: Mapping[str, Any], name: str, digits: int = 1, signed: bool = False) -> str:
    """The text of a row's value ``name`` with its interval."""
    return interval_text(**interval_in(row, name), digits=digits, signed=signed)


def wide_table(table: pd.DataFrame) -> pd.DataFrame:
    """As the paper prints it: methods × tasks, accuracy with mean length in parentheses, average, length change."""
    shown = {}
    for method, part in table.groupby("method", sort=False):
        tasks, mean = part[part["task"] != "average"], part[part["task"] == "average"].iloc[0]
        shown[method] = {
            f"{row['task']} (n = {row['n']})": f"{cell(row, 'accuracy')} ({cell(row, 'length', 0)})"
            for _, row in tasks.iterrows()
        } | {
            "average": cell(mean, "accuracy"),
            "length change %": cell(mean, "length_change"),
            "of mean lengths %": cell(mean, "length_change_of_means"),
            "truncated %": cell(mean, "truncated"),
        }
    return pd.DataFrame(shown).T.rename_axis("method")


def reflection_table(records: pd.DataFrame, methods: list[str], tasks: list[str]) -> pd.DataFrame:
    """Responses with a reflection keyword: number, and percent with a 95 % interval, per method and task."""
    marked = records.assign(correct=(records["reflections"] > 0).astype(float))
    sample = statistics.bootstrap(marked, methods, tasks)
    rows = []
    for i, method in enumerate(methods):
        for k, task in enumerate(tasks):
            reflecting = interval_columns("reflecting", share(sample, method, task))
            count = round(sample.accuracy[i, k, 0] * sample.items[task] * records["repeat"].nunique())
            rows.append({"method": method, "task": task, "n": sample.items[task], "responses": count, **reflecting})
    return pd.DataFrame(rows)


def wide_reflections(table: pd.DataFrame) -> pd.DataFrame:
    """Methods × tasks: number of reflecting responses, percent with interval."""
    text = table.apply(lambda row: f"{row['responses']} ({cell(row, 'reflecting')} %)", axis=1)
    heads = table["task"] + " (n = " + table["n"].astype(str) + ")"
    return text.groupby([table["method"], heads], sort=False).first().unstack(sort=False)


def verdict_table(sample: Sample, methods: list[str], frontier: list[str]) -> pd.DataFrame:
    """Each method against plain interpolation: points of accuracy above the frontier at equal mean length, and above the bar, with verdict."""
    rows = []
    for method in methods:
        difference, above = (f(sample, method, frontier) for f in (statistics.above_frontier, statistics.above_bar))
        length = describe(statistics.average(sample, method, "length"), 1)
        verdict = "on the bar" if above[0] == 0 and not difference.any() else statistics.verdict(above)
        rows.append({"method": method, **interval_columns("length", length), **interval_columns("difference", describe(difference)),
                     **interval_columns("bar", describe(above)), "verdict": verdict, "n": sum(sample.items.values())})  # fmt: skip
    return pd.DataFrame(rows, columns=None if rows else ["method", "verdict"])


def verdicts_of(results: Results) -> pd.DataFrame:
    """:func:`verdict_table` of an experiment's methods; without rows where several models are merged.

    Then there is no interpolation between two parents to hold a method against.
    """
    return verdict_table(results.sample, list(results.experiment.methods) if results.pair else [], results.frontier)


def wide_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "mean length": table.apply(cell, axis=1, name="length", digits=0),
        "points above the frontier": table.apply(cell, axis=1, name="difference"),
        "points above the bar": table.apply(cell, axis=1, name="bar"),
        "verdict": table["verdict"], "n": table["n"],
    }).set_index(table["method"])  # fmt: skip


def write_table(data: pd.DataFrame, shown: pd.DataFrame, stem: Path, caption: str) -> None:
    """``stem.csv`` (all numbers), ``stem.md`` and ``stem.tex`` (as shown, with the caption)."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    data.to_csv(f"{stem}.csv", index=False, float_format="%.4f")
    Path(f"{stem}.md").write_text(f"{shown.to_markdown()}\n\n{caption}\n")
    escaped = shown.rename(columns=escape, index=escape).map(escape).rename_axis(index=None)
    Path(f"{stem}.tex").write_text(escaped.style.to_latex(caption=escape(caption), hrules=True))


def escape(text: object) -> str:
    """Text as LaTeX shows it literally."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "%_&#${}" else c) for c in str(text))
