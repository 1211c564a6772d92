"""A new explorer is one module and one row; the lists of docs, notebooks and site follow from the registry."""

import sys
import types

import pytest
from ipywidgets import DOMWidget

import acm.widgets
from acm.paths import ROOT
from acm.widgets.parts import Explorer
from acm.widgets.registry import EXPLORERS, Row, table


def test_every_row_has_its_widget_its_notebook_and_its_picture_on_the_site():
    notebooks = {path.stem for path in (ROOT / "notebooks" / "explore").glob("*.ipynb")}
    assert {row.notebook for row in EXPLORERS.values()} == notebooks
    for name, row in EXPLORERS.items():
        widget = getattr(acm.widgets, name)
        assert issubclass(widget, DOMWidget) and widget.__module__ == row.module and widget.name
        text = (ROOT / "notebooks" / "explore" / f"{row.notebook}.ipynb").read_text(encoding="utf-8")
        assert name in text and (ROOT / "website" / "explorers" / f"{row.notebook}.webp").is_file()


def test_the_table_of_the_docs_is_the_registrys():
    assert table() in (ROOT / "docs" / "explorers.md").read_text(encoding="utf-8")


def test_an_unknown_explorer_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"acm\.widgets.*'Explorers'"):
        acm.widgets.Explorers  # noqa: B018


def test_a_new_explorer_works_and_is_listed(monkeypatch):
    module = types.ModuleType("acm.widgets.lengths_explorer")

    class LengthsExplorer(Explorer):
        """Tells its profile."""

        name = "lengths"

        def build(self, profile, experiment):
            self.say(f"{profile}, {experiment}")

    module.LengthsExplorer = LengthsExplorer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = Row("LengthsExplorer", module.__name__, "5-lengths", "nothing", "lengths")
    monkeypatch.setitem(EXPLORERS, row.widget, row)
    shown = acm.widgets.LengthsExplorer("tiny", "long-to-short")
    assert "tiny, long-to-short" in shown.message.value and "acm-lengths" in shown._dom_classes
    assert "| [5-lengths](../notebooks/explore/5-lengths.ipynb) | nothing | lengths |\n" in table()
