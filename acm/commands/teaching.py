"""The commands for teachers: the copies of the course, and the marks of a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acm.commands.app import app, say
from acm.paths import require_clone

course = typer.Typer(invoke_without_command=True)
app.add_typer(course, name="course", epilog="Example: acm course --without-solutions")


@course.callback()
def write(
    context: typer.Context,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="start student copies anew even where someone has worked in them")
    ] = False,
    without_solutions: Annotated[
        bool, typer.Option("--without-solutions", help="leave out the solution that is folded below each exercise")
    ] = False,
) -> None:
    """Write the course's student copies into notebooks/course, and its solutions into runs/course/solutions.

    Once CITATION.cff names a repository on GitHub, lessons and explorers get badges for Colab and Binder.
    `acm course check FOLDER` marks a class's notebooks.
    """
    if context.invoked_subcommand:
        return
    require_clone("acm course")
    from acm.course.copies import badge_explorers, build

    say(build(overwrite=overwrite, folded_solutions=not without_solutions))
    badge_explorers()


@course.command(epilog="Example: acm course check submitted --out marks.csv")
def check(
    folder: Annotated[Path, typer.Argument(help="with the class's notebooks, such as FOLDER/ada/4-acm.ipynb")],
    out: Annotated[Path | None, typer.Option(help="the table (default: marks.csv in FOLDER)")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="that one notebook may take")] = 120.0,
) -> None:
    """Mark a class's notebooks: a CSV with file, lesson, exercise, solved and message.

    THIS RUNS THE CODE IN THE NOTEBOOKS, as you: use an account or a container that can lose everything.
    """
    require_clone("acm course check", writes=False)
    from acm.course.marking import mark_folder

    say(mark_folder(folder, out or folder / "marks.csv", seconds))
