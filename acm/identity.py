"""The identity of a model folder: a hash of every byte that decides what the model says.

A file over 64 MiB is hashed once. Its hash is remembered by path, size, times and inode: in memory, and in the user's
cache folder (``$XDG_CACHE_HOME/acm``, else ``~/.cache/acm``) where that can be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from acm.errors import UserError, os_reason
from acm.kept import read_kept, text, write_kept

DECISIVE = {".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken", ".spm", ".vocab", ".bpe"}
TEMPLATES = "additional_chat_templates/*.jinja"
WHOLE = 64 << 20  # bytes; the hash of a larger file is remembered
SETTLED = 2 * 10**9  # nanoseconds; what changed later than that ago may change again within one tick of its clock
MEMORY: dict[str, str] = {}  # a large file's stamp → its SHA-256


def identity(folder: Path) -> str:
    """Hash (16 hexadecimal digits) of a model folder: names, sizes and contents of its files.

    Counted are weights, config, generation settings, tokenizer and chat templates; README and recipe are not. Raises
    UserError for a file that cannot be read, or that changes meanwhile.
    """
    total, folder = Identity(), Path(folder)
    try:
        sizes = decisive_files(folder)
        large = [path for path, size in sizes.items() if size > WHOLE]
        with ThreadPoolExecutor(4) as pool:
            digests = dict(zip(large, pool.map(large_digest, large), strict=True))
        for path, size in sizes.items():
            with total.file(path.relative_to(folder).as_posix(), size, digests.get(path)) as take:
                if path not in digests:
                    take(path.read_bytes())
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be read: {os_reason(error)}.") from None
    return total.found


class Identity:
    """The identity of a folder whose files come one after another, in the order of their paths."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    @contextlib.contextmanager
    def file(self, name: str, size: int, known: str | None = None) -> Iterator[Callable[[Any], None]]:
        """Gives what takes the file's bytes, in any number of pieces. known: the SHA-256 of a file over WHOLE bytes."""
        self.digest.update(f"{name}\0{size}\0".encode())
        own = hashlib.sha256() if size > WHOLE else self.digest
        yield own.update
        if own is not self.digest:
            self.digest.update(bytes.fromhex(known) if known else own.digest())

    @property
    def found(self) -> str:
        """16 hexadecimal digits."""
        return self.digest.hexdigest()[:16]


def decisive_files(folder: Path) -> dict[Path, int]:
    """The files that an identity counts, in its order, and their sizes in bytes."""
    inside = [path for path in folder.iterdir() if path.suffix in DECISIVE]
    found = sorted(path for path in [*inside, *folder.glob(TEMPLATES)] if path.is_file())
    return {path: path.stat().st_size for path in found}


def large_digest(path: Path) -> str:
    """SHA-256 of a file, from memory where its stamp is known."""
    began, stamp = time.time_ns(), stamp_of(path)
    name = text(stamp)
    if name in MEMORY:
        return MEMORY[name]
    place = memory_file(name)
    if place and (kept := read_kept(place, stamp, are_digest)):
        return MEMORY.setdefault(name, kept[0])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if stamp_of(path) != stamp:
        raise UserError(f"{path} changed while it was read; run this again once it is complete.")
    if began - max(stamp["mtime"], stamp["ctime"]) > SETTLED:
        MEMORY[name] = found
        if place:
            with contextlib.suppress(UserError):
                write_kept(place, stamp, [found])
    return found


def stamp_of(path: Path) -> dict[str, Any]:
    """What tells a file from another and from its earlier content. Nobody sets ctime, unlike mtime."""
    held = path.stat()
    return {
        "path": str(path.resolve()), "size": held.st_size, "inode": held.st_ino,
        "mtime": held.st_mtime_ns, "ctime": held.st_ctime_ns,
    }  # fmt: skip


def are_digest(rows: list[Any]) -> bool:
    """Whether these are a SHA-256 alone."""
    return len(rows) == 1 and isinstance(rows[0], str) and bool(re.fullmatch("[0-9a-f]{64}", rows[0]))


def memory_file(stamp: str) -> Path | None:
    """Where the hash of a file is remembered; None for a user without a home."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = cache if cache.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "acm" / "digests" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.json"
