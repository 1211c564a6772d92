"""Puts a figure on the site: the committed SVG, its caption and alternative text, and links to what made it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from website.text import plain

NUMBERS = "paper-numbers"  # name of the folder of the paper's own numbers, in reports/ and in figures/
QUOTED = re.compile(r'"(\w[\w.-]*)"')
SENTENCE_END = re.compile(r"(?<=[.;]) ")


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
        first = f"{alt}: {self.first(svg)}" if alt else self.first(svg)
        return "\n".join([
            f":::{{figure}} {self.address(svg)}",
            f":alt: {json.dumps(first, ensure_ascii=False)}",
            ":figclass: plot", "",
            plain(text), "",
            f"Made by and from: {' · '.join(links)}. Source hash {plain(str(source))}.",
            ":::",
        ])  # fmt: skip

    def groups(self) -> list[Group]:
        """The committed figures by profile and experiment; the paper's own numbers come last."""
        drawn = sorted(path.relative_to(self.root) for path in (self.root / "figures").rglob("*.svg"))
        places = dict.fromkeys(path.parts[1:3] if NUMBERS not in path.parts else (NUMBERS,) for path in drawn)
        order = {"tiny": 0, "smol": 1, "smol+new": 2, NUMBERS: 4}
        groups = [Group(place, [p for p in drawn if p.parts[1 : 1 + len(place)] == place], self) for place in places]
        return sorted(groups, key=lambda group: (order.get(group.place[0], 3), "long-to-short" not in group.place))

    def first(self, svg: Path) -> str:
        """The first sentence of a figure's caption."""
        caption = (self.root / svg).with_suffix(".json")
        text = json.loads(caption.read_text(encoding="utf-8"))["caption"] if caption.is_file() else svg.stem
        return SENTENCE_END.split(text)[0]

    def gallery(self, group: Group) -> str:
        """The page of a group: its figures whole, with captions and sources."""
        lines = [f"# {group.title}", ""]
        for svg in group.drawn:
            lines += [f"({label(svg)})=", f"## {name_of(svg)}", "", self.block(svg), ""]
        return "\n".join(lines)


@dataclass(frozen=True)
class Group:
    """Figures that have a page together. place: profile and experiment; drawn: the SVG files."""

    place: tuple[str, ...]
    drawn: list[Path]
    figures: Figures

    @property
    def title(self) -> str:
        """What the group is called."""
        return "The paper's own numbers" if self.place == (NUMBERS,) else ": ".join(self.place)

    @property
    def page(self) -> str:
        """The page's file on the site."""
        return f"figures/{'/'.join(self.place)}/figures.md"

    @property
    def cards(self) -> list[dict[str, str]]:
        """Each figure with title, first words, place on the group's page, and picture."""
        return [
            {"title": name_of(svg), "text": plain(self.figures.first(svg)), "ref": label(svg),
             "picture": self.figures.address(svg)}
            for svg in self.drawn
        ]  # fmt: skip


def name_of(svg: Path) -> str:
    """What a figure is called: of a question, with the question's name."""
    name = svg.stem.replace("_", " ")
    return f"{svg.parent.name}: {name}" if "questions" in svg.parts else name


def label(svg: Path) -> str:
    """The mark by which pages link to a figure."""
    return re.sub(r"[^a-z0-9]+", "-", svg.with_suffix("").as_posix().lower())
