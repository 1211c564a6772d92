"""A slider draws anew as it moves, and leaves a still picture."""

import base64
import io

import matplotlib.image
import numpy as np

from acm.widgets.slider import Slider, still

SPEC = {
    "label": "all that a chart may hold",
    "x": {"label": "x", "range": [0, 4], "ticks": [{"at": 1, "label": "one"}]},
    "y": {"label": "y", "range": [0, 4]},
    "lines": [{"name": "a line", "points": [[0, 0], [4, 4]], "family": "acm", "dashed": True}],
    "bars": [{"x0": 1, "x1": 2, "y": 3}],
    "dots": [{"name": "dots", "points": [[1, 1], [2, 2]]}],
    "points": [{"name": "a point", "x": 3, "y": 1, "family": "control"}],
}


def at(value):
    return SPEC | {"points": [{"name": "a point", "x": value, "y": 1}]}, f"x is {value}."


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png))


def test_a_slider_starts_where_it_is_told_and_follows():
    slider = Slider("x", {"one": 1, "two": 2}, at, "two")
    assert slider.said == "x is 2." and slider.chart.spec["points"][0]["x"] == 2
    slider.control.value = 1
    assert slider.said == "x is 1." and slider.chart.spec["points"][0]["x"] == 1 and "x is 1." in slider.sentence.value


def test_a_slider_leaves_a_picture_of_its_place():
    slider = Slider("x", {"one": 1, "three": 3}, at, "one")
    bundle = slider._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "text/plain" in bundle
    first = pixels(base64.b64decode(bundle["image/png"]))
    slider.control.value = 3
    assert not np.array_equal(first, pixels(base64.b64decode(slider._repr_mimebundle_()["image/png"])))


def test_each_part_of_a_chart_is_in_the_picture():
    whole = pixels(still(SPEC, "said"))
    for part in ("lines", "bars", "dots", "points"):
        assert not np.array_equal(whole, pixels(still({k: v for k, v in SPEC.items() if k != part}, "said"))), part
    assert not np.array_equal(whole, pixels(still(SPEC, "said otherwise")))
