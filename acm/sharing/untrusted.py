"""Looks at the files of strangers before they are read: no links, and no more bytes or rows than records ever have."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from acm.errors import UserError, os_reason

RECORDS = "records.parquet"
SMALL = 1 << 20  # bytes of a text file
LARGE = 50 << 20  # bytes of a records file
DECODED = 2 << 30  # bytes of its values in memory
ROWS = 1_000_000
BATCH = 64  # rows that are decoded at a time while they are counted


def plain_file(path: Path, most: int) -> bool:
    """Whether a file is there. UserError for a link, for what is no file, and for one of more than ``most`` bytes."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path} cannot be read: {os_reason(error)}.") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is a link, a folder or a device; a submission holds plain files.")
    if found.st_size > most:
        raise UserError(f"{path} has {found.st_size / (1 << 20):.1f} MiB, and the limit is {most >> 20} MiB.")
    return True


def record_files(folder: Path) -> Iterator[Path]:
    """The records files of a folder, as `acm import` finds them."""
    if plain_file(folder / RECORDS, LARGE):
        yield folder / RECORDS
        return
    inner = folder / "records"
    if inner.is_symlink():
        raise UserError(f"{inner} is a link; a submission holds plain files.")
    for path in sorted((inner if inner.is_dir() else folder).glob("*.parquet")):
        if plain_file(path, LARGE):
            yield path


def check_parquet(path: Path) -> None:
    """UserError for a parquet file that holds, or unpacks to, more than records ever do. Nothing is kept in memory.

    Its metadata is looked at first: what a value or a page would unpack to is refused before it is unpacked.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=False) as file:
            check_metadata(path, file.metadata)
            size = 0
            for batch in file.iter_batches(batch_size=BATCH):
                size += batch.nbytes
                if size > DECODED:
                    raise UserError(f"{path} unpacks to more than {DECODED >> 30} GiB.")
    except UserError:
        raise
    except Exception as error:  # of many kinds
        raise UserError(f"{path} is not a readable parquet file ({type(error).__name__}); copy it again.") from None


def check_metadata(path: Path, found: pq.FileMetaData) -> None:
    """UserError for a parquet file with other or nested columns, or with too many rows or bytes."""
    if found.num_rows > ROWS or found.num_columns > 100:
        raise UserError(f"{path} is too large: the limit is {ROWS:,} rows of 100 columns.")
    for column in map(found.schema.column, range(found.num_columns)):
        if column.path != column.name or column.max_repetition_level or column.max_definition_level > 1:
            raise UserError(f"{path}: column {shown(column.path)} is nested; a column of records holds plain values.")
