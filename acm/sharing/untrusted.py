"""Looks at the files of strangers before they are read: no links, and no more bytes or rows than records ever have."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from acm.errors import UserError, os_reason, shown
from acm.running.imported_tables import COLUMNS, FURTHER

RECORDS = "records.parquet"
SMALL = 1 << 20  # bytes of a text file
LARGE = 50 << 20  # bytes of a records file
DECODED = 2 << 30  # bytes of its values in memory
ROWS = 1_000_000
BATCH = 8192  # rows that are looked at together


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
    """UserError for a parquet file that holds, or unpacks to, more than records ever do, or other columns than theirs.

    Its metadata is looked at first. Texts that come often stay packed while they are counted.
    """
    try:
        with pq.ParquetFile(path) as file:
            check_metadata(path, file.metadata)
            texts = [column.name for column in columns_of(file.metadata) if column.physical_type == "BYTE_ARRAY"]
        size = 0
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                size += sum(unpacked(path, name, batch.column(name)) for name in batch.schema.names)
                if size > DECODED:
                    raise UserError(f"{path} unpacks to more than {DECODED >> 30} GiB.")
    except UserError:
        raise
    except Exception as error:  # of many kinds
        raise UserError(f"{path} is not a readable parquet file ({type(error).__name__}); copy it again.") from None


def columns_of(found: pq.FileMetaData) -> list[pq.ColumnSchema]:
    """The columns of a parquet file, those inside nested ones too."""
    return [found.schema.column(i) for i in range(found.num_columns)]


def check_metadata(path: Path, found: pq.FileMetaData) -> None:
    """UserError for a parquet file that says itself that it is too large, or that has other or nested columns."""
    if found.num_rows > ROWS or found.num_columns > 100:
        raise UserError(f"{path} is too large: the limit is {ROWS:,} rows of 100 columns.")
    for column in columns_of(found):
        if column.path not in COLUMNS | FURTHER or column.max_repetition_level or column.max_definition_level > 1:
            raise UserError(f"{path}: {shown(column.path)} is no column of records; remove it.")
    groups = (found.row_group(i) for i in range(found.num_row_groups))
    if sum(group.total_byte_size for group in groups) > DECODED:
        raise UserError(f"{path} unpacks to more than {DECODED >> 30} GiB.")


def unpacked(path: Path, name: str, values: pa.Array) -> int:
    """Bytes of a column once it is unpacked. UserError for texts that are none."""
    held = values.dictionary if isinstance(values, pa.DictionaryArray) else values
    try:
        held.validate(full=True)
    except pa.ArrowInvalid:
        raise UserError(f"{path}: column {name} holds what is no UTF-8 text; write the table anew.") from None
    if held is values:
        return int(values.nbytes)
    return int(pc.sum(pc.binary_length(held).take(values.indices)).as_py() or 0)
