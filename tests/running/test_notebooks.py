"""The notebooks outside the pipeline run from the top with reduced parameters."""

import nbformat
import pandas as pd
import pytest

from acm.paths import ROOT
from acm.running.notebooks import run_notebook


@pytest.mark.pipeline
def test_training_runs_at_reduced_scale_and_ships_the_family(tmp_path):
    parameters = {"output": str(tmp_path / "family"), "scale": 0.001, "items": 1}
    done = run_notebook(ROOT / "notebooks" / "0-train-abacus.ipynb", tmp_path / "0.ipynb", parameters)
    folder = tmp_path / "family" / "seed-0"
    assert {f"abacus-{n}" for n in ("base", "fast", "slow", "sums", "words")} <= {p.name for p in folder.iterdir()}
    assert pd.read_csv(folder / "training" / "base" / "losses.csv")["loss"].between(0, 8).all()
    assert "right at" in nbformat.read(done, 4).cells[-1].outputs[0].text


@pytest.mark.pipeline
def test_the_papers_numbers_are_checked_and_drawn(tmp_path):
    parameters = {"output": str(tmp_path / "figures"), "tables": str(tmp_path)}
    run_notebook(ROOT / "notebooks" / "paper-numbers.ipynb", tmp_path / "paper-numbers.ipynb", parameters)
    drawn = {p.stem for p in (tmp_path / "figures").glob("*.svg")}
    assert {"figure2", "figure4", "figure5", "accuracy_against_length_7b"} <= drawn
    assert (tmp_path / "checks.csv").read_text() == (ROOT / "reports" / "paper-numbers" / "checks.csv").read_text()


def test_links_of_an_executed_copy_lead_where_they_led(tmp_path):
    source, target = tmp_path / "notebooks" / "paper", tmp_path / "reports" / "paper"
    for folder in (source, target, tmp_path / "docs"):
        folder.mkdir(parents=True)
    (tmp_path / "docs" / "page.md").touch()
    kept = (
        "[a](https://a.org/b.md), [here](#part), [absent](../absent.md), [root](/docs/page.md), ![](attachment:x.png)"
    )
    text = f"[page](../../docs/page.md#part), [again](other.ipynb), {kept}"
    (source / "other.ipynb").touch()
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("x = 1  # [page](other.ipynb)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source / "one.ipynb")
    done = run_notebook(source / "one.ipynb", target / "one.ipynb", {})
    found = nbformat.read(done, 4).cells
    assert found[0].source == f"[page](../../docs/page.md#part), [again](../../notebooks/paper/other.ipynb), {kept}"
    assert found[1].source == cells[1].source
