"""Reads a learner's notebook, defines what it defines, and tells each exercise's checker. It runs the learner's code.

``marking.py`` starts this module as a program, once for each notebook, in a process with a time limit. Not the whole
notebook runs: imports, functions, classes and plain values of all cells, and the cells of solutions as they are. So a
lesson's own computing takes no time.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import linecache
import re
import sys
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from acm.course import NotYet, checkers, judged
from acm.course.copies import HEADING, lessons, read_lesson

CHECK = re.compile(r'^course\.check\("([\d.]+)", (\w+)\)', re.MULTILINE)
DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
ENDS = (Exception, SystemExit)  # what a learner's line may raise


def asked() -> dict[str, str]:
    """Number of each exercise → name of the function that it asks for, from the lessons' own sources."""
    cells = [cell.source for path in lessons() for cell in read_lesson(path).cells if cell.cell_type == "code"]
    return dict(found for source in cells for found in CHECK.findall(source))


def marks(notebook: NotebookNode) -> list[dict[str, Any]]:
    """A row for each exercise of the notebook's lesson: lesson, exercise, solved, message. ValueError for no lesson."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    numbers = [number for text in texts for number, _ in HEADING.findall(text)]
    lesson = numbers[0].partition(".")[0] if numbers else ""
    names = {number: name for number, name in asked().items() if number.partition(".")[0] == lesson}
    if not names:
        raise ValueError("no exercise of the course stands in it.")
    checkers()  # before the learner's code runs
    space = defined(notebook)
    return [{"lesson": int(lesson), "exercise": n, **mark(n, space.get(name), name)} for n, name in names.items()]


def mark(number: str, answer: object, name: str) -> dict[str, Any]:
    """How right an answer is. name: of the function."""
    if answer is None:
        return {"solved": False, "message": f"The notebook defines no {name}."}
    try:
        return {"solved": True, "message": judged(number, answer)}
    except NotYet as error:
        return {"solved": False, "message": str(error)}
    except SystemExit:
        return {"solved": False, "message": "Your code ends Python."}


def defined(notebook: NotebookNode) -> dict[str, Any]:
    """The names that a notebook defines. A line that fails is left out."""
    space: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            run(cell.source, f"cell {number}", "solution" in cell.metadata.get("tags", []), space)
    return space


def run(source: str, name: str, whole: bool, space: dict[str, Any]) -> None:
    """Run a cell's statements one by one. whole: all of them, else those that only define something."""
    with contextlib.suppress(SyntaxError):
        code = TransformerManager().transform_cell(source)
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)  # messages quote lines of it
        for node in ast.parse(code).body:
            if whole or isinstance(node, DEFINES) or plain(node):
                with contextlib.suppress(*ENDS):
                    exec(compile(ast.Module([node], []), name, "exec"), space)


def plain(node: ast.stmt) -> bool:
    """Whether a statement gives a name a value that is written out, such as ``seed = 0``."""
    with contextlib.suppress(ValueError):
        if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            ast.literal_eval(node.value)
            return True
    return False


def main(path: str, out: str) -> None:
    """Write the marks of a notebook as JSON, or what is wrong with it."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            told: object = marks(read_lesson(Path(path)))
    except ENDS as error:
        told = f"{type(error).__name__}: {error}"
    Path(out).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
