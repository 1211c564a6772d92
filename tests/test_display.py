"""What acm.show gives: the same in text, Markdown and HTML; long tables are short."""

import pandas as pd
import pytest
from matplotlib import pyplot

from acm.display import MOST, Shown, draw_by_layer
from acm.errors import UserError


def table(rows):
    return pd.DataFrame({"value": [f"v{i}" for i in range(rows)]}, [f"r{i}" for i in range(rows)])


def test_all_three_forms_have_title_rows_and_caption():
    shown = Shown("A title", table(2), "A caption.")
    assert str(shown) == repr(shown)
    for text in (str(shown), shown._repr_markdown_(), shown._repr_html_()):
        assert all(part in text for part in ("A title", "r0", "v1", "A caption."))
    assert shown._repr_markdown_().splitlines()[2:5] == ["|  | value |", "| --- | --- |", "| r0 | v0 |"]
    assert "<img" not in shown._repr_html_()
    with pytest.raises(UserError, match="nothing to plot of this: A title"):
        shown.plot()


def test_of_many_rows_the_first_and_last_are_shown():
    rows = Shown("", table(MOST + 1), "").rows
    half = MOST // 2
    assert [*rows.index] == [*(f"r{i}" for i in range(half)), "…", *(f"r{i}" for i in range(half + 1, MOST + 1))]
    assert len(Shown("", table(MOST), "").rows) == MOST


def test_a_plot_is_drawn_on_the_axes_that_are_given_and_a_picture_leaves_none_open():
    shown = Shown("A title", table(1), "", lambda axes: axes.plot([1, 2], [3, 4]))
    axes = pyplot.subplots()[1]
    assert shown.plot(axes) is axes and len(axes.lines) == 1
    pyplot.close(axes.figure)
    before = pyplot.get_fignums()
    first, again = shown._repr_html_(), shown._repr_html_()
    assert first == again and 'alt="A title: plot of the table"' in first and pyplot.get_fignums() == before


def test_many_layers_have_few_names_and_the_curves_keep_their_places():
    axes = pyplot.subplots()[1]
    layers = ["embed", *map(str, range(60)), "norm"]
    draw_by_layer(axes, {"a": dict.fromkeys(layers, 0.5), "$b$": {"59": 0.25}}, "λ")
    assert len(axes.get_xticks()) <= 12 and [*axes.lines[1].get_xdata()] == [60]
    assert axes.get_legend().get_texts()[1].get_text() == r"\$b\$"
    pyplot.close(axes.figure)
