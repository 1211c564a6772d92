"""Computes the intervals of accuracy and length, and the verdict on a method against the frontier.

    variable    shape                       meaning
    correct     (methods, items)            1.0 where the response is right, of one task
    length      (methods, items)            tokens of the response, of one task
    counts      (draws + 1, items)          how often each item is drawn; the same for all methods, so they are paired
    values      (draws + 1,)                a mean in each bootstrap draw; index 0 is the data itself

Intervals are 95 %, by bootstrap over items. A share, such as an accuracy, has Wilson's interval instead, and a mean of
shares over tasks has one that is made of theirs (``shares.py``). Paired differences of shares have Bonett and Price's.
Averages are means over tasks, as in the paper. Length change is defined as in the paper: the mean over tasks of length
/ length of the reference − 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm, permutation_test, t

from acm.reporting.intervals import Interval
from acm.reporting.shares import effective_items, mover

DRAWS = 2000
Cells = dict[str, tuple[np.ndarray, np.ndarray]]
ROUNDING = 1e-12  # a difference as small as this is 0


@dataclass(frozen=True)
class Sample:
    """Bootstrap means of methods on tasks.

    accuracy (fraction) and length (tokens): (methods, tasks, draws + 1); index 0 along the last axis is the data
    itself. items: task → its number of items. repeats: responses to each item. grades: of each task (methods, items),
    fractions.
    """

    methods: list[str]
    tasks: list[str]
    items: dict[str, int]
    accuracy: np.ndarray
    length: np.ndarray
    repeats: int = 1
    grades: tuple[np.ndarray, ...] = ()

    def row(self, method: str) -> int:
        """The place of a method along the first axis."""
        return self.methods.index(method)


def bootstrap(records: pd.DataFrame, methods: list[str], tasks: list[str], draws: int = DRAWS, seed: int = 0) -> Sample:
    """Resample the items of each task, the same items for every method.

    Repeats of an item are averaged first (avg@k): responses to one item are no further items. The mean of an item
    has the chance of its k responses in it, so drawing items alone has both sources: items differ, and so do responses
    to one. The variance is (between items + between responses / k) / items. Drawing the responses anew too would count
    theirs twice. Raises ValueError where a method lacks an item or a repeat.
    """
    cells, repeats = {}, 1
    for task in tasks:
        part = records[records["task"] == task]
        if absent := set(methods) - set(part["method"]):
            raise ValueError(f"task {task}: no records of method {min(absent)}.")
        groups = part[part["method"].isin(methods)].groupby(["method", "item"])
        check_repeats(task, groups.size())
        wide = groups[["correct", "length"]].mean().unstack("item").loc[methods]
        if wide.isna().to_numpy().any():
            raise ValueError(f"task {task}: not every method has every item, so they cannot be compared.")
        cells[task] = wide["correct"].to_numpy(float), wide["length"].to_numpy(float)
        repeats = int(groups.size().iloc[0])
    return resampled(methods, cells, repeats, draws, seed)


def resampled(methods: list[str], cells: Cells, repeats: int, draws: int = DRAWS, seed: int = 0) -> Sample:
    """:func:`bootstrap` of the items' means. cells: task → right (fraction) and length, each (methods, items)."""
    means, items = [], {task: right.shape[1] for task, (right, _) in cells.items()}
    for task, n in items.items():
        counts = item_counts(task, n, draws, seed)
        means.append([values @ counts.T / n for values in cells[task]])
    accuracy, length = np.stack(means, axis=2)
    return Sample(methods, list(cells), items, accuracy, length, repeats, tuple(right for right, _ in cells.values()))


@functools.lru_cache(maxsize=4)  # an explorer asks again at every move of a slider
def item_counts(task: str, n: int, draws: int, seed: int) -> np.ndarray:
    """How often each of n items is drawn, (draws + 1, n); the first row is the data itself. Not to be written to."""
    rng = np.random.default_rng([seed, *task.encode()])
    return np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=draws)])


def check_repeats(task: str, responses: pd.Series) -> None:
    """ValueError unless all items have equally many responses by all methods. responses: by method and item."""
    usual = responses.mode()[0]
    odd = responses[responses != usual]
    if len(odd):
        (method, item), number = odd.index[0], odd.iloc[0]
        told = f"task {task}: {number} responses of {method} to item {item}, elsewhere {usual}"
        raise ValueError(f"{told}; every item needs every repeat.")


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values (draws + 1,); the data's own value, at index 0, is left out."""
    tail = (1 - level) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return float(low), float(high)


def average(sample: Sample, method: str, what: str = "accuracy") -> np.ndarray:
    """Mean over tasks of a method's accuracy or length, (draws + 1,)."""
    values = {"accuracy": sample.accuracy, "length": sample.length}[what]
    return values[sample.row(method)].mean(axis=0)


def length_change(sample: Sample, method: str, reference: str) -> np.ndarray:
    """Mean over tasks of length / length of the reference − 1, a fraction, (draws + 1,)."""
    return (sample.length[sample.row(method)] / sample.length[sample.row(reference)] - 1).mean(axis=0)


def length_change_of_means(sample: Sample, method: str, reference: str) -> np.ndarray:
    """Ratio of the mean lengths − 1, a fraction, (draws + 1,)."""
    return average(sample, method, "length") / average(sample, reference, "length") - 1


def above_frontier(sample: Sample, method: str, frontier: list[str]) -> np.ndarray:
    """Accuracy of a method less that of the frontier at equal mean length, a fraction, (draws + 1,).

    Between its points the frontier is a straight line. It is drawn anew in every bootstrap draw. NaN where the method's
    length lies outside the frontier's range.
    """
    lengths, accuracies = curve(sample, frontier)
    own = average(sample, method, "length")
    expected = [np.interp(x, lengths[i], accuracies[i], np.nan, np.nan) for i, x in enumerate(own)]
    return average(sample, method) - np.array(expected)


def above_bar(sample: Sample, method: str, frontier: list[str]) -> np.ndarray:
    """Accuracy of a method less that of the bar at its mean length, a fraction, (draws + 1,).

    The bar is the frontier without the points that a shorter one beats or equals, with straight lines between the rest.
    Where the frontier rises, the two are one. Where it falls, a method can lie above the frontier
    and yet be longer and less often right than one of its points. The bar is found anew in every bootstrap draw. NaN
    outside the frontier's range.
    """
    lengths, accuracies = curve(sample, frontier)
    own, expected = average(sample, method, "length"), np.full(lengths.shape[0], np.nan)
    for i, x in enumerate(own):
        if lengths[i, 0] <= x <= lengths[i, -1]:
            kept = on_bar(accuracies[i])
            expected[i] = np.interp(x, lengths[i, kept], accuracies[i, kept])
    return average(sample, method) - expected


def on_bar(accuracies: np.ndarray) -> np.ndarray:
    """Which points no shorter one beats or equals, (points,). accuracies: (points,), by ascending length."""
    return np.append(True, accuracies[1:] > np.maximum.accumulate(accuracies)[:-1])


def curve(sample: Sample, frontier: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean lengths of the frontier's points, ascending in each draw, and their accuracies: each (draws + 1, points)."""
    lengths = np.stack([average(sample, m, "length") for m in frontier], axis=1)
    accuracies = np.stack([average(sample, m) for m in frontier], axis=1)
    order = np.argsort(lengths, axis=1, kind="stable")
    return np.take_along_axis(lengths, order, 1), np.take_along_axis(accuracies, order, 1)


def over_draws(differences: np.ndarray, seed: int = 0) -> np.ndarray:
    """Mean over calibration draws, (draws + 1,). Each bootstrap draw takes the calibration draws anew too.

    differences: (calibration draws, draws + 1). A bootstrap of n calibration draws is too narrow by √((n − 1) / n), and
    knows no t distribution. The part of the spread that they add is widened by both.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(differences), size=(differences.shape[1] - 1, len(differences)))
    resampled = np.take_along_axis(differences[:, 1:].T, chosen, axis=1).mean(axis=1)
    if (n := len(differences)) > 1:
        whole = differences[:, 1:].mean(axis=0)
        resampled = whole + np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1) / 1.96 * (resampled - whole)
    return np.concatenate([[differences[:, 0].mean()], resampled])


def detectable(difference: np.ndarray) -> float:
    """:func:`least_detectable` of one test on a difference (draws + 1,), in its unit; draws of NaN are left out."""
    return least_detectable(float(np.nanstd(difference[1:])))


def least_detectable(error: float, tests: int = 1) -> float:
    """The smallest true difference that a two-sided test at 5 % finds with a power of 80 %, in the unit of ``error``.

    It is 2.8 standard errors. With several tests each is at 5 % / tests, so it is more. error: standard error.
    """
    return float((norm.isf(0.025 / tests) + norm.ppf(0.8)) * error)


def paired_shares(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Interval, float]:
    """The difference of two shares of the same items, theirs less ours, in percent, and its standard error.

    pairs: ours and theirs of each task, (items,), from 0 to 1; of several tasks the mean difference. The interval
    (95 %) and the error are Bonett and Price's (doi:10.3102/1076998611411915), which add one item of each kind that
    differs. So they have a width where no item differs. Their items are 0 or 1; of others, such as an item's mean over
    merges, the variance is taken likewise. Tasks are independent, so their squared errors add up.
    """
    values, centres, errors = np.array([paired_share(*pair) for pair in pairs]).T
    centre, error = centres.mean(), math.sqrt((errors**2).sum()) / len(pairs)
    low, high = (float(100 * np.clip(centre + sign * norm.isf(0.025) * error, -1, 1)) for sign in (-1, 1))
    return {"value": 100 * float(values.mean()), "low": low, "high": high}, 100 * error


def paired_share(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Of one task the difference of two shares, the middle of its interval, and its standard error; fractions."""
    found = theirs - ours
    differences = np.append(found, [1, -1])  # the two items that are added
    return float(found.mean()), float(differences.mean()), float(differences.std()) / math.sqrt(len(differences))


def sign_flip(differences: np.ndarray) -> float:
    """The two-sided p of paired differences (items,), by flipping their signs.

    The hypothesis is that the two methods could be exchanged for one another. Where all differences have one size it is
    McNemar's exact test. Else all flips of up to 13 items that differ are counted, and 9,999 of more are drawn. Draws
    cannot show a p below 1e-4. So below 1e-3 the normal limit stands; its tails are longer, which makes it careful.
    """
    differing = differences[differences != 0]
    if not len(differing):
        return 1.0
    if np.allclose(np.abs(differing), abs(differing[0])):
        return float(binomtest(int((differing > 0).sum()), len(differing)).pvalue)
    limit = 2 * norm.sf(abs(differing.sum()) / np.sqrt((differing**2).sum()))
    if limit < 1e-3:
        return float(limit)
    found = permutation_test((differing,), np.sum, permutation_type="samples", vectorized=True, batch=500, rng=0)
    return float(found.pvalue)


def bootstrap_p(difference: np.ndarray) -> float:
    """The two-sided p of a difference (draws + 1,): twice the share of draws on the rarer side of 0. NaN for no draws.

    Draws cannot show a p below 2 / (draws + 1).
    """
    drawn = difference[1:][~np.isnan(difference[1:])]
    if not len(drawn):
        return math.nan
    rarer = min((drawn <= ROUNDING).sum(), (drawn >= -ROUNDING).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(drawn) + 1)))


def holm(values: np.ndarray) -> np.ndarray:
    """p-values (tests,) adjusted by Holm for their number: below 5 % they are so for all of them together."""
    order = np.argsort(values)
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def verdict(difference: np.ndarray) -> str:
    """'above', 'below' or 'no difference shown', from :func:`above_frontier` or :func:`above_bar`.

    'outside' if the data, or more than 5 % of the bootstrap draws, lie outside the frontier's range (NaN).
    """
    if np.isnan(difference[0]) or np.isnan(difference).mean() > 0.05:
        return "outside"
    low, high = interval(difference[~np.isnan(difference)])
    return "above" if low > ROUNDING else "below" if high < -ROUNDING else "no difference shown"


def describe(values: np.ndarray, scale: float = 100.0) -> Interval:
    """The data's value with its 95 % interval, times ``scale``. values: (draws + 1,); draws of NaN are left out."""
    known = np.concatenate([values[:1], values[1:][~np.isnan(values[1:])]])
    low, high = interval(known) if len(known) > 1 else (np.nan, np.nan)
    return {"value": scale * float(values[0]), "low": scale * low, "high": scale * high}


def share(sample: Sample, method: str, task: str | None = None) -> Interval:
    """Accuracy in percent with its 95 % interval, of one task or (None) the mean over tasks.

    One task has Wilson's interval, and the mean has the tasks' together (:func:`mover`): the bootstrap's would have no
    width where all items, or none, are right. With several responses an item (avg@k) the effective number of items
    stands for their number. The bootstrap serves partial grades, unless it has no width.
    """
    tasks = [task] if task else sample.tasks
    values = sample.accuracy[sample.row(method), [sample.tasks.index(name) for name in tasks]]
    counts = np.array([sample.items[name] for name in tasks])
    if sample.repeats > 1:
        grades = [sample.grades[sample.tasks.index(name)][sample.row(method)] for name in tasks]
        return mover(values[:, 0], np.array([effective_items(means, sample.repeats) for means in grades]))
    right = values[:, 0] * counts
    found = describe(values.mean(axis=0))
    whole = np.allclose(right, right.round(), rtol=0, atol=1e-6)
    return found if not whole and found["low"] < found["high"] else mover(values[:, 0], counts)


def over_methods(sample: Sample, measure: Callable[[str], np.ndarray], scale: float = 100.0) -> pd.DataFrame:
    """One row for each method: value, low, high of a measure."""
    return pd.DataFrame({m: describe(measure(m), scale) for m in sample.methods}).T
