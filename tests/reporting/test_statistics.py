"""Bootstrap, frontier and verdicts against pandas, closed forms and lines drawn by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from acm.reporting import statistics
from acm.reporting.shares import effective_items, mover
from acm.reporting.statistics import (
    Sample,
    above_bar,
    above_frontier,
    average,
    bootstrap,
    describe,
    interval,
    length_change,
    length_change_of_means,
    share,
    verdict,
)

TASKS = ["easy", "hard"]


def records(correct, length, tasks=("easy",), repeats=1):
    """A frame from {method: array (items,)}, the same arrays in every task."""
    rows = [
        (m, task, i, r, float(c), float(n))
        for m in correct
        for task in tasks
        for i, (c, n) in enumerate(zip(correct[m], length[m], strict=True))
        for r in range(repeats)
    ]
    return pd.DataFrame(rows, columns=["method", "task", "item", "repeat", "correct", "length"])


def random_records(seed=0, methods=("a", "b", "c"), items=60):
    rng = np.random.default_rng(seed)
    rows = [
        (m, task, i, r, float(rng.random() < 0.6), float(rng.integers(5, 300)))
        for m in methods
        for task, n in zip(TASKS, (items, items // 2), strict=True)
        for i in range(n)
        for r in range(2)
    ]
    return pd.DataFrame(rows, columns=["method", "task", "item", "repeat", "correct", "length"])


def by_hand(accuracy, length, tasks=1):
    """A Sample of constants: (methods,) each, for all tasks and three draws."""
    shape = (len(accuracy), tasks, 4)
    fill = [np.broadcast_to(np.array(list(v.values()), float)[:, None, None], shape) for v in (accuracy, length)]
    return Sample(list(accuracy), [f"t{i}" for i in range(tasks)], {}, *fill)


def test_index_zero_is_the_plain_mean():
    frame = random_records()
    sample = bootstrap(frame, ["c", "a", "b"], TASKS, draws=50)
    means = frame.groupby(["method", "task"])[["correct", "length"]].mean()
    for i, method in enumerate(["c", "a", "b"]):
        for k, task in enumerate(TASKS):
            assert sample.accuracy[i, k, 0] == pytest.approx(means.loc[(method, task), "correct"], abs=1e-12)
            assert sample.length[i, k, 0] == pytest.approx(means.loc[(method, task), "length"], abs=1e-9)
    assert sample.accuracy.shape == sample.length.shape == (3, 2, 51) and sample.items == {"easy": 60, "hard": 30}


def test_average_is_the_mean_over_tasks_whatever_their_size():
    frame = random_records()
    found = average(bootstrap(frame, ["a"], TASKS, draws=5), "a")
    assert found[0] == pytest.approx(frame[frame.method == "a"].groupby("task")["correct"].mean().mean(), abs=1e-12)


def test_an_identical_copy_never_differs():
    frame = random_records()
    frame = pd.concat([frame, frame[frame.method == "a"].assign(method="copy")])
    sample = bootstrap(frame, ["a", "b", "copy"], TASKS, draws=300)
    for what in ("accuracy", "length"):
        assert (average(sample, "copy", what) - average(sample, "a", what) == 0).all()
        assert (average(sample, "b", what) - average(sample, "a", what)).std() > 0
    assert (length_change(sample, "copy", "a") == 0).all()


def test_repeats_are_not_further_items():
    once, thrice = ({"a": np.arange(40) % 3 == 0}, {"a": np.arange(40.0)}), 3
    one, other = (bootstrap(records(*once, repeats=r), ["a"], ["easy"], draws=100) for r in (1, thrice))
    np.testing.assert_allclose(one.accuracy, other.accuracy, atol=1e-12)
    assert other.items == {"easy": 40}


def test_bootstrap_is_seeded_and_blind_to_the_order_of_rows_and_methods():
    frame = random_records()
    one = bootstrap(frame, ["a", "b"], TASKS, draws=40)
    other = bootstrap(frame.sample(frac=1, random_state=1), ["b", "a"], TASKS, draws=40)
    np.testing.assert_allclose(one.accuracy, other.accuracy[::-1], atol=1e-12)
    assert not np.allclose(one.accuracy, bootstrap(frame, ["a", "b"], TASKS, draws=40, seed=1).accuracy)


def test_draws_of_one_task_do_not_depend_on_the_others():
    frame = random_records()
    one, both = bootstrap(frame, ["a"], ["hard"], draws=40), bootstrap(frame, ["a"], TASKS, draws=40)
    np.testing.assert_array_equal(one.accuracy[:, 0], both.accuracy[:, 1])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.85])
def test_interval_is_close_to_wilson(p):
    n = 250
    correct = {"a": np.arange(n) < p * n}
    low, high = interval(bootstrap(records(correct, correct), ["a"], ["easy"]).accuracy[0, 0])
    share, z = correct["a"].mean(), 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=0.012)


def test_interval_covers_the_truth_95_percent_of_the_time():
    rng, n, p = np.random.default_rng(0), 250, 0.7
    correct = {f"run {i}": rng.random(n) < p for i in range(400)}
    sample = bootstrap(records(correct, correct), list(correct), ["easy"], draws=800)
    ends = np.array([interval(sample.accuracy[i, 0]) for i in range(400)])
    assert ((ends[:, 0] <= p) & (p <= ends[:, 1])).mean() == pytest.approx(0.95, abs=0.03)


def test_interval_leaves_the_data_itself_out():
    assert interval(np.array([1e9, *range(101)]), level=0.9) == pytest.approx((5.0, 95.0))


def test_length_change_is_the_papers_mean_of_ratios():
    sample = Sample(
        ["m", "ref"], TASKS, {}, np.zeros((2, 2, 3)), np.array([[[10.0] * 3, [300.0] * 3], [[100.0] * 3, [400.0] * 3]])
    )
    assert length_change(sample, "m", "ref") == pytest.approx([((10 / 100 - 1) + (300 / 400 - 1)) / 2] * 3)
    assert length_change_of_means(sample, "m", "ref") == pytest.approx([310 / 500 - 1] * 3)
    assert abs(length_change(sample, "m", "ref") - length_change_of_means(sample, "m", "ref")).min() > 0.1


def frontier_records(shift=0.0):
    """base and slow at random, and a method that is half way between them in every item, plus ``shift``."""
    rng = np.random.default_rng(0)
    correct = {"base": rng.random(120) < 0.4, "slow": rng.random(120) < 0.9}
    length = {"base": rng.uniform(10, 20, 120), "slow": rng.uniform(80, 200, 120)}
    correct["m"] = (correct["base"] + 1.0 * correct["slow"]) / 2 + shift
    length["m"] = (length["base"] + length["slow"]) / 2
    return records(correct, length, TASKS)


@pytest.mark.parametrize("shift, word", [(0.0, "no difference shown"), (0.02, "above"), (-0.02, "below")])
def test_distance_from_the_line_between_two_points(shift, word):
    sample = bootstrap(frontier_records(shift), ["base", "slow", "m"], TASKS, draws=200)
    found = above_frontier(sample, "m", ["slow", "base"])
    np.testing.assert_allclose(found, shift, atol=1e-12)
    if shift:
        assert verdict(found) == word


def test_a_point_of_the_frontier_lies_on_it():
    frame = random_records()
    frame = pd.concat([frame, frame[frame.method == "b"].assign(method="copy")])
    sample = bootstrap(frame, ["a", "b", "c", "copy"], TASKS, draws=200)
    found = above_frontier(sample, "copy", ["a", "b", "c"])
    assert (found == 0).all() and verdict(found) == "no difference shown"


@pytest.mark.parametrize("length, expected", [(10, 0.1), (15, 0.3), (20, 0.5), (50, 0.7), (80, 0.9)])
def test_frontier_is_linear_between_neighbours_in_length(length, expected):
    sample = by_hand({"z": 0.5, "x": 0.1, "y": 0.9, "m": 0.6}, {"z": 20, "x": 10, "y": 80, "m": length}, tasks=2)
    assert above_frontier(sample, "m", ["z", "x", "y"]) == pytest.approx([0.6 - expected] * 4)


@pytest.mark.parametrize("length", [9.9, 80.1])
def test_no_verdict_outside_the_range_of_the_frontier(length):
    sample = by_hand({"x": 0.1, "y": 0.9, "m": 0.6}, {"x": 10, "y": 80, "m": length})
    found = above_frontier(sample, "m", ["x", "y"])
    assert np.isnan(found).all() and verdict(found) == "outside"


@pytest.mark.parametrize(
    "length, bar",
    [(9, np.nan), (10, 0.2), (15, 0.5), (20, 0.8), (30, 0.8), (50, 0.8), (60, 0.85), (70, 0.9), (71, np.nan)],
)
def test_the_bar_leaves_out_the_points_that_a_shorter_one_beats(length, bar):
    accuracy = {"a": 0.2, "peak": 0.8, "dip": 0.3, "equal": 0.8, "end": 0.9, "m": 0.6}
    sample = by_hand(accuracy, {"a": 10, "peak": 20, "dip": 40, "equal": 50, "end": 70, "m": length}, tasks=2)
    frontier = ["dip", "end", "equal", "a", "peak"]
    expected = bar if length not in (30, 50, 60) else 0.8 + 0.1 * (length - 20) / 50  # straight from peak to end
    assert above_bar(sample, "m", frontier) == pytest.approx([0.6 - expected] * 4, nan_ok=True)
    kept = above_frontier(sample, "m", ["a", "peak", "end"])
    assert above_bar(sample, "m", frontier)[~np.isnan(kept)] == pytest.approx(kept[~np.isnan(kept)])


def test_the_bar_is_nowhere_below_the_frontier_and_found_anew_in_each_draw():
    rng = np.random.default_rng(0)
    correct, length = ({m: high * rng.random(60) for m in "abcdm"} for high in (1.0, 90.0))
    sample = bootstrap(records(correct, length, TASKS), list("abcdm"), TASKS, draws=200)
    curve, bar = (f(sample, "m", list("abcd")) for f in (above_frontier, above_bar))
    known = ~np.isnan(curve)
    assert known.sum() > 50 and (bar[known] <= curve[known] + 1e-12).all() and (bar[known] < curve[known] - 1e-3).any()


@pytest.mark.parametrize("right, low, high", [(0, 0.0, 11.35), (15, 33.15, 66.85), (30, 88.65, 100.0)])
def test_the_share_of_one_task_has_wilsons_interval(right, low, high):
    frame = records({"m": np.arange(30) < right}, {"m": np.ones(30)}, ["one"])
    found = share(bootstrap(frame, ["m"], ["one"], draws=50), "m")
    assert list(found.values()) == pytest.approx([right / 0.3, low, high], abs=0.01)
    z, p = 1.959964, right / 30  # Wilson 1927
    middle, half = (p + z * z / 60) / (1 + z * z / 30), z / (1 + z * z / 30) * np.sqrt(p * (1 - p) / 30 + z * z / 3600)
    assert [found["low"], found["high"]] == pytest.approx([100 * (middle - half), 100 * (middle + half)], abs=1e-3)


def test_partial_grades_have_the_bootstraps_interval():
    sample = bootstrap(random_records(), ["a"], TASKS, draws=50)
    partial = replace(sample, repeats=1)  # of one response, such as a share of tests passed
    assert share(partial, "a") == describe(average(partial, "a"))


def test_repeats_that_agree_tell_nothing_more_and_independent_ones_count_as_items():
    right = np.arange(40) % 4 == 0
    assert effective_items(right.astype(float), 16) == pytest.approx(39)  # one less, as the variance is estimated
    means = np.random.default_rng(0).binomial(16, 0.25, 4000) / 16  # every item is alike
    assert effective_items(means, 16) == pytest.approx(16 * 4000, rel=0.1)
    assert effective_items(np.full(40, 0.25), 16) == 40 * 16 and effective_items(np.ones(40), 16) == 40


@pytest.mark.parametrize("repeats", [1, 3])
def test_no_share_has_an_interval_without_width(repeats):
    frame = pd.concat([
        records({"m": np.ones(20)}, {"m": np.ones(20)}, TASKS).assign(repeat=k) for k in range(repeats)
    ])  # fmt: skip
    sample = bootstrap(frame, ["m"], TASKS, draws=50)
    for found in (share(sample, "m"), share(sample, "m", TASKS[0])):
        assert found["low"] < 95 and found["high"] == pytest.approx(found["value"]) == 100


@pytest.mark.parametrize("true", [(0.99, 0.97, 0.9), (0.5, 0.4, 0.7), (1.0, 0.999, 0.98), (0.02, 0.0, 0.1)])
def test_the_interval_of_a_mean_of_shares_covers_the_truth(true):
    right = np.random.default_rng(0).binomial(250, true, size=(2000, 3))
    found = [mover(row / 250, np.full(3, 250)) for row in right]
    inside = np.mean([x["low"] <= 100 * np.mean(true) <= x["high"] for x in found])
    assert 0.935 < inside < 0.985


def test_frontier_is_bracketed_anew_in_each_draw():
    sample = by_hand({"x": 0.1, "y": 0.9, "m": 0.6}, {"x": 10, "y": 20, "m": 15})
    length = sample.length.copy()
    length[2, 0] = [15, 12.5, 20, 21]
    found = above_frontier(Sample(sample.methods, sample.tasks, {}, sample.accuracy, length), "m", ["x", "y"])
    assert found == pytest.approx([0.1, 0.3, -0.3, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    "values, word",
    [
        (np.linspace(0.01, 0.05, 101), "above"),
        (np.linspace(-0.05, -0.01, 101), "below"),
        (np.linspace(-0.01, 0.05, 101), "no difference shown"),
        (np.zeros(101), "no difference shown"),
        (np.r_[np.nan, np.full(100, 0.1)], "outside"),
        (np.r_[np.full(90, 0.1), np.full(11, np.nan)], "outside"),
        (np.r_[np.full(98, 0.1), np.full(3, np.nan)], "above"),
    ],
)
def test_verdict(values, word):
    assert verdict(values) == word


def test_describe_scales_and_passes_over_nan():
    found = describe(np.array([0.5, *np.linspace(0, 1, 101), np.nan]), 10)
    assert found == pytest.approx({"value": 5.0, "low": 0.25, "high": 9.75})


def test_over_methods_has_a_row_per_method():
    sample = bootstrap(random_records(), ["b", "a"], TASKS, draws=50)
    found = statistics.over_methods(sample, lambda m: average(sample, m))
    assert list(found.index) == ["b", "a"] and list(found.columns) == ["value", "low", "high"]
    assert found.loc["a", "value"] == pytest.approx(100 * average(sample, "a")[0])
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()


def test_a_missing_item_is_refused():
    frame = random_records()
    lacking = frame[~((frame.method == "b") & (frame.task == "hard") & (frame["item"] == 3))]
    with pytest.raises(ValueError, match="task hard: not every method has every item"):
        bootstrap(lacking, ["a", "b"], TASKS)


@pytest.mark.parametrize("methods, tasks", [(["a", "absent"], TASKS), (["a"], ["easy", "absent"])])
def test_a_method_or_task_without_records_is_refused_by_name(methods, tasks):
    with pytest.raises((ValueError, KeyError), match="absent"):
        bootstrap(random_records(), methods, tasks)


# --- intervals over calibration draws ---------------------------------------------------------------------------------


def crossed(n, between, items, rng, draws=400, size=150):
    """Differences (n, draws + 1) of n calibration draws, whose truth is 0.

    Each has a normal effect of its own, and normal noise of the items, which all share.
    """
    values = between * rng.normal(size=n)[:, None] + items * rng.normal(size=size)
    counts = np.vstack([np.ones(size), rng.multinomial(size, np.full(size, 1 / size), size=draws)])
    return values @ counts.T / size


def test_over_one_draw_is_that_draw():
    values = np.random.default_rng(0).normal(size=(1, 101))
    np.testing.assert_array_equal(statistics.over_draws(values), values[0])


def test_over_equal_draws_is_each_of_them():
    values = np.random.default_rng(0).normal(size=101)
    np.testing.assert_allclose(statistics.over_draws(np.tile(values, (5, 1))), values, atol=1e-12)


def test_over_draws_is_the_mean_and_seeded():
    values = np.random.default_rng(0).normal(size=(6, 301))
    found = statistics.over_draws(values, 3)
    assert found[0] == pytest.approx(values[:, 0].mean()) and found.shape == (301,)
    np.testing.assert_array_equal(found, statistics.over_draws(values, 3))
    assert not np.array_equal(found, statistics.over_draws(values, 4))


def test_spread_over_many_draws_is_the_standard_error_of_their_mean():
    effects = np.random.default_rng(0).normal(size=60)
    found = statistics.over_draws(np.tile(effects[:, None], (1, 4001)))
    assert found[1:].std() == pytest.approx(effects.std(ddof=1) / 60**0.5, rel=0.06)
    assert interval(found) == pytest.approx(
        effects.mean() + np.array([-1.96, 1.96]) * effects.std(ddof=1) / 60**0.5, abs=0.03
    )


# Few draws that differ much are the hard case: a plain bootstrap over five covers 85 %, so the floor is lower there.
@pytest.mark.parametrize(
    "n, between, items, least",
    [(1, 0.0, 1.0, 0.92), (5, 0.0, 1.0, 0.92), (20, 0.1, 1.0, 0.91), (40, 0.5, 0.5, 0.91), (5, 0.5, 0.1, 0.91)],
)
def test_intervals_over_draws_and_items_cover_the_truth(n, between, items, least):
    rng = np.random.default_rng(1)
    ends = np.array([interval(statistics.over_draws(crossed(n, between, items, rng), seed)) for seed in range(300)])
    assert least <= ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean() <= 0.99


def test_nan_in_the_data_of_one_draw_is_outside_not_hidden():
    values = np.full((5, 101), 0.1)
    values[2, 0] = np.nan
    found = statistics.over_draws(values)
    assert np.isnan(found[0]) and verdict(found) == "outside" and np.isnan(describe(found)["value"])


def test_nan_in_few_bootstrap_draws_is_passed_over_and_in_many_is_outside():
    values = 0.1 + 0.01 * np.random.default_rng(0).normal(size=(5, 1001))
    few, many = values.copy(), values.copy()
    few[2, 1:20], many[2, 1:200] = np.nan, np.nan
    found, none = statistics.over_draws(few), statistics.over_draws(many)
    assert verdict(found) == "above" and 0 < np.isnan(found).sum() <= 19
    assert np.isfinite(list(describe(found).values())).all() and np.isfinite(statistics.detectable(found))
    assert verdict(none) == "outside" and np.isnan(none[1:]).sum() == 199


def test_detectable_is_2_8_standard_errors_without_the_data_itself():
    noise = np.random.default_rng(0).normal(0, 0.02, 5000)
    assert statistics.detectable(np.r_[1e9, noise]) == pytest.approx(2.8 * 0.02, rel=0.03)
    assert statistics.detectable(np.r_[0.1, noise, np.nan]) == statistics.detectable(np.r_[0.1, noise])
    assert statistics.detectable(np.full(50, 0.3)) == pytest.approx(0, abs=1e-12)


def test_what_is_detectable_is_found_in_four_of_five_cases():
    rng, found = np.random.default_rng(2), []
    for _ in range(400):
        noise = crossed(1, 0.0, 1.0, rng)[0]
        found.append(verdict(noise + 2.8 / 150**0.5) == "above")
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)
