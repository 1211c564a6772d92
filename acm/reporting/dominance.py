"""Compares an ACM method with other ways to the same end: is it more often right, or shorter, on the same items?

    pair                        what it shows
    TA → ACM-TA                 the paper's own comparison: the plain method at the paper's scaling
    TA → Null-TA                the same with λ of Gaussian noise in place of ACM's
    TA → Uniform-TA             the same with the mean of ACM's λ in every layer
    Null-TA → ACM-TA            what the activations add to noise
    Uniform-TA → ACM-TA         what the differences between layers add to one λ at the same mean
    best single λ → ACM-TA      what is left beside plain interpolation, with the λ that other items chose

A distance from the frontier alone can pay for tokens. Here accuracy and length stand side by side.
"""

from __future__ import annotations

import pandas as pd

from acm.reporting.comparison import TESTED, compare_pairs, found_words, rows_of
from acm.reporting.intervals import interval_columns, interval_in, interval_text
from acm.reporting.results import Results

BEST = "best single λ for"


def dominance(results: Results) -> pd.DataFrame:
    """A row for each pair, means over tasks.

    Columns: method, against; accuracy (points) and length (tokens), the method's less the other's, each with ``_low``
    and ``_high`` (95 %); detectable, the least true difference of accuracy (points) that the test finds in four of five
    cases; finding; n. p-values of all rows are adjusted together by Holm. There must be a pair (:func:`pairs_of`).
    """
    records, pairs = results.records, pairs_of(results)
    chosen = [
        chosen_elsewhere(records, method, results.frontier).assign(method=against)
        for against, method in pairs
        if against.startswith(BEST)
    ]
    table = compare_pairs(pd.concat([records, *chosen], ignore_index=True), pairs, means=True)
    return pd.DataFrame([row(table, *pair) for pair in pairs])


def pairs_of(results: Results) -> list[tuple[str, str]]:
    """What each ACM method is compared with, and the method. Empty where nothing else was merged."""
    pairs, merged = [], results.experiment.methods
    for method in [m for m in merged if m.startswith("ACM-")]:
        plain, controls = method.removeprefix("ACM-"), [method.replace("ACM", kind) for kind in ("Null", "Uniform")]
        wanted = [(other, method) for other in (plain, *controls)] + [(plain, control) for control in controls]
        pairs += [pair for pair in wanted if merged.keys() >= set(pair)]
        if results.pair and results.records["item"].nunique() > 1:
            pairs.append((f"{BEST} {method}", method))
    return pairs


def chosen_elsewhere(records: pd.DataFrame, method: str, frontier: list[str]) -> pd.DataFrame:
    """The records of the best single λ, chosen on other items than those that it is judged on.

    Items of even and of odd number are two halves. On each half stands the point of the frontier that is most often
    right on the other half, among those whose mean length there is at most the method's. Where all are longer, the
    shortest stands. The choice is made once, so its own chance is in no interval.
    """
    parts = []
    for half in (0, 1):
        means = records[records["item"] % 2 != half].groupby(["method", "task"])[["correct", "length"]].mean()
        means = means.groupby("method").mean()
        shortest = min(frontier, key=lambda m: means["length"][m])
        allowed = means.loc[[m for m in frontier if means["length"][m] <= means["length"][method]] or [shortest]]
        best = allowed.sort_values(["correct", "length"], ascending=[False, True]).index[0]
        parts.append(records[(records["item"] % 2 == half) & (records["method"] == best)])
    return pd.concat(parts, ignore_index=True)


def row(table: pd.DataFrame, against: str, method: str) -> dict[str, object]:
    """One pair of :func:`compare_pairs` as a row of :func:`dominance`."""
    measures = rows_of(table, against, method).set_index("measure").T
    differences = {
        name: value
        for measure in TESTED
        for name, value in interval_columns(measure, interval_in(measures[measure], "difference")).items()
    }
    accuracy = measures["accuracy"]
    return {
        "method": method, "against": against, **differences, "detectable": accuracy["detectable"],
        "finding": found_words(table, against, method), "n": accuracy["n"],
    }  # fmt: skip


def in_words(table: pd.DataFrame) -> str:
    """The paper's own comparison in a sentence or two: ACM-TA and its controls less TA. Empty where there is none.

    table: of :func:`dominance`.
    """
    rows = table[(table["against"] == "TA") & table["method"].str.endswith("-TA")]
    if "ACM-TA" not in rows["method"].to_list():
        return ""
    told = "; ".join(
        f"{row['method']} {difference(row, 'accuracy')} points and {difference(row, 'length')} tokens"
        for _, row in rows.sort_values("method").iterrows()
    )
    return f"Against TA on the same items: {told}."


def wide_dominance(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`dominance` as text, a row for each pair."""
    shown = {
        "against": table["against"],
        "accuracy, points": table.apply(difference, axis=1, name="accuracy"),
        "length, tokens": table.apply(difference, axis=1, name="length"),
        "least detectable": table["detectable"].map("{:.1f} points".format),
        "finding": table["finding"],
        "n": table["n"],
    }
    return pd.DataFrame(shown).set_index(table["method"])


def difference(row: pd.Series, name: str) -> str:
    """The text of a signed difference with its interval."""
    return interval_text(**interval_in(row, name), signed=True)
