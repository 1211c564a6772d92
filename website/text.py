"""Turns plain text into Markdown in which nothing is interpreted that should not be."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"([\\`*_{}\[\]<>$|#!&:])")
CODE = re.compile(r"(``?[^`\n]+``?)")


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to interpret."""
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    """As :func:`plain`, with its white space."""
    return SPECIAL.sub(r"\\\1", text)


def prose(text: str) -> str:
    """Text in which Markdown finds nothing to interpret but code between backticks, which keeps its form."""
    parts = CODE.split(text)
    return "".join(code(part) if place % 2 else escaped(part) for place, part in enumerate(parts))


def code(text: str) -> str:
    """Code between backticks; within a table's cell its bars need a backslash, which shows nowhere."""
    inside = text.strip("`").strip()
    return f"`{inside}`"


def cell(text: str) -> str:
    """Text with code between backticks, for a cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\|", prose(" ".join(text.split())))


def fenced(text: str, language: str = "") -> str:
    """A block of code, whatever backticks it holds."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    return re.split(r"(?<=[.?!])\s+(?=[A-Z`*])", " ".join(text.split()))


def short(text: str, most: int = 480) -> str:
    """As many sentences from the start as fit, at least one. most: characters."""
    first, *rest = sentences(text)
    for sentence in rest:
        if len(first) + len(sentence) >= most:
            break
        first = f"{first} {sentence}"
    return first
