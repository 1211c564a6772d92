"""Turns notebooks into pages: the finding first, outputs of known kinds alone, saved figures as SVG."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from website import findings
from website.executed import SHOWN, WIDGET, best
from website.navigation import LIVE_LINK

if TYPE_CHECKING:
    from website.stage import Stage

FIRST = "reports/tiny/long-to-short"  # the folder whose executed copies are shown for the pipeline's notebooks
THUMBS = "website/thumbs"  # on the site: pictures of notebooks whose pictures are no files
TRIED = ("explore", "course")  # folders of notebooks with something to move
MOVES = f"""{{.provenance}}
This control moves in JupyterLab (`make lab`). In this browser, the [live page]({LIVE_LINK}) merges two models."""


@dataclass(frozen=True)
class Books:
    """The notebooks of a stage."""

    stage: Stage

    def page(self, path: Path) -> NotebookNode:
        """A notebook as a page. path: within the repository."""
        book = self.read(path)
        book.metadata = {"kernelspec": book.metadata.get("kernelspec", {"name": "python3", "display_name": "Python 3"})}
        cells, heading = [], ""
        for number, cell in enumerate(book.cells):
            if cell.cell_type == "markdown":
                source = self.stage.markdown(cell.source, path)
                heading = next((line.lstrip("# ") for line in source.splitlines() if line.startswith("#")), heading)
                cell.source = source if number else self.opening(source, path)
                cells.append(cell)
            elif cell.cell_type == "code":
                cells += self.code(cell, path, heading)
        book.cells = cells
        return book

    def read(self, path: Path) -> NotebookNode:
        """A notebook, with outputs where it or its executed copy has some."""
        return nbformat.read(best(self.stage.root, path), as_version=4)

    def opening(self, source: str, path: Path) -> str:
        """The first cell: title, finding, introduction, and where the notebook comes from."""
        title, _, rest = source.partition("\n")
        parts = [title + part_of(path), findings.box(self.finding(path)), rest.strip(), self.provenance(path)]
        return "\n\n".join(filter(None, parts))

    def finding(self, path: Path) -> str:
        """What an executed notebook found: the answer to its question, or what its conclusion prints; else nothing."""
        return findings.of_notebook(self.read(path), path, (self.stage.root / path).with_name("verdict.json"))

    def code(self, cell: NotebookNode, path: Path, heading: str) -> list[NotebookNode]:
        """A code cell. Pictures that were also saved as SVG give way to the SVG with its caption, after the cell.

        What the cell says above a picture goes with it. Widgets give way to a line.
        """
        waiting = {"check", "progress"} & set(cell.metadata.get("tags", []))  # an exercise waits for its reader
        kept = [] if waiting else cell.outputs
        widgets = [o for o in kept if WIDGET in o.get("data", {})]
        outputs = [o for o in kept if o.output_type in ("stream", "error") or set(o.get("data", {})) & set(SHOWN)]
        outputs = [o for o in outputs if o not in widgets]
        pictures = [o for o in outputs if "image/png" in o.get("data", {})]
        saved = self.stage.figures.saved_by(path, cell.source, pictures)
        for output in (o for o in outputs if "data" in o):
            output.data = {kind: output.data[kind] for kind in SHOWN if kind in output.data}
            output.metadata = {}
        after = [MOVES] if widgets and path.parent.name in TRIED else []
        if pictures and len(saved) == len(pictures):
            moved = [o for o in outputs if o in pictures or "text/markdown" in o.get("data", {})]
            outputs = [o for o in outputs if o not in moved]
            paths = iter(saved)
            after += [
                self.stage.figures.block(next(paths)) if o in pictures else o.data["text/markdown"] for o in moved
            ]
        cell.outputs, cell.metadata = outputs, {"mystnb": {"image": {"alt": f"figure: {heading}"}}}
        return [cell, *map(new_markdown_cell, after)]

    def provenance(self, path: Path) -> str:
        """The line on where a notebook comes from; of an explorer, also its picture."""
        origin = self.stage.source_of(path)
        ran = any(c.get("outputs") for c in self.read(path).cells)
        state = (
            f"Executed copy of `{origin}`"
            if path != origin
            else f"`{origin}`, as executed"
            if ran
            else f"`{origin}`, shown without outputs"
        )
        bare = ran and not any(c.get("outputs") for c in nbformat.read(self.stage.root / path, 4).cells)
        label = "download (without outputs; needs the repository)" if bare else "download"
        parts = [state, f"{{download}}`{label} </{self.stage.copy(path)}>`"]
        if path.parent.name in TRIED:
            parts.append(f"[merge two models in this browser]({LIVE_LINK})")
        line = f"{{.provenance}}\n{' · '.join(parts)}"
        shot = self.screenshot(path)
        if shot is None:
            return line
        alt = f"the explorer {path.stem} with its controls and pictures, in JupyterLab"
        return f"{line}\n\n![{alt}]({self.stage.address(shot)})"

    def screenshot(self, path: Path) -> Path | None:
        """The picture of an explorer in JupyterLab."""
        shot = Path("website", "explorers", f"{path.stem}.webp")
        return shot if path.parent.name == "explore" and (self.stage.root / shot).is_file() else None

    def thumbnail(self, path: Path) -> str:
        """Where the site has a small picture of a page: an explorer's, a notebook's first figure; else nothing."""
        if path.suffix != ".ipynb":
            return ""
        if shot := self.screenshot(path):
            return self.stage.address(shot)
        for cell in (cell for cell in self.read(path).cells if cell.cell_type == "code"):
            pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            if saved := self.stage.figures.saved_by(path, cell.source, pictures) if pictures else []:
                return self.stage.address(saved[0])
            if pictures:
                return self.extracted(path, pictures[0].data["image/png"])
        return ""

    def extracted(self, path: Path, picture: str) -> str:
        """A picture of a notebook as a file of its own. picture: PNG in base64."""
        place = Path(THUMBS) / path.with_suffix(".png")
        (self.stage.out / place).parent.mkdir(parents=True, exist_ok=True)
        (self.stage.out / place).write_bytes(base64.b64decode(picture))
        return f"/{place}"


def part_of(path: Path) -> str:
    """What a title needs to tell a further experiment's executed copies from those of the first."""
    return f" ({path.parts[2]})" if "notebooks" in path.parts[1:] and not path.is_relative_to(FIRST) else ""
