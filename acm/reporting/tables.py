"""Makes the tables of an experiment from its records alone. Every cell has its n and a 95 % interval.

Each table is a function and a row of :data:`TABLES`. Notebook 5 writes every row that applies to an experiment, so a
new table is one function and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acm.escaping import csv_table, latex_table, markdown, text_table
from acm.files import write_text
from acm.reporting import statistics
from acm.reporting.dominance import dominance, pairs_of, wide_dominance
from acm.reporting.intervals import Row, interval_columns, interval_in, interval_text
from acm.reporting.results import Results
from acm.reporting.statistics import Sample, average, bootstrap, describe, length_change, length_change_of_means, share
from acm.reporting.thinking import thinking_table, thinks, wide_thinking


def long_table(records: pd.DataFrame, sample: Sample, reference: str) -> pd.DataFrame:
    """One row for each method and task, and one for each method's average over tasks.

    Columns, each with ``_low`` and ``_high`` (95 %): accuracy (percent), length (tokens), length_change (percent of the
    reference's length), truncated (percent of the responses). Averages also have length_change_of_means: the ratio of
    the mean lengths. n: items. repeats: responses to each, where there are several (avg@k). reference: the model that
    lengths compare with.
    """
    cut = bootstrap(records.assign(correct=records["truncated"].astype(float)), sample.methods, sample.tasks)
    base = sample.length[sample.row(reference)]
    rows: list[dict[str, Any]] = []
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
            **interval_columns("length", describe(average(sample, method, "length"), 1)),
            **interval_columns("length_change", describe(length_change(sample, method, reference))),
            **interval_columns("length_change_of_means", describe(length_change_of_means(sample, method, reference))),
            **interval_columns("truncated", share(cut, method)),
        })  # fmt: skip
    return pd.DataFrame(rows) if sample.repeats == 1 else pd.DataFrame(rows).assign(repeats=sample.repeats)


def head(row: Row) -> str:
    """The head of a task's column: its items and, where each has several responses, avg@k."""
    repeated = f", avg@{row['repeats']}" if "repeats" in row else ""
    return f"{row['task']} (n = {row['n']}{repeated})"


def cell(row: Row, name: str, digits: int = 1, signed: bool = False) -> str:
    """The text of a row's value ``name`` with its interval."""
    return interval_text(**interval_in(row, name), digits=digits, signed=signed)


def wide_table(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`long_table` as the paper prints it: a row for each method, a column for each task, and the averages.

    A task's cell is accuracy with the mean length in parentheses.
    """
    shown = {}
    for method, part in table.groupby("method", sort=False):
        tasks, mean = part[part["task"] != "average"], part[part["task"] == "average"].iloc[0]
        shown[method] = {
            head(row): f"{cell(row, 'accuracy')} ({cell(row, 'length', 0)})" for _, row in tasks.iterrows()
        } | {
            "average": cell(mean, "accuracy"),
            "length change %": cell(mean, "length_change"),
            "of mean lengths %": cell(mean, "length_change_of_means"),
            "truncated %": cell(mean, "truncated"),
        }
    return pd.DataFrame(shown).T.rename_axis("method")


def reflection_table(records: pd.DataFrame, methods: list[str], tasks: list[str]) -> pd.DataFrame:
    """Responses with a reflection keyword, for each method and task: their number, and their share in percent."""
    marked = records.assign(correct=(records["reflections"] > 0).astype(float))
    sample = bootstrap(marked, methods, tasks)
    rows = []
    for i, method in enumerate(methods):
        for k, task in enumerate(tasks):
            reflecting = interval_columns("reflecting", share(sample, method, task))
            count = round(sample.accuracy[i, k, 0] * sample.items[task] * records["repeat"].nunique())
            rows.append({"method": method, "task": task, "n": sample.items[task], "responses": count, **reflecting})
    return pd.DataFrame(rows)


def wide_reflections(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`reflection_table` with a row for each method and a column for each task."""
    text = table.apply(lambda row: f"{row['responses']} ({cell(row, 'reflecting')} %)", axis=1)
    heads = table["task"] + " (n = " + table["n"].astype(str) + ")"
    return text.groupby([table["method"], heads], sort=False).first().unstack(sort=False)


def verdict_table(sample: Sample, methods: list[str], frontier: list[str]) -> pd.DataFrame:
    """Each method against plain interpolation, with its verdict.

    Columns, each with ``_low`` and ``_high``: length (tokens); difference, points of accuracy above the frontier at
    equal mean length; bar, points above the bar, which the verdict is against.
    """
    rows: list[dict[str, Any]] = []
    for method in methods:
        difference, above = (f(sample, method, frontier) for f in (statistics.above_frontier, statistics.above_bar))
        verdict = "on the bar" if above[0] == 0 and not difference.any() else statistics.verdict(above)
        if verdict == "outside":  # no number where there is no verdict
            difference, above = np.full((2, len(above)), np.nan)
        rows.append({
            "method": method,
            **interval_columns("length", describe(average(sample, method, "length"), 1)),
            **interval_columns("difference", describe(difference)),
            **interval_columns("bar", describe(above)),
            "verdict": verdict,
            "n": sum(sample.items.values()),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=None if rows else ["method", "verdict"])


def verdicts_of(results: Results) -> pd.DataFrame:
    """:func:`verdict_table` of an experiment's methods; without rows where several models are merged.

    Then there is no interpolation between two parents to hold a method against.
    """
    return verdict_table(results.sample, list(results.experiment.methods) if results.pair else [], results.frontier)


def wide_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`verdict_table` as text, a row for each method."""
    shown = {
        "mean length": table.apply(cell, axis=1, name="length", digits=0),
        "points above the frontier": table.apply(cell, axis=1, name="difference"),
        "points above the bar": table.apply(cell, axis=1, name="bar"),
        "verdict": table["verdict"],
        "n": table["n"],
    }
    return pd.DataFrame(shown).set_index(table["method"])


def write_table(data: pd.DataFrame, shown: pd.DataFrame, stem: Path, caption: str) -> None:
    """Write ``stem.csv`` (all numbers), and ``stem.md`` and ``stem.tex`` (as shown, with the caption).

    Names stand in them literally (:mod:`acm.escaping`).
    """
    write_text(Path(f"{stem}.csv"), csv_table(data))
    write_text(Path(f"{stem}.md"), f"{text_table(shown)}\n\n{markdown(caption)}\n")
    write_text(Path(f"{stem}.tex"), latex_table(shown, caption))


@dataclass(frozen=True)
class Table:
    """A table that is written for each experiment.

    name: its stem among the saved files. title, note: what the notebook says above it. numbers: the data from the
    results. shown: the data as text. caption: its caption, to which n and the setting are added. applies: whether the
    results have what it shows.
    """

    name: str
    title: str
    numbers: Callable[[Results], pd.DataFrame]
    shown: Callable[[pd.DataFrame], pd.DataFrame]
    caption: str
    note: str = ""
    applies: Callable[[Results], bool] = lambda results: True


TABLES = {
    table.name: table
    for table in (
        Table(
            "main",
            "Methods × tasks",
            lambda r: long_table(r.records, r.sample, r.experiment.reference),
            wide_table,
            "Accuracy in percent and mean length in tokens.",
        ),
        Table(
            "verdicts",
            "Against the frontier",
            verdicts_of,
            wide_verdicts,
            "Points of accuracy above the frontier at equal mean length, and above the bar (the frontier without the "
            "points "
            "that a shorter one beats), which the verdict is against.",
            "A method earns its keep only if it beats plain interpolation that is no longer. The verdict is "
            "against *the bar*: the frontier without the points that a shorter one beats. The distance from the whole "
            "frontier at equal length stands beside it. Outside the frontier's range there is no verdict.",
            applies=lambda r: r.pair,
        ),
        Table(
            "dominance",
            "More often right, or shorter?",
            dominance,
            wide_dominance,
            "Method less against on the same items, mean over tasks: accuracy in points, length in tokens. Findings "
            "come from tests that are adjusted together by Holm; intervals are not adjusted.",
            "The paper compares ACM-TA with TA at its scaling; λ of Gaussian noise against TA stands beside it. *Best "
            "single λ* is the λ that other items chose: the one most often right there, among those at most as long "
            "as the method.",
            applies=lambda r: bool(pairs_of(r)),
        ),
        Table(
            "reflections",
            "Reflection",
            lambda r: reflection_table(r.records, r.sample.methods, r.sample.tasks),
            wide_reflections,
            "Responses with a reflection keyword (the paper's list and, on abacus, 'check:').",
            "Responses with a word of the paper's list (wait, re-examine, recap, double-check, let me check, let me "
            "verify) "
            'or, for the embedded models, "check:".',
        ),
        Table(
            "thinking",
            "Thinking",
            thinking_table,
            wide_thinking,
            "Responses whose thinking closes, and whose thinking never does, in percent of all responses, mean over "
            "tasks.",
            "A response that never closes its thinking is wrong. The rest do not think. λ is the mean over layers.",
            applies=thinks,
        ),
    )
}


def write_all(results: Results, folder: Path) -> Iterator[tuple[Table, pd.DataFrame]]:
    """Write every table that applies, in the order of :data:`TABLES`; yields the row and the numbers of each."""
    for table in TABLES.values():
        if table.applies(results):
            numbers = table.numbers(results)
            write_table(numbers, table.shown(numbers), folder / table.name, results.caption(table.caption))
            yield table, numbers
