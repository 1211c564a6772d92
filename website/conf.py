"""The Sphinx settings of the website. website/stage.py collects its pages."""

import posixpath
import re
import sys
from importlib.metadata import files
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from website import safe  # noqa: E402
from website.navigation import LIVE, LIVE_LINK, SECTIONS, section_of, tasks  # noqa: E402
from website.stage import ASIDE, commit  # noqa: E402

project = "ACM companion"
author = "the ACM companion's authors"
copyright = "MIT licence"
version = commit(ROOT)
language = "en"
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.mathjax"]
exclude_patterns = [f"{ASIDE}/**"]
suppress_warnings = [
    "toc.not_included",
    "myst.header",
    "myst.xref_missing",
    "mystnb.unknown_mime_type",
    "misc.highlighting_failure",
]

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, object] = {}
nb_render_markdown_format = "commonmark"  # for Markdown in outputs: it has no directives and no roles
myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
myst_url_schemes = sorted(safe.SCHEMES | {LIVE_LINK.rstrip(":")})

# MathJax with its fonts in one file, from the package; \href, \require and the like are off
MATHJAX = next(f.locate() for f in files("sphinx-mathjax-offline") or [] if f.name == "tex-svg.js")
mathjax_path = "math.js"  # fetches it
mathjax3_config = {
    "tex": {"packages": {"[-]": ["autoload", "html", "newcommand", "require"]}},
    "options": {"processHtmlClass": "math", "ignoreHtmlClass": ".*", "enableMenu": False},
}

root_doc = "contents"  # index.html is the live page, see website/live.py
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static", str(MATHJAX)]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_copy_source = False
html_show_search_summary = False  # fetched page by page, which a browser refuses to a site opened from disk
html_show_sourcelink = False
pygments_style = "a11y-high-contrast-light"
html_theme_options = {
    "logo": {"text": project},
    "navbar_align": "left",
    "navbar_center": ["sections"],
    "navbar_persistent": ["search-button-field"],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["built"],
    "footer_end": [],
}
html_context = {"default_mode": "auto", "sections": SECTIONS}


NUMBERS = re.compile(r"[-+−–\d.,\s\[\]()%]+")  # of a cell that is never broken: a number, with its interval


class Harmless(SphinxPostTransform):
    """The last word on raw HTML, links, pictures and cells of tables, see website/safe.py."""

    default_priority = 990

    def run(self, **_) -> None:
        for node in list(self.document.findall(nodes.raw)):
            cleaned = safe.clean(node.astext()) if "html" in node.get("format", "") else ""
            node.replace_self(nodes.raw("", cleaned, format="html"))
        up = "../" * self.env.docname.count("/")
        for node in list(self.document.findall(nodes.reference)):
            if node.get("refuri") == LIVE_LINK:
                node["refuri"] = f"{up}{LIVE}"
            if not safe.is_safe_link(node.get("refuri", "")):
                node.replace_self(nodes.inline("", node.astext()))
        for node in self.document.findall(nodes.entry):
            if NUMBERS.fullmatch(node.astext()):
                node["classes"].append("number")
        for node in list(self.document.findall(nodes.image)):
            if not safe.is_local(node["uri"]):
                node.replace_self(nodes.inline("", node.get("alt", "")))


def finish(app, page: str, template: str, context: dict, doctree) -> None:
    """Tell header and sidebar where a page stands; have pictures fetched when they come into view."""
    above = [parent["link"] for parent in context.get("parents", [])]
    names = [(PurePosixPath(page).parent / link).as_posix() for link in above]
    places = [posixpath.normpath(name).removesuffix(".html") for name in names]
    context["section"] = section_of(page, places)
    if f"{page}.html" in SECTIONS.values():
        context["prev"] = None  # the page before is of another section
    context["tasks"] = {}
    if context["section"] == "Guide" and "notebooks" not in [page, *places]:
        context["tasks"] = tasks(app.env.found_docs)
    if "body" in context:
        context["body"] = re.sub(r"<img (?!loading)", '<img loading="lazy" decoding="async" ', context["body"])


def setup(app) -> None:
    app.add_post_transform(Harmless)
    app.connect("html-page-context", finish)
