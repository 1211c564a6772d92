"""Packs files into an archive whose bytes depend on them alone, and unpacks archives of strangers.

Of an archive only regular files of expected names are taken. A name decides where a file goes, and never the archive:
no absolute path, no `..`, no link and no device can come out of it. What is unpacked is bounded.
"""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from acm.errors import UserError, shown
from acm.files import whole

MOST = 8 << 30  # bytes, unpacked
MEMBERS = 10_000
HEADER = 1 << 16  # bytes of what tells more of a member than its first header
CHUNK = 1 << 20
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


class Entry(tarfile.TarInfo):
    """A member of a .tar.gz whose further header, as of long names, is bounded: tarfile reads it whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if not (self.isreg() or self.isdir()) and self.size > HEADER:
            raise tarfile.ReadError("a header is too large")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def pack(files: Mapping[str, Path], archive: Path) -> None:
    """Write a .tar.gz of these files, name in the archive → file. The same files give the same bytes."""
    with (
        whole(archive) as part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)  # of nobody, at no time
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)


def unpack(archive: Path, expected: str, folder: Path, most: int = MOST) -> list[str]:
    """Write the files of a .tar.gz or .zip below a folder that is empty; returns their names.

    expected: a pattern that the whole name of each file matches. most: bytes, unpacked, of all together. UserError for
    an archive that is damaged or too large, and for one that holds anything else.
    """
    names, left = list[str](), most
    try:
        for name, size, file in members(archive):
            left -= size
            if left < 0:
                raise UserError(f"{archive} unpacks to more than {most >> 20} MiB.")
            if not re.fullmatch(expected, name) or name in names:
                raise UserError(f"{archive} holds {shown(name)}, which is no part of a deposit, or holds it twice.")
            copy(file, folder / name, size)
            names.append(name)
    except BROKEN as error:
        raise UserError(f"{archive} is no readable .tar.gz or .zip ({type(error).__name__}); fetch it again.") from None
    return names


def members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size in bytes and content of each file of an archive, in its order. UserError for a link or a device."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for number, info in enumerate(packed.infolist()):
                check_number(archive, number)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UserError(f"{archive} holds {shown(info.filename)}, which is a link or a device.")
                if not info.is_dir():
                    with packed.open(info) as file:
                        yield info.filename, info.file_size, file
        return
    with tarfile.open(archive, "r|gz", tarinfo=Entry) as tar:
        for number, entry in enumerate(tar):
            check_number(archive, number)
            if not (entry.isreg() or entry.isdir()):
                raise UserError(f"{archive} holds {shown(entry.name)}, which is a link or a device.")
            if entry.isreg() and (content := tar.extractfile(entry)):
                yield entry.name.removeprefix("./"), entry.size, content


def check_number(archive: Path, number: int) -> None:
    """UserError for too many members, folders among them."""
    if number >= MEMBERS:
        raise UserError(f"{archive} holds more than {MEMBERS:,} members.")


def copy(file: IO[bytes], target: Path, size: int) -> None:
    """Write as many bytes as were announced. UserError where there are others."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        while chunk := file.read(CHUNK):
            size -= len(chunk)
            if size < 0:
                break
            out.write(chunk)
    if size:
        raise UserError(f"{target.name} of the archive has another size than it announces; fetch it again.")
