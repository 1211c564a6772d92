"""Renders the pages that lead to others: overview, sections, gallery; and those that are made from the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from website import commands, findings, reference
from website.navigation import GUIDE, LIVE_LINK, short_title
from website.text import short

if TYPE_CHECKING:
    from website.stage import Stage

TEMPLATES = Path(__file__).resolve().parent / "pages"
RESULTS = Path("docs", "results.md")  # its marked parts also stand on pages of the site


@dataclass(frozen=True)
class Sections:
    """The pages of a stage that are rendered from templates."""

    stage: Stage

    def write(self) -> None:
        """Render them all."""
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        groups = self.stage.figures.groups()
        context = {
            "pages": self.pages, "guide": self.guide, "marked": self.marked, "live": LIVE_LINK,
            "finding": findings.box, "found": self.found,
            "figure": lambda path: self.stage.figures.block(Path(path)), "groups": groups,
            "address": lambda path: self.stage.address(Path(path)),
        }  # fmt: skip
        for template in sorted(TEMPLATES.glob("*.md")):
            self.put(template.name, environment.get_template(template.name).render(context))
        for group in groups:
            self.put(group.page, self.stage.figures.gallery(group))
        if self.from_code:
            self.put("commands.md", commands.page())
            self.put("python.md", self.stage.markdown(reference.page(self.stage.root), Path("python.md")))

    @property
    def from_code(self) -> bool:
        """Whether the repository holds the code from which two pages are made."""
        return (self.stage.root / "acm").is_dir()

    def put(self, name: str, text: str) -> None:
        """Write a page."""
        target = self.stage.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def pages(self, *patterns: str) -> list[dict[str, str]]:
        """The pages of files that match, once each, in order: title, short title, text, address, picture."""
        paths = dict.fromkeys(p for p in self.stage.found(patterns) if p in self.stage.pages)  # in order of patterns
        shown = dict(zip(map(self.stage.pages.__getitem__, paths), paths, strict=True))
        return [self.entry(page, path) for page, path in shown.items()]

    def entry(self, page: Path, path: Path) -> dict[str, str]:
        """What is known of a page. path: the file that it shows, or from which its executed copy was made."""
        title, text = self.stage.describe(page)
        name = short_title(self.stage.source_of(path), title)
        where = f" ({page.parts[1]})" if "questions" in page.parts and page.parts[1] != "tiny" else ""
        if page.name == "report.md":
            text = " ".join(findings.of_report((self.stage.root / page).read_text(encoding="utf-8")).split())
        found = self.stage.books.finding(page) if page.suffix == ".ipynb" else ""
        return {
            "title": title, "short": name + where, "text": found or text, "about": text, "path": f"/{page}",
            "picture": self.stage.books.thumbnail(page), "place": ", ".join(page.parts[1:3]),
        }  # fmt: skip

    def guide(self) -> dict[str, list[dict[str, str]]]:
        """The guide's pages by task; those that are there."""
        made = {"notebooks.md"} | ({"commands.md", "python.md"} if self.from_code else set())
        listed = {
            task: [
                {"short": short, "text": text, "path": f"/{name}"}
                for name, (short, text) in pages.items()
                if name in made or Path(name) in self.stage.pages
            ]
            for task, pages in GUIDE.items()
        }
        return {task: pages for task, pages in listed.items() if pages}

    def found(self, name: str) -> str:
        """What a notebook found, short."""
        path = self.stage.pages.get(Path(name))
        return short(self.stage.books.finding(path)) if path else ""

    def marked(self, name: str) -> str:
        """A marked part of the page of results."""
        results = self.stage.root / RESULTS
        text = results.read_text(encoding="utf-8") if results.is_file() else ""
        inside = re.search(rf"<!-- (?:acm|site): {name} -->(.*?)<!-- end -->", text, re.DOTALL)
        return self.stage.markdown(inside[1].strip(), RESULTS) if inside else ""
