"""Makes two copies of each lesson in ``notebooks/course/source``: one for students, one with the solutions.

A lesson marks its cells by tags: ``exercise`` (markdown), ``solution`` (code) and ``check`` (code). In a solution, the
learner writes the lines between ``# BEGIN SOLUTION`` and ``# END SOLUTION``. A student copy has each solution folded
below its check; teachers can leave them out. A student copy records a hash of itself. The hash shows whether someone
has worked in the copy; if so, the copy is kept as it is unless overwriting is asked for.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from acm.course.frame import folded, frame, neighbours, open_in, repository, title_of
from acm.errors import UserError
from acm.files import write_text
from acm.paths import ROOT, RUNS

COURSE = ROOT / "notebooks" / "course"
EXPLORERS = ROOT / "notebooks" / "explore"
SOLUTIONS = RUNS / "course" / "solutions"
HEADING = re.compile(r"^### Exercise (\d+\.\d+) · (.+)$", re.MULTILINE)
MARKED = re.compile(r"^([ \t]*)# BEGIN SOLUTION\n(.*?\n)?[ \t]*# END SOLUTION$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"^[ \t]*# (BEGIN|END) SOLUTION\n?", re.MULTILINE)


def lessons(course: Path = COURSE) -> list[Path]:
    """The source notebooks, in order."""
    return sorted((course / "source").glob("*.ipynb"))


def read_lesson(path: Path) -> NotebookNode:
    """A notebook; UserError if it is not readable as one."""
    try:
        return nbformat.read(path, 4)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise UserError(f"{path} is not a readable notebook ({type(error).__name__}); restore it.") from None


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The cells with a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def student_copy(source: Path, solutions: bool = True, home: str | None = None) -> NotebookNode:
    """The lesson with each solution replaced by ``raise NotImplementedError("Exercise 1.2")``.

    solutions: whether each solution stands folded below its check. home: as of :func:`framed`. Raises UserError, which
    names the exercise, for a solution without its two marks, or with other marks than these.
    """
    notebook = read_lesson(source)
    number, answer, cells = "", "", []
    for cell in notebook.cells:
        cells.append(cell)
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags and (found := HEADING.search(cell.source)):
            number = found[1]
        if "solution" in tags:
            answer, cell.source = without_marks(cell.source), emptied(cell.source, f"{source}, exercise {number}")
        elif MARKER.search(cell.source):
            told = "a cell with # BEGIN SOLUTION needs the tag `solution`."
            raise UserError(f"{source}, after exercise {number}: {told}")
        elif cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../", "](")  # the copy lies one folder higher
        if "check" in tags and solutions:
            cells.append(folded(number, answer))
    notebook.cells = cells
    framed(notebook, source, "student", home)
    notebook.metadata["student_copy"] = fingerprint(notebook)
    return notebook


def emptied(code: str, place: str) -> str:
    """A solution with ``raise NotImplementedError`` between its marks. place: named by a UserError."""
    number = place.rpartition(" ")[2]
    text, count = MARKED.subn(rf'\1raise NotImplementedError("Exercise {number}")', code)
    if count != 1 or MARKER.search(text):
        raise UserError(f"{place}: a solution needs one pair of # BEGIN SOLUTION and # END SOLUTION, each on a line.")
    return text


def without_marks(code: str) -> str:
    """A solution as one would write it."""
    return MARKER.sub("", code).rstrip("\n")


def solution_copy(source: Path, home: str | None = None) -> NotebookNode:
    """The lesson with its solutions, without the marks. home: as of :func:`framed`."""
    notebook = read_lesson(source)
    for cell in tagged(notebook, "solution"):
        cell.source = without_marks(cell.source)
    framed(notebook, source, "solution", home)
    return notebook


def framed(notebook: NotebookNode, source: Path, kind: str, home: str | None) -> None:
    """Give a copy what stands around a lesson: see :mod:`acm.course.frame`.

    home: OWNER/NAME of the public repository; None: as CITATION.cff says.
    """
    every = sorted(source.parent.glob("*.ipynb"))
    place = every.index(source)
    before, after = (
        (every[k].name, title_of(read_lesson(every[k]))) if 0 <= k < len(every) else None
        for k in (place - 1, place + 1)
    )
    home = repository() if home is None else home
    frame(notebook, neighbours(before, after), source.name, kind, home)


def fingerprint(notebook: NotebookNode) -> str:
    """Hash of what all cells say."""
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()[:16]


def in_use(path: Path) -> bool:
    """Whether someone has worked in this student copy: edited a cell, or run one."""
    if not path.is_file():
        return False
    notebook = read_lesson(path)
    ran = any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    return ran or notebook.metadata.get("student_copy") != fingerprint(notebook)


def text_of(notebook: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(notebook) + "\n"


def badge_explorers(folder: Path = EXPLORERS, home: str | None = None) -> None:
    """Give the explorers' notebooks badges and a cell for Colab, or take them away. home: as of :func:`framed`."""
    home = repository() if home is None else home
    for path in sorted(folder.glob("*.ipynb")):
        notebook, stored = read_lesson(path), read_lesson(path)
        open_in(notebook, f"notebooks/explore/{path.name}", home)
        if notebook != stored:
            write_text(path, text_of(notebook))


def build(
    course: Path = COURSE, solutions: Path = SOLUTIONS, overwrite: bool = False, folded_solutions: bool = True
) -> str:
    """Write the student copies into ``course`` and the solution copies into ``solutions``; returns a line on each.

    overwrite: replace student copies that hold someone's work too; else they stay as they are. folded_solutions: put
    each solution below its check, to be opened. Raises UserError for a broken lesson, before anything is written.
    """
    made = {path: (student_copy(path, folded_solutions), solution_copy(path)) for path in lessons(course)}
    if not made:
        raise UserError(f"{course / 'source'} holds no lessons; restore it.")
    kept = {path.name for path in made if not overwrite and in_use(course / path.name)}
    said = []
    for path, (student, solution) in made.items():
        write_text(solutions / path.name, text_of(solution))
        if path.name in kept:
            said.append(f"kept     {course / path.name}: someone has worked in it (--overwrite starts it anew)")
        else:
            write_text(course / path.name, text_of(student))
            said.append(f"written  {course / path.name}")
    return "\n".join([*said, f"solutions: {solutions}"])
