"""Finds what a page found, in the page's own words, to be said first."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nbformat import NotebookNode

from website.text import prose, short


def box(text: str) -> str:
    """The box in which a page says what was found; nothing for nothing. text: Markdown."""
    gap = "\n\n" if text.startswith("- ") else " "
    return f"::::{{div}} finding\n**Finding.**{gap}{text}\n::::" if text else ""


def of_notebook(book: NotebookNode, path: Path, verdict: Path) -> str:
    """The answer to a question, or what a notebook's conclusion prints; else nothing.

    path: of the executed notebook in the repository; verdict: the file in which a question's answer stands.
    """
    if "questions" in path.parts and verdict.is_file():
        return prose(json.loads(verdict.read_text(encoding="utf-8"))["answer"])
    if path.parts[0] != "reports":
        return ""
    told: list[str] | None = None
    for cell in book.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            told = [] if re.search(r"^#+ Conclusion", cell.source, re.MULTILINE) else None
        elif told is not None and cell.cell_type == "code":
            told += [output.text for output in cell.outputs if output.output_type == "stream"]
    text = re.sub(r"(?<=[^.;:,?!\n])\n+(?=[\w ]+: )", "; ", "".join(told or []))  # a list by lines
    return prose(short(" ".join(text.split())))


def of_report(text: str) -> str:
    """The first paragraph of a report, which answers in at most three sentences."""
    return re.split(r"\n\s*\n", text.strip())[1]


def report(text: str) -> str:
    """A report with its finding in the box below the title."""
    title, _, rest = text.lstrip().partition("\n")
    told = of_report(text)
    return f"{title}\n\n{box(told)}\n\n{rest.strip().removeprefix(told).strip()}\n"
