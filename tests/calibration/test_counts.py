"""Counts of label pairs that are gathered chunk by chunk."""

import numpy as np
import pytest
import torch
from helpers_calibration import DTYPES, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from acm.calibration.counts import PairCounts
from acm.calibration.information import information_of_sums, mutual_information
from acm.calibration.registry import ESTIMATORS

ADDITIVE = [name for name, row in ESTIMATORS.items() if row.additive]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 30),
    columns=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES[:2]),
    data=st.data(),
)
def test_chunks_in_any_split_and_order_give_the_whole(seed, rows, columns, dtype, data):
    x, y = pair(seed, (rows, columns), dtype, decimals=data.draw(st.integers(0, 3)))
    cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1)))) if rows > 1 else []
    pieces = data.draw(st.permutations(list(zip(np.split(np.arange(rows), cuts), strict=True))))
    counts = PairCounts()
    for (piece,) in pieces:
        counts.add(x[piece], y[piece])
    assert int(counts.counts.sum()) == rows * columns
    for name in ADDITIVE:
        assert information_of_sums(counts.sums(), name) == pytest.approx(mutual_information(x, y, name), abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_many_entries_in_chunks_give_the_whole(dtype):
    x, y = pair(0, (300, 1000), dtype, decimals=6)
    counts = PairCounts()
    for chunk in zip(x.split(70), y.split(70), strict=True):
        counts.add(*chunk)
    for name in ADDITIVE:
        assert information_of_sums(counts.sums(), name) == pytest.approx(mutual_information(x, y, name), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16])
def test_chunks_of_more_than_16_bits_are_refused(dtype):
    with pytest.raises(ValueError, match="bf16"):
        PairCounts().add(torch.zeros(3, dtype=dtype), torch.zeros(3, dtype=dtype))


def test_chunks_of_unlike_dtypes_are_refused():
    counts = PairCounts()
    counts.add(torch.ones(3).bfloat16(), torch.ones(3).bfloat16())
    with pytest.raises(ValueError, match="float16"):
        counts.add(torch.ones(3).half(), torch.ones(3).half())


def test_chunks_of_unlike_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        PairCounts().add(torch.ones(3).bfloat16(), torch.ones(1).bfloat16())


@pytest.mark.parametrize("side", [0, 1])
def test_chunks_with_nan_are_refused(side):
    chunk = [torch.zeros(4).bfloat16(), torch.zeros(4).bfloat16()]
    chunk[side][2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        PairCounts().add(*chunk)


def test_no_chunks_have_no_information():
    with pytest.raises(ValueError, match="no pairs"):
        PairCounts().sums()


@pytest.mark.parametrize("estimator", [*sorted(set(ESTIMATORS) - set(ADDITIVE)), "kde"])
def test_counts_refuse_estimators_that_need_the_whole(estimator):
    counts = PairCounts()
    counts.add(torch.ones(3).bfloat16(), torch.ones(3).bfloat16())
    with pytest.raises(ValueError, match=f"'{estimator}'.*{', '.join(sorted(ADDITIVE))}"):
        information_of_sums(counts.sums(), estimator)
