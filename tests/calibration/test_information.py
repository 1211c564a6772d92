"""Mutual information: what every estimator takes and refuses, and plug-in and its corrections against scikit-learn."""

import numpy as np
import pytest
import torch
from helpers_calibration import DTYPES, normal, oracle, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import acm
from acm.calibration.information import mutual_information
from acm.calibration.registry import ESTIMATORS, label_estimators

ADDITIVE = [name for name, row in ESTIMATORS.items() if row.additive]

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
    assert acm.mutual_information(x, x.abs()) == pytest.approx(
        np.log(6) - (4 * np.log(4) + 2 * np.log(2)) / 6, abs=1e-12
    )


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


@pytest.mark.parametrize("decimals", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_independent_of_the_number_of_threads(seed, decimals):
    x, y = pair(seed, (200, 300), torch.bfloat16, decimals=decimals)
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
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
    with pytest.raises(ValueError, match=r"'kde'.*plug-in"):
        acm.mutual_information(torch.zeros(3), torch.zeros(3), estimator="kde")


@pytest.mark.parametrize(
    ("wrong", "near"), [("plugin", "plug-in"), ("miller_madow", "miller-madow"), ("gausian", "gaussian")]
)
def test_unknown_estimator_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"'{wrong}'.*Did you mean '{near}'"):
        mutual_information(torch.zeros(3), torch.zeros(3), wrong)


# ---- what is taken and what is refused


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unlike_dtypes_are_refused(estimator):
    x, y = pair(0, (20, 4), torch.float32)
    for other in (torch.bfloat16, torch.float16, torch.float64):
        with pytest.raises(ValueError, match="one dtype"):
            mutual_information(x, y.to(other), estimator)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_dtypes_that_are_no_activations_are_refused(dtype):
    with pytest.raises(ValueError, match="one dtype"):
        mutual_information(torch.zeros(4).to(dtype), torch.zeros(4).to(dtype))


def test_more_entries_than_are_counted_in_32_bits_are_refused():
    x = torch.zeros(1, dtype=torch.bfloat16).expand(2**31)
    with pytest.raises(ValueError, match="2147483647 entries"):
        mutual_information(x, x)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("side", [0, 1])
def test_every_estimator_refuses_nan(estimator, side):
    arrays = [torch.rand(20, 4), torch.rand(20, 4)]
    arrays[side][7, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        mutual_information(*arrays, estimator)


@pytest.mark.parametrize("estimator", sorted(set(ESTIMATORS) - set(label_estimators())))
@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
@pytest.mark.parametrize("side", [0, 1])
def test_estimators_that_take_more_than_labels_refuse_infinity(estimator, value, side):
    arrays = [torch.rand(20, 4), torch.rand(20, 4)]
    arrays[side][7, 2] = value
    with pytest.raises(ValueError, match="infinity"):
        mutual_information(*arrays, estimator)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_infinities_are_two_values(dtype):
    x, y = pair(1, (30, 30), dtype, decimals=0)
    as_numbers = x.clone(), y.clone()
    for v, finite in zip((x, y), as_numbers, strict=True):
        v[v == 1], v[v == -1] = float("inf"), -float("inf")
        assert v.isinf().any() and finite.isfinite().all()
    assert mutual_information(x, y) == pytest.approx(oracle(*as_numbers), abs=1e-12)


def test_values_are_those_of_the_dtype_given():
    x = torch.tensor([1.0, 1.0 + 2**-12, 2.0, 2.0 + 2**-12])
    y = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert mutual_information(x, y) == pytest.approx(np.log(4), abs=1e-12)
    assert mutual_information(x.bfloat16(), y.bfloat16()) == pytest.approx(np.log(2), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_smallest_numbers_are_values_of_their_own(dtype):
    x = (torch.tensor([0.0, 0.25, -0.25, 0.5], dtype=torch.float64) * torch.finfo(dtype).smallest_normal).to(dtype)
    assert len(x.double().unique()) == 4
    assert mutual_information(x, x) == pytest.approx(np.log(4), abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 1_000_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_scikit_learn_at_all_sizes(size, dtype):
    x, y = pair(size, (size,), dtype, decimals=1)
    assert mutual_information(x, y) == pytest.approx(oracle(x, y), abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_million_like_entries(dtype):
    x = torch.full((1_000_000,), 0.3, dtype=dtype)
    y = x.clone()
    y[0] = 5
    assert mutual_information(x, x) == pytest.approx(0, abs=1e-12)
    assert mutual_information(x, y) == pytest.approx(0, abs=1e-12)
    assert mutual_information(y, y) == pytest.approx(oracle(y, y), abs=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_memory_layout_and_gradients_change_nothing(estimator):
    x, y = pair(3, (60, 5), torch.float32)
    expected = mutual_information(x, y, estimator)
    wide = torch.stack([x, y], dim=2)
    reversed_rows = torch.arange(59, -1, -1)
    for left, right in [
        (wide[..., 0], wide[..., 1]),
        (x.T.contiguous().T, y),
        (x.clone().requires_grad_(), torch.nn.Parameter(y)),
        (x.numpy(), y),
        (x.numpy().astype(">f4"), y.numpy()),
        (np.asfortranarray(x.numpy()), y.numpy()),
        (x[reversed_rows].numpy()[::-1], y.numpy()),
        (x.view(3, 20, 5), y.view(3, 20, 5)),
        (x.view(3, 4, 5, 5), y.view(3, 4, 5, 5)),
    ]:
        found = mutual_information(left, right, estimator)
        assert found == (expected if estimator in label_estimators() else pytest.approx(expected, rel=1e-12))


@pytest.mark.filterwarnings("error")
def test_takes_numpy_arrays_that_are_read_only():
    x = np.arange(6.0)
    x.flags.writeable = False
    assert mutual_information(x, x) == pytest.approx(np.log(6), abs=1e-12)


def test_takes_broadcast_arrays():
    x, y = pair(0, (1, 30), torch.bfloat16, decimals=0)
    assert mutual_information(x.expand(9, 30), y.expand(9, 30)) == pytest.approx(oracle(x, y), abs=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(), (1,), (2,), (1, 1), (1, 5), (3, 1), (2, 1, 1)])
@pytest.mark.filterwarnings("error")
def test_few_entries_give_a_float(estimator, shape):
    x, y = pair(0, shape, torch.float32)
    assert isinstance(mutual_information(x, y, estimator), float)


@pytest.mark.parametrize(
    "estimator", ["plug-in", "miller-madow", "shuffle-corrected", "equal-width", "equal-frequency", "cosine"]
)
def test_one_entry_is_enough_for_most(estimator):
    assert np.isfinite(mutual_information(np.ones(1), np.ones(1), estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_leaves_its_inputs_alone(estimator, dtype):
    x, y = pair(6, (40, 6), dtype)
    before = x.clone(), y.clone()
    mutual_information(x, y, estimator)
    assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip((x, y), before, strict=True))


# ---- plug-in and Miller-Madow

TABLES = [
    ([[2, 0], [0, 2]], np.log(2), -1 / 8),
    ([[1, 1], [1, 1]], 0.0, 1 / 8),
    ([[3, 1], [0, 4]], 3 / 8 * np.log(2) + 1 / 8 * np.log(2 / 5) + 4 / 8 * np.log(8 / 5), 0.0),
    ([[1, 2, 1]], 0.0, 0.0),
    ([[4]], 0.0, 0.0),
]


@pytest.mark.parametrize(("table", "expected", "bias"), TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_of_a_table_by_hand(table, expected, bias, dtype):
    counts = torch.tensor(table)
    rows, columns = (i.flatten() for i in torch.meshgrid(*map(torch.arange, counts.shape), indexing="ij"))
    x, y = (i.repeat_interleave(counts.flatten()).to(dtype) for i in (rows, columns))
    assert mutual_information(x, y) == pytest.approx(expected, abs=1e-12)
    assert mutual_information(x, y, "miller-madow") == pytest.approx(expected - bias, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), shape=shapes, dtype=st.sampled_from(DTYPES))
def test_miller_madow_is_the_sum_of_corrected_entropies(seed, shape, dtype):
    def entropy(values):
        counts = np.unique(values, axis=0, return_counts=True)[1]
        p = counts / counts.sum()
        return -(p * np.log(p)).sum() + (len(counts) - 1) / (2 * counts.sum())

    x, y = pair(seed, shape, dtype, decimals=0)
    a, b = (v.double().flatten().numpy()[:, None] + 0.0 for v in (x, y))
    expected = entropy(a) + entropy(b) - entropy(np.hstack([a, b]))
    assert mutual_information(x, y, "miller-madow") == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), shape=shapes, dtype=st.sampled_from(DTYPES), estimator=st.sampled_from(ADDITIVE))
def test_the_order_of_the_pairs_changes_no_bit(seed, shape, dtype, estimator):
    x, y = pair(seed, shape, dtype, decimals=1)
    order = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(seed))
    assert mutual_information(x.flatten()[order], y.flatten()[order], estimator) == mutual_information(x, y, estimator)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), shape=shapes, dtype=st.sampled_from(DTYPES), estimator=st.sampled_from(ADDITIVE))
def test_other_names_for_the_values_change_nothing(seed, shape, dtype, estimator):
    x, y = pair(seed, shape, torch.float32, decimals=0)
    rng = np.random.default_rng(seed)
    renamed = [
        torch.tensor(rng.permutation(100)[np.unique(v.numpy(), return_inverse=True)[1].reshape(shape)]) - 50
        for v in (x, y)
    ]
    expected = mutual_information(x.to(dtype), y.to(dtype), estimator)
    assert mutual_information(*(v.to(dtype) for v in renamed), estimator) == pytest.approx(expected, abs=1e-12)
    assert mutual_information(*(3 * v.to(dtype) + 1 for v in (x, y)), estimator) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "estimator", ["plug-in", "miller-madow", "equal-width", "equal-frequency", "kraskov", "gaussian", "cka", "cosine"]
)  # the shuffle correction shuffles y alone
def test_both_sides_count_alike(estimator):
    x, y = normal(1, 80, 5, rho=0.6)
    assert mutual_information(x, y, estimator) == pytest.approx(mutual_information(y, x, estimator), rel=1e-7)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_numpy_and_torch_give_the_same(estimator):
    x, y = normal(2, 50, 4, rho=0.5)
    assert mutual_information(x, y, estimator) == mutual_information(torch.tensor(x), torch.tensor(y), estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_same_at_every_call(estimator):
    x, y = pair(2, (50, 4), torch.bfloat16)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert len({mutual_information(x, y, estimator) for _ in range(3)}) == 1
    assert torch.equal(state[0], torch.get_rng_state()) and np.array_equal(state[1], np.random.get_state()[1])


# ---- corrections


@pytest.mark.parametrize(
    ("estimator", "shape", "most"),
    [
        ("miller-madow", (100_000,), 1e-3),
        ("shuffle-corrected", (100_000,), 1e-3),
        ("kraskov", (1000, 10), 0.03),
        ("gaussian", (5000, 3), 5e-3),
    ],
)
def test_corrected_estimates_of_independent_arrays_are_near_zero(estimator, shape, most):
    x, y = (torch.tensor(v).mul(2).round().bfloat16() for v in normal(3, *shape))
    assert abs(mutual_information(x, y, estimator)) < most


@pytest.mark.parametrize("estimator", ["miller-madow", "shuffle-corrected"])
def test_corrections_take_away_most_of_the_bias(estimator):
    pairs = torch.randint(8, (20, 2, 1000), generator=torch.Generator().manual_seed(0)).bfloat16()
    biased, corrected = (
        np.mean([mutual_information(*pair, name) for pair in pairs]) for name in ("plug-in", estimator)
    )
    assert biased > 0.02 and abs(corrected) < 0.2 * biased


def test_shuffle_correction_subtracts_the_mean_of_shuffles():
    x, y = pair(5, (3000,), torch.bfloat16, decimals=1)
    rng = np.random.default_rng(99)
    nulls = [oracle(x, y[rng.permutation(3000)]) for _ in range(20)]
    found = mutual_information(x, y) - mutual_information(x, y, "shuffle-corrected")
    assert found == pytest.approx(np.mean(nulls), abs=3 * np.std(nulls))
