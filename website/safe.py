"""Cleans the HTML of the site: nothing that a model wrote reaches a page as markup that can do harm.

Sphinx escapes plain text by itself. Raw HTML (in Markdown and in the outputs of notebooks), links and pictures pass
through this module. Only tags and attributes of an allow-list are kept. The list has no style, script, events, forms or
frames.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import bleach
from bs4 import BeautifulSoup

TABLE = {"table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "th", "td"}
TEXT = {
    "p", "br", "hr", "b", "strong", "i", "em", "code", "pre", "kbd", "sub", "sup", "small", "ul", "ol", "li", "h3",
    "h4", "details", "summary",
}  # fmt: skip
TAGS = TABLE | TEXT | {"div", "span", "a"}
PLAIN = {"colspan", "rowspan", "scope"}
SCHEMES = {"http", "https", "mailto"}
DROPPED = [
    "script", "style", "template", "noscript", "iframe", "object", "embed", "svg", "math", "form", "textarea", "select",
    "button",
]  # fmt: skip
# Text whose only markup is tags of TEXT. It may be half of a pair, such as <details> before Markdown.
PIECE = re.compile(rf"(?:[^<>&]|</?(?:{'|'.join(sorted(TEXT))})\s*/?>)*")


def allowed(tag: str, name: str, value: str) -> bool:
    """Whether a tag keeps an attribute; pandas' tables keep the class by which the theme knows them."""
    pairs, dataframe = {("a", "href"), ("details", "open")}, ("table", "class", "dataframe")
    return name in PLAIN or (tag, name) in pairs or (tag, name, value) == dataframe


def clean(html: str) -> str:
    """The HTML without anything that could run, load, submit or restyle; tables of pandas keep their structure."""
    if PIECE.fullmatch(html):
        return html
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup(DROPPED):
        tag.decompose()
    for table in soup("table", class_="dataframe"):
        table["class"] = "dataframe"  # without the others
    for cell in soup("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"  # an empty heading only puzzles a screen reader
    return bleach.clean(str(soup), tags=TAGS, attributes=allowed, protocols=SCHEMES, strip=True)


def is_safe_link(target: str) -> bool:
    """Whether a link leads to the web, to mail or into the site."""
    try:
        return urlsplit("".join(target.split())).scheme.lower() in SCHEMES | {""}
    except ValueError:
        return False


def is_local(target: str) -> bool:
    """Whether a picture lies on the site itself."""
    try:
        parts = urlsplit(target.strip())
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc
