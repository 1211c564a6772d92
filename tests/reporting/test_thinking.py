"""Shares of closed and of open thinking on made-up records: no committed record thinks."""

import json
from html import unescape

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml

from acm.paths import ROOT
from acm.profiles import load_profile
from acm.records import write_records
from acm.reporting import figures, tables
from acm.reporting.plotting import use_theme
from acm.reporting.results import Results
from acm.reporting.thinking import mean_coefficient, thinking_table, thinks, wide_thinking

matplotlib.use("Agg")
LONG = "long-to-short"
METHODS = {
    "TA": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}},
    "TIES": {"merge_method": "ties", "parameters": {"weight": 1.0, "density": 0.2}},
    "ACM-TA": {"merge_method": "task_arithmetic", "coefficients": "none"},
    "Uniform-TA": {"merge_method": "task_arithmetic", "coefficients": "uniform"},
    "ACM-Average": {"merge_method": "task_arithmetic", "parameters": {"normalize": True}, "coefficients": "none"},
}
TASKS = ["abacus_easy", "abacus_medium"]


def outcome(rng, level):
    """A model at λ thinks with that chance; in the middle it often does not stop."""
    if rng.random() > level:
        return None
    return bool(rng.random() > 4 * level * (1 - level))


@pytest.fixture
def results(tmp_path):
    """Results of a pair with 30 items of each of two tasks, two responses to each."""
    content = yaml.safe_load((ROOT / "tests" / "data" / "pico.yaml").read_text())
    experiment = content["experiments"][LONG] | {
        "methods": METHODS,
        "frontier": [0.3, 0.6],
        "tasks": TASKS,
        "repeats": 2,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content | {"experiments": {LONG: experiment}}))
    found = Results(load_profile(str(tmp_path / "mine.yaml")), LONG, tmp_path)
    base, finetuned = found.experiment.parents
    levels = {base: 0.0, finetuned: 1.0, "frontier-0.3": 0.3, "frontier-0.6": 0.6}
    rng, text = np.random.default_rng(0), dict.fromkeys(("profile", "experiment", "model", "answer", "gold"), "x")
    rows = [
        {"method": method, "task": task, "item": item, "repeat": repeat, "correct": float(rng.random() < 0.5),
         "length": 9, "truncated": False, "thinking_closed": outcome(rng, levels.get(method, 0.65)), "reflections": 0}
        for method in found.methods for task in TASKS for item in range(30) for repeat in range(2)
    ]  # fmt: skip
    setting = json.dumps({"model": "m", "tasks": {}})
    (tmp_path / LONG).mkdir()
    frame = pd.DataFrame(rows).assign(**text, response="y", setting=setting)
    write_records(frame, tmp_path / LONG / "records.parquet")
    (tmp_path / LONG / "coefficients.json").write_text(json.dumps({"coefficients": {"b": {"0": 0.5, "norm": 0.9}}}))
    return found


def test_the_shares_are_those_of_the_records(results):
    table = thinking_table(results).set_index("method")
    assert list(table.index) == results.methods and (table["n"] == 60).all()
    by_task = results.records.groupby(["method", "task"])["thinking_closed"]
    for name, state in (("closed", True), ("open", False)):
        shares = by_task.apply(lambda values, state=state: np.mean([value is state for value in values]))
        expected = 100 * shares.groupby("method").mean()
        pd.testing.assert_series_equal(table[name].sort_index(), expected, check_names=False)
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()
    base, finetuned = results.experiment.parents
    assert table.loc[base, "closed"] == 0 < table.loc[base, "closed_high"]  # 0 of 60 is no proof of none
    assert table.loc[finetuned, ["closed", "open"]].tolist() == [100, 0]


def test_every_point_stands_at_its_mean_coefficient(results):
    base, finetuned = results.experiment.parents
    known = {name: mean_coefficient(results, name) for name in results.methods}
    assert [known[name] for name in (base, "frontier-0.3", "TA", finetuned)] == [0, 0.3, 0.7, 1]
    assert known["ACM-TA"] == known["Uniform-TA"] == pytest.approx(0.7)
    assert np.isnan(known["TIES"]) and np.isnan(known["ACM-Average"])
    text = wide_thinking(thinking_table(results))
    assert text.loc["ACM-TA", "mean λ"] == "0.70" and text.loc["TIES", "mean λ"] == "–"
    (results.folder / "coefficients.json").unlink()  # records alone draw the table
    assert np.isnan(mean_coefficient(results, "ACM-TA")) and len(thinking_table(results)) == len(results.methods)


def test_the_figure_has_the_frontier_and_each_method_that_has_a_place(results):
    use_theme()
    figure = figures.FIGURES["thinking"].draw(results)
    table = thinking_table(results).set_index("method")
    for axes, name in zip(figure.axes, ("closed", "open"), strict=True):
        curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
        assert curve.get_xdata() == pytest.approx([0, 0.3, 0.6, 1])
        assert curve.get_ydata() == pytest.approx(table.loc[results.frontier, name])
        names = ["ACM-TA", "TA", "Uniform-TA", *results.experiment.parents]
        assert sorted(text.get_text() for text in axes.texts) == sorted(names)
    matplotlib.pyplot.close(figure)


def test_it_is_made_where_responses_think_and_tables_say_avg_at_k(results, tmp_path):
    made = {table.name: numbers for table, numbers in tables.write_all(results, tmp_path / "tables")}
    assert "thinking" in made and thinks(results) and figures.FIGURES["thinking"].applies(results)
    shown = (tmp_path / "tables" / "thinking.md").read_text()
    assert "thinking never closed, %" in shown and "mean of 2 responses an item" in shown
    assert (made["main"]["repeats"] == 2).all()
    assert "abacus_easy (n = 30, avg@2)" in unescape((tmp_path / "tables" / "main.md").read_text())
    committed = Results(load_profile("tiny"), LONG, "reports")
    assert not thinks(committed) and not tables.TABLES["thinking"].applies(committed)
