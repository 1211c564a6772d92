"""The workspace of a merge: a hidden folder beside the output, which is renamed to the output when it is complete.

A merge locks its workspace while it runs. An interrupted merge can be continued.

    .merged.part/                           beside the output folder `merged`
      model-00001-of-00002.safetensors …    preallocated, headers first
      journal.jsonl                         the plan's digest, then a line for each finished tensor: name, checksum

A killed merge leaves this folder behind. The next merge with the same plan checks each finished tensor against its
checksum, and merges the other tensors. A merge with another plan starts anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import xxhash

from acm.errors import UserError, os_reason
from acm.files import sync, whole, write_json
from acm.headers import DTYPES
from acm.merging.plan import Job, Plan, work_folder
from acm.weight_files import INDEX, SINGLE

LOG = logging.getLogger(__name__)
JOURNAL = "journal.jsonl"
CHECKED_BYTES = 8 << 20  # how many bytes are read at a time to check a tensor
CODES = {dtype: code for code, dtype in DTYPES.items()}  # dtype → the file's code


class Place(Protocol):
    """Where merged tensors go: a :class:`Workspace`, or memory. finished: names of those that it holds already."""

    finished: set[str]

    def write(self, job: Job, offset: int, data: memoryview) -> None:
        """Bytes of a tensor, from ``offset`` within it."""

    def finish(self, job: Job, checksum: str) -> None:
        """A tensor is complete."""


class Workspace:
    """The locked folder of one merge. ``finished``: the names of the tensors that need no work.

    A shard is open only while it is written: there may be more shards than a process may have open files.
    key: an interrupted merge is continued only if this text, beside the plan, is the same as then.
    """

    def __init__(self, plan: Plan, out: Path, key: str = "") -> None:
        self.plan, self.out, self.key = plan, out, (plan.digest + key).encode()
        self.folder = work_folder(out)
        self.made = [parent for parent in out.parents if not parent.exists()]
        self.places, self.shard_headers, self.sizes = layout(plan.jobs)
        self.journal: int | None = None
        self.writing = threading.Lock()

    def __enter__(self) -> Workspace:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise UserError(
                f"cannot write beside {self.out} ({os_reason(error)}); name an output folder where you may write."
            ) from None
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self.lock), self.folder.stat()):
                raise OSError  # the other merge ended between our two steps
        except OSError:
            os.close(self.lock)
            raise UserError(
                f"another merge is writing {self.out} right now; wait for it, or name another output."
            ) from None
        if self.out.exists():
            self.discard()
            os.close(self.lock)
            raise UserError(f"another merge has just written {self.out}; remove it or name another output.")
        try:
            with disk_errors(self.out):
                self.finished = self.open_shards()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        """Keeps the folder of an interrupted merge, and removes that of one whose input is at fault."""
        if isinstance(error, UserError) and not isinstance(error, Unfinished):
            self.discard()  # before the lock is given back
        self.close()
        if isinstance(error, KeyboardInterrupt):
            LOG.warning("interrupted; the same merge continues when it is run again (or remove %s).", self.folder)

    def close(self) -> None:
        """Close all files and give the lock back."""
        for handle in (self.journal, self.lock):
            if handle is not None:
                os.close(handle)
        self.journal = None

    def discard(self) -> None:
        """Remove the folder, and the folders that were made for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for parent in self.made:
            with contextlib.suppress(OSError):  # another merge may have begun in it
                parent.rmdir()

    def open_shards(self) -> set[str]:
        """Take over what an interrupted merge of this plan left, or make the files anew.

        Returns the names of the finished tensors.
        """
        journal = self.folder / JOURNAL
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.is_file() else []  # not a line that a kill cut off
        continued = bool(lines) and lines[0] == self.key
        sums = dict(filter(None, map(journal_entry, lines[1:]))) if continued else {}
        kept = {JOURNAL, *self.sizes} if continued else set()
        for old in self.folder.iterdir():
            if old.name not in kept:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for name, size in self.sizes.items():
            self.make_shard(name, size)
        with whole(journal) as fresh:  # the old one stays until this is complete
            fresh.write_bytes(b"\n".join([self.key, *(json.dumps(entry).encode() for entry in sums.items()), b""]))
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND)
        return {job.name for job in self.plan.jobs if job.name in sums and self.checksum(job) == sums[job.name]}

    def make_shard(self, name: str, size: int) -> None:
        """Make a shard, preallocated, and write its header."""
        with opened(self.folder / name, os.O_CREAT) as handle:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(handle, 0, size)
            os.ftruncate(handle, size)
            os.pwrite(handle, self.shard_headers[name], 0)

    def checksum(self, job: Job) -> str:
        """The checksum of the bytes that the tensor has in the output now."""
        digest, (shard, start) = xxhash.xxh3_64(), self.places[job.name]
        with opened(self.folder / shard) as handle:
            for offset in range(0, job.bytes, CHECKED_BYTES):
                digest.update(os.pread(handle, min(CHECKED_BYTES, job.bytes - offset), start + offset))
        return digest.hexdigest()

    def write(self, job: Job, offset: int, data: memoryview) -> None:
        """Bytes of a tensor, from ``offset`` within it."""
        shard, start = self.places[job.name]
        with opened(self.folder / shard) as handle:
            done = 0
            while done < len(data):
                done += os.pwrite(handle, data[done:], start + offset + done)

    def finish(self, job: Job, checksum: str) -> None:
        """Note in the journal that a tensor is complete."""
        assert self.journal is not None
        with self.writing:
            os.write(self.journal, json.dumps([job.name, checksum]).encode() + b"\n")

    def publish(self) -> None:
        """Make everything durable, then let the output folder appear."""
        write_index(self.folder, self.plan)
        for path in self.folder.rglob("*"):
            sync(path)
        if self.out.exists():
            raise Unfinished(
                f"output folder {self.out} appeared during the merge; remove it and run again: nothing is lost."
            )
        (self.folder / JOURNAL).unlink()
        sync(self.folder)
        self.folder.rename(self.out)
        sync(self.out.parent)


@contextlib.contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[int]:
    """A file, open to read and write, as a descriptor."""
    handle = os.open(path, os.O_RDWR | flags, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


class Unfinished(UserError):
    """The merge stopped for a reason outside its input; running it again continues it."""


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """A full disk as a message instead of a traceback."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Unfinished(
                f"no space left while writing {out}; free some and run the same command: it continues."
            ) from error
        raise


def journal_entry(line: bytes) -> tuple[str, str] | None:
    """A finished tensor's name and checksum; None for what is neither."""
    try:
        name, checksum = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    return (name, checksum) if isinstance(name, str) and isinstance(checksum, str) else None


def write_index(folder: Path, plan: Plan) -> None:
    """Write which shard holds which tensor, unless all lie in the one file that needs no index."""
    shards = {job.name: job.shard for job in sorted(plan.jobs, key=lambda job: job.name)}
    if set(shards.values()) != {SINGLE}:
        write_json(folder / INDEX, {"metadata": {"total_size": plan.bytes}, "weight_map": shards}, indent=2)


def layout(jobs: list[Job]) -> tuple[dict[str, tuple[str, int]], dict[str, bytes], dict[str, int]]:
    """Where everything lies: tensor → (shard, first byte); shard → header; shard → size in bytes.

    Tensors lie in the order of the jobs.
    """
    entries: dict[str, dict[str, Any]] = {}
    ends: dict[str, int] = {}
    for job in jobs:
        start = ends.get(job.shard, 0)
        ends[job.shard] = start + job.bytes
        entry = {"dtype": CODES[job.dtype], "shape": list(job.shape), "data_offsets": [start, start + job.bytes]}
        entries.setdefault(job.shard, {"__metadata__": {"format": "pt"}})[job.name] = entry
    headers = {}
    for shard, content in entries.items():
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        headers[shard] = len(text).to_bytes(8, "little") + text
    places = {
        job.name: (job.shard, len(headers[job.shard]) + entries[job.shard][job.name]["data_offsets"][0]) for job in jobs
    }
    return places, headers, {shard: len(headers[shard]) + end for shard, end in ends.items()}
