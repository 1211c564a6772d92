"""Checkers of lesson 7: search, and how to fool oneself with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binom

from acm.course import Answer, NotYet, exercise, need, need_kind, need_not, read, same


@exercise("7.1")
def the_value(value: Answer) -> str:
    accuracy, tokens = np.array([90.0, 96.0, 96.0, 50.0]), np.array([40.0, 50.0, 60.0, 80.0])
    found = read(value(accuracy.copy(), tokens.copy(), 50.0, 0.6), "The values", (4,))
    over = np.maximum(0, tokens - 50)
    need_not(found, {
        "The price is added: a long candidate must be worth less.": accuracy + 0.6 * over,
        "A candidate below the target gains from being short: nothing below the target counts.": accuracy
        - 0.6 * (tokens - 50),
        "Every token is priced; only those above the target are.": accuracy - 0.6 * tokens,
        "The price is missing: it multiplies the tokens above the target.": accuracy - over,
        "Only a penalty is returned: it is taken from the accuracy.": -0.6 * over,
    })  # fmt: skip
    same(found, accuracy - 0.6 * over, "The values", "At 60 tokens, 96 % and a target of 50 the value is 96 − 6 = 90.")
    one = read(value(96.0, 60.0, 50.0, 0.6), "The value of plain numbers")
    same(one, 90.0, "the value", "Of plain numbers the value should be one too: np.maximum takes both.")
    return "right up to the target, and priced beyond it."


GENES = ["embed", "blocks", "norm", "lm_head"]


@exercise("7.2")
def candidates(random_candidates: Answer) -> str:
    found = random_candidates(list(GENES), -0.5, 1.5, 400, 3)
    need_kind(found, pd.DataFrame, "a table (pd.DataFrame)")
    need(list(found.columns) == GENES, f"The columns should be the genes, and are {list(found.columns)[:6]}.")
    need(len(found) == 400, f"400 candidates are 400 rows; yours has {len(found)}.")
    numbers = read(found.to_numpy(), "The table", (400, 4))
    need(((numbers >= -0.5) & (numbers <= 1.5)).all(), "Some λ lie outside of low and high.")
    need(np.ptp(numbers, axis=1).min() > 0, "All λ of a candidate are the same: that is one λ. Draw for each gene.")
    even = abs(numbers.mean() - 0.5) < 0.1 and (np.ptp(numbers, axis=0) > 1.8).all()
    need(even, "The λ are not spread evenly from low to high: draw them uniformly.")
    need(len(np.unique(numbers)) > 1500, "Values repeat: draw each λ anew, and do not round it.")
    need(found.equals(random_candidates(list(GENES), -0.5, 1.5, 400, 3)), "Two calls with one seed differ.")
    need(not found.equals(random_candidates(list(GENES), -0.5, 1.5, 400, 4)), "Every seed gives the same candidates.")
    fewer = random_candidates(list(GENES), -0.5, 1.5, 150, 3)
    otherwise = "More candidates should continue a search: the first 150 of 400 must be the 150. Draw row by row."
    need(np.array_equal(fewer.to_numpy(), numbers[:150]), otherwise)
    return "a search that can be made again, and continued."


@exercise("7.3")
def so_far(best_so_far: Answer) -> str:
    values = np.array([70.0, np.nan, 68.0, 75.0, 75.0, 60.0, 80.0, np.nan])
    found = read(best_so_far(values.copy()), "The places", (8,))
    need(not np.allclose(found, [70, 70, 70, 75, 75, 75, 80, 80]), "These are values; the places are asked for.")
    need(not np.array_equal(found, [6] * 8), "This is the best of all, known only at the end; what was known before?")
    need(found[4] != 4, "Candidate 4 is as good as 3: of equals the earlier stays.")
    need(1 not in found and 7 not in found, "A candidate that was stopped has nan, and is never the best.")
    otherwise = "The places should be 0, 0, 0, 3, 3, 3, 6, 6: after each candidate, the best of those until then."
    need(np.array_equal(found, [0, 0, 0, 3, 3, 3, 6, 6]), otherwise)
    falling = read(best_so_far(np.array([-3.0, -5.0, -1.0])), "The places", (3,))
    need(np.array_equal(falling, [0, 0, 2]), "With values below 0 your best starts too high: start from −∞.")
    return "what a search would report, had it stopped there."


def graded(seed: int, shares: list[float], items: int) -> np.ndarray:
    """Made-up grades (candidates, items): each candidate is right with its share."""
    return (np.random.default_rng(seed).random((len(shares), items)) < np.array(shares)[:, None]).astype(float)


@exercise("7.5")
def gap(optimism: Answer) -> str:
    chose, judge = graded(1, [0.6, 0.7, 0.7, 0.5, 0.65], 40), graded(2, [0.6, 0.7, 0.7, 0.5, 0.65], 300)
    chose[2] = np.r_[np.ones(36), np.zeros(4)]
    judge[1] = np.r_[np.ones(260), np.zeros(40)]  # another candidate is best where it is judged
    found = optimism(chose.copy(), judge.copy())
    need(isinstance(found, tuple | list) and len(found) == 2, "Return a pair: the place of the chosen one, and points.")
    place, points = (float(read(part, "A part of the answer")) for part in found)
    need(place != 1, "This candidate is the best where it is judged. Choose by the first items alone.")
    need(place == 2, f"Candidate 2 is right most often where it is chosen, and yours is {place:g}: mean over items.")
    expected = 100 * (chose[2].mean() - judge[2].mean())
    need_not(points, {
        "The sign is turned: it is the accuracy where it was chosen, less that where it is judged.": -expected,
        "This is a fraction; points are percent.": expected / 100,
        "It takes the best of either side: follow the *chosen* candidate to the other items.": 100
        * (chose[2].mean() - judge.mean(axis=1).max()),
        "This compares with the mean of all candidates; follow the chosen one.": 100 * (chose[2].mean() - judge.mean()),
    })  # fmt: skip
    same(points, expected, "The optimism", f"The optimism should be {expected:.1f} points, and is {points:.1f}.")
    return "one candidate, two accuracies: what lies between them was luck."


def expected_luck(candidates: int, items: int, share: float) -> float:
    """Mean of the best of so many shares of a binomial, less the share; points, exact."""
    below = binom.cdf(np.arange(items), items, share) ** candidates  # P(best ≤ k) for k below all items
    return float(100 * ((1 - below).sum() / items - share))


@exercise("7.4")
def best_of_many(luck: Answer) -> str:
    found = float(read(luck(50, 60, 0.9, 4000, 0), "The luck"))
    expected = expected_luck(50, 60, 0.9)
    need(abs(found - expected - 90) > 0.5, "This is the accuracy of the best; subtract the true share.")
    need(abs(found - expected / 100) > 2e-3, "This is a fraction; points are percent.")
    need(abs(found) > 0.2, "This is the mean of all candidates, near 0: take the best of each search, then the mean.")
    need(abs(found - 10) > 1e-6, "This is the best of all searches together: one maximum for each, then the mean.")
    otherwise = (
        f"The best of 50 such candidates looks {expected:.2f} points too good on average, and yours {found:.2f}."
    )
    need(abs(found - expected) < 0.25, otherwise)
    alone = float(read(luck(1, 60, 0.9, 4000, 0), "The luck"))
    need(
        abs(alone) < 0.3, f"With one candidate nothing is chosen, so there is no luck; yours gives {alone:.2f} points."
    )
    more = float(read(luck(50, 600, 0.9, 4000, 0), "The luck"))
    need(abs(more - expected_luck(50, 600, 0.9)) < 0.25, "On 600 items luck should be smaller: does `items` count?")
    need(luck(5, 60, 0.7, 200, 1) == luck(5, 60, 0.7, 200, 1), "Two calls with one seed differ.")
    return "more candidates, more luck; more items, less."


@exercise("7.6")
def fresh_items(unseen: Answer) -> str:
    chooses = [{"question": text, "gold": "1"} for text in ("ann has 3 apples .", "bob has 4 .", "Cy runs 2 miles .")]
    judges = [
        {"question": "bob has  4 .", "gold": "4"}, {"question": "dee has 9 .", "gold": "9"},
        {"question": "ann has 3 apples .", "gold": "1"}, {"question": "cy runs 2 miles .", "gold": "2"},
        {"question": "ann has 5 apples .", "gold": "1"}, {"question": "dee has 9 .", "gold": "9"},
    ]  # fmt: skip
    found = unseen([dict(i) for i in chooses], [dict(i) for i in judges])
    need(isinstance(found, list | tuple), f"Return a list of items, not {type(found).__name__}.")
    if not all(isinstance(item, dict) and "question" in item for item in found):
        raise NotYet("Return whole items, each with its question.")
    texts = [item["question"] for item in found]
    need("ann has 3 apples ." not in texts, "An item that chose judges too: leave it out.")
    need("bob has  4 ." not in texts, "'bob has  4 .' differs from an item that chose by a space alone: leave it out.")
    need(
        "cy runs 2 miles ." not in texts, "'cy runs 2 miles .' differs from one that chose by case alone: leave it out."
    )
    need("ann has 5 apples ." in texts, "Another question with the same answer may judge: compare questions.")
    need(texts.count("dee has 9 .") == 1, "An item that comes twice would count twice: keep the first.")
    need(texts == ["dee has 9 .", "ann has 5 apples ."], "Keep the order of the items.")
    return "what judges had no part in the choice."
