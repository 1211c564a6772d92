"""Checkers of lesson 5: measuring length and accuracy honestly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from acm.course import Answer, exercise, need, read, same

END, THINK, CLOSE = 0, 7, 8
# Each row: what the response is, its token ids, the cap, the length, whether it is truncated, the sentence if not so.
RESPONSES = (
    (
        "a plain response", [5, 6, 9, END], 10, 3, False,
        "Of [5, 6, 9, end] the length is 3: the end token does not count, all before it do.",
    ),
    (
        "padding", [5, 6, END, 1, 1, 1], 6, 2, False,
        "What follows the end token is padding and does not count: the length of [5, 6, end, 1, 1, 1] is 2.",
    ),
    (
        "end tokens as padding", [5, 6, END, END, END], 5, 2, False,
        "Padding may have the end token's id: the *first* end token ends the response.",
    ),
    (
        "thinking", [THINK, 5, 6, CLOSE, 9, END], 9, 5, False,
        "Thinking counts: every token before the end token was made by the model.",
    ),
    ("nothing", [END, 1, 1], 3, 0, False, "A response that ends at once has the length 0."),
    (
        "cut off", [5, 6, 9, 3], 4, 4, True,
        "No end token and 4 tokens at a cap of 4: this response was truncated, and all 4 tokens count.",
    ),
    (
        "ended at the cap", [5, 6, 9, END], 4, 3, False,
        "A response whose last token is the end token has ended: it is not truncated, whatever the cap.",
    ),
    (
        "stopped otherwise", [5, 6, 9], 10, 3, False,
        "Without an end token but far from the cap, something else stopped it: not truncated.",
    ),
)  # fmt: skip
ENDED = "A response that holds the end token has ended: it is not truncated, whatever the cap."
PAIR = "Return a pair: length, and whether the response was truncated."


@exercise("5.1")
def length(length_of: Answer) -> str:
    for what, ids, cap, tokens, truncated, told in RESPONSES:
        found = length_of(list(ids), END, cap)
        need(isinstance(found, tuple | list) and len(found) == 2, PAIR)
        same(found[0], tokens, f"The length of {what}", told)
        need(bool(found[1]) == truncated, ENDED if END in ids else told)
    return f"right on {len(RESPONSES)} responses, thinking and padding among them."


@exercise("5.2")
def smaller_cap(under_cap: Answer) -> str:
    records = pd.DataFrame({
        "item": range(6), "length": [10, 49, 50, 51, 90, 120], "correct": [1.0, 0.0, 1.0, 1.0, 0.0, 1.0],
        "truncated": [False, False, False, False, False, True], "response": list("abcdef"),
    })  # fmt: skip
    kept = records.copy()
    found = under_cap(records, 50)
    otherwise = f"Return a table, not {type(found).__name__}: does your function end with `return`?"
    need(isinstance(found, pd.DataFrame), otherwise)
    otherwise = "Your function changes the records that it is given: work on a copy (`records.assign(…)` makes one)."
    need(records.equals(kept), otherwise)
    otherwise = (
        f"Rows are missing ({len(found)} of 6): a response that is cut off stays in the table, else only the short "
        "ones count."
    )
    need(len(found) == 6, otherwise)
    need(set(records) <= set(found), "Columns are missing: keep all of them.")
    otherwise = "No response can be longer than the cap, and none that was shorter changes."
    same(found["length"], [10, 49, 50, 50, 50, 50], "The lengths", otherwise)
    cut = found["truncated"].astype(bool).tolist()
    need(cut[2], "A response of exactly `cap` tokens had no room for its end token: it is truncated.")
    otherwise = f"Truncated should be those of 50 tokens or more, and is {cut}."
    need(cut == [False, False, True, True, True, True], otherwise)
    need(found["correct"].iloc[3] == 0, "A truncated response never said its answer: it is not correct.")
    otherwise = "Correct stays as it was where nothing is cut, and is 0 where something is."
    same(found["correct"], [1, 0, 0, 0, 0, 0], "Correct", otherwise)
    otherwise = "What was truncated under the old cap stays so under a larger one."
    need(under_cap(records, 200)["truncated"].tolist() == kept["truncated"].tolist(), otherwise)
    return "a cap shortens and spoils, and both are visible."


def draws_of(values: np.ndarray, draws: int = 20000) -> np.ndarray:
    """Means of bootstrap draws of the values, (draws,)."""
    rng = np.random.default_rng(99)
    return values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)


def ends(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """The ends of the middle part of the values that is as large as ``level``, (2,)."""
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


def near(found: np.ndarray, expected: np.ndarray, part: float = 0.055) -> bool:
    """Both ends within a part of the interval's width: bootstraps of unlike seeds differ."""
    return bool(np.all(np.abs(found - expected) < part * (expected[1] - expected[0])))


@exercise("5.3")
def paired(paired_interval: Answer) -> str:
    rng = np.random.default_rng(0)
    hardness = rng.normal(100, 40, size=200)
    a, b = hardness + rng.normal(3, 5, size=200), hardness + rng.normal(0, 5, size=200)
    found = read(paired_interval(a, b, 4000, 0), "The interval", (2,))
    expected = ends(draws_of(a - b))
    need(found[0] <= found[1], "The ends are in the wrong order: low first.")
    if not near(found, expected):
        apart = ends(draws_of(a) - np.random.default_rng(1).permutation(draws_of(b)))
        otherwise = "The interval is that of two unlike sets of items: draw the same items for a and b."
        need(not near(found, apart), otherwise)
        need(not near(found, -expected[::-1]), "The sign is turned: it is mean(a) − mean(b).")
        otherwise = (
            "These are quantiles of the items' differences: average each draw first, then take quantiles of the means."
        )
        need(not near(found, ends(a - b)), otherwise)
        otherwise = "This interval holds 90 %: take the quantiles 0.025 and 0.975."
        need(not near(found, ends(draws_of(a - b), 0.9)), otherwise)
        otherwise = "The interval has no width: draw with replacement, as many items as there are."
        need(found[1] - found[0] > 1e-9, otherwise)
    otherwise = (
        f"For differences of mean {np.mean(a - b):.2f} it should be about [{expected[0]:.2f}, {expected[1]:.2f}], and "
        f"is [{found[0]:.2f}, {found[1]:.2f}]."
    )
    need(near(found, expected), otherwise)
    return "hard items cancel, and the interval is as narrow as the data allow."


@exercise("5.4")
def thirty_items(wilson: Answer) -> str:
    for right, n in ((6, 30), (0, 30), (30, 30), (10, 30), (120, 250)):
        found = read(wilson(right, n), f"The interval of {right} of {n}", (2,))
        interval = binomtest(right, n).proportion_ci(method="wilson")
        p = right / n
        half = 1.96 * np.sqrt(p * (1 - p) / n)
        otherwise = "This is p ± z √(p(1 − p)/n), which has no width at 0 of 30: use Wilson's formula."
        need(not np.allclose(found, [p - half, p + half], atol=1e-4), otherwise)
        need(found.max() <= 1.001, "The ends are in percent: return fractions.")
        otherwise = (
            f"The interval of {right} of {n} is wrong: does the denominator divide both the middle and the half width?"
        )
        same(found, [interval.low, interval.high], "The interval", otherwise, 2e-4)
    otherwise = "z has no effect: it stands in the formula five times."
    same(wilson(6, 30, 1.0), [0.137, 0.282], "The interval at z = 1", otherwise, 2e-3)
    return "even 0 of 30 leaves room: up to 11 %."


@exercise("5.5")
def repeats(average_at_k: Answer) -> str:
    rng = np.random.default_rng(0)
    ability = rng.beta(0.5, 0.5, size=(40, 1))
    right = (rng.random((40, 8)) < ability).astype(float)
    found = read(average_at_k(right, 4000, 0), "What is returned", (3,))
    otherwise = "This counts an item as right if one of its answers is (pass@k): average the k answers."
    need(not np.isclose(found[0], right.max(axis=1).mean()), otherwise)
    same(found[0], right.mean(), "avg@k", f"avg@k should be {right.mean():.3f}, the mean over all answers.")
    expected = ends(draws_of(right.mean(axis=1)))
    if not near(found[1:], expected):
        otherwise = (
            "The interval treats the answers to one item as items of their own: draw items, each with all its answers."
        )
        need(not near(found[1:], ends(draws_of(right.ravel())), 0.2), otherwise)
        otherwise = "The interval draws repeats, not items: average over axis 1 first."
        need(not near(found[1:], ends(draws_of(right.mean(axis=0))), 0.2), otherwise)
    otherwise = (
        f"The interval should be about [{expected[0]:.3f}, {expected[1]:.3f}], and is [{found[1]:.3f}, {found[2]:.3f}]."
    )
    need(near(found[1:], expected), otherwise)
    return "repeats lower the noise within an item, and the number of items stays what it is."


@exercise("5.6")
def changes(length_changes: Answer) -> str:
    lengths, reference = np.array([50.0, 300.0, 4000.0]), np.array([200.0, 400.0, 5000.0])
    found = read(length_changes(lengths, reference), "What is returned", (2,))
    ratios, means = (lengths / reference).mean() - 1, lengths.mean() / reference.mean() - 1
    need(not np.allclose(found, [means, ratios]), "Both are right, in the wrong order: the mean of ratios comes first.")
    otherwise = "These are ratios: subtract 1, so that −0.25 is a quarter shorter."
    need(not np.allclose(found, [ratios + 1, means + 1]), otherwise)
    need(not np.allclose(found, [-ratios, -means]), "The sign is turned: shorter is negative.")
    need(not np.allclose(found, [100 * ratios, 100 * means]), "These are percent: return fractions.")
    otherwise = "The ratio is upside down: divide by the reference."
    need(not np.isclose(found[0], (reference / lengths).mean() - 1), otherwise)
    otherwise = "The mean of ratios is wrong: divide benchmark by benchmark, average, subtract 1."
    same(found[0], ratios, "The mean of ratios", otherwise)
    otherwise = "The ratio of means is wrong: average both, then divide, and subtract 1."
    same(found[1], means, "The ratio of means", otherwise)
    return "two numbers for one fact; name the one that you use."


@exercise("5.7")
def bar(frontier_at: Answer) -> str:
    lengths, accuracies = np.array([60.0, 20.0, 100.0, 40.0]), np.array([0.8, 0.3, 0.7, 0.6])
    kept = lengths.copy(), accuracies.copy()
    for length, expected in ((20.0, 0.3), (30.0, 0.45), (50.0, 0.7), (80.0, 0.75), (100.0, 0.7)):
        found = frontier_at(length, lengths, accuracies)
        need(found is not None, "The accuracy is None: does your function end with `return`?")
        need(np.ndim(found) == 0, "Return one number, the frontier's accuracy at this length.")
        unsorted = np.interp(length, lengths, accuracies)
        otherwise = "np.interp expects ascending lengths, and these are not: sort both arrays by length first."
        need(np.isclose(found, expected) or not np.isclose(found, unsorted), otherwise)
        nearest = accuracies[np.abs(lengths - length).argmin()]
        otherwise = "This is the nearest point: interpolate between the two that enclose the length."
        need(np.isclose(found, expected) or not np.isclose(found, nearest), otherwise)
        otherwise = (
            f"At {length:.0f} tokens the frontier has {expected:.2f}, and yours {float(found):.2f}: sort both arrays "
            "alike?"
        )
        need(np.isclose(found, expected), otherwise)
    otherwise = "Your function sorts the arrays that it was given: sort copies."
    need(np.array_equal(kept[0], lengths) and np.array_equal(kept[1], accuracies), otherwise)
    for length in (10.0, 130.0):
        otherwise = f"At {length:.0f} tokens there is no frontier (it spans 20 to 100): return nan, not an end point."
        need(np.isnan(frontier_at(length, lengths, accuracies)), otherwise)
    return "compared at equal length, and nowhere else."
