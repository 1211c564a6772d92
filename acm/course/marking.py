"""Marks the notebooks of a class: a table of which exercises are solved, and what the checkers say.

**It runs other people's code as you.** Each notebook is read by a process of its own (``answers.py``), with a limit of
time and without the variables of your environment. Where the command ``bwrap`` is there and works, that process has no
network and may write in its own folder alone. Without it the code can do what you can do. An answer that tampers with
its checker or with the result is not found out.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from acm.errors import UserError
from acm.escaping import csv_table
from acm.files import write_text
from acm.paths import ROOT

SECONDS = 120.0
LONGEST = 500  # characters of a message that are kept
BYTES = 1 << 20  # of a process's result
COLUMNS = ["file", "lesson", "exercise", "solved", "message"]
START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from acm.course.answers import main; main(*sys.argv[1:])"


def notebooks_in(folder: Path) -> list[Path]:
    """The notebooks of a folder and of the folders in it, hidden ones left out. UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one that holds the class's notebooks.")
    paths = [path for path in folder.rglob("*.ipynb") if not hidden(path.relative_to(folder))]
    if not paths:
        raise UserError(f"{folder} holds no notebooks; give a folder with files such as ada/4-acm.ipynb.")
    return sorted(paths)


def hidden(path: Path) -> bool:
    """Whether a path or a folder on it is hidden, such as Jupyter's checkpoints."""
    return any(part.startswith(".") for part in path.parts)


def mark_folder(folder: Path, out: Path, seconds: float = SECONDS) -> str:
    """Write the table of a class as CSV, and return a line on it. It has the columns :data:`COLUMNS`.

    A notebook that cannot be marked has one row without an exercise, whose message says why. seconds: limit for each.
    Raises UserError before anything runs.
    """
    paths = notebooks_in(folder)
    rows: list[dict[str, Any]] = []
    for path in tqdm(paths, desc="marking", unit="notebook"):
        found = mark_notebook(path, seconds)
        rows += [{"file": path.relative_to(folder).as_posix(), **row} for row in found]
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_text(out, csv_table(table))
    marked = table[table["exercise"] != ""]
    broken = f" {len(table) - len(marked)} could not be marked: see its message." if len(table) > len(marked) else ""
    solved = int(marked["solved"].sum())
    return f"{len(paths)} notebooks, {solved} of {len(marked)} exercises solved: {out}.{broken}"


def mark_notebook(path: Path, seconds: float) -> list[dict[str, Any]]:
    """The rows of a notebook, by a process of its own."""
    from acm.evaluation.code_grading import Limits, bound, box, wait

    with tempfile.TemporaryDirectory(prefix="acm-course-", ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "marks.json"
        shutil.copyfile(path, Path(folder) / "notebook.ipynb")
        seen = ["--ro-bind", str(ROOT), str(ROOT)] if box() else []
        command = [*box(), *seen, *bound(folder), sys.executable, "-c", START, "notebook.ipynb", str(out)]
        with tempfile.TemporaryFile() as nothing, tempfile.TemporaryFile() as said:
            status, late = wait(command, folder, [nothing, said, said], Limits(seconds=seconds))
        return told(out, f"it took longer than {seconds:g} s." if late else f"its process ended with status {status}.")


def told(out: Path, otherwise: str) -> list[dict[str, Any]]:
    """What a process wrote, as rows. The file is the learner's as much as ours: all in it is cut and converted.

    otherwise: why there may be none.
    """
    try:
        found = json.loads(out.read_text(encoding="utf-8")) if out.stat().st_size < BYTES else "its result is too long."
        if not isinstance(found, str):
            return [row_of(row["lesson"], row["exercise"], row["solved"] is True, row["message"]) for row in found]
    except OSError:
        found = otherwise
    except (ValueError, TypeError, KeyError):
        found = "its result is not readable."
    return [row_of("", "", False, f"not marked: {found}")]


def row_of(lesson: object, exercise: object, solved: bool, message: object) -> dict[str, Any]:
    """One row of the table."""
    texts = [str(value)[:LONGEST] for value in (lesson, exercise, message)]
    return dict(zip(COLUMNS[1:], (*texts[:2], solved, " ".join(texts[2].split())), strict=True))
