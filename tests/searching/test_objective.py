"""The objective by hand, early stops by simulation, fronts and targets by hand."""

import numpy as np
import pandas as pd
import pytest

from acm.searching.front import chosen, front_of, length_at, thinned
from acm.searching.objective import Objective


def records(correct, length, task="a"):
    return pd.DataFrame({"task": task, "item": range(len(correct)), "correct": correct, "length": length})


def test_the_value_is_accuracy_less_the_price_of_the_tokens_above_the_target():
    both = pd.concat([records([1, 1, 0, 0], [10, 20, 30, 40]), records([1], [100], "b")])
    assert Objective(50.0, 0.6).of(both) == pytest.approx((75.0, 62.5, 75 - 0.6 * 12.5))
    assert Objective(70.0, 0.6).of(both)[2] == pytest.approx(75.0)
    assert Objective(None).of(both)[2] == pytest.approx(75.0)


def test_a_candidate_that_is_always_worse_is_stopped_and_one_that_is_equal_is_not():
    best = records([1] * 30, [50] * 30)
    assert Objective(60.0).hopeless(records([0] * 20, [50] * 20), best)
    assert Objective(60.0).hopeless(records([1] * 20, [90] * 20), best)
    assert not Objective(60.0).hopeless(best.head(20), best)
    assert not Objective(60.0).hopeless(
        records([0, 1] * 5 + [1] * 10, [50] * 20), records([1, 0] * 5 + [1] * 10, [50] * 20)
    )


def test_candidates_as_good_as_the_best_are_seldom_stopped():
    """At 97.5 % the share of those that are stopped wrongly is about 2.5 %; 60 items, 400 simulated pairs."""
    rng = np.random.default_rng(0)
    pairs = rng.random((400, 2, 60)) < 0.8
    stopped = [Objective(60.0).hopeless(records(a * 1, [50] * 60), records(b * 1, [50] * 60)) for a, b in pairs]
    assert np.mean(stopped) < 0.06


def test_a_front_is_what_nothing_shorter_beats():
    points = pd.DataFrame({"accuracy": [50.0, 40, 60, 60, 90], "tokens": [20.0, 25, 30, 40, 50]})
    assert front_of(points).index.tolist() == [0, 2, 4]
    assert length_at(points, 60 / 90) == pytest.approx(30)
    assert length_at(points, 75 / 90) == pytest.approx(40)
    assert length_at(points, 0.1) == pytest.approx(20)
    assert thinned(points, 3).index.tolist() == [0, 2, 4]


def test_the_best_of_each_arm_and_fronts_are_judged_and_no_candidate_that_was_stopped():
    rows = [("one", 0, 40, 20, 40, False), ("one", 1, 30, 30, 30, False), ("one", 2, 90, 90, 90, False),
            ("cmaes-75-0", 0, 95, 60, 80, False), ("cmaes-75-0", 1, 85, 50, 85, False),
            ("cmaes-75-0", 2, 99, 40, 99, True), ("cmaes-75-1", 0, 70, 45, 70, False),
            ("random-75-0", 0, 20, 20, 20, False)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["arm", "candidate", "accuracy", "tokens", "value", "stopped"])
    found = {(row["arm"], row["candidate"]): row["role"] for row in chosen(table, [])}
    assert found == {
        ("one", 0): "front", ("one", 2): "front", ("cmaes-75-0", 1): "best", ("cmaes-75-0", 0): "front",
        ("cmaes-75-1", 0): "best", ("random-75-0", 0): "best",
    }  # fmt: skip
