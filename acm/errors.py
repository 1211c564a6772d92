"""UserError, the exception for a user's mistake. Its message names the file or value, the fault and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its import takes a tenth of a second
    import pydantic

POSIX = ("fcntl", "resource")  # modules of Python that Windows lacks


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


def absent(error: ModuleNotFoundError) -> UserError | None:
    """One sentence for a package that an extra brings, and for a module that Windows lacks.

    None for any other module.
    """
    from importlib.metadata import PackageNotFoundError, requires

    module = (error.name or "").partition(".")[0]
    if module in POSIX:
        return UserError(f"this needs Python's module {module}, which Windows lacks: run it in WSL (docs/windows.md).")
    try:
        lines = requires("acm-companion") or []
    except PackageNotFoundError:  # run from a folder, never installed
        return None
    package = module.replace("_", "-").lower()
    found = [re.fullmatch(r"([\w-]+).*extra == ['\"](\w+)['\"].*", line) for line in lines]
    extras = {match[2] for match in found if match and match[1] == package} - {"all"}
    if not extras:
        return None
    return UserError(
        f"this needs the package {package}, which is not installed: "
        f'pip install "acm-companion[{min(extras)}]" brings it (in a clone, `make` does).'
    )
