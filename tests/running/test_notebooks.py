"""The notebooks outside the pipeline run from the top with reduced parameters."""

import ast
import json
from importlib import import_module
from importlib.util import find_spec

import nbformat
import pandas as pd
import papermill
import pytest

from abacus import CHECKPOINTS
from acm import evaluate
from acm.errors import UserError
from acm.paths import ROOT
from acm.running.notebooks import run_notebook

SLOW = CHECKPOINTS / "abacus-slow"


@pytest.mark.pipeline
def test_training_runs_at_reduced_scale_and_ships_the_family(tmp_path):
    parameters = {"output": str(tmp_path / "family"), "scale": 0.001, "items": 1, "max_tokens": 8}
    done = run_notebook(ROOT / "notebooks" / "0-train-abacus.ipynb", tmp_path / "0.ipynb", parameters)
    folder = tmp_path / "family" / "seed-0"
    assert {f"abacus-{n}" for n in ("base", "fast", "slow", "sums", "words")} <= {p.name for p in folder.iterdir()}
    assert pd.read_csv(folder / "training" / "base" / "losses.csv")["loss"].between(0, 8).all()
    assert "These do not hold" in nbformat.read(done, 4).cells[-1].outputs[-1].text


@pytest.mark.pipeline
def test_two_equal_runs_part_nowhere_and_two_files_are_compared(tmp_path):
    notebook = ROOT / "notebooks" / "real-weights" / "partings.ipynb"
    same = {"items": 4, "max_tokens": 40, "dtypes": ["float32", "float32"], "batch_sizes": [4, 4]}
    done = run_notebook(notebook, tmp_path / "same.ipynb", same)
    said = nbformat.read(done, 4).cells[-1].outputs[-1].data["text/markdown"]
    assert "differ in nothing recorded: 0 of 4 responses part" in said
    records = evaluate(SLOW, ["abacus_hard"], items=4, max_tokens=40)
    records.to_parquet(tmp_path / "one.parquet")
    records.assign(response="", correct=0.0).to_parquet(tmp_path / "other.parquet")
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("one", "other")}
    said = nbformat.read(run_notebook(notebook, tmp_path / "two.ipynb", files), 4).cells[-1].outputs[-1]
    assert "4 of 4 responses part" in said.data["text/markdown"]


@pytest.mark.pipeline
def test_the_papers_numbers_are_checked_and_drawn(tmp_path):
    parameters = {"output": str(tmp_path / "figures"), "tables": str(tmp_path)}
    run_notebook(ROOT / "notebooks" / "paper-numbers.ipynb", tmp_path / "paper-numbers.ipynb", parameters)
    drawn = {p.stem for p in (tmp_path / "figures").glob("*.svg")}
    assert {"figure2", "figure4", "figure5", "accuracy_against_length_7b"} <= drawn
    assert (tmp_path / "checks.csv").read_text() == (ROOT / "reports" / "paper-numbers" / "checks.csv").read_text()


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_kernel_that_dies_before_its_first_cell_is_started_anew(tmp_path, monkeypatch, deaths):
    whole, died = papermill.execute_notebook, []

    def dying(*args, **options):
        if len(died) < deaths:
            died.append(1)
            raise RuntimeError("Kernel died before replying to kernel_info")
        return whole(*args, **options)

    monkeypatch.setattr(papermill, "execute_notebook", dying)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    nbformat.write(book, tmp_path / "book.ipynb")
    if deaths == 3:
        with pytest.raises(UserError, match="died three times"):
            run_notebook(tmp_path / "book.ipynb", tmp_path / "out.ipynb", {})
        assert not (tmp_path / "out.ipynb").exists()
    else:
        done = run_notebook(tmp_path / "book.ipynb", tmp_path / "out.ipynb", {})
        assert nbformat.read(done, 4).cells[-1].outputs[-1].text == "42\n"


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


def book(path, *cells, **metadata):
    """A notebook file of code cells; the first holds the parameters. An editor without a kernel saves it so."""
    made = [nbformat.v4.new_code_cell(source) for source in cells]
    for cell in made[:1]:
        cell.metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
    return path


@pytest.mark.parametrize("name, metadata", [
    ("plain.ipynb", {}),
    ("Grüße {x} <b>.ipynb", {"kernelspec": {"name": "my-env", "display_name": "mine"}}),
    ("=1+1\nand more.ipynb", {"language_info": {"name": "python"}}),
])  # fmt: skip
def test_a_notebook_runs_whatever_kernel_and_name_it_has(tmp_path, name, metadata):
    source = book(tmp_path / name, "x = 1\ny = len('ab')", "print(x + y)", **metadata)
    done = run_notebook(source, tmp_path / f"done {name}", {"x": 2, "y": 3})
    assert nbformat.read(done, 4).cells[-1].outputs[0].text == "5\n"


def test_a_notebook_of_version_3_runs(tmp_path):
    cell = {"cell_type": "code", "input": "print(7)", "language": "python", "outputs": [], "metadata": {}}
    content = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    (tmp_path / "old.ipynb").write_text(json.dumps(content))
    assert nbformat.read(run_notebook(tmp_path / "old.ipynb", tmp_path / "out.ipynb", {}), 4).cells[0].outputs


@pytest.mark.parametrize("content", [
    "", "{'a'", "[1]", "3", '{"a": 1}', '{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": [], "cells": []}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "metadata": {}}]}',
])  # fmt: skip
def test_a_file_that_is_no_notebook_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "a.ipynb").write_text(content)
    with pytest.raises(UserError, match=r"a\.ipynb is not a readable notebook; save it anew in Jupyter"):
        run_notebook(tmp_path / "a.ipynb", tmp_path / "out.ipynb", {})


def test_what_cannot_be_run_or_written_is_refused_in_a_sentence(tmp_path):
    source = book(tmp_path / "a.ipynb", "x = 1")
    other = book(tmp_path / "r.ipynb", "x <- 1", kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    for notebook, out, says in (
        (source, source, "is the notebook itself"),
        (source, tmp_path, "is a folder"),
        (other, tmp_path / "o.ipynb", "is written in R"),
    ):
        with pytest.raises(UserError, match=says):
            run_notebook(notebook, out, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ipynb", "r.ipynb"]


def test_a_kernel_that_dies_and_an_error_in_colours_end_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="its kernel died"):
        run_notebook(book(tmp_path / "a.ipynb", "import os; os._exit(1)"), tmp_path / "out.ipynb", {})
    with pytest.raises(UserError, match=r"cell 1 failed with ValueError: a \\x1b\[31mb \(the partly") as error:
        run_notebook(book(tmp_path / "b.ipynb", r"raise ValueError('a\n\x1b[31mb')"), tmp_path / "out.ipynb", {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.name)
def test_what_a_notebook_imports_is_there(path):
    cells = [cell.source.replace("%", "#") for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    found = [node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)]
    for module, name in ((node.module, alias.name) for node in found for alias in node.names):
        if module.partition(".")[0] in ("acm", "abacus", "smol"):
            assert hasattr(import_module(module), name) or find_spec(f"{module}.{name}"), f"{module}.{name}"


@pytest.mark.parametrize("name, cell, says", [
    ("2-coefficients", 5, "mutual_information.parquet; run `make reproduce PROFILE=pico` first"),
    ("3-merge", 6, "no coefficients at .*coefficients.json; calibrate first"),
])  # fmt: skip
def test_a_notebook_before_its_turn_says_what_it_waits_for(tmp_path, name, cell, says):
    parameters = {"profile": str(ROOT / "tests" / "data" / "pico.yaml")}
    with pytest.raises(UserError, match=rf"cell {cell} failed with UserError: .*{says}"):
        run_notebook(ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "out.ipynb", parameters)
