"""Writes the page of the command line from the commands themselves: help, example and options of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from acm.__main__ import app
from acm.commands.app import EXAMPLES
from website.text import cell, fenced, prose

WIDTH = 78  # characters of a line of an example
INTRO = """# Command line

`acm COMMAND --help` says the same in the terminal. Paths in the examples start at the root of a clone."""


def page() -> str:
    """The page as Markdown."""
    parts = [INTRO, "## First steps", fenced(EXAMPLES, "sh")]
    for name, command in commands(typer.main.get_command(app), "acm"):
        parts += [f"## {name}", *described(command)]
    return "\n\n".join(parts) + "\n"


def commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Each command with its full name; a group's own command comes before those within it."""
    for name, command in group.commands.items():
        yield f"{prefix} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")


def described(command: Any) -> Iterator[str]:
    """What a command does, its example, and a table of what it takes."""
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        yield prose(" ".join(paragraph.split()))
    if command.epilog:
        yield fenced(wrapped(command.epilog.removeprefix("Example: ")), "sh")
    rows = [row(param) for param in command.params if not param.hidden]
    if rows:
        yield "\n".join(["| argument or option | default | meaning |", "|:---|:---|:---|", *rows])


def row(param: Any) -> str:
    """One argument or option as a row of the table."""
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    default = "needed" if param.required else shown(param.default)
    return f"| {names} | {default} | {cell(param.help or '')} |"


def shown(default: Any) -> str:
    """A default as the table shows it; nothing for a default that the meaning tells."""
    if default is None or callable(default) or default in ([], (), ""):
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    values = default if isinstance(default, list | tuple) else [default]
    return ", ".join(f"`{value}`" for value in values)


def wrapped(example: str) -> str:
    """An example on lines that fit, broken before options."""
    first, *pieces = re.split(r" (?=-)", example)
    lines = [first]
    for piece in pieces:
        if len(lines[-1]) + len(piece) + 3 > WIDTH:
            lines.append(f"  {piece}")
        else:
            lines[-1] += f" {piece}"
    return " \\\n".join(lines)
