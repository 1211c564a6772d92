"""The coefficients explorer: its numbers are the project's, and it redraws."""

import numpy as np
import pandas as pd
import pytest
from widgets.reading import HERE

from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.registry import CONTROLS
from acm.errors import UserError
from acm.paths import REPORTS
from acm.widgets import coefficients
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


def test_draws_take_the_same_texts_for_all_controls_and_stay_in_the_band(results):
    tables = coefficients.Tables(results)
    assert len(tables.draws("plug-in")) == 1 + coefficients.DRAWS and tables.draws("miller-madow") == [coefficients.OWN]
    one, two = (tables.mi("abacus-slow", "plug-in", f"random draw {k}") for k in (1, 2))
    assert set(one) == {"none", "gaussian"} and all(wide.shape == (9, 100) for wide in one.values())
    assert list(one["none"].columns) == list(one["gaussian"].columns) and set(one["none"].columns) != set(
        two["none"].columns
    )
    band = coefficients.band(tables.pool, 0.7, "layer")
    inside = [
        coefficients.curves(tables.mi("abacus-slow", "plug-in", f"random draw {k}"), 0.7, "layer")["none"]
        .between(band["low"], band["high"])
        .mean()
        for k in range(1, 11)
    ]
    assert np.mean(inside) > 0.8


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


def test_coefficients_explorer_redraws_and_reports_errors():
    explorer = CoefficientsExplorer(*HERE)
    assert not explorer.message.value and "0.510 (embed)" in explorer.summary.value
    before = explorer.picture.image.value
    explorer.t.value = 2.0
    assert explorer.picture.image.value != before and "<img alt=" in before
    explorer.drawn.value = "random draw 3"
    explorer.estimator.value = "miller-madow"
    assert explorer.drawn.value == coefficients.OWN and not explorer.message.value
    explorer.source.value = "tiny / general (committed)"
    assert (
        explorer.t.value == -1.8
        and explorer.model.options == ("abacus-sums", "abacus-words")
        and not explorer.message.value
    )
    explorer.tables.own.drop(explorer.tables.own.index, inplace=True)
    explorer.shift.value = "none"
    assert 'role="alert"' in explorer.message.value
