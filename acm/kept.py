"""Files that an interrupted run continues from. One is believed only if it is what this very run would have written.

A kept file is a JSON list: rows, and behind them a seal. The seal holds ``format``, ``key`` (all that decides the rows)
and ``digest``, a hash of everything else in the file. What is cut, edited, or of another run is made anew, and a note
names the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from acm.errors import UserError, os_reason
from acm.files import write_json

LOG = logging.getLogger(__name__)
FORMAT = 1
SAID: set[tuple[Path, str]] = set()  # folder and fault of the notes so far: a folder may hold thousands of files
Key = Mapping[str, Any]


def write_kept(path: Path, key: Key, rows: list[Any]) -> None:
    """Keep rows that JSON can hold. key: all that decides them. UserError where they cannot be written."""
    with keeping(path):
        write_json(path, [*rows, seal(key, rows)], indent=None)


@contextlib.contextmanager
def keeping(path: Path) -> Iterator[None]:
    """A full disk, or another error of writing, as a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {os_reason(error)}. What is finished stays; the same command continues."
        ) from None


def read_kept(path: Path, key: Key, valid: Callable[[list[Any]], bool]) -> list[Any] | None:
    """The rows that were kept with this key. None where there are none to believe; a note says why, once a folder.

    valid: whether rows have the right form.
    """
    if not os.path.lexists(path):
        return None
    found: Any = None
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
        fault = fault_of(found, key, valid)
    except (OSError, ValueError, RecursionError):
        fault = "is damaged"
    if fault:
        LOG.log(
            logging.INFO if (path.parent, fault) in SAID else logging.WARNING,
            "%s %s; it is made anew, and so is any other beside it of which this is true.", path, fault,
        )  # fmt: skip
        SAID.add((path.parent, fault))
        return None
    rows: list[Any] = found[:-1]
    return rows


def fault_of(found: Any, key: Key, valid: Callable[[list[Any]], bool]) -> str:
    """Why a file's JSON is not to be believed; empty if it is."""
    if not (isinstance(found, list) and found and isinstance(found[-1], dict)):
        return "is damaged"
    *rows, end = found
    if not isinstance(kept := end.get("key"), dict) or text(end) != text(seal(kept, rows)):
        return "is damaged"
    if others := [name for name in sorted({*key, *kept}) if text(key.get(name)) != text(kept.get(name))]:
        return f"is of another run (another {', '.join(others)})"
    return "" if valid(rows) else "is damaged"


def seal(key: Key, rows: list[Any]) -> dict[str, Any]:
    """What stands behind the rows."""
    held = {"format": FORMAT, "key": key}
    return held | {"digest": hashlib.sha256(text([held, rows]).encode()).hexdigest()}


def text(content: Any) -> str:
    """The same text for the same content, and another for 1 and true."""
    return json.dumps(content, sort_keys=True)


def check_writable(folder: Path) -> None:
    """UserError where a folder cannot hold files, or cannot be made. Nothing is made."""
    there = next(path for path in (folder, *folder.parents, Path()) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{folder}: nothing can be kept there, since {there} is no folder; name another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: nothing can be kept there, since {there} may not be written; name another.")
