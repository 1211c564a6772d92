"""Compares methods on the same items, item by item: what differs, by how much, and how much could have been seen.

    variable    shape          meaning
    differences (items,)       theirs less ours, an item's mean over its repeats first
    tests                      how many p-values one table has; they are adjusted for it by Holm

Two methods that answered the same items are paired. A paired comparison sees smaller differences than one that treats
them as two samples. Reading records and logs is in `comparison_sources.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from acm import escaping
from acm.reporting.intervals import interval_columns, interval_in, interval_text
from acm.reporting.statistics import (
    average,
    bootstrap,
    describe,
    holm,
    least_detectable,
    paired_shares,
    share,
    sign_flip,
)

AVERAGE = "average"  # the row of the mean over tasks
# What is compared: measure → its digits in a text. The first two are tested, the others stand beside them.
MEASURES = {"accuracy": 1, "length": 1, "truncated": 1, "open thinking": 1}
TESTED = ("accuracy", "length")
SHARES = ("accuracy", "truncated", "open thinking")
EXPLANATION = (
    "Differences are paired: {second} less {first} on the same items, with 95 % intervals. Accuracy, truncated and "
    "open thinking are in percent, length is in tokens. `only` counts the items on which one alone is higher. "
    "p is McNemar's exact test, or flips the signs of the differences; it is adjusted by Holm for {tests} tests. "
    "`detectable` is the smallest true difference that such a test finds in four of five cases."
)


def compare(records: pd.DataFrame, first: str, others: list[str]) -> pd.DataFrame:
    """Every other method against the first, as :func:`compare_pairs`."""
    return compare_pairs(records, [(first, other) for other in others])


def compare_pairs(records: pd.DataFrame, pairs: list[tuple[str, str]], means: bool = False) -> pd.DataFrame:
    """The second method of each pair against the first: a row for each measure and task, and for the mean over tasks.

    records: one row for each response, with method, task, item, repeat, correct (0 to 1), and where they are known
    length (tokens), truncated, thinking_closed. means: the rows of the mean over tasks alone. Columns: against, method
    (the first and the second of the pair); measure (MEASURES); task; n items; ``first``, ``second`` and ``difference``,
    each with ``_low`` and ``_high`` (95 %), shares in percent; only_first and only_second, the items on which one alone
    is higher; p, adjusted p (of all rows together) and detectable for what is tested. Raises ValueError where a method
    lacks an item.
    """
    tasks = list(dict.fromkeys(records["task"]))
    rows = []
    for first, other in pairs:
        pair = records[records["method"].isin([first, other])]
        for measure in MEASURES:
            values = measured(pair, measure)
            known = [task for task in tasks if values[values["task"] == task]["value"].notna().all()]
            if known:
                found = measure_rows(values, first, other, known, measure)
                labels = {"against": first, "method": other, "measure": measure}
                rows += [labels | row for row in (found[-1:] if means else found)]
    table = pd.DataFrame(rows)
    tested = table["measure"].isin(TESTED)
    table.loc[tested, "p_adjusted"] = holm(table.loc[tested, "p"].to_numpy(float))
    errors = table.pop("error").where(tested)
    least = [least_detectable(error, int(tested.sum())) or math.nan for error in errors]  # 0: no item differs
    return table.assign(detectable=least)


def measured(pair: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of two methods with the column ``value`` of a measure; NaN where it is not known."""
    if measure == "open thinking":  # None where there was no thinking
        closed = pair["thinking_closed"] if "thinking_closed" in pair else pd.Series(None, pair.index, dtype=object)
        known = closed.notna().any()
        value = closed.map(lambda c: float(c is False or c == 0) if pd.notna(c) else 0.0) if known else math.nan
    else:
        value = pair.get({"accuracy": "correct"}.get(measure, measure), math.nan)
    return pair.assign(value=pd.to_numeric(value))


def measure_rows(values: pd.DataFrame, first: str, other: str, tasks: list[str], measure: str) -> list[dict[str, Any]]:
    """The rows of one measure and pair of methods: each task, then the mean over tasks where there are several."""
    frame = values.assign(correct=values["value"], length=values["value"])
    sample = bootstrap(frame, [first, other], tasks)
    scale = 100.0 if measure in SHARES else 1.0
    by_task = {}
    for task in tasks:
        cells = frame[frame["task"] == task].groupby(["method", "item"])["value"].mean().unstack("item")
        by_task[task] = cells.loc[first].to_numpy(float), cells.loc[other].to_numpy(float)
    rows = []
    for task in [*tasks, AVERAGE] if len(tasks) > 1 else tasks:
        place = None if task == AVERAGE else tasks.index(task)
        draws = [average(sample, m) if place is None else sample.accuracy[sample.row(m), place] for m in (first, other)]
        difference, error = describe(draws[1] - draws[0], scale), scale * float(np.std((draws[1] - draws[0])[1:]))
        pairs = list(by_task.values()) if place is None else [by_task[task]]
        if measure in SHARES and all(np.isin(pair, (0, 1)).all() for pair in pairs):
            difference, error = paired_shares(pairs)
        shown = [
            share(sample, m, None if place is None else task) if measure in SHARES else describe(draw, 1)
            for m, draw in zip((first, other), draws, strict=True)
        ]
        flips = np.concatenate([(theirs - ours) / len(ours) for ours, theirs in pairs])
        rows.append({
            "task": task, "n": sum(len(ours) for ours, _ in pairs),
            **interval_columns("first", shown[0]), **interval_columns("second", shown[1]),
            **interval_columns("difference", difference),
            "only_first": int((flips < 0).sum()), "only_second": int((flips > 0).sum()),
            "p": sign_flip(flips) if measure in TESTED else math.nan, "error": error,
        })  # fmt: skip
    return rows


def rows_of(table: pd.DataFrame, first: str, other: str) -> pd.DataFrame:
    """The rows of one pair."""
    return table[(table["against"] == first) & (table["method"] == other)]


def shown(table: pd.DataFrame, first: str, other: str) -> pd.DataFrame:
    """One other method's rows of :func:`compare` as a table of texts, one row for each measure and task."""
    rows = []
    for _, row in rows_of(table, first, other).iterrows():
        digits = MEASURES[row["measure"]]
        texts = [
            interval_text(**interval_in(row, name), digits=digits, signed=name == "difference")
            for name in ("first", "second", "difference")
        ]
        rows.append([
            f"{row['measure']}{' %' if row['measure'] in SHARES else ''}", row["task"], row["n"], *texts,
            f"{row['only_first']} / {row['only_second']}", p_text(row["p_adjusted"]),
            "" if math.isnan(row["detectable"]) else f"{row['detectable']:.{digits}f}",
        ])  # fmt: skip
    return pd.DataFrame(
        rows, columns=["measure", "task", "n", first, other, "difference", "only", "p", "detectable"], dtype=object
    )


def p_text(p: float) -> str:
    """A p-value as texts show it; empty where nothing was tested."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def finding(table: pd.DataFrame, first: str, other: str) -> str:
    """One sentence on a pair: what the tests on the mean over tasks, or on the only task, have shown."""
    return f"{other} against {first}: {found_words(table, first, other)}."


def found_words(table: pd.DataFrame, first: str, other: str) -> str:
    """What the tests on the mean over tasks, or on the only task, have shown of a pair."""
    rows = rows_of(table, first, other).drop_duplicates("measure", keep="last").set_index("measure")
    parts = []
    for measure, better, worse in (
        ("accuracy", "more often right", "less often right"),
        ("length", "longer", "shorter"),
    ):
        if measure not in rows.index:
            continue
        row = rows.loc[measure]
        if row["p_adjusted"] < 0.05:
            parts.append(better if row["difference"] > 0 else worse)
        else:
            parts.append(f"no difference of {measure} shown")
    return ", ".join(parts)


def as_text(table: pd.DataFrame, labels: list[str], notes: list[str], markdown: bool = False) -> str:
    """A table for each pair, its finding, how to read the tables, and the notes, as text or Markdown.

    labels: the first method, then the others.
    """
    first, *others = labels
    style, write = ("github", escaping.markdown) if markdown else ("simple", escaping.literal)
    parts = []
    for other in others:
        rows = shown(table, first, other)
        text = escaping.text_table(rows, style, index=False, disable_numparse=True)
        parts += [write(finding(table, first, other)), text]
    second = others[0] if len(others) == 1 else "the second"
    parts.append(EXPLANATION.format(first=write(first), second=write(second), tests=int(table["p"].notna().sum())))
    return "\n\n".join(parts + [f"note: {note}" for note in notes])


def as_json(table: pd.DataFrame, labels: list[str], notes: list[str]) -> dict[str, Any]:
    """What :func:`as_text` tells, for programs. NaN becomes null."""
    first, *others = labels
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    findings = [finding(table, first, other) for other in others]
    return {"first": first, "others": others, "findings": findings, "rows": rows, "notes": notes}
