"""The trade-off explorer: its points are the tables' numbers, and lead to responses."""

import json

import numpy as np
import pandas as pd
import pytest
from widgets.reading import HERE, Reader

from acm.errors import UserError
from acm.hypertext import image
from acm.paths import REPORTS
from acm.reporting.statistics import bootstrap, share
from acm.widgets import printed, trade_off
from acm.widgets.trade_off_chart import INTERPOLATION, axes, chips, home, methods_of, trade_off_chart
from acm.widgets.trade_off_explorer import TradeOffExplorer


def test_points_are_the_tables_numbers(records):
    found = records.points(records.methods, records.tasks)
    main = pd.read_csv(REPORTS / "tiny/long-to-short/tables/main.csv").query("task == 'average'").set_index("method")
    assert found.table["y"].to_dict() == pytest.approx(main["accuracy"].to_dict(), abs=1e-3)
    tokens = records.points(["ACM-TA", "TIES"], ["abacus_hard"], reduction=False)
    sample = records.results.sample
    task = sample.tasks.index("abacus_hard")
    assert tokens.table.loc["TIES", "x"] == pytest.approx(sample.length[sample.row("TIES"), task, 0])
    assert tokens.table.loc["ACM-TA", "y_low"] == pytest.approx(share(sample, "ACM-TA", sample.tasks[task])["low"])
    assert (tokens.table["n"] == 250).all() and not tokens.frontier
    hint = tokens.hint("TIES")
    assert "n = 250" in hint and "tokens" in hint and hint.count("[") == 2


def test_a_chart_has_the_points_and_axes_that_no_choice_moves(records):
    ranges = home(records, True)
    assert axes(records, ranges, None, True) == ranges
    points = records.points(["abacus-fast", "abacus-slow", "TIES", "frontier-0.5"], records.tasks)
    chart = trade_off_chart(points, ranges, "a picture")
    json.dumps(chart, allow_nan=False)
    drawn = {point["name"]: point for point in chart["points"]}
    assert drawn["TIES"]["x"] == pytest.approx(points.table.loc["TIES", "x"], rel=1e-5) and drawn["TIES"]["yLow"] > 0
    assert drawn["TIES"]["family"] == "baseline" and drawn["abacus-slow"]["family"] == "parent"
    assert not drawn["frontier-0.5"]["label"] and "xLow" not in drawn["frontier-0.5"]
    assert chart["x"]["better"] == "right" and len(chart["lines"][0]["points"]) == 3
    for tasks in (records.tasks, *([task] for task in records.tasks)):
        table = records.points(records.methods, tasks).table
        for name, (low, high) in zip("xy", ranges, strict=True):
            assert table[name].between(low, high).all(), "no choice of tasks leaves the picture"
    for name, (low, high) in zip("xy", ranges, strict=True):
        whole = records.points(records.methods, records.tasks).table
        assert whole[f"{name}_low"].min() > low and whole[f"{name}_high"].max() < high
    lower = axes(records, ranges, 40, True)
    table = records.points(records.methods, records.tasks, 40).table
    assert table["y"].between(*lower[1]).all() and lower[1][1] == ranges[1][1] and lower[1][0] <= ranges[1][0]
    tokens = trade_off_chart(records.points(["TA"], records.tasks, reduction=False), home(records, False), "")
    assert tokens["x"]["better"] == "left" and tokens["x"]["label"] == "length, tokens" and not tokens["lines"]


def test_a_cap_gives_what_a_bootstrap_of_the_cut_records_gives(records):
    for cap in (None, 100, 60, 100):
        expected = bootstrap(trade_off.capped(records.rows, cap), records.methods, records.tasks)
        found = records.sample(cap)
        assert (found.accuracy == expected.accuracy).all() and (found.length == expected.length).all()
    part = trade_off.part_of(found, ["TIES", "TA"], ["abacus_hard"])
    alone = bootstrap(trade_off.capped(records.rows, 100), ["TIES", "TA"], ["abacus_hard"])
    assert (part.accuracy == alone.accuracy).all() and part.items == alone.items
    assert share(part, "TIES") == share(alone, "TIES")


def test_the_swept_have_one_chip_together(records):
    made = chips(records.methods, records.parents, records.swept)
    assert len(made) == len(records.methods) - len(records.swept) + 1
    assert methods_of(["TA", INTERPOLATION, "abacus-fast"], records.methods, records.swept) == [
        "abacus-fast", "TA", *records.swept
    ]  # fmt: skip


def test_names_are_never_taken_for_maths():
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "n": 3.0}, index=["$\\frac{$", "b$x^$"]).reindex(
        columns=[*trade_off.ENDS, "n"]
    )
    figure = trade_off.draw(trade_off.Points(table, "length, tokens $\\x$"))
    assert {line.get_gid() for line in figure.axes[0].lines} >= set(table.index) and "<img" in image(figure, 'a"b')


def test_a_lower_cap_cuts_lengths_and_what_it_cuts_is_wrong(records):
    cut = trade_off.capped(records.rows, 100)
    longer = records.rows["length"] > 100
    assert (
        (cut["length"] <= 100).all() and (cut.loc[longer, "correct"] == 0).all() and cut.loc[longer, "truncated"].all()
    )
    pd.testing.assert_frame_equal(cut[~longer], records.rows[~longer])
    with pytest.raises(UserError, match="cap"):
        trade_off.capped(records.rows, 0)


def test_responses_behind_a_point_are_its_extremes(records):
    rows = records.rows.query("method == 'TIES' and task == 'abacus_hard'")
    made = Reader(records.behind("TIES", ["abacus_hard"])).text
    for wanted in (rows.query("correct == 1")["length"].min(), rows.query("correct == 0")["length"].max()):
        assert f"{wanted} tokens" in made
    assert [word in made for word in ("shortest right", "longest right", "shortest wrong", "longest wrong")] == [
        True
    ] * 4
    one = pd.DataFrame({"correct": [1.0, 0.0, 0.0], "length": [5, 7, 9]})
    assert [title for title, _ in trade_off.extremes(one)] == ["the only right", "shortest wrong", "longest wrong"]


def test_printed_numbers_have_no_intervals_and_leave_out_what_was_not_printed():
    source = printed.printed()["printed / acm-v1 / 7b"]
    found = source.points(source.methods, ["gsm8k", "math500"], reduction=False)
    row = found.table.loc["DeepSeek-R1-7B"]
    scores = source.scores.query("method == 'DeepSeek-R1-7B' and task in ['gsm8k', 'math500']")
    assert (row["y"], row["x"], row["n"]) == pytest.approx(
        (scores["accuracy"].mean(), scores["length"].mean(), 1319 + 500)
    )
    assert np.isnan(row["y_low"]) and "without interval" in found.hint("DeepSeek-R1-7B")
    assert "not published" in source.behind("TA", ["gsm8k"])
    partial = printed.Printed("l2s-sister", "7b")
    partial.scores = source.scores[~((source.scores["method"] == "TA") & (source.scores["task"] == "aime24"))]
    assert partial.points(partial.methods, partial.tasks).left_out == ["TA"]


def test_choosing_nothing_is_told(records):
    for arguments in (([], ["abacus_easy"]), (["TA"], []), (["TB"], ["abacus_easy"])):
        with pytest.raises(UserError):
            records.points(*arguments)


def test_trade_off_explorer_press_leads_to_responses():
    explorer = TradeOffExplorer(*HERE)
    assert "23 methods, n = 750 responses" in explorer.message.value and len(explorer.chart.points()) == 23
    explorer.chart.chosen = "ACM-TA"
    assert "longest right" in explorer.panel.value and "ACM-TA" in explorer.panel.value
    explorer.chart.chosen = "TIES"
    assert "TIES" in explorer.panel.value
    explorer.cap.value = 60
    assert "cap 60" in explorer.message.value and "TIES" in explorer.panel.value
    before = explorer.chart.spec
    explorer.methods.value = []
    assert "at least one method" in explorer.message.value and 'role="alert"' in explorer.message.value
    assert explorer.chart.spec == before, "the picture keeps its place"
    explorer.methods.value = ["TA", "TIES"]
    assert explorer.chart.points() == ["TA", "TIES"] and explorer.chart.spec["y"] == before["y"]
    explorer.beside.value = "smol / long-to-short (committed)"
    assert "ACM-TA" in explorer.second.points() and explorer.second.layout.display != "none"
    explorer.second.chosen = "Average"
    assert "smol_seen" in explorer.panel.value
    explorer.source.value = "printed / acm-v1 / 32b"
    assert "32B" in "".join(explorer.chart.points()) and explorer.cap.disabled and explorer.compared.disabled
    assert "printed without intervals" in explorer.message.value
