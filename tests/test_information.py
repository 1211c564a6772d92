"""Mutual information against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

import acm

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def pair(seed, shape, dtype, noise=0.3, decimals=2):
    """Two correlated arrays with repeated values, some of them +0 and −0."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator).round(decimals=decimals)
    y = (x + noise * torch.randn(shape, generator=generator)).round(decimals=decimals)
    x[torch.rand(shape, generator=generator) < 0.1] = 0.0
    x[torch.rand(shape, generator=generator) < 0.1] = -0.0
    return x.to(dtype), y.to(dtype)


def oracle(x, y):
    label = [np.unique(a.double().numpy().ravel(), return_inverse=True)[1].ravel() for a in (x, y)]
    return mutual_info_score(*label)


shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**31), shape=shapes, dtype=st.sampled_from(DTYPES), noise=st.sampled_from([0.0, 0.3, 10.0]))
def test_equals_scikit_learn(seed, shape, dtype, noise):
    x, y = pair(seed, shape, dtype, noise)
    assert acm.mutual_information(x, y) == pytest.approx(oracle(x, y), abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_scikit_learn_at_the_size_of_a_layer(dtype):
    x, y = pair(7, (100, 896), dtype, decimals=6)
    assert acm.mutual_information(x, y) == pytest.approx(oracle(x, y), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_takes_numpy_arrays(dtype):
    x, y = pair(1, (5, 9), dtype)
    assert acm.mutual_information(x.numpy(), y.numpy()) == acm.mutual_information(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_positive_and_negative_zero_are_one_value(dtype):
    x = torch.tensor([0.0, -0.0, 0.0, -0.0, 1.0, 1.0], dtype=dtype)
    assert acm.mutual_information(x, x.abs()) == pytest.approx(np.log(6) - (4 * np.log(4) + 2 * np.log(2)) / 6, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("counts", [(1,), (5, 5), (1, 2, 3, 4), (97, 3)])
def test_of_an_array_with_itself_is_its_entropy(dtype, counts):
    x = torch.repeat_interleave(torch.arange(len(counts)) - 1.5, torch.tensor(counts)).to(dtype)
    p = np.array(counts) / sum(counts)
    assert acm.mutual_information(x, x) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-12)


def test_independent_factors_share_nothing():
    x, y = torch.meshgrid(torch.arange(8.0), torch.arange(5.0), indexing="ij")
    assert acm.mutual_information(x, y) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetric(dtype):
    x, y = pair(2, (20, 30), dtype)
    assert acm.mutual_information(x, y) == pytest.approx(acm.mutual_information(y, x), abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_invariant_to_a_joint_permutation(dtype):
    x, y = pair(3, (20, 30), dtype)
    order = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0))
    assert acm.mutual_information(x.flatten()[order], y.flatten()[order]) == acm.mutual_information(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_invariant_to_memory_layout(dtype):
    x, y = pair(3, (20, 30), dtype)
    assert acm.mutual_information(x.T, y.T) == acm.mutual_information(x, y)


def test_independent_of_the_number_of_threads():
    x, y = pair(4, (200, 300), torch.bfloat16)
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(acm.mutual_information(x, y))
    finally:
        torch.set_num_threads(1)
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_arrays_give_exactly_zero(dtype):
    x, _ = pair(5, (7, 11), dtype)
    constant = torch.full_like(x, 0.3)
    assert acm.mutual_information(constant, constant) == acm.mutual_information(constant, x) == 0


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((2, 3), (2, 4)), ((2, 3), (3, 2)), ((6,), (2, 3))])
def test_unlike_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="one shape"):
        acm.mutual_information(*(torch.zeros(shape) for shape in shapes))


def test_empty_arrays_are_refused():
    with pytest.raises(ValueError, match="at least one entry"):
        acm.mutual_information(torch.zeros(0, 5), torch.zeros(0, 5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [0, 1])
def test_nan_is_refused(dtype, side):
    arrays = [torch.zeros(4, dtype=dtype), torch.zeros(4, dtype=dtype)]
    arrays[side][2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        acm.mutual_information(*arrays)


def test_unknown_estimator_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'kde'.*plug-in"):
        acm.mutual_information(torch.zeros(3), torch.zeros(3), estimator="kde")
