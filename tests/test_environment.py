"""The notebooks are stored as they should be, and the committed results fit each other."""

import nbformat
import pandas as pd
import papermill
import pytest

from acm.merging.registry import table
from acm.paths import FIGURES, REPORTS, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stored_without_outputs_and_explain_their_parameters(path):
    cells = nbformat.read(path, 4).cells
    code = [c for c in cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code)
    assert "assert " in code[-1].source, "a notebook ends with an assertion on its numbers"
    for name, parameter in papermill.inspect_notebook(str(path)).items():
        assert parameter["help"], f"{name} has no trailing comment"


@pytest.mark.parametrize("experiment", ["long-to-short", "general"])
def test_committed_tables_come_from_the_committed_records(experiment):
    folder = REPORTS / "tiny" / experiment
    table = pd.read_csv(folder / "tables/main.csv").query("task != 'average'").set_index(["method", "task"])
    means = pd.read_parquet(folder / "records.parquet").groupby(["method", "task"])["correct"].mean() * 100
    pd.testing.assert_series_equal(table["accuracy"].sort_index(), means.sort_index(), atol=1e-3, check_names=False)


def test_results_are_small():
    size = sum(
        p.stat().st_size for folder in (REPORTS / "tiny", FIGURES / "tiny") for p in folder.rglob("*") if p.is_file()
    )
    assert size <= 20e6


def test_the_table_of_methods_is_current():
    assert table() in (ROOT / "docs/methods.md").read_text(), "run `python -m acm methods` and put its table there"
