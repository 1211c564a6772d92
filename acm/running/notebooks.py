"""Runs a notebook through papermill. First it refuses parameters that the notebook lacks, or of the wrong type."""

from __future__ import annotations

import ast
import logging
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from acm.errors import UserError, shown, unknown

LINK = re.compile(r"(\]\()([^)\s:#/][^)\s:#]*)")  # a relative link, up to its anchor


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """UserError for an unknown name, and for a value of another type than the default. papermill itself only warns."""
    if not notebook.is_file():
        raise UserError(f"notebook {notebook} does not exist.")
    logging.getLogger("papermill.inspection").setLevel(logging.ERROR)
    known = papermill.inspect_notebook(str(notebook))
    for name, value in parameters.items():
        if name not in known:
            raise unknown(f"parameter of {notebook}", name, known)
        default = ast.literal_eval(known[name]["default"])
        wanted = (int, float) if isinstance(default, float) else type(default)
        if default is not None and (
            not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise UserError(
                f"parameter {name} of {notebook} must be of type {type(default).__name__} (default {default!r}), "
                f"not {value!r}."
            )


def run_notebook(notebook: Path, output: Path, parameters: dict[str, Any], root: Path | None = None) -> Path:
    """Execute a notebook into ``output``, from the folder ``root``. The copy appears once every cell has run.

    A failed run leaves its partly executed copy as ``<output>.failed.ipynb`` and raises UserError, which names the
    failing cell.
    """
    check_parameters(notebook, parameters)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook), str(failed), parameters=parameters, kernel_name="python3", cwd=root, progress_bar=False,
            log_output=True,
        )  # fmt: skip
    except DeadKernelError:
        raise UserError(
            f"{notebook}: its kernel died, most often for want of memory. The copy so far is {failed}."
        ) from None
    except PapermillExecutionError as error:
        raise UserError(
            f"{notebook}, cell {error.cell_index + 1} failed with {error.ename}: {shown(error.evalue)} "
            f"(the partly executed copy is {failed}); mend the cause and run the same command again."
        ) from None
    book = nbformat.read(failed, as_version=4)
    relink(book, notebook.parent, output.parent)
    nbformat.write(book, failed)
    failed.rename(output)
    return output


def relink(book: nbformat.NotebookNode, old: Path, new: Path) -> None:
    """Make the relative links of a notebook that moves from folder ``old`` to ``new`` lead where they led."""

    def moved(match: re.Match[str]) -> str:
        place = (old / match[2]).resolve()
        return match[1] + Path(os.path.relpath(place, new.resolve())).as_posix() if place.exists() else match[0]

    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(moved, cell.source)
