"""Writes files whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from acm.errors import UserError


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; ``path`` appears, durable, once the block has ended without an exception.

    Folders on the way are made. Of several that write at once, one wins. After an exception ``path`` is what it was;
    an OSError names ``path``. A link stays, and its target is written. UserError for a folder or a device.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)  # a loop is its own target
    if not_a_file(path):
        raise UserError(f"{path} is a folder or a device; name a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name:.40}.{secrets.token_hex(4)}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
    except OSError as error:
        if error.filename in (None, part, str(part)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, which is made, for one process. UserError while another one holds it. what: its work, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows, where nothing is held
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"{what} is writing {folder} right now; wait for it, or choose another output.") from None
    finally:
        os.close(handle)


def not_a_file(path: Path) -> bool:
    """Whether something is there that no file may replace, such as a folder or ``/dev/null``."""
    return path.exists() and not path.is_file()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) that appears whole."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """Write a JSON file that appears whole, with an indent of 1. options: further ones of :func:`json.dumps`."""
    write_text(path, json.dumps(content, **{"indent": 1} | options) + "\n")


def sync(path: Path) -> None:
    """Make a file or a folder's list of names durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """XXH3 (128 bits) of a file's content, as hexadecimal digits: finds damage, not forgery."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
