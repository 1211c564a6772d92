"""Writes names and other text into Markdown, LaTeX, CSV and figures so that they are shown literally.

Names come from users' files. A name with ``|`` would add a cell to a table, one with HTML would become a part of the
page, and a spreadsheet would compute one with ``=`` at its front. Ordinary names stay as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from acm.errors import UNSEEN, coded

if TYPE_CHECKING:  # its import takes half a second
    import pandas as pd

LATEX = (
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {c: f"\\{c}" for c in "%_&#${}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
)
# What Markdown may read as more than a character: an underscore at the end of a word, a bracket that ends the text of
# a link, and what begins a tag or an entity.
MARKS = re.compile(r"[\\`*~$|]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|!(?=\[)|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])")
TAGS = re.compile(r"\](?=[(\[:])|!(?=\[)|<(?=[A-Za-z/!?])")
ADDRESS = re.compile(r"(?<=\bwww)\.|(?<=\bhttp):|(?<=\bhttps):|(?<=\bftp):|(?<=\w)@(?=\w)", re.IGNORECASE)
FORMULA = ("=", "+", "-", "@")  # with any of these at its front, a spreadsheet takes a text for a formula


def literal(text: object) -> str:
    """Text on one line; characters that are not seen by their codes."""
    return re.sub(f"[{UNSEEN}\n]", coded, str(text))


def markdown(text: object) -> str:
    """Text as Markdown, of tables too, shows it literally."""
    marked = MARKS.sub(lambda match: {"<": "&lt;", "&": "&amp;"}.get(match[0], rf"\{match[0]}"), literal(text))
    return ADDRESS.sub(lambda match: f"&#{ord(match[0])};", marked)


def prose(text: object) -> str:
    """A sentence of ours, with code spans, whose names cannot become tags, links or pictures."""
    return TAGS.sub(lambda match: {"<": "&lt;"}.get(match[0], rf"\{match[0]}"), str(text))


def code(text: object) -> str:
    """Text as a code span of Markdown."""
    text = literal(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"


def figure_text(text: object) -> str:
    """Text as a label of a figure, whose dollars matplotlib takes for mathematics."""
    return literal(text).replace("$", r"\$")


def latex(text: object) -> str:
    """Text as LaTeX shows it literally, also at the front of a table's row."""
    text = literal(text)
    first = f"{{{text[0]}}}" if text[:1] in ("[", "*") else LATEX.get(text[:1], text[:1])
    return first + "".join(LATEX.get(character, character) for character in text[1:])


def cell(value: Any) -> Any:
    """A value of a CSV file: a text that a spreadsheet would compute gets an apostrophe at its front.

    A carriage return, which pandas does not quote and which would end the row, is shown by its code.
    """
    if not isinstance(value, str):
        return value
    return f"'{literal(value)}" if literal(value).startswith(FORMULA) else value.replace("\r", r"\r")


def text_table(table: pd.DataFrame, style: str = "pipe", index: bool = True, **options: Any) -> str:
    """A table in Markdown, or as plain text. style: ``simple`` is plain. options: of tabulate.

    Texts stay as they are, also those that look like numbers.
    """
    write = literal if style == "simple" else markdown
    shown = table.rename(columns=write, index=write if index else None)
    shown = shown.map(lambda value: write(value) if isinstance(value, str) else value)
    texts = [i for i, (_, column) in enumerate(shown.items(), int(index)) if any(isinstance(x, str) for x in column)]
    return str(shown.to_markdown(index=index, tablefmt=style, **{"disable_numparse": [0, *texts]} | options))


def latex_table(table: pd.DataFrame, caption: str) -> str:
    """A table of texts in LaTeX, with its caption."""
    escaped = table.rename(columns=latex, index=latex).map(latex).rename_axis(index=None)
    return escaped.style.to_latex(caption=latex(caption), hrules=True)


def csv_table(table: pd.DataFrame) -> str:
    """A table's numbers as CSV, four digits after the point; texts as :func:`cell` has them."""
    return table.rename(columns=cell).map(cell).to_csv(index=False, float_format="%.4f")
