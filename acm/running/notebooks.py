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
from jupyter_client import KernelManager
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from acm.errors import UserError, shown, unknown
from acm.files import not_a_file

KERNEL, LANGUAGE = "python3", "python"
UNBORN = "Kernel died before replying"  # how jupyter_client's error begins if a kernel dies before its first cell
LINK = re.compile(r"(\]\()([^)\s:#/][^)\s:#]*)")  # a relative link, up to its anchor


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook of any version as one of version 4. UserError for a file that is none, or of another language."""
    if not path.is_file():
        raise UserError(f"notebook {path} does not exist.")
    try:
        book = nbformat.from_dict(nbformat.read(path, as_version=4))
        cells = [(cell.cell_type, cell.source, cell.metadata) for cell in book.cells]
        kernel, about = (book.metadata.get(key, {}) for key in ("kernelspec", "language_info"))
        language = about.get("name") or kernel.get("language")
    except OSError:
        raise
    except Exception:  # whatever a file that is no notebook makes nbformat raise
        raise UserError(f"{path} is not a readable notebook; save it anew in Jupyter.") from None
    if not all(isinstance(source, str) for _, source, _ in cells):
        raise UserError(f"{path} has a cell without text; save it anew in Jupyter.")
    if language and str(language).lower() not in (LANGUAGE, "ipython"):
        raise UserError(f"{path} is written in {shown(language)}; only notebooks in Python are run.")
    return book


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """UserError for an unknown name, and for a value of another type than the default. papermill itself only warns."""
    book = read_notebook(notebook)
    logging.getLogger("papermill.inspection").setLevel(logging.ERROR)
    book.metadata["kernelspec"] = {"name": KERNEL, "language": LANGUAGE, "display_name": KERNEL}
    known = papermill.inspect_notebook(book)
    for name, value in parameters.items():
        if name not in known:
            raise unknown(f"parameter of {notebook}", name, known)
        try:
            default = ast.literal_eval(known[name]["default"])
        except (ValueError, SyntaxError):  # an expression, of whatever type
            continue
        wanted = (int, float) if isinstance(default, float) else type(default)
        if default is not None and (
            not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise UserError(
                f"parameter {name} of {notebook} must be of type {type(default).__name__} (default {default!r}), "
                f"not {value!r}."
            )


def run_notebook(
    notebook: Path, output: Path, parameters: dict[str, Any], root: Path | None = None,
    kernel: KernelManager | None = None,
) -> Path:  # fmt: skip
    """Execute a notebook into ``output``, from the folder ``root``. The copy appears once every cell has run.

    kernel: where to run it; it goes on afterwards. None: in one of its own.
    A failed run leaves its partly executed copy as ``<output>.failed.ipynb`` and raises UserError, which names the
    failing cell.
    """
    check_parameters(notebook, parameters)
    if not_a_file(output) or output.resolve() == notebook.resolve():
        what = "a folder or a device" if not_a_file(output) else "the notebook itself"
        raise UserError(f"the output {output} is {what}; name a file.")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        execute(notebook, failed, parameters, root, kernel)
    except NoSuchKernel:
        raise UserError(f"Jupyter knows no kernel {KERNEL}: `python -m ipykernel install --user` adds it.") from None
    except DeadKernelError:
        raise UserError(
            f"{notebook}: its kernel died, most often for want of memory. The copy so far is {failed}."
        ) from None
    except PapermillExecutionError as error:
        raise UserError(
            f"{notebook}, cell {error.cell_index + 1} failed with {error.ename}: {' '.join(error.evalue.split())} "
            f"(the partly executed copy is {failed}); mend the cause and run the same command again."
        ) from None
    book = nbformat.read(failed, as_version=4)
    relink(book, notebook.parent, output.parent)
    nbformat.write(book, failed)
    failed.rename(output)
    return output


def execute(
    notebook: Path, copy: Path, parameters: dict[str, Any], root: Path | None, kernel: KernelManager | None
) -> None:
    """Execute a notebook into ``copy``, whatever comes of it.

    Two kernels that start at once may choose the same port. One of the two dies before its first cell and starts anew.
    """
    for last in (False, False, True):
        try:
            papermill.execute_notebook(
                literally(notebook), literally(copy), parameters=parameters, kernel_name=KERNEL, language=LANGUAGE,
                cwd=root, progress_bar=False, log_output=True, km=kernel,
            )  # fmt: skip
            return
        except RuntimeError as error:
            if not str(error).startswith(UNBORN):
                raise
            if last:
                told = "its kernel died three times before its first cell; see why above."
                raise UserError(f"{notebook}: {told}") from None


def literally(path: Path) -> str:
    """A path as papermill takes it, which fills in what stands in braces, and stores it in the executed copy.

    A path in the working folder starts there, so that the copy says nothing of the machine.
    """
    here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return str(here).replace("{", "{{").replace("}", "}}")


def relink(book: nbformat.NotebookNode, old: Path, new: Path) -> None:
    """Make the relative links of a notebook that moves from folder ``old`` to ``new`` lead where they led."""

    def moved(match: re.Match[str]) -> str:
        place = (old / match[2]).resolve()
        return match[1] + Path(os.path.relpath(place, new.resolve())).as_posix() if place.exists() else match[0]

    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(moved, cell.source)
