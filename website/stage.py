"""Collects the pages of the site into one folder, which Sphinx reads.

A page is a Markdown file or a notebook of the repository. It keeps its path. A notebook with an executed copy in
``reports/`` or ``website/executed/`` is shown with the outputs of that copy. Other notebooks are shown as they are
stored. Nothing is run.
Links keep working: a link to a page leads there, a link to another file downloads it, a link to a folder lists its
files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from website import findings
from website.books import FIRST, Books, part_of
from website.figures import NUMBERS, Figures
from website.navigation import LIVE_LINK
from website.sections import Sections
from website.text import sentences

ASIDE = "_downloads-only"
ROOT = Path(__file__).resolve().parent.parent
TEXTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "benchmarks/*.md", "reports/*/report.md",
         "reports/*/*/tables/*.md", "reports/community/README.md")  # fmt: skip
NOTEBOOKS = tuple(
    f"notebooks/{folder}*.ipynb" for folder in ("", "questions/", "paper/", "real-weights/", "explore/", "course/")
)
EXECUTED = (
    f"reports/{NUMBERS}/*.ipynb",
    "reports/paper/*.ipynb",
    "reports/abacus/*.ipynb",
    "reports/real-weights/*.ipynb",
    "reports/*/questions/*/*.ipynb",
    "reports/tiny/searches/abacus/*.ipynb",
    "reports/*/*/notebooks/*.ipynb",
    "reports/*/*/notebooks/*/ACM-TA.ipynb",
)
LIVE_PAGE = Path("web", "live", "index.html")
LINK = re.compile(r"(\]\()<?([^)\s>]+)>?(\))")
HTML_IMAGE = re.compile(r'^<img src="([^"\s]+)" width="(\d+)" alt="([^"\n]*)">$', re.MULTILINE)
IMAGE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]+\.svg)\)$", re.MULTILINE)


@dataclass
class Stage:
    """The folder in the making.

    pages: path in the repository → the page that shows it. folders: those that some page links to. broken: links that
    lead nowhere.
    """

    root: Path
    out: Path
    pages: dict[Path, Path] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    @property
    def figures(self) -> Figures:
        """The figures of the repository, with addresses on this site."""
        return Figures(self.root, self.address)

    @property
    def books(self) -> Books:
        """The notebooks as pages."""
        return Books(self)

    def collect(self) -> None:
        """Find all pages; a notebook's executed copy stands for it."""
        texts, stored, executed = (self.found(patterns) for patterns in (TEXTS, NOTEBOOKS, EXECUTED))
        self.pages = {path: path for path in [*texts, *stored, *executed]}
        for path in executed:
            if "notebooks" not in path.parts or path.is_relative_to(FIRST):
                self.pages[self.source_of(path)] = path

    def found(self, patterns: tuple[str, ...]) -> list[Path]:
        return [p.relative_to(self.root) for pattern in patterns for p in sorted(self.root.glob(pattern), key=natural)]

    @staticmethod
    def source_of(path: Path) -> Path:
        """The notebook that an executed copy was made from; the path itself for others."""
        if path.parts[0] != "reports" or path.suffix != ".ipynb":
            return path
        if "searches" in path.parts:
            return Path("notebooks", path.name)
        if "questions" in path.parts or path.parts[1] in ("paper", "real-weights"):
            return Path("notebooks", "questions" if "questions" in path.parts else path.parts[1], path.name)
        name = path.name if path.parts[-2] in ("notebooks", NUMBERS, "abacus") else f"{path.parts[-2]}.ipynb"
        return Path("notebooks", name)

    def write(self) -> None:
        """All pages, what they link to, and the sections' pages."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.collect()
        for path in sorted(set(self.pages.values())):
            target = self.out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                text = (self.root / path).read_text(encoding="utf-8")
                text = findings.report(text) if path.name == "report.md" else text
                target.write_text(self.markdown(text, path), encoding="utf-8")
            else:
                nbformat.write(self.notebook(path), target)
        Sections(self).write()
        done: set[Path] = set()
        while self.folders - done:
            folder = min(self.folders - done)
            done.add(folder)
            self.listing(folder)

    def markdown(self, text: str, origin: Path) -> str:
        """Give figures their caption and provenance, and make links absolute. origin: the file whose links they are."""
        if origin.parent.name == "tables" and not text.startswith("# "):
            text = f"# {origin.stem.capitalize()}: {origin.parts[1]}, {origin.parts[2]}\n\n{text}"
        text = HTML_IMAGE.sub(
            lambda m: f":::{{image}} {self.link(m[1], origin)}\n:width: {m[2]}px\n:alt: {m[3]}\n:::", text
        )
        text = IMAGE.sub(lambda m: self.figures.block(self.resolve(m[2], origin), m[1]) or m[0], text)
        return LINK.sub(lambda m: f"{m[1]}{self.link(m[2], origin)}{m[3]}", text)

    def resolve(self, target: str, origin: Path) -> Path | None:
        """A relative link as a path of the repository; None where it leads out of it or nowhere."""
        place = (self.root / origin.parent / target).resolve()
        return place.relative_to(self.root) if place.exists() and place.is_relative_to(self.root) else None

    def link(self, target: str, origin: Path) -> str:
        """What a page links to, as Sphinx understands it."""
        bare, mark, anchor = target.partition("#")
        if not bare or re.match(r"[a-z]+:", bare) or bare.startswith("/"):
            return target
        path = self.resolve(bare, origin)
        if path is None:
            self.broken.append(f"{origin}: {target}")
            return "#"
        return self.address(path) + mark + anchor

    def address(self, path: Path) -> str:
        """Where the site has this file or folder; files that are no pages are copied to be downloaded."""
        if path == LIVE_PAGE:
            return LIVE_LINK
        if (self.root / path).is_dir():
            self.folders.add(path)
            return f"/{path}/files.md" if path.parts else "/README.md"
        return f"/{self.pages[path]}" if path in self.pages else f"/{self.copy(path)}"

    def copy(self, path: Path) -> Path:
        """A file to be downloaded; what Sphinx would take for a page lies in a folder where it looks for none."""
        place = Path(ASIDE) / path if path.suffix in (".md", ".ipynb") else path
        if not (self.out / place).is_file():
            (self.out / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, self.out / place)
        return place

    def notebook(self, path: Path) -> nbformat.NotebookNode:
        """A notebook as a page, see :class:`website.books.Books`."""
        return self.books.page(path)

    def listing(self, folder: Path) -> None:
        """A page that lists a folder's files and leads into its folders."""
        rows = []
        for path in sorted((self.root / folder).iterdir(), key=natural):
            if not path.name.startswith((".", "__")):
                short = path.relative_to(self.root)
                rows.append(f"- [{path.name}{'/' * path.is_dir()}]({self.address(short)})")
        target = self.out / folder / "files.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        text = f"---\norphan: true\n---\n# Files of {folder}\n\n" + "\n".join(rows) + "\n"
        target.write_text(text, encoding="utf-8")

    def describe(self, path: Path) -> tuple[str, str]:
        """Title and first sentence of a page."""
        page = self.root / path
        notebook = path.suffix == ".ipynb"
        text = nbformat.read(page, as_version=4).cells[0].source if notebook else page.read_text(encoding="utf-8")
        title, _, rest = text.lstrip().partition("\n")
        blocks = re.split(r"\n\s*\n", rest.strip())
        place = next((n for n, block in enumerate(blocks) if not re.match(r"[-#<|`*!{]|\[!", block)), None)
        paragraph = "" if place is None else blocks[place]
        if re.search(r"\w$", paragraph) and blocks[place + 1 : place + 2]:  # goes on as a list
            paragraph += " " + re.split(r"\n- ", blocks[place + 1].removeprefix("- "))[0].rstrip(".,;") + "."
        return title.lstrip("# ").strip() + part_of(path), sentences(paragraph)[0]


def natural(path: Path) -> list:
    """Sorts 2 before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.as_posix())]


def commit(root: Path) -> str:
    """The commit that is checked out; empty without git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def main(out: str, root: str = str(ROOT)) -> None:
    stage = Stage(Path(root).resolve(), Path(out))
    stage.write()
    print(f"{len(set(stage.pages.values()))} pages in {out}")
    for link in stage.broken:
        print(f"warning: a link leads nowhere: {link}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
