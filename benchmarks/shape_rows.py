"""The rows of the table of `real_shapes.py`, and how they are read from the committed table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

CELLS = re.compile(r"\| ((?:calibrate|merge), .*) \|")
OUTSIDE = re.compile(r"head take ([\d.]+) s of CPU")


@dataclass
class Row:
    """A measured step: seconds on the wall and of CPU, peak anonymous memory in GB, what was seen of the result.

    calculated: seconds of CPU at all blocks, as an older table says. Its own seconds are rounded, so they would not
    give this number again.
    """

    step: str
    blocks: int
    wall: float
    cpu: float
    anonymous: float
    text: str = ""
    calculated: str = ""

    @property
    def method(self) -> str:
        """The method of a merge."""
        return self.step.removeprefix("merge, ")


def rows_in(text: str) -> list[Row]:
    """The rows of a table in Markdown, in their order."""
    found = []
    for line in text.splitlines():
        if cells := CELLS.fullmatch(line.strip()):
            step, blocks, wall, cpu, calculated, anonymous, loaded = (c.strip() for c in cells[1].split(" | "))
            found.append(Row(step, int(blocks), float(wall), float(cpu), float(anonymous), loaded, calculated))
    return found


def facts_in(text: str) -> dict[str, Any]:
    """What the text around the table says besides: `acm check`'s lines, the coefficients, and what REST takes."""
    found: dict[str, Any] = {}
    if checked := re.search(r"```\n(.*?)\n```", text, re.DOTALL):
        found["checked"] = checked[1].splitlines()
    if coefficients := re.search(r"\d+ coefficients, from \S+ to -?\d+\.\d+", text):
        found["coefficients"] = coefficients[0]
    if outside := OUTSIDE.search(text):
        found["outside"] = float(outside[1])
    return found
