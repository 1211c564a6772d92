"""What stands around a lesson's own cells in its copies: badges, links to its neighbours, solutions, progress.

Explorers get the badges alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from acm.paths import ROOT

CITATION = ROOT / "CITATION.cff"
PLACES = {"student": "notebooks/course", "solution": "notebooks/course/source"}  # in the repository; source is solved
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
BRANCH = "main"
COLAB = """# In Colab: fetches the repository and installs what this notebook imports, in minutes. Elsewhere: nothing.
import sys

if "google.colab" in sys.modules:
    import pathlib
    import subprocess

    place = pathlib.Path("/content/acm-companion")
    if not place.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{address}", place], check=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", f"{{place}}[{extras}]"], check=True)
    sys.path.insert(0, str(place))"""


def repository(citation: Path = CITATION) -> str:
    """OWNER/NAME on GitHub, as ``repository-code`` of CITATION.cff names it; empty while it names none."""
    cited = yaml.safe_load(citation.read_text(encoding="utf-8")) if citation.is_file() else {}
    found = GITHUB.fullmatch(str(cited.get("repository-code", "")))
    return found[1] if found else ""


def badges(home: str, path: str) -> str:
    """Links that open a notebook of the repository in Colab and in Binder; empty without a repository.

    home: OWNER/NAME on GitHub. path: of the notebook in the repository.
    """
    if not home:
        return ""
    colab = f"https://colab.research.google.com/github/{home}/blob/{BRANCH}/{path}"
    binder = f"https://mybinder.org/v2/gh/{home}/{BRANCH}?urlpath=lab/tree/{path}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def title_of(notebook: NotebookNode) -> str:
    """The title of a lesson, such as ``Lesson 1 · Task vectors``."""
    return str(notebook.cells[0].source.partition("\n")[0].lstrip("# ")) if notebook.cells else ""


def neighbours(before: tuple[str, str] | None, after: tuple[str, str] | None) -> str:
    """A line of links to the lessons before and after, each a file name and a title; None where there is none."""
    parts = [f"[← {before[1]}]({before[0]})"] if before else []
    return " &nbsp;|&nbsp; ".join(parts + ([f"[{after[1]} →]({after[0]})"] if after else []))


def folded(number: str, code: str) -> NotebookNode:
    """A cell with the solution of an exercise, to be opened. code: without its marks."""
    text = f"<details><summary>Solution of {number}</summary>\n\n```python\n{code}\n```\n\n</details>"
    return cell(new_markdown_cell(text), f"answer-{number.replace('.', '-')}", "answer")


def cell(made: NotebookNode, name: str, tag: str) -> NotebookNode:
    """A made cell with an id that is the same each time, and a tag."""
    made.id, made.metadata["tags"] = name, [tag]
    return made


def setup(home: str, extras: str) -> list[NotebookNode]:
    """The cell that installs what a notebook imports, if it runs in Colab; none without a repository.

    home: OWNER/NAME on GitHub. extras: of the package.
    """
    code = COLAB.format(address=f"https://github.com/{home}", extras=extras)
    return [cell(new_code_cell(code), "colab", "setup")] if home else []


def open_in(notebook: NotebookNode, path: str, home: str) -> None:
    """Put badges and the cell for Colab below the title of an explorer, or take them away without a repository.

    path: of the notebook in the repository. home: OWNER/NAME on GitHub, or nothing.
    """
    own = [c for c in notebook.cells if c.id not in ("badges", "colab")]
    shown = [cell(new_markdown_cell(badges(home, path)), "badges", "navigation")] if home else []
    notebook.cells = [*own[:1], *shown, *setup(home, "evaluate,notebooks"), *own[1:]]


def frame(notebook: NotebookNode, links: str, name: str, kind: str, home: str) -> None:
    """Put badges and links below the title, progress before the last cell, the lesson's own assertions, and links last.

    name: of the notebook's file. kind: ``student`` or ``solution``. home: OWNER/NAME on GitHub, or nothing.
    """
    top = "\n\n".join(filter(None, (badges(home, f"{PLACES[kind]}/{name}"), links)))
    start = [cell(new_markdown_cell(top), "navigation", "navigation")] if top else []
    start += setup(home, "course")
    end = [cell(new_markdown_cell(links), "navigation-end", "navigation")] if links else []
    if found := re.match(r"Lesson (\d+) ·", title_of(notebook)):
        shown = f"course.progress({found[1]})  # counts what the checks above found in this session"
        end = [cell(new_code_cell(shown), "progress", "progress"), notebook.cells.pop(), *end]
    notebook.cells[1:1] = start
    notebook.cells += end
