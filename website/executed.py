"""Keeps what the explorers and lessons show when they run, so that the site has their outputs and runs nothing.

    python -m website.executed runs/executed

``make site-notebooks`` runs the notebooks and then this. A kept copy has the cells of its notebook, no state of
widgets, and pictures of few colours. Where a widget stood, an empty output of its kind stays.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path("website", "executed")
FOLDERS = ("notebooks/explore", "notebooks/course")
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN = ("image/png", "text/html", "text/markdown", "text/plain")  # kinds of notebook output that the site shows
COLOURS = 64


def cells_of(book: NotebookNode) -> list[tuple[str, str]]:
    """What was written into a notebook: kind and text of each cell."""
    return [(cell.cell_type, cell.source) for cell in book.cells]


def best(root: Path, path: Path) -> Path:
    """Where to read a notebook: its executed copy, if that has the same cells. path: within the repository."""
    kept = root / KEPT / path
    if not kept.is_file():
        return root / path
    same = cells_of(nbformat.read(kept, 4)) == cells_of(nbformat.read(root / path, 4))
    return kept if same else root / path


def slim(output: NotebookNode) -> NotebookNode | None:
    """An output as the site shows it; None for progress bars, warnings and unknown kinds."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type == "error":
        raise ValueError(f"a cell failed: {output.ename}: {output.evalue}")
    data = {WIDGET: {}} if WIDGET in output.data else {kind: output.data[kind] for kind in SHOWN if kind in output.data}
    if "image/png" in data:
        data["image/png"] = few_colours(data["image/png"])
    return nbformat.v4.new_output("display_data", data) if data else None


def few_colours(picture: str) -> str:
    """A PNG picture in base64, of at most COLOURS colours."""
    from PIL import Image  # not in the site's environment

    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(COLOURS)
    image.save(out := io.BytesIO(), format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def keep(ran: Path, path: Path, root: Path) -> None:
    """Write the kept copy of a notebook. ran: its executed copy; path: the notebook, within the repository."""
    book, stored = nbformat.read(ran, 4), nbformat.read(root / path, 4)
    if cells_of(book) != cells_of(stored):
        raise ValueError(f"{ran} has other cells than {path}: run it again")
    for cell in book.cells:
        cell.metadata = {name: cell.metadata[name] for name in ("tags",) if name in cell.metadata}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [slimmed for output in cell.outputs if (slimmed := slim(output))]
    book.metadata = {"kernelspec": stored.metadata.get("kernelspec", {})}
    text = nbformat.writes(book)
    if str(root) in text or str(Path.home()) + "/" in text:
        raise ValueError(f"{ran} shows a path of this machine")
    target = root / KEPT / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n", encoding="utf-8")


def main(ran: str) -> None:
    """Keep the copies of all explorers and lessons. ran: the folder of the executed ones."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.ipynb")):
            keep(Path(ran) / path.relative_to(ROOT), path.relative_to(ROOT), ROOT)
    kept = sorted((ROOT / KEPT).rglob("*.ipynb"))
    print(f"{KEPT}: {len(kept)} notebooks, {sum(path.stat().st_size for path in kept) // 1000} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
