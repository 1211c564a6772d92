"""A value with its interval, as text and as columns of a table."""

import numpy as np
import pandas as pd
import pytest

from acm.reporting.intervals import interval_columns, interval_in, interval_text


@pytest.mark.parametrize(
    "numbers, options, text",
    [
        ((91.64, 88, 94.75), {}, "91.6 [88.0, 94.8]"),
        ((147.6, 146.5, 150.2), {"digits": 0}, "148 [146, 150]"),
        ((3.2, -1, 5.44), {"signed": True}, "+3.2 [-1.0, +5.4]"),
        ((-0.04, -0.04, 0.0), {}, "0.0 [0.0, 0.0]"),
        ((-0.004, -1.5, 0.004), {"digits": 2, "signed": True}, "+0.00 [-1.50, +0.00]"),
        ((np.nan, np.nan, np.nan), {"signed": True}, "–"),
    ],
)
def test_text(numbers, options, text):
    assert interval_text(*numbers, **options) == text


def test_columns_and_back():
    interval = {"value": 1.0, "low": 0.5, "high": 2.0}
    columns = interval_columns("length", interval)
    assert columns == {"length": 1.0, "length_low": 0.5, "length_high": 2.0}
    assert interval_in(pd.Series(columns), "length") == interval
