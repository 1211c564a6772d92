"""Intervals, by bootstrap over items save for the share of one task (Wilson's), and the verdict against the frontier.

    variable   shape                     meaning
    correct    (methods, items)          1.0 where the response is right                        one task
    length     (methods, items)          tokens of the response                                 one task
    draws      (draws, items)            how often each item is drawn; the same for all methods: paired

Averages are means over tasks, as in the paper. Length change is the mean over tasks of
length / length of the reference − 1 (the paper's); the ratio of the mean lengths stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from acm.reporting.intervals import Interval

DRAWS = 2000


@dataclass(frozen=True)
class Sample:
    """Bootstrap means, (methods, tasks, draws + 1); index 0 along the last axis is the data itself."""

    methods: list[str]
    tasks: list[str]
    items: dict[str, int]
    accuracy: np.ndarray  # fraction
    length: np.ndarray  # tokens
    repeats: int = 1  # responses to each item

    def row(self, method: str) -> int:
        return self.methods.index(method)


def bootstrap(records: pd.DataFrame, methods: list[str], tasks: list[str], draws: int = DRAWS, seed: int = 0) -> Sample:
    """Resample the items of each task, the same items for every method. Repeats of an item are averaged first (avg@k).

    So the interval holds what differs between items and between the responses to one, and knows that these are no further items. ValueError
    where a method lacks an item or a repeat.
    """
    means, items = [], {}
    for task in tasks:
        part = records[records["task"] == task]
        if absent := set(methods) - set(part["method"]):
            raise ValueError(f"task {task}: no records of method {min(absent)}.")
        groups = part[part["method"].isin(methods)].groupby(["method", "item"])
        check_repeats(task, groups.size())
        cells = groups[["correct", "length"]].mean().unstack("item").loc[methods]
        if cells.isna().any(axis=None):
            raise ValueError(f"task {task}: not every method has every item, so they cannot be compared.")
        items[task] = n = cells["correct"].shape[1]
        rng = np.random.default_rng([seed, *task.encode()])
        counts = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=draws)])
        means.append(np.stack([cells[c].to_numpy(float) @ counts.T / n for c in ("correct", "length")]))
    accuracy, length = np.stack(means, axis=2)
    return Sample(methods, tasks, items, accuracy, length, int(groups.size().iloc[0]))


def check_repeats(task: str, responses: pd.Series) -> None:
    """ValueError unless all items have equally many responses by all methods. responses: by method and item."""
    usual = responses.mode()[0]
    odd = responses[responses != usual]
    if len(odd):
        (method, item), number = odd.index[0], odd.iloc[0]
        raise ValueError(
            f"task {task}: {number} responses of {method} to item {item}, elsewhere {usual}; every item needs every repeat."
        )


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values (draws + 1,), the data's own value at index 0 left out."""
    tail = (1 - level) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return float(low), float(high)


def average(sample: Sample, method: str, what: str = "accuracy") -> np.ndarray:
    """Mean over tasks of a method's accuracy or length, (draws + 1,)."""
    return getattr(sample, what)[sample.row(method)].mean(axis=0)


def length_change(sample: Sample, method: str, reference: str) -> np.ndarray:
    """Mean over tasks of length / length of the reference − 1, a fraction, (draws + 1,)."""
    return (sample.length[sample.row(method)] / sample.length[sample.row(reference)] - 1).mean(axis=0)


def length_change_of_means(sample: Sample, method: str, reference: str) -> np.ndarray:
    """Ratio of the mean lengths − 1, a fraction, (draws + 1,)."""
    return average(sample, method, "length") / average(sample, reference, "length") - 1


def above_frontier(sample: Sample, method: str, frontier: list[str]) -> np.ndarray:
    """Accuracy of the method less that of the frontier at equal mean length, a fraction, (draws + 1,).

    The frontier is interpolated linearly between the two neighbouring points whose mean lengths bracket the
    method's, and bracketed anew in every draw. NaN where its length lies outside the frontier's range.
    """
    lengths, accuracies = curve(sample, frontier)
    expected = [
        np.interp(x, lengths[i], accuracies[i], np.nan, np.nan) for i, x in enumerate(average(sample, method, "length"))
    ]
    return average(sample, method) - np.array(expected)


def above_bar(sample: Sample, method: str, frontier: list[str]) -> np.ndarray:
    """Accuracy of the method less the best of plain interpolation at its mean length or shorter, a fraction, (draws + 1,).

    The bar is the frontier without the points that a shorter one beats or equals, found anew in every draw. Where the frontier rises
    they are one; where it falls, a method can lie above it and yet be longer and less often right than one of its points. NaN, as there,
    outside the frontier's range.
    """
    lengths, accuracies = curve(sample, frontier)
    expected = []
    for i, x in enumerate(average(sample, method, "length")):
        best = np.maximum.accumulate(accuracies[i])
        kept = np.append(True, accuracies[i, 1:] > best[:-1])
        expected.append(
            np.interp(x, lengths[i, kept], accuracies[i, kept]) if lengths[i, 0] <= x <= lengths[i, -1] else np.nan
        )
    return average(sample, method) - np.array(expected)


def curve(sample: Sample, frontier: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean lengths of the frontier's points, ascending in every draw, and their accuracies, each (draws + 1, points)."""
    lengths, accuracies = (
        np.stack([average(sample, m, what) for m in frontier], axis=1) for what in ("length", "accuracy")
    )
    order = np.argsort(lengths, axis=1, kind="stable")
    return np.take_along_axis(lengths, order, 1), np.take_along_axis(accuracies, order, 1)


def over_draws(differences: np.ndarray, seed: int = 0) -> np.ndarray:
    """Mean over calibration draws of differences (draws of texts, draws + 1): each bootstrap draw takes the calibration draws anew too.

    A bootstrap of n draws is too narrow by √((n − 1) / n) and knows no t distribution; the part that the draws add is widened by both.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(differences), size=(differences.shape[1] - 1, len(differences)))
    resampled = np.take_along_axis(differences[:, 1:].T, chosen, axis=1).mean(axis=1)
    if (n := len(differences)) > 1:
        whole = differences[:, 1:].mean(axis=0)
        resampled = whole + np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1) / 1.96 * (resampled - whole)
    return np.concatenate([[differences[:, 0].mean()], resampled])


def detectable(difference: np.ndarray) -> float:
    """The smallest true difference that a test at 5 %, two-sided, finds with a power of 80 %: 2.8 standard errors."""
    return float(2.8 * np.nanstd(difference[1:]))


def verdict(difference: np.ndarray) -> str:
    """'above', 'below' or 'no difference shown' from :func:`above_frontier` or :func:`above_bar`; 'outside' if the data or 5 % of draws are."""
    if np.isnan(difference[0]) or np.isnan(difference).mean() > 0.05:
        return "outside"
    low, high = interval(difference[~np.isnan(difference)])
    return "above" if low > 0 else "below" if high < 0 else "no difference shown"


def describe(values: np.ndarray, scale: float = 100.0) -> Interval:
    """Estimate with its 95 % interval, times ``scale``."""
    known = np.concatenate([values[:1], values[1:][~np.isnan(values[1:])]])
    low, high = interval(known) if len(known) > 1 else (np.nan, np.nan)
    return {"value": scale * float(values[0]), "low": scale * low, "high": scale * high}


def share(sample: Sample, method: str, task: str | None = None) -> Interval:
    """Accuracy in percent with its 95 % interval, of one task or the mean over tasks.

    One task with one response an item has Wilson's interval: the bootstrap's has no width where all or no items are right.
    """
    if task is None and len(sample.tasks) > 1:
        return describe(average(sample, method))
    values = sample.accuracy[sample.row(method), sample.tasks.index(task or sample.tasks[0])]
    n = sample.items[task or sample.tasks[0]]
    right = round(values[0] * n)
    if sample.repeats > 1 or abs(values[0] * n - right) > 1e-6:
        return describe(values)
    low, high = binomtest(right, n).proportion_ci(0.95, "wilson")
    return {"value": 100 * float(values[0]), "low": 100 * float(low), "high": 100 * float(high)}


def over_methods(sample: Sample, measure: Callable[[str], np.ndarray], scale: float = 100.0) -> pd.DataFrame:
    """One row per method: value, low, high of a measure."""
    return pd.DataFrame({m: describe(measure(m), scale) for m in sample.methods}).T
