"""The one exception for a user's mistake: it names the thing, says what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import pydantic


class UserError(ValueError):
    """Bad input. The command line prints its message alone, without a traceback."""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a name that is not among the known ones, with the nearest as a hint."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {what} '{name}'.{hint} Known: {', '.join(known) or 'none'}.")


def check_distinct(names: Iterable[str], what: str) -> None:
    """UserError if a name comes twice."""
    names = list(names)
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"'{twice[0]}' names two {what}; names tell them apart, so rename one.")


def explain(error: pydantic.ValidationError, source: str) -> UserError:
    """A pydantic error as one line per finding, each with the place of the key."""
    lines = []
    for finding in error.errors():
        place = ".".join(map(str, finding["loc"])) or "(top level)"
        message = (
            "unknown key; remove it or mend its spelling" if finding["type"] == "extra_forbidden" else finding["msg"]
        )
        lines.append(f"  {place}: {message}")
    return UserError(f"{source} is not valid:\n" + "\n".join(lines))
