"""Chart and chips: what goes to the browser, and what comes back."""

import json

import numpy as np
import pytest

from acm.widgets.chart import Chart, Chips, plain, reach, rounded


def test_widgets_carry_their_scripts_and_colours():
    for kind, function in ((Chart, "function renderChart"), (Chips, "function renderChips")):
        assert function in kind._esm and "export default { render:" in kind._esm and "import " not in kind._esm
        assert 'data-jp-theme-light="false"' in kind._css


def test_chips_keep_their_order_and_take_new_options():
    chips, seen = Chips(label="Methods"), []
    chips.offer([{"name": "a"}, {"name": "b", "label": "B"}, {"name": "c"}], ["c", "a", "unknown"])
    assert chips.value == ["a", "c"] and chips.names == ["a", "b", "c"]
    chips.observe(lambda change: seen.append(change["new"]), "value")
    chips.offer([{"name": "d"}])
    assert chips.value == ["d"] and seen == [["d"]]


def test_numbers_go_to_the_browser_as_json():
    values = [[0, 0.123456789], [1, 12345.678912]]
    assert json.loads(json.dumps(rounded(values))) == [[0.0, 0.12], [1.0, 12345.68]]
    small = np.array([[0.1234567891, 0.5]])
    assert rounded(small) == [[0.1234568, 0.5]] and rounded([]) == []
    assert plain(np.float64(1.23456789)) == 1.23457 and plain(float("nan")) is None


@pytest.mark.parametrize("values", ([3.0], [1, 2, float("nan")], [-5, 7, float("inf")]))
def test_an_axis_holds_its_values_with_room_on_both_sides(values):
    low, high = reach(values)
    finite = [value for value in values if np.isfinite(value)]
    assert low < min(finite) and high > max(finite)
    assert reach([float("nan")]) == [0, 1]
