"""What stands around a lesson: links, badges where there is a repository, folded solutions, progress."""

import re

import nbformat
import numpy as np
import pytest

from acm.course import SOLVED, check, frame, progress
from acm.course.copies import (
    COURSE,
    EXPLORERS,
    HEADING,
    badge_explorers,
    build,
    lessons,
    read_lesson,
    solution_copy,
    student_copy,
    tagged,
)
from acm.errors import UserError
from acm.paths import ROOT

SOURCES = lessons()
HOME = "someone/acm-companion"


def markdown(notebook, tag):
    return [cell.source for cell in tagged(notebook, tag)]


def test_lessons_lead_to_their_neighbours():
    for place, path in enumerate(SOURCES):
        top, end = markdown(student_copy(path, home=""), "navigation")
        wanted = [p.name for p in (SOURCES[place - 1 : place] if place else []) + SOURCES[place + 1 : place + 2]]
        assert top == end and re.findall(r"\]\((.+?)\)", top) == wanted
        assert all((COURSE / name).is_file() for name in wanted)
    first = markdown(student_copy(SOURCES[0], home=""), "navigation")[0]
    assert first == "[Lesson 2 · Interference: trimming, signs, dropping →](2-interference.ipynb)"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_without_a_repository_there_are_no_badges_and_with_one_there_are(path):
    for made, place in ((student_copy, "notebooks/course"), (solution_copy, "notebooks/course/source")):
        bare, home = made(path, home=""), made(path, home=HOME)
        assert "colab" not in nbformat.writes(bare) and "mybinder" not in nbformat.writes(bare)
        top = home.cells[1].source
        assert f"https://colab.research.google.com/github/{HOME}/blob/main/{place}/{path.name}" in top
        assert f"https://mybinder.org/v2/gh/{HOME}/main?urlpath=lab/tree/{place}/{path.name}" in top
        assert (ROOT / place / path.name).is_file(), "what a badge opens is in the repository"
        (setup,) = tagged(home, "setup")
        compile(setup.source, "setup", "exec")
        assert f'"https://github.com/{HOME}"' in setup.source and "[course]" in setup.source
        nbformat.validate(home)


def test_explorers_get_badges_with_a_repository_and_lose_them_without_one(tmp_path):
    stored = {path.name: path.read_bytes() for path in EXPLORERS.glob("*.ipynb")}
    for name, text in stored.items():
        (tmp_path / name).write_bytes(text)
    badge_explorers(tmp_path, "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == stored, "none is named, so nothing changes"
    badge_explorers(tmp_path, HOME)
    for path in tmp_path.iterdir():
        title, badges, setup, *_ = read_lesson(path).cells
        assert title.source.startswith("# ") and f"/{HOME}/blob/main/notebooks/explore/{path.name}" in badges.source
        assert "[evaluate,notebooks]" in setup.source
        nbformat.validate(read_lesson(path))
    once = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    badge_explorers(tmp_path, HOME)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == once
    badge_explorers(tmp_path, "")
    assert all(read_lesson(path) == read_lesson(EXPLORERS / path.name) for path in tmp_path.iterdir())


def test_the_setup_does_nothing_outside_of_colab(monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it installed"))
    (setup,) = tagged(student_copy(SOURCES[0], home=HOME), "setup")
    exec(setup.source, {})


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ("repository-code: https://github.com/someone/acm-companion", HOME),
        ("repository-code: https://github.com/someone/acm-companion.git", HOME),
        ("repository-code: https://github.com/someone/acm-companion/", HOME),
        ("repository-code: https://example.org/someone/acm-companion", ""),
        ("repository-code: 'https://github.com/a/b\"); import os'", ""),
        ("title: nothing", ""),
    ],
)
def test_the_repository_is_the_citations(tmp_path, line, home):
    (tmp_path / "CITATION.cff").write_text(line)
    assert frame.repository(tmp_path / "CITATION.cff") == home
    assert frame.repository(tmp_path / "none.cff") == ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_solution_is_folded_below_its_check_and_can_be_left_out(path):
    student, solved = student_copy(path), solution_copy(path)
    folded = tagged(student, "answer")
    for exercise, cell, solution in zip(tagged(student, "exercise"), folded, tagged(solved, "solution"), strict=True):
        number = HEADING.search(exercise.source)[1]
        shown = f"<details><summary>Solution of {number}</summary>\n\n```python\n{solution.source}\n```\n\n</details>"
        assert cell.source == shown
        before = student.cells[student.cells.index(cell) - 1]
        assert before.metadata["tags"] == ["check"] and number in before.source
    bare = student_copy(path, solutions=False)
    assert not tagged(bare, "answer") and "Solution of" not in nbformat.writes(bare)
    assert len(bare.cells) == len(student.cells) - len(folded)
    assert len({cell.id for cell in student.cells}) == len(student.cells)


def test_a_class_gets_copies_without_solutions(tmp_path):
    course = tmp_path / "course"
    (course / "source").mkdir(parents=True)
    for path in SOURCES[:2]:
        (course / "source" / path.name).write_bytes(path.read_bytes())
    build(course, tmp_path / "solutions", folded_solutions=False)
    assert "Solution of" not in (course / SOURCES[0].name).read_text(encoding="utf-8")
    build(course, tmp_path / "solutions")
    assert "Solution of" in (course / SOURCES[0].name).read_text(encoding="utf-8"), "an untouched copy is renewed"


def test_progress_counts_the_checks_of_this_session(capsys):
    def value(accuracy, tokens, target, price):
        return accuracy - price * np.maximum(0, tokens - target)

    SOLVED.clear()
    for answer in (value, None):
        progress(7)
        check("7.1", answer)
        progress(7)
    lines = [line for line in capsys.readouterr().out.splitlines() if "exercises" in line]
    assert [line[:6] for line in lines] == ["0 of 6", "1 of 6", "1 of 6", "0 of 6"], "what is broken again is open"
    assert lines[1] == "1 of 6 exercises of lesson 7 solved. Still open: 7.2, 7.3, 7.4, 7.5, 7.6."
    with pytest.raises(UserError, match="unknown lesson '70'"):
        progress(70)
