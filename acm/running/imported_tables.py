"""Reads our own records from parquet files: the promised columns, each of its type."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from acm.errors import UserError, shown
from acm.records import RECORD_COLUMNS


def text(value: Any) -> bool:
    """Whether a value is a text."""
    return isinstance(value, str)


def whole(value: Any) -> bool:
    """Whether a value counts something. pandas makes floats of a column of whole numbers with a gap."""
    return number(value) and not truth(value) and 0 <= value < 2**31 and value == int(value)


def number(value: Any) -> bool:
    """Whether a value is a number; NaN is none."""
    return isinstance(value, Real) and value == value


def truth(value: Any) -> bool:
    """Whether a value is true or false."""
    return pd.api.types.is_bool(value)


def truth_or_none(value: Any) -> bool:
    """Whether a value is true, false or missing."""
    return truth(value) or absent(value)


def absent(value: Any) -> bool:
    """Whether a value is missing."""
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


Test = tuple[Callable[[Any], bool], str, type]
TEXT, COUNT = (text, "a text", str), (whole, "a whole number from 0", int)
COLUMNS: dict[str, Test] = {
    **dict.fromkeys(
        ["profile", "experiment", "model", "method", "task", "answer", "gold", "response", "setting"], TEXT
    ),
    **dict.fromkeys(["item", "repeat", "length", "reflections"], COUNT),
    "correct": (number, "a number", float),
    "truncated": (truth, "true or false", bool),
    "thinking_closed": (truth_or_none, "true, false or nothing", object),
}
FURTHER: dict[str, Test] = {  # columns that a table may lack, and a task within a table
    **dict.fromkeys(["question", "answer_from"], (text, "a text", object)),
    "correct_string": (number, "a number", float),
    "steps": (whole, "a whole number from 0", object),
}


def read_table(path: Path) -> pd.DataFrame:
    """Records from a parquet file, with the columns of records in our types; others are left out.

    UserError for a file that holds none.
    """
    try:
        records = pd.read_parquet(path)
    except Exception as error:  # of many kinds, by engine
        raise UserError(f"{path} is not a readable parquet file ({type(error).__name__}); copy it again.") from None
    if missing := [column for column in RECORD_COLUMNS if column not in records]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; is it a table of records?")
    if records.empty:
        raise UserError(f"{path} holds no record.")
    kept = [column for column in records if column in COLUMNS or column in FURTHER]
    if len(set(kept)) < len(kept):
        raise UserError(f"{path} has a column twice; write the table anew.")
    return typed(records[kept].reset_index(drop=True), path)


def typed(records: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The records in our types. UserError for the first value that is of another type."""
    records = records.copy()
    for column in map(str, records.columns):
        test, what, kind = (COLUMNS | FURTHER)[column]
        values = records[column].astype(object)
        missing = values.map(absent) if column in FURTHER else False
        bad = ~(values.map(test) | missing).astype(bool)
        if bad.any():
            row = records[bad].iloc[0]
            raise UserError(
                f"{path}: {column} of item {shown(row['item'])} of {shown(row['task'])} is {shown(row[column])}, "
                f"not {what}."
            )
        records[column] = values.where(~values.map(absent), None).astype(kind)
    return records
