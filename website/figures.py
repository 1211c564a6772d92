"""Puts a figure on the site: the committed SVG, its caption and alternative text, and links to what made it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

NUMBERS = "paper-numbers"  # name of the folder of the paper's own numbers, in reports/ and in figures/
QUOTED = re.compile(r'"(\w[\w.-]*)"')
SENTENCE_END = re.compile(r"(?<=[.;]) ")


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to interpret."""
    return re.sub(r"([\\`*_{}\[\]<>$|#!&:])", r"\\\1", " ".join(text.split()))


def figures_of(notebook: Path) -> Path:
    """The folder into which an executed notebook of ``reports/`` saved its figures."""
    depth = 4 if "questions" in notebook.parts else 2 if NUMBERS in notebook.parts else 3
    return Path("figures", *notebook.parts[1:depth])


@dataclass(frozen=True)
class Figures:
    """The committed figures. root: the repository; address: where the site has a file or folder of the repository."""

    root: Path
    address: Callable[[Path], str]

    def saved_by(self, notebook: Path, source: str, pictures: list[NotebookNode]) -> list[Path]:
        """The committed SVG files of the pictures that a code cell of an executed notebook shows.

        A picture names its figure in its metadata. Where none does, the names are the strings of the cell that saves.
        """
        if notebook.parts[0] != "reports":
            return []
        told = [picture.get("metadata", {}).get("figure") for picture in pictures]
        names = told if all(told) else QUOTED.findall(source) if "save" in source else []
        paths = [figures_of(notebook) / f"{name}.svg" for name in names]
        return [path for path in paths if (self.root / path).is_file()]

    def makers(self, svg: Path) -> tuple[Path | None, list[Path]]:
        """The executed notebook that drew a figure, and the data beside it."""
        folder = Path("reports", *svg.parent.parts[1:])
        if svg.parts[1] == NUMBERS:
            return folder / f"{NUMBERS}.ipynb", [folder]
        data = [path.relative_to(self.root) for path in sorted((self.root / folder).glob("*.parquet"))]
        drawn = folder / "notebooks" / "6-figures.ipynb"
        if (self.root / drawn).is_file():
            return drawn, data
        notebooks = sorted((self.root / folder).glob("*.ipynb"))
        return (notebooks[0].relative_to(self.root) if notebooks else None), data

    def block(self, svg: Path | None, alt: str = "") -> str:
        """The figure as a directive; empty if the file or its caption is missing."""
        if svg is None or not (caption := (self.root / svg).with_suffix(".json")).is_file():
            return ""
        found = json.loads(caption.read_text(encoding="utf-8"))
        text, facts = found["caption"], found["provenance"]
        notebook, data = self.makers(svg)
        links = [f"[{notebook.stem}]({self.address(notebook)})"] if notebook else []
        for path in [*data, svg, svg.with_suffix(".json")]:
            links.append(f"[{path.name if path.suffix else f'{path}/'}]({self.address(path)})")
        source = (facts.get("drawn_with") or facts).get("source", "unknown")
        first = SENTENCE_END.split(f"{alt}: {text}" if alt else text)[0]
        return "\n".join([
            f":::{{figure}} {self.address(svg)}",
            f":alt: {json.dumps(first, ensure_ascii=False)}",
            ":figclass: plot", "",
            plain(text), "",
            f"Made by and from: {' · '.join(links)}. Source hash {plain(str(source))}.",
            ":::",
        ])  # fmt: skip

    def gallery(self) -> str:
        """All committed figures, folder by folder; those of the paper's own numbers come last."""
        lines, last = [], None
        drawn = (path.relative_to(self.root) for path in (self.root / "figures").rglob("*.svg"))
        for svg in sorted(drawn, key=lambda path: (NUMBERS in path.parts, path)):
            if svg.parent != last:
                last = svg.parent
                lines += [f"## {' · '.join(last.parts[1:])}", ""]
            lines += [f"### {svg.stem.replace('_', ' ')}", "", self.block(svg), ""]
        return "\n".join(lines)
