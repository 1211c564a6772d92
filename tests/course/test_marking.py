"""`acm course check`: the marks of a class; whatever stands in a notebook, the others are marked."""

import json

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from acm.__main__ import app
from acm.course import answers, marking
from acm.course.copies import COURSE, lessons, solution_copy, student_copy, tagged
from acm.errors import UserError

LESSON = COURSE / "source" / "5-measuring.ipynb"
DEFINED = """import numpy as np
%matplotlib inline
rate = 0.5
table = unknown_name + 1


def frontier_at(length, lengths, accuracies):
    return rate


class Own:
    pass
"""


def submitted(path, change=lambda notebook: None):
    """The lesson with its solutions, changed, as a learner's file."""
    notebook = solution_copy(LESSON)
    change(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def wrong(notebook):
    """One mistake, one answer that ends Python, one that is gone, and check cells that say what they like."""
    for cell in tagged(notebook, "check"):
        cell.source = "print('passed')"
    for cell in tagged(notebook, "solution"):
        cell.source = cell.source.replace("lengths / reference", "reference / lengths")
        if "def wilson" in cell.source:
            cell.source = "def wilson(*_):\n    raise SystemExit"
        if "def length_of" in cell.source:
            cell.source = "# nothing here"


@pytest.mark.pipeline
def test_a_class_is_marked_and_what_is_broken_has_a_row(tmp_path):
    submitted(tmp_path / "class/ada/5-measuring (1).ipynb")
    submitted(tmp_path / "class/bob/any-name.ipynb", wrong)
    endless = new_notebook(cells=[new_markdown_cell("### Exercise 5.1 · x"), new_code_cell("while True: pass")])
    endless.cells[1].metadata["tags"] = ["solution"]
    (tmp_path / "class/cy").mkdir()
    nbformat.write(endless, tmp_path / "class/cy/endless.ipynb")
    (tmp_path / "class/dee.ipynb").write_text("{")
    (tmp_path / "class/.ipynb_checkpoints").mkdir()
    (tmp_path / "class/.ipynb_checkpoints/old.ipynb").write_text("{")
    done = CliRunner().invoke(app, ["course", "check", str(tmp_path / "class"), "--seconds", "40"])
    assert done.exit_code == 0 and "4 notebooks, 11 of 14 exercises solved" in done.output, done.output
    marks = pd.read_csv(tmp_path / "class/marks.csv", dtype={"exercise": str})
    assert list(marks) == marking.COLUMNS
    ada = marks[marks["file"] == "ada/5-measuring (1).ipynb"]
    assert ada["solved"].all() and len(ada) == 7 and (ada["lesson"] == 5).all()
    bob = marks[marks["file"] == "bob/any-name.ipynb"].set_index("exercise")
    assert bob.index[~bob["solved"]].tolist() == ["5.1", "5.4", "5.6"]
    assert bob.loc["5.1", "message"] == "The notebook defines no length_of."
    assert bob.loc["5.4", "message"] == "Your code ends Python." and "upside down" in bob.loc["5.6", "message"]
    rest = marks[marks["exercise"].isna()].set_index("file")
    assert set(rest.index) == {"cy/endless.ipynb", "dee.ipynb"} and not rest["solved"].any()
    assert "longer than 40 s" in rest.loc["cy/endless.ipynb", "message"]
    assert "not a readable notebook" in rest.loc["dee.ipynb", "message"]


def test_an_unsolved_copy_is_marked_as_such():
    found = answers.marks(student_copy(LESSON))
    assert [row["exercise"] for row in found] == [f"5.{k}" for k in range(1, 8)]
    assert all(not row["solved"] and "raise NotImplementedError" in row["message"] for row in found)


def test_every_exercise_is_asked_for():
    assert len(answers.asked()) == sum(len(tagged(student_copy(path), "exercise")) for path in lessons())


def test_other_cells_define_and_do_not_compute():
    found = answers.defined(new_notebook(cells=[new_code_cell(DEFINED), new_code_cell("def broken(:")]))
    assert found["frontier_at"](1, 2, 3) == 0.5 and found["Own"] and found["np"] and "table" not in found


def test_a_message_quotes_the_learners_line():
    cell = new_code_cell("def value(accuracy, tokens, target, price):\n    return {}['gone']")
    notebook = new_notebook(cells=[new_markdown_cell("### Exercise 7.1 · The value"), cell])
    said = {row["exercise"]: row["message"] for row in answers.marks(notebook)}
    assert said["7.1"] == "Your code stopped with KeyError ('gone') in line 2 of its cell: `return {}['gone']`."
    assert said["7.2"] == "The notebook defines no random_candidates."


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", "not readable"),
        ('[{"lesson": 1}]', "not readable"),
        ("3", "not readable"),
        ('"ValueError: no exercise"', "no exercise"),
        (None, "status 1"),
        ('"' + "x" * marking.BYTES + '"', "too long"),
    ],
)
def test_a_result_is_not_trusted(tmp_path, written, said):
    out = tmp_path / "marks.json"
    if written is not None:
        out.write_text(written)
    (row,) = marking.told(out, "status 1")
    assert row["exercise"] == "" and row["solved"] is False and said in row["message"]


def test_only_true_is_solved(tmp_path):
    out = tmp_path / "marks.json"
    out.write_text(json.dumps([{"lesson": 1, "exercise": "1.1", "solved": "yes", "message": "a\nb" * 1000}]))
    (row,) = marking.told(out, "")
    assert row["solved"] is False and "\n" not in row["message"] and len(row["message"]) <= marking.LONGEST


def test_a_formula_in_a_file_name_is_no_formula(tmp_path):
    (tmp_path / "=cmd").mkdir()
    (tmp_path / "=cmd/a.ipynb").write_text("{")
    marking.mark_folder(tmp_path, tmp_path / "out.csv", 40)
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("'=cmd/a.ipynb,")


def test_a_folder_without_notebooks_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no notebooks"):
        marking.mark_folder(tmp_path, tmp_path / "out.csv")
    with pytest.raises(UserError, match="is no folder"):
        marking.mark_folder(tmp_path / "none", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_help_says_that_code_is_run():
    assert "RUNS THE CODE" in CliRunner().invoke(app, ["course", "check", "--help"]).output
