"""A new figure or table is one function and one row: nothing else has to know it."""

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from acm.profiles import load_profile
from acm.reporting import figures, tables
from acm.reporting.figures import FIGURES, Drawing
from acm.reporting.results import Results
from acm.reporting.tables import TABLES, Table

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def pair():
    """The committed results of an experiment with one fine-tuned model."""
    return Results(load_profile("tiny"), "long-to-short", "reports")


@pytest.fixture(scope="module")
def several():
    """Those of an experiment that merges several."""
    return Results(load_profile("tiny"), "general", "reports")


def lengths(results):
    figure, axes = plt.subplots()
    axes.hist(results.records["length"])
    return figure


def counts(results):
    return results.records.groupby("method", sort=False).size().rename("responses").reset_index()


@pytest.fixture
def added(monkeypatch):
    """One row more in each registry."""
    caption = lambda results: results.caption("Lengths of all responses.")  # noqa: E731
    row = Drawing("lengths", "Lengths", lengths, caption, lambda results: results.pair)
    monkeypatch.setitem(FIGURES, row.name, row)
    table = Table("counts", "Counts", counts, lambda data: data.set_index("method"), "Responses.")
    monkeypatch.setitem(TABLES, table.name, table)


def test_a_new_figure_is_drawn_and_saved_with_its_provenance(added, pair, several, tmp_path):
    drawn = [drawing.name for drawing, _ in figures.draw_all(pair, tmp_path)]
    assert drawn == [*(name for name in FIGURES if name not in ("lengths", "thinking")), "lengths"]
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}.{k}" for n in drawn for k in ("svg", "png", "json")}
    caption = pd.read_json(tmp_path / "lengths.json", typ="series")
    assert caption["caption"].startswith("Lengths of all responses. abacus_easy n = 250")
    assert caption["provenance"]["experiment"] == "long-to-short"
    assert not plt.get_fignums(), "figures are closed"
    assert "lengths" not in {drawing.name for drawing, _ in figures.draw_all(several, tmp_path / "several")}


def test_a_new_table_is_written(added, pair, tmp_path):
    written = {table.name: numbers for table, numbers in tables.write_all(pair, tmp_path)}
    assert list(written) == [name for name in TABLES if name != "thinking"] and list(written)[-1] == "counts"
    assert (tmp_path / "counts.md").read_text().startswith("| method ") and (tmp_path / "counts.tex").is_file()
    assert (written["counts"]["responses"] == 750).all()


def test_where_several_models_are_merged_there_are_no_verdicts_and_no_steps(several, tmp_path):
    assert [table.name for table, _ in tables.write_all(several, tmp_path)] == ["main", "dominance", "reflections"]
    assert "steps" not in {drawing.name for drawing, _ in figures.draw_all(several, tmp_path)}


def test_every_row_says_what_it_is():
    assert all(row.name == name and row.title for rows in (FIGURES, TABLES) for name, row in rows.items())
