"""A figure on the site: the committed SVG with its caption, alternative text, and links to what made it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from website.stage import Stage


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to interpret."""
    return re.sub(r"([\\`*_{}\[\]<>$|#!&:])", r"\\\1", " ".join(text.split()))


def saved_by(root: Path, notebook: Path, source: str) -> list[Path]:
    """The committed SVG files that a cell of an executed notebook names, in its order."""
    folder = Path(
        "figures",
        *notebook.parts[1 : 4 if "questions" in notebook.parts else 2 if "published" in notebook.parts else 3],
    )
    names = re.findall(r'"(\w[\w.-]*)"', source) if "save" in source and notebook.parts[0] == "reports" else []
    return [path for name in names if (root / (path := folder / f"{name}.svg")).is_file()]


def makers(root: Path, svg: Path) -> tuple[Path | None, list[Path]]:
    """The executed notebook that drew a figure, and the data beside it."""
    folder = Path("reports", *svg.parent.parts[1:])
    if svg.parts[1] == "published":
        return folder / "published.ipynb", [folder]
    drawn = folder / "notebooks" / "6-figures.ipynb"
    notebook = (
        drawn
        if (root / drawn).is_file()
        else next((p.relative_to(root) for p in (root / folder).glob("*.ipynb")), None)
    )
    return notebook, [p.relative_to(root) for p in sorted((root / folder).glob("*.parquet"))]


def block(stage: Stage, svg: Path | None, alt: str = "") -> str:
    """The figure as a directive; empty if the file or its caption is missing."""
    if svg is None or not (caption := (stage.root / svg).with_suffix(".json")).is_file():
        return ""
    found = json.loads(caption.read_text())
    text, facts = found["caption"], found["provenance"]
    notebook, data = makers(stage.root, svg)
    links = [f"[{notebook.stem}]({stage.address(notebook)})"] if notebook else []
    links += [
        f"[{path.name if path.suffix else f'{path}/'}]({stage.address(path)})"
        for path in [*data, svg, svg.with_suffix(".json")]
    ]
    source = (facts.get("drawn_with") or facts).get("source", "unknown")
    alt = f"{alt}: {text}" if alt else text
    return "\n".join([
        f":::{{figure}} {stage.address(svg)}",
        f":alt: {json.dumps(re.split(r'(?<=[.;]) ', alt)[0], ensure_ascii=False)}",
        ":figclass: plot", "",
        plain(text), "",
        f"Made by and from: {' · '.join(links)}. Source hash {plain(str(source))}.",
        ":::",
    ])  # fmt: skip


def gallery(stage: Stage) -> str:
    """All committed figures, folder by folder."""
    lines, last = [], None
    drawn = (path.relative_to(stage.root) for path in (stage.root / "figures").rglob("*.svg"))
    for svg in sorted(drawn, key=lambda path: ("published" in path.parts, path)):
        if svg.parent != last:
            last = svg.parent
            lines += [f"## {' · '.join(last.parts[1:])}", ""]
        lines += [f"### {svg.stem.replace('_', ' ')}", "", block(stage, svg), ""]
    return "\n".join(lines)
