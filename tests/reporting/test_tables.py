"""Tables from a small synthetic set of records against pandas means."""

import numpy as np
import pandas as pd
import pytest

from acm.escaping import latex
from acm.reporting import tables
from acm.reporting.statistics import Sample, bootstrap

METHODS, TASKS = ["fast", "slow", "merged_1"], ["easy", "hard"]
MEASURES = ["accuracy", "length", "length_change"]


def make_records():
    rng = np.random.default_rng(0)
    rows = [
        (
            m,
            task,
            i,
            0,
            float(rng.random() < 0.7),
            float(rng.integers(5, 90)),
            bool(rng.random() < 0.2),
            int(rng.integers(0, 3)),
        )
        for m in METHODS
        for task, n in zip(TASKS, (40, 25), strict=True)
        for i in range(n)
    ]
    return pd.DataFrame(
        rows, columns=["method", "task", "item", "repeat", "correct", "length", "truncated", "reflections"]
    )


RECORDS = make_records()
SAMPLE = bootstrap(RECORDS, METHODS, TASKS, draws=200)


@pytest.fixture
def long():
    return tables.long_table(RECORDS, SAMPLE, "slow").set_index(["method", "task"])


def test_long_table_has_every_method_and_task_and_their_average(long):
    assert list(long.index) == [(m, t) for m in METHODS for t in [*TASKS, "average"]]
    assert long.loc["fast", "n"].to_dict() == {"easy": 40, "hard": 25, "average": 65}


def test_values_are_the_means_of_the_records(long):
    means = RECORDS.groupby(["method", "task"])[["correct", "length", "truncated"]].mean()
    for key, mean in means.iterrows():
        assert long.loc[key, "accuracy"] == pytest.approx(100 * mean["correct"])
        assert long.loc[key, "length"] == pytest.approx(mean["length"])
        assert long.loc[key, "truncated"] == pytest.approx(100 * mean["truncated"])
        assert long.loc[key, "length_change"] == pytest.approx(
            100 * (mean["length"] / means.loc[("slow", key[1]), "length"] - 1)
        )


def test_averages_are_means_over_tasks(long):
    for method in METHODS:
        tasks, mean = long.loc[method].loc[TASKS], long.loc[(method, "average")]
        for measure in [*MEASURES, "truncated"]:
            assert mean[measure] == pytest.approx(tasks[measure].mean())
        ratio = tasks["length"].mean() / long.loc["slow"].loc[TASKS, "length"].mean()
        assert mean["length_change_of_means"] == pytest.approx(100 * (ratio - 1))


def test_averages_take_the_tasks_of_the_sample_alone():
    found = tables.long_table(RECORDS, bootstrap(RECORDS, METHODS, ["hard"], draws=20), "slow").set_index(
        ["method", "task"]
    )
    for method in METHODS:
        for column in [*MEASURES, "truncated"]:
            assert found.loc[(method, "average"), column] == pytest.approx(found.loc[(method, "hard"), column])


def test_every_value_has_an_interval_around_it_and_n(long):
    for measure in MEASURES:
        assert (long[f"{measure}_low"] <= long[measure] + 1e-9).all() and (
            long[measure] <= long[f"{measure}_high"] + 1e-9
        ).all()
    assert (long["accuracy_low"] < long["accuracy_high"]).all() and (long["n"] > 0).all()
    assert (long.loc["slow", ["length_change", "length_change_low", "length_change_high"]] == 0).all(axis=None)


def test_wide_table_shows_each_method_as_the_paper_prints_it(long):
    wide = tables.wide_table(long.reset_index())
    assert list(wide.index) == METHODS and wide.index.name == "method"
    assert list(wide.columns) == [
        "easy (n = 40)",
        "hard (n = 25)",
        "average",
        "length change %",
        "of mean lengths %",
        "truncated %",
    ]
    row, mean = long.loc[("fast", "hard")], long.loc[("fast", "average")]
    assert wide.loc["fast", "hard (n = 25)"] == (
        f"{row['accuracy']:.1f} [{row['accuracy_low']:.1f}, {row['accuracy_high']:.1f}] "
        f"({row['length']:.0f} [{row['length_low']:.0f}, {row['length_high']:.0f}])"
    )
    assert (
        wide.loc["fast", "average"]
        == f"{mean['accuracy']:.1f} [{mean['accuracy_low']:.1f}, {mean['accuracy_high']:.1f}]"
    )
    assert wide.loc["slow", "length change %"] == "0.0 [0.0, 0.0]"
    assert wide.drop(columns="truncated %").map(lambda text: "[" in text and "]" in text).all(axis=None)


def test_a_value_that_does_not_exist_is_a_dash():
    row = pd.Series({"x": np.nan, "x_low": np.nan, "x_high": np.nan})
    assert tables.cell(row, "x") == "–"


def test_reflection_table_counts_responses_with_a_keyword():
    found = tables.reflection_table(RECORDS, METHODS, TASKS).set_index(["method", "task"])
    reflecting = RECORDS[RECORDS["reflections"] > 0].groupby(["method", "task"]).size()
    assert len(found) == 6 and found["responses"].to_dict() == reflecting.to_dict()
    assert found["n"].tolist() == [40, 25] * 3
    assert found["reflecting"].to_numpy() == pytest.approx(100 * found["responses"] / found["n"])
    assert (found["reflecting_low"] < found["reflecting"]).all() and (
        found["reflecting"] < found["reflecting_high"]
    ).all()


def test_wide_reflections_show_number_percent_and_interval():
    long = tables.reflection_table(RECORDS, METHODS, TASKS)
    wide = tables.wide_reflections(long)
    assert list(wide.index) == METHODS and list(wide.columns) == ["easy (n = 40)", "hard (n = 25)"]
    row = long.iloc[0]
    shown = (
        f"{row['responses']} ({row['reflecting']:.1f} [{row['reflecting_low']:.1f}, {row['reflecting_high']:.1f}] %)"
    )
    assert wide.iloc[0, 0] == shown


def test_verdict_table():
    accuracy, length = [0.2, 0.8, 0.7, 0.5, 0.4, 0.9], [10.0, 30.0, 20.0, 20.0, 20.0, 40.0]
    names = ["fast", "slow", "good", "even", "bad", "long"]
    constant = [np.tile(np.array(v)[:, None, None], (1, 1, 50)) for v in (accuracy, length)]
    sample = Sample(names, ["easy"], {"easy": 40}, *constant)
    found = tables.verdict_table(sample, names[2:], ["fast", "slow"]).set_index("method")
    assert found["verdict"].to_dict() == {"good": "above", "even": "on the bar", "bad": "below", "long": "outside"}
    assert found["difference"].to_numpy() == pytest.approx([20, 0, -10, np.nan], nan_ok=True)
    assert found.loc["good", ["length", "difference_low", "difference_high", "n"]].tolist() == pytest.approx(
        [20, 20, 20, 40]
    )
    wide = tables.wide_verdicts(found.reset_index())
    assert wide.loc["good"].tolist() == ["20 [20, 20]", "20.0 [20.0, 20.0]", "20.0 [20.0, 20.0]", "above", 40]
    assert wide.loc["long", "points above the frontier"] == "–"


def test_write_table_writes_numbers_markdown_and_latex(tmp_path, long):
    numbers = long.reset_index()
    stem = tmp_path / "new" / "main"
    tables.write_table(numbers, tables.wide_table(numbers), stem, "95 % of merged_1 & co #1.")
    assert sorted(p.name for p in stem.parent.iterdir()) == ["main.csv", "main.md", "main.tex"]
    pd.testing.assert_frame_equal(pd.read_csv(stem.with_suffix(".csv")), numbers, atol=1e-4, rtol=0, check_dtype=False)
    shown = stem.with_suffix(".md").read_text()
    assert shown.endswith("\n\n95 % of merged_1 & co #1.\n") and "| merged_1 " in shown and "easy (n = 40)" in shown
    latex = stem.with_suffix(".tex").read_text()
    assert r"\caption{95 \% of merged\_1 \& co \#1.}" in latex
    assert r"merged\_1 & " in latex and r"length change \%" in latex and "merged_1" not in latex
    assert r"\toprule" in latex and r"\bottomrule" in latex


@pytest.mark.parametrize(
    "text, shown", [("50 %", r"50 \%"), ("a_b", r"a\_b"), ("a & b", r"a \& b"), ("#1", r"\#1"), (3, "3")]
)
def test_latex_escapes(text, shown):
    assert latex(text) == shown
