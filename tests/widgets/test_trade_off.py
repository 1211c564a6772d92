"""The trade-off explorer: its points are the tables' numbers, and lead to responses."""

import numpy as np
import pandas as pd
import pytest
from widgets.reading import HERE, Reader

from acm.errors import UserError
from acm.hypertext import image
from acm.paths import REPORTS
from acm.reporting.statistics import share
from acm.widgets import trade_off
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


def test_places_point_at_the_markers(records):
    figure, places = trade_off.draw(records.points(["abacus-fast", "abacus-slow", "TIES"], records.tasks))
    axes = figure.axes[0]
    marker = next(line for line in axes.lines if line.get_gid() == "TIES")
    x, y = axes.transData.transform(marker.get_xydata()[0])
    assert places["TIES"] == pytest.approx((x / figure.bbox.width, 1 - y / figure.bbox.height))
    assert places["abacus-fast"][0] > places["abacus-slow"][0] and places["abacus-fast"][1] > places["abacus-slow"][1]


def test_names_are_never_taken_for_maths():
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "n": 3.0}, index=["$\\frac{$", "b$x^$"]).reindex(
        columns=[*trade_off.ENDS, "n"]
    )
    figure, places = trade_off.draw(trade_off.Points(table, "length, tokens $\\x$"))
    assert set(places) == set(table.index) and "<img" in image(figure, 'a"b')


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
    printed = trade_off.printed()["printed / acm-v1 / 7b"]
    found = printed.points(printed.methods, ["gsm8k", "math500"], reduction=False)
    row = found.table.loc["DeepSeek-R1-7B"]
    scores = printed.scores.query("method == 'DeepSeek-R1-7B' and task in ['gsm8k', 'math500']")
    assert (row["y"], row["x"], row["n"]) == pytest.approx(
        (scores["accuracy"].mean(), scores["length"].mean(), 1319 + 500)
    )
    assert np.isnan(row["y_low"]) and "without interval" in found.hint("DeepSeek-R1-7B")
    assert "not published" in printed.behind("TA", ["gsm8k"])
    partial = trade_off.Printed("l2s-sister", "7b")
    partial.scores = printed.scores[~((printed.scores["method"] == "TA") & (printed.scores["task"] == "aime24"))]
    assert partial.points(partial.methods, partial.tasks).left_out == ["TA"]


def test_choosing_nothing_is_told(records):
    for arguments in (([], ["abacus_easy"]), (["TA"], []), (["TB"], ["abacus_easy"])):
        with pytest.raises(UserError):
            records.points(*arguments)


def test_trade_off_explorer_click_leads_to_responses():
    explorer = TradeOffExplorer(*HERE)
    assert not explorer.message.value and set(explorer.picture.points) == set(explorer.methods.options)
    point = explorer.picture.points["ACM-TA"]
    assert "n = 750" in point.tooltip and point.description == "ACM-TA" and point.layout.left.endswith("%")
    point.click()
    assert (
        explorer.chosen.value == "ACM-TA"
        and "longest right" in explorer.responses.value
        and "acm-chosen" in point._dom_classes
    )
    near = explorer.picture.points["Null-TA"]
    assert "press again for" in near.tooltip and explorer.picture.pile("Null-TA") == ["ACM-TA", "Null-TA", "Uniform-TA"]
    for following in ("Null-TA", "Uniform-TA", "ACM-TA"):
        near.click()
        assert explorer.chosen.value == following, "another press on a pile goes to the next of it"
    explorer.chosen.value = "TIES"
    assert "TIES" in explorer.responses.value and "acm-chosen" not in point._dom_classes
    explorer.cap.value = 60
    assert "cap 60" in explorer.message.value
    explorer.methods.value = ()
    assert "at least one method" in explorer.message.value and 'role="alert"' in explorer.message.value
    explorer.source.value = "printed / acm-v1 / 32b"
    assert "32B" in "".join(explorer.picture.points) and explorer.cap.disabled and not explorer.message.value
