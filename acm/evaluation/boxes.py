r"""Finds the boxed answer, ``\boxed{…}``, that a solution or a response ends with."""

from __future__ import annotations

import re

BOX = r"\\f?box(?:ed)?\s*\{"
BRACES = re.compile(rf"{BOX}|\\(?!{BOX}).|[{{}}]", re.DOTALL)  # \{ and \} are no braces


def last_box(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{…}`` or ``\fbox{…}``, with nested braces. None without one.

    The text is read once from left to right, so that a long one takes no longer than its length.
    """
    opened: list[tuple[bool, int]] = []
    found = (-1, "")
    for token in BRACES.finditer(text):
        if token[0].endswith("{") and token[0] != r"\{":
            opened.append((token[0] != "{", token.end()))
        elif token[0] == "}" and opened:
            boxed, start = opened.pop()
            if boxed and start > found[0]:
                found = (start, text[start : token.start()].strip())
    return found[1] if found[0] >= 0 else None
