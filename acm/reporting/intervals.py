"""Writes a value with its interval, as columns of a table or as text.

:mod:`acm.reporting.statistics` computes the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

import pandas as pd

Row = Mapping[str, Any] | pd.Series  # a row of a table


class Interval(TypedDict):
    """A value and the ends of its interval, in one unit."""

    value: float
    low: float
    high: float


def interval_text(value: float, low: float, high: float, digits: int = 1, signed: bool = False) -> str:
    """A value and its interval as all texts of the project show them.

    digits: decimals. signed: with a plus sign, for differences. NaN is a dash; zero never has a minus sign.

    >>> interval_text(91.64, 88, 94.75)
    '91.6 [88.0, 94.8]'
    >>> interval_text(3.2, -0.04, 5.4, signed=True)
    '+3.2 [+0.0, +5.4]'
    """
    if math.isnan(value):
        return "–"
    shown, *ends = (f"{number:{'+' * signed}z.{digits}f}" for number in (value, low, high))
    return f"{shown} [{', '.join(ends)}]"


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """The columns of a table that hold an interval: ``name``, ``name_low`` and ``name_high``."""
    return {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}


def interval_in(row: Row, name: str) -> Interval:
    """The interval that :func:`interval_columns` has put into a row."""
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
