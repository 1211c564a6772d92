"""The course: its lessons run, solved and unsolved, and its form is as agreed."""

import re

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from acm.course import checkers
from acm.course.copies import (
    COURSE,
    HEADING,
    build,
    fingerprint,
    in_use,
    lessons,
    solution_copy,
    student_copy,
    tagged,
    text_of,
)
from acm.errors import UserError
from acm.paths import ROOT

SOURCES = lessons()
EACH = pytest.mark.parametrize("path", SOURCES, ids=[p.stem for p in SOURCES])
WIDGET = "application/vnd.jupyter.widget-view+json"
LEVELS = r"Difficulty [●○]{5} · importance [●○]{5} · (\d+) minutes"


def tags(cell):
    return cell.metadata.get("tags", [])


def with_solutions(path):
    """A student copy, and after its end the solutions with their checks, and the progress again."""
    notebook, lesson = student_copy(path), nbformat.read(path, 4)
    (progress,) = tagged(notebook, "progress")
    solved = [
        new_code_cell(cell.source, metadata={"tags": ["solved"] if "check" in tags(cell) else []})
        for cell in lesson.cells
        if {"solution", "check"} & set(tags(cell))
    ]
    again = new_code_cell(progress.source, metadata={"tags": ["progress"]})
    return new_notebook(cells=[*notebook.cells, *solved, again], metadata=notebook.metadata)


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all lessons, as it imports torch once; each lesson begins without names."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(ROOT))
    yield manager
    manager.shutdown_kernel(now=True)


def said(cell):
    """What a cell printed."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.pipeline
@EACH
def test_a_lesson_runs_to_its_end_unsolved_and_then_its_solutions_are_accepted(path, kernel):
    notebook = with_solutions(path)
    notebook.cells.insert(0, new_code_cell("%reset -f"))
    NotebookClient(notebook, km=kernel).execute()  # raises for a cell that fails
    first, last = (said(cell) for cell in tagged(notebook, "progress"))
    asked = [HEADING.search(cell.source)[1] for cell in tagged(notebook, "exercise")]
    assert first.startswith(f"0 of {len(asked)} exercises of lesson {path.name[0]} solved. Still open: {asked[0]}, ")
    assert last == f"{len(asked)} of {len(asked)} exercises of lesson {path.name[0]} solved. All of them: well done.\n"
    for number, waiting, solved in zip(asked, tagged(notebook, "check"), tagged(notebook, "solved"), strict=True):
        assert said(waiting).startswith(f"○ Exercise {number} waits for you. Its cell still holds `raise Not")
        assert said(solved).startswith(f"✓ Exercise {number}: ") and said(solved).count("\n") == 1
    live = [o.data for c in notebook.cells if c.get("id", "").startswith("live") for o in c.get("outputs", [])]
    assert live and all(WIDGET in data for data in live)
    assert all("image/png" in data or "playground.Playground" in data["text/plain"] for data in live)


@EACH
def test_student_copies_are_current(path):
    copy = COURSE / path.name
    assert copy.is_file() and copy.read_text(encoding="utf-8") == text_of(student_copy(path)), (
        "run `python -m acm course --overwrite`"
    )


def test_every_student_copy_has_a_lesson():
    assert [p.name for p in sorted(COURSE.glob("*.ipynb"))] == [p.name for p in SOURCES]


@EACH
def test_a_lesson_begins_and_ends_as_agreed(path):
    cells = nbformat.read(path, 4).cells
    first = cells[0].source
    assert re.match(rf"# Lesson {path.name[0]} · .+\n", first)
    assert re.search("^(After|In) this lesson you ", first, re.MULTILINE) and "**Before it:**" in first
    assert 3 <= len(re.findall(r"^- ", first, re.MULTILINE)) <= 5
    stated = int(re.search(r"\*\*Minutes:\*\* (\d+)", first)[1])
    exercised = sum(int(re.search(LEVELS, c.source)[1]) for c in cells if "exercise" in tags(c))
    assert 45 <= stated <= 60 and stated - exercised >= 5, "what the exercises leave is for reading"
    last = [c.source for c in cells if c.cell_type == "markdown"][-1]
    assert "## Summary" in last or any("## Summary" in c.source for c in cells[-4:])
    assert "## Challenge" in last and "assert " in cells[-1].source


@EACH
def test_an_exercise_has_its_three_cells(path):
    notebook = nbformat.read(path, 4)
    found = tagged(notebook, "exercise")
    assert 4 <= len(found) <= 8
    assert [HEADING.search(c.source)[1] for c in found] == [f"{path.name[0]}.{k}" for k in range(1, len(found) + 1)]
    for cell in found:
        number, lines = HEADING.search(cell.source)[1], cell.source.split("\n")
        assert cell.cell_type == "markdown" and HEADING.fullmatch(lines[0]) and re.fullmatch(LEVELS, lines[2])
        assert all(re.fullmatch("●+○*", dots) for dots in re.findall("[●○]{5}", lines[2]))
        first, second = re.findall(r"<details><summary>.+?</summary>\n\n(.+?)\n\n</details>", cell.source, re.DOTALL)
        assert first != second and re.findall("<summary>(.+?)</summary>", cell.source) == ["Hint", "Second hint"]
        solution, checked = notebook.cells[notebook.cells.index(cell) + 1 :][:2]
        assert tags(solution) == ["solution"] and tags(checked) == ["check"]
        name = re.match(r"def (\w+)\(", solution.source)[1]
        assert '    """' in solution.source and checked.source == f'course.check("{number}", {name})'
    assert len(tagged(notebook, "solution")) == len(tagged(notebook, "check")) == len(found)


@EACH
def test_no_cell_but_the_check_calls_a_students_function(path):
    notebook = nbformat.read(path, 4)
    for name in (re.match(r"def (\w+)", c.source)[1] for c in tagged(notebook, "solution")):
        others = [
            c.source for c in notebook.cells if c.cell_type == "code" and not {"solution", "check"} & set(tags(c))
        ]
        assert not any(re.search(rf"(?<![\w.]){name}\(", source) for source in others), name


@pytest.mark.parametrize("lesson", sorted({p.name[0] for p in SOURCES}))
def test_exercises_and_checkers_are_the_same(lesson):
    (path,) = [p for p in SOURCES if p.name[0] == lesson]
    asked = {HEADING.search(c.source)[1] for c in tagged(nbformat.read(path, 4), "exercise")}
    assert asked == {number for number in checkers() if number.split(".")[0] == lesson}


SOLUTION = 'def double(x):\n    """2 x."""\n    # BEGIN SOLUTION\n    y = x\n\n    return x + y\n    # END SOLUTION'


def course(folder, solution=SOLUTION, tag=("solution",)):
    """A course of one lesson with one exercise."""
    cells = [
        new_markdown_cell("# Lesson"),
        new_markdown_cell("### Exercise 9.1 · Double", metadata={"tags": ["exercise"]}),
        new_code_cell(solution, metadata={"tags": list(tag)}),
        new_code_cell("assert True"),
    ]
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "9-test.ipynb").write_text(nbformat.writes(new_notebook(cells=cells)))
    return folder


def test_a_student_copy_keeps_signature_and_docstring_and_says_what_to_write(tmp_path):
    source = course(tmp_path) / "source" / "9-test.ipynb"
    (student,) = tagged(student_copy(source), "solution")
    assert student.source == 'def double(x):\n    """2 x."""\n    raise NotImplementedError("Exercise 9.1")'
    (solution,) = tagged(solution_copy(source), "solution")
    assert solution.source == 'def double(x):\n    """2 x."""\n    y = x\n\n    return x + y'
    space = {}
    exec(solution.source, space)
    assert space["double"](4) == 8


@pytest.mark.parametrize(
    ("solution", "tag", "said"),
    [
        (SOLUTION.replace("# END", "# FIN"), ["solution"], "exercise 9.1: a solution needs one pair"),
        ("def double(x):\n    return 2 * x", ["solution"], "exercise 9.1: a solution needs one pair"),
        (f"{SOLUTION}\n{SOLUTION}", ["solution"], "exercise 9.1: a solution needs one pair"),
        (SOLUTION, [], "after exercise 9.1: a cell with # BEGIN SOLUTION needs the tag"),
    ],
)
def test_a_broken_solution_is_refused_and_nothing_written(tmp_path, solution, tag, said):
    folder = course(tmp_path / "course", solution, tag)
    with pytest.raises(UserError, match=said):
        build(folder, tmp_path / "solutions")
    assert not list(folder.glob("*.ipynb")) and not (tmp_path / "solutions").exists()


def test_building_is_repeatable_and_keeps_what_a_learner_wrote(tmp_path):
    folder, solutions = course(tmp_path / "course"), tmp_path / "solutions"
    copy = folder / "9-test.ipynb"
    assert f"written  {copy}" in build(folder, solutions)
    first = copy.read_bytes()
    assert f"written  {copy}" in build(folder, solutions) and copy.read_bytes() == first and not in_use(copy)

    notebook = nbformat.read(copy, 4)
    notebook.cells[2].source = "def double(x):\n    return 2 * x"
    copy.write_text(text_of(notebook))
    said = build(folder, solutions)
    assert f"kept     {copy}: someone has worked in it" in said and "2 * x" in copy.read_text()
    assert f"written  {copy}" in build(folder, solutions, overwrite=True) and copy.read_bytes() == first

    notebook = nbformat.read(copy, 4)
    notebook.cells[3].execution_count = 1
    copy.write_text(text_of(notebook))
    assert "kept" in build(folder, solutions), "a cell that ran is work too"


def test_a_changed_lesson_renews_an_untouched_copy(tmp_path):
    folder = course(tmp_path / "course")
    build(folder, tmp_path / "solutions")
    source, copy = folder / "source" / "9-test.ipynb", folder / "9-test.ipynb"
    source.write_text(source.read_text().replace("# Lesson", "# Another lesson"))
    build(folder, tmp_path / "solutions")
    assert "# Another lesson" in copy.read_text() and nbformat.read(copy, 4).metadata.student_copy == fingerprint(
        student_copy(source)
    )


def test_what_is_no_notebook_is_named(tmp_path):
    folder = course(tmp_path / "course")
    (folder / "source" / "9-test.ipynb").write_text("{")
    with pytest.raises(UserError, match=r"9-test\.ipynb is not a readable notebook"):
        build(folder, tmp_path / "solutions")
    with pytest.raises(UserError, match="holds no lessons"):
        build(tmp_path, tmp_path / "solutions")
