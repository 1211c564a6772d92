"""Makes harmless HTML: of any text, of a table of texts, and of a figure.

Text from users' files and models is not trusted. Every character is escaped. Invisible characters, such as control
characters and marks that change the direction of text, are shown by name.
"""

from __future__ import annotations

import base64
import html
import io
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # Unicode's categories of invisible characters
PLAIN = re.compile(r"[\x20-\x7e\n\t]*")
NO_MATHS = "tex2jax_ignore mathjax_ignore"  # the classes whose text MathJax leaves alone


def shown(text: object) -> str:
    """Text escaped for HTML, its unseen characters by name, in one direction of its own."""
    text = str(text).replace("\r\n", "\n")
    if PLAIN.fullmatch(text):
        return html.escape(text)
    return "".join(named(c) if c not in "\n\t" and unicodedata.category(c) in UNSEEN else html.escape(c) for c in text)


def named(character: str) -> str:
    """A character that is not seen: ␛ for a control character, its code for the others."""
    code = ord(character)
    sign = chr(0x2400 + code) if code < 32 else f"U+{code:04X}"
    return f'<span class="acm-unseen">{sign}</span>'


def table(frame: pd.DataFrame) -> str:
    """A table of texts whose rows and columns have headers, with the class of pandas' tables. All is escaped."""
    heads = "".join(f'<th scope="col">{shown(name)}</th>' for name in frame.columns)
    rows = "".join(
        f'<tr><th scope="row">{shown(name)}</th>{"".join(f"<td>{shown(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in frame.itertuples(name=None)
    )
    return f'<table class="dataframe {NO_MATHS}"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def image(figure: Figure, alt: str) -> str:
    """A figure as an ``<img>`` of SVG, in which no script runs."""
    with io.BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
