"""Compares methods with one of them on the same items, as the explorers show it: more often right, or shorter?

The numbers and the findings are those of the report (:mod:`acm.reporting.dominance`), on the items at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from acm.hypertext import table
from acm.reporting.comparison import TESTED, compare_pairs
from acm.reporting.dominance import row, wide_dominance
from acm.reporting.intervals import interval_text
from acm.reporting.statistics import Sample, above_bar, average, bootstrap, describe, share, verdict
from acm.widgets.markup import note
from acm.widgets.trade_off import Records, Source, capped, checked

PLAIN = "TA"  # the plain method at the paper's scaling
COLUMNS = ["method", "task", "item", "correct", "length"]
UNITS = {"accuracy": "points", "length": "tokens"}
PRINTED = "No method is compared with another here: a paper prints means, without the answers to each item."
ALONE = "Choose a method to compare with {}. The λ swept have no rows; any of them can be compared with."
READING = (
    "Each method less {}, on the same items, mean over tasks, with 95 % intervals. Findings come from tests that are "
    "adjusted together by Holm. Intervals are not adjusted, so one can exclude 0 where no difference is shown."
)


def usual(methods: Sequence[str], reference: str | None) -> str:
    """What methods are compared with at first: TA where there is one, else the reference, else the first."""
    return PLAIN if PLAIN in methods else reference or methods[0]


def differences(records: pd.DataFrame, methods: Sequence[str], other: str) -> pd.DataFrame:
    """A row of texts for each method but the other; there must be one.

    records: one row for each response, as :func:`compare_pairs` takes them. Columns: accuracy (points) and length
    (tokens) less the other's, each with its interval, least detectable, finding, n. Where a difference is
    the same on all items of a task, the text says so in place of an interval without width. Raises ValueError where a
    method lacks an item.
    """
    pairs = [(other, method) for method in methods if method != other]
    compared = compare_pairs(records[COLUMNS], pairs, means=True)
    rows = pd.DataFrame([row(compared, *pair) for pair in pairs])
    found = wide_dominance(rows).drop(columns="against")
    for name in TESTED:
        alike = (rows[f"{name}_low"] == rows[f"{name}_high"]).to_numpy()
        texts = rows.loc[alike, name].map("{:+z.1f} (all items alike)".format).to_numpy()
        found.loc[alike, f"{name}, {UNITS[name]}"] = texts
    return found.rename(columns={f"{name}, {unit}": heading(name, other) for name, unit in UNITS.items()})


def heading(name: str, other: str) -> str:
    """The title of a column of :func:`differences`."""
    return f"{name} less {other}'s, {UNITS[name]}"


def differences_html(
    data: Source, methods: Sequence[str], tasks: Sequence[str], other: str, cap: int | None = None
) -> str:
    """The table of :func:`differences` as HTML, with how to read it; for a paper's numbers why there is none.

    The λ swept have no rows: they are what the bar is made of. Arguments as in :meth:`Source.points`; other: the method
    that the others are compared with. UserError where nothing is chosen, or something unknown.
    """
    if not isinstance(data, Records):
        return note(PRINTED)
    tasks, [other] = checked(tasks, data.tasks, "task"), checked([other], data.methods, "method")
    swept = data.results.swept.values()
    rows = [name for name in checked(methods, data.methods, "method") if name != other and name not in swept]
    if not rows:
        return note(ALONE.format(other))
    chosen = data.rows[data.rows["method"].isin([other, *rows]) & data.rows["task"].isin(tasks)]
    return note(READING.format(other)) + table(differences(capped(chosen, cap), rows, other))


def same_items(
    records: pd.DataFrame, own: dict[str, pd.DataFrame], methods: Sequence[str], items: pd.DataFrame
) -> pd.DataFrame:
    """The records of recorded methods and of one's own merges on the same items.

    own: merge → its records. items: task and item of each.
    """
    mine = [frame.assign(method=name)[COLUMNS] for name, frame in own.items()]
    theirs = records.loc[records["method"].isin(methods), COLUMNS].merge(items[["task", "item"]], on=["task", "item"])
    return pd.concat([theirs, *mine], ignore_index=True)


def sampled(records: pd.DataFrame) -> Sample:
    """Bootstrap of all methods and tasks of these records, paired."""
    return bootstrap(records, list(records["method"].unique()), list(records["task"].unique()))


def measured_merges(records: pd.DataFrame, own: dict[str, str], other: str, frontier: list[str]) -> pd.DataFrame:
    """A row of texts for each merge of one's own.

    Recipe, accuracy (percent), length (tokens), both less another method's, the finding on these, and the verdict
    against the bar. records: as :func:`same_items` gives them. own: merge → its description. Intervals are 95 %, over
    items, paired. The row of the other itself has no differences.
    """
    sample, rows = sampled(records), {}
    for name, text in own.items():
        accuracy, length = share(sample, name), describe(average(sample, name, "length"), 1)
        shown = {"accuracy, %": interval_text(**accuracy), "length, tokens": interval_text(**length)}
        rows[name] = {"recipe": text} | shown | {"against the bar": verdict(above_bar(sample, name, frontier))}
    found = pd.DataFrame.from_dict(rows, orient="index")
    if set(own) - {other}:
        less = differences(records, list(own), other)[[*(heading(name, other) for name in TESTED), "finding"]]
        found = found.join(less).fillna("–")
    return found
