"""The coefficients explorer: its numbers are the project's, and it redraws."""

import json

import numpy as np
import pandas as pd
import pytest
from widgets.reading import HERE

from acm.calibration.coefficients import coefficients_from_table, draws_of
from acm.calibration.registry import CONTROLS, SHIFTS
from acm.errors import UserError
from acm.paths import REPORTS
from acm.widgets import coefficients
from acm.widgets.coefficients_charts import axis_of, layers_chart, mapping_chart
from acm.widgets.coefficients_explorer import CoefficientsExplorer


def test_curves_are_the_projects_coefficients(results):
    tables = coefficients.Tables(results)
    found = coefficients.curves(tables.mi("abacus-slow", "plug-in", coefficients.OWN), 0.7, "layer")
    assert set(found) == set(CONTROLS)
    for control in ("none", "shuffled", "gaussian"):
        assert found[control].to_dict() == pytest.approx(results.coefficients[control]["abacus-slow"], abs=1e-12)
    table = pd.read_parquet(REPORTS / "tiny/questions/estimate/information.parquet")
    other = coefficients.curves(tables.mi("abacus-slow", "shuffle-corrected", coefficients.OWN), -1.3, "global")
    expected = coefficients_from_table(table, -1.3, "global", "none", "shuffle-corrected")["abacus-slow"]
    assert other["none"].to_dict() == pytest.approx(expected)


def test_draws_take_the_same_texts_for_all_controls(results):
    tables = coefficients.Tables(results)
    assert len(tables.draws("plug-in")) == 1 + coefficients.DRAWS and tables.draws("miller-madow") == [coefficients.OWN]
    one, two = (tables.mi("abacus-slow", "plug-in", f"random draw {k}") for k in (1, 2))
    assert set(one) == {"none", "gaussian"} and all(wide.shape == (9, 100) for wide in one.values())
    assert list(one["none"].columns) == list(one["gaussian"].columns) and set(one["none"].columns) != set(
        two["none"].columns
    )


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_band_holds_what_draws_of_the_texts_give(results, shift):
    wide = coefficients.Tables(results).mi("abacus-slow", "plug-in", coefficients.OWN)["shuffled"]
    spread, n = coefficients.Spread(wide), wide.shape[1]
    for t in (0.7, -1.8, 0.7):
        band = spread.band(t, shift)
        drawn = draws_of(wide.to_numpy(), n, coefficients.SPREAD, t, shift, replace=True)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        assert band["low"].to_numpy() == pytest.approx(low) and band["high"].to_numpy() == pytest.approx(high)
    with pytest.raises(UserError, match="t must be"):
        spread.band(float("inf"), shift)


def test_wrong_settings_are_named(results):
    tables = coefficients.Tables(results)
    for arguments in (
        ("abacus-words", "plug-in", coefficients.OWN),
        ("abacus-slow", "plugin", coefficients.OWN),
        ("abacus-slow", "miller-madow", "random draw 1"),
    ):
        with pytest.raises(UserError, match="unknown"):
            tables.mi(*arguments)
    with pytest.raises(UserError, match="t must be"):
        coefficients.curves({"none": pd.DataFrame([[1.0]])}, float("nan"), "layer")


def test_mapping_is_drawn_where_the_coefficients_are():
    mi = pd.DataFrame([[1.0, 3.0], [2.0, 2.0]], index=["0", "1"])
    left, right = coefficients.draw({"none": mi}, 1.0, "none", ()).axes
    sigmoid = 1 / (1 + np.exp(np.array([1.0, 3.0])))  # 1 − σ(x)
    assert right.lines[0].get_ydata() == pytest.approx(sigmoid) and right.lines[1].get_ydata() == pytest.approx(
        [sigmoid.mean()]
    )
    assert left.lines[0].get_ydata()[0] == pytest.approx(sigmoid.mean())


def test_the_axis_of_coefficients_seldom_moves_and_no_null_moves_it(results):
    assert axis_of([0.51, 0.58]) == [0.5, 0.6] and axis_of([0.5, 0.5]) == [0.5, 0.6] and axis_of([0, 1]) == [0, 1]
    assert axis_of([0.3000001, 0.31]) == [0.3, 0.4] and axis_of([1.0]) == [0.9, 1]
    mi = coefficients.Tables(results).mi("abacus-slow", "plug-in", coefficients.OWN)
    spreads = {name: coefficients.Spread(wide) for name, wide in mi.items()}
    one, all_of_them = (layers_chart(mi, spreads, 0.7, "layer", nulls) for nulls in ((), list(CONTROLS)))
    assert one["y"] == all_of_them["y"] and len(one["lines"]) == 1 and len(all_of_them["lines"]) == len(CONTROLS)
    json.dumps([one, all_of_them], allow_nan=False)


def test_charts_show_the_projects_coefficients(results):
    mi = coefficients.Tables(results).mi("abacus-slow", "plug-in", coefficients.OWN)
    spreads = {name: coefficients.Spread(wide) for name, wide in mi.items()}
    chart = layers_chart(mi, spreads, 0.7, "layer", ["shuffled"])
    lines = {line["name"]: [y for _, y in line["points"]] for line in chart["lines"]}
    for name in ("none", "shuffled"):
        assert lines[name] == pytest.approx(list(results.coefficients[name]["abacus-slow"].values()), abs=1e-5)
    value = results.coefficients["shuffled"]["abacus-slow"]["embed"]
    assert f"null: tokens shuffled: λ = {value:.4f}" in chart["points"][0]["hint"]
    assert chart["x"]["ticks"][-1]["label"] == "lm_head"
    mapping = mapping_chart(mi["none"], 0.7, "layer", "3")
    assert [point["y"] for point in mapping["points"]] == pytest.approx(lines["none"], abs=1e-5)
    assert [len(dots["points"]) for dots in mapping["dots"]] == [800, 100]
    with pytest.raises(UserError, match="no rows of the real pair"):
        layers_chart({"shuffled": mi["shuffled"]}, spreads, 0.7, "layer", [])


def test_coefficients_explorer_redraws_and_reports_errors():
    explorer = CoefficientsExplorer(*HERE)
    assert "0.510 (embed)" in explorer.message.value and explorer.controls.value == ["shuffled", "gaussian"]
    before = explorer.layers.spec
    explorer.t.value = 2.0
    assert explorer.layers.spec != before and explorer.t.continuous_update
    explorer.drawn.value = "random draw 3"
    assert explorer.controls.names == ["gaussian"] and "n = 100 texts" in explorer.message.value
    explorer.estimator.value = "miller-madow"
    assert explorer.drawn.value == coefficients.OWN and 'role="alert"' not in explorer.message.value
    explorer.source.value = "tiny / general (committed)"
    assert explorer.t.value == -1.8 and explorer.model.options == ("abacus-sums", "abacus-words")
    explorer.layers.chosen = "3"
    assert explorer.mapping.chosen == "3" and 'role="status"' in explorer.message.value
    explorer.mi["none"].iloc[0, 0] = np.nan
    explorer.shift.value = ["none"]
    assert 'role="alert"' in explorer.message.value
