"""Each merge method on small tensors, against its closed form or an oracle that shares no code with it."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_cases import BASE, FIRST, SECOND, any_case, assert_close, by_election, merge, permuted, randn

from acm.merging.methods import FUNCTIONS, PREPARE, merge_tensor
from acm.merging.methods.measured import sensitivity_pair
from acm.merging.registry import METHODS
from acm.merging.settings import Settings


def test_every_method_has_a_function_a_title_a_formula_and_a_citation():
    assert FUNCTIONS.keys() == METHODS.keys() >= PREPARE.keys()
    for name, method in METHODS.items():
        assert method.name == name and method.title and method.formula and FUNCTIONS[name].__doc__
        assert re.fullmatch(r"arXiv:\d{4}\.\d{5}|https://\S+", method.paper)


@pytest.mark.parametrize("normalize, divisor", [(True, 2.5), (False, 1.0)])
def test_linear(normalize, divisor):
    expected = (0.5 * (BASE + FIRST) + 2.0 * (BASE + SECOND)) / divisor
    assert_close(merge("linear", [FIRST, SECOND], [0.5, 2.0], normalize=normalize), expected)


def test_linear_leaves_out_a_base_that_is_not_listed():
    models = [BASE + FIRST, BASE + SECOND]
    s = Settings([1.0, 3.0], normalize=True)
    assert torch.equal(*(merge_tensor("linear", base, models, s) for base in (BASE, BASE * 9)))


def test_task_arithmetic():
    found = merge("task_arithmetic", [FIRST, SECOND], [0.5, 2.0], scaling=0.3)
    assert_close(found, BASE + 0.3 * (0.5 * FIRST + 2.0 * SECOND))


@pytest.mark.parametrize("divisors, total", [([0.5, 2.0], 2.5), ([1.0, 1.0], 2.0)])
def test_task_arithmetic_normalized_by_weights_or_by_the_number_of_models(divisors, total):
    found = merge("task_arithmetic", [FIRST, SECOND], [0.5, 2.0], divisors=divisors, scaling=0.3, normalize=True)
    assert_close(found, BASE + 0.3 * (0.5 * FIRST + 2.0 * SECOND) / total)


def test_task_arithmetic_with_opposite_weights_does_not_divide_by_zero():
    assert_close(merge("task_arithmetic", [FIRST, SECOND], [1.0, -1.0], normalize=True), BASE + FIRST - SECOND)


@pytest.mark.parametrize("coefficient", [0.0, 0.3, 1.0, 1.5])
def test_interpolation(coefficient):
    found = merge("interpolation", [FIRST], [coefficient])
    assert_close(found, (1 - coefficient) * BASE + coefficient * (BASE + FIRST))


# Trimmed to half: FIRST → [3, 0, 2, 0], SECOND → [−2, −4, 0, 0].
# Sums weighted by (0.5, 1): [−0.5, −4, 1, 0], so SECOND, SECOND, FIRST.
# Unweighted sums: [1, −4, 2, 0], so FIRST, SECOND, FIRST.
@pytest.mark.parametrize("election, divisors, normalize, expected", [
    ("weighted", [0.5, 1.0], True, [-2.0, -4.0, 2.0, 0.0]),
    ("weighted", [1.0, 1.0], True, [-2.0, -4.0, 1.0, 0.0]),
    ("weighted", [0.5, 1.0], False, [-2.0, -4.0, 1.0, 0.0]),
    ("unweighted", [1.0, 1.0], True, [1.5, -4.0, 1.0, 0.0]),
    ("unweighted", [0.5, 1.0], True, [3.0, -4.0, 2.0, 0.0]),
])  # fmt: skip
def test_ties_by_hand(election, divisors, normalize, expected):
    options = {"divisors": divisors, "normalize": normalize, "election": election, "scaling": 0.4}
    found = merge("ties", [FIRST, SECOND], [0.5, 1.0], density=0.5, **options)
    assert_close(found, BASE + 0.4 * torch.tensor(expected))


def test_election_gives_ties_to_plus_and_never_agrees_with_zero():
    deltas = [torch.tensor([1.0, 0.0, -1.0, 2.0, 0.0]), torch.tensor([-1.0, 0.0, -1.0, -3.0, -5.0])]
    found = merge("ties", deltas, [1.0, 1.0], base=torch.zeros(5), normalize=True)
    assert found.tolist() == [1.0, 0.0, -1.0, -3.0, -5.0]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(
    st.lists(st.lists(st.integers(-3, 3).map(float), min_size=n, max_size=n), min_size=1, max_size=8),
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=n, max_size=n),
)), st.booleans(), st.booleans(), st.sampled_from(["weighted", "unweighted"]))  # fmt: skip
def test_election_entry_by_entry(case, by_weight, normalize, election):
    entries, weights = case
    divisors = weights if by_weight else [1.0] * len(weights)
    options = {"divisors": divisors, "normalize": normalize, "election": election}
    found = merge("ties", list(torch.tensor(entries).T), weights, torch.zeros(len(entries)), **options)
    assert_close(found, [by_election(entry, weights, divisors, normalize, election) for entry in entries])


def orthonormal(size=24):
    """Two vectors, (2, size) float64."""
    return torch.linalg.qr(randn(size, 2, seed=3).double())[0].T


@pytest.mark.parametrize("angle", [0.1, 1.0, np.pi / 2, 3.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 1.4])
def test_slerp_turns_by_a_fraction_of_the_angle_and_keeps_the_norm(angle, t):
    u, v = orthonormal()
    base, model = (7 * u).float().view(4, 6), (7 * (np.cos(angle) * u + np.sin(angle) * v)).float().view(4, 6)
    found = merge_tensor("slerp", base, [model], Settings([t]))
    assert_close(found.flatten(), 7 * (np.cos(t * angle) * u + np.sin(t * angle) * v), 1e-5)
    assert found.norm().item() == pytest.approx(7, rel=1e-5)
    if t in (0.0, 1.0):
        assert_close(found, (base, model)[int(t)])


def test_slerp_of_unlike_norms():
    u, v = orthonormal()
    base, model, angle = 2 * u, 5 * (0.6 * u + 0.8 * v), np.arccos(0.6)
    found = merge_tensor("slerp", base.float(), [model.float()], Settings([0.25]))
    assert_close(found, np.sin(0.75 * angle) / 0.8 * base + np.sin(0.25 * angle) / 0.8 * model, 1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_of_nearly_parallel_tensors_interpolates(sign):
    u, v = orthonormal()
    base, model = u.float(), (3 * sign * (u + 0.01 * v)).float()
    assert_close(merge_tensor("slerp", base, [model], Settings([0.3])), 0.7 * base + 0.3 * model)


def test_slerp_from_zero_is_a_right_angle():
    assert_close(merge_tensor("slerp", torch.zeros(4), [BASE], Settings([0.3])), np.sin(0.3 * np.pi / 2) * BASE)


@pytest.mark.parametrize("count", [2, 3])
def test_model_stock(count):
    base, deltas = randn(8, 5).numpy(), [randn(8, 5, seed=i).numpy() + 0.7 for i in range(1, 1 + count)]
    cosines = [(a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(deltas, 2)]
    t = count * np.mean(cosines) / (1 + (count - 1) * np.mean(cosines))
    expected = t * np.mean([base + d for d in deltas], axis=0) + (1 - t) * base
    found = merge("model_stock", [*map(torch.from_numpy, deltas)], [1.0] * count, torch.from_numpy(base))
    assert_close(found, expected, 1e-5)


def test_model_stock_of_equal_models_is_the_model_and_of_orthogonal_ones_the_base():
    assert_close(merge("model_stock", [FIRST, FIRST], [1.0, 1.0]), BASE + FIRST)
    assert_close(merge("model_stock", [torch.eye(4)[0], torch.eye(4)[1]], [1.0, 1.0]), BASE)


def test_model_stock_weighs_task_vectors():
    expected = merge("model_stock", [FIRST, SECOND], [1.0, 1.0]) - BASE
    first, second = (merge("model_stock", [FIRST, SECOND], weights) - BASE for weights in ([0.4, 0.0], [0.0, 1.5]))
    assert_close(first / 0.4 + second / 1.5, expected)


@pytest.mark.parametrize("count", [2, 3])
def test_model_stock_is_the_base_where_the_ratio_is_singular(count):
    turns = [2 * np.pi * i / count for i in range(count)]
    deltas = [torch.tensor([np.cos(a), np.sin(a), 0.0, 0.0], dtype=torch.float32) for a in turns]
    assert_close(merge("model_stock", deltas, [1.0] * count), BASE)


def test_fisher_is_the_mean_weighted_by_information():
    models, information = [BASE + FIRST, BASE + SECOND], [FIRST.square(), torch.tensor([1.0, 0.0, 5.0, 1e-12])]
    expected = sum(f * m for f, m in zip(information, models, strict=True)) / sum(information)
    assert_close(merge("fisher", [FIRST, SECOND], [1.0, 1.0], statistics=information), expected)
    assert_close(merge("fisher", [FIRST, SECOND], [1.0, 1.0], statistics=[f * 1e-9 for f in information]), expected)


def test_fisher_with_coefficients_and_with_weights():
    information = [FIRST.square(), SECOND.square()]
    total = 0.3 * information[0] * FIRST + 0.9 * information[1] * SECOND
    for divisors in ([1.0, 1.0], [0.3, 0.9]):
        expected = BASE + total / (divisors[0] * information[0] + divisors[1] * information[1])
        assert_close(merge("fisher", [FIRST, SECOND], [0.3, 0.9], divisors=divisors, statistics=information), expected)


@pytest.mark.parametrize("information", [None, torch.zeros(4)])
def test_fisher_without_information_is_the_mean(information):
    found = merge("fisher", [FIRST, SECOND], [0.3, 0.9], statistics=[information] * 2)
    assert_close(found, BASE + (0.3 * FIRST + 0.9 * SECOND) / 1.2)


def test_aim_relaxes_each_input_channel_by_its_importance():
    base, deltas, importance = randn(3, 4), [randn(3, 4, seed=i) for i in (1, 2)], torch.tensor([0.5, 2.0, 0.0, 1.0])
    expected = base.clone()
    for channel, share in enumerate([0.25, 1.0, 0.0, 0.5]):
        expected[:, channel] += (0.3 * deltas[0] + 0.9 * deltas[1])[:, channel] * (1 - share * 0.6)
    assert_close(merge("aim", deltas, [0.3, 0.9], base, statistics=[importance], numbers={"omega": 0.4}), expected)


@pytest.mark.parametrize("importance, omega", [(SECOND.abs(), 1.0), (None, 0.4), (torch.zeros(4), 0.4)])
def test_aim_without_importance_or_relaxed_fully_is_task_arithmetic(importance, omega):
    found = merge("aim", [FIRST, SECOND], [0.3, 0.9], statistics=[importance], numbers={"omega": omega})
    assert_close(found, BASE + 0.3 * FIRST + 0.9 * SECOND)


def test_sens_weighs_base_and_task_vector():
    numbers, layers = {"alpha": 0.4, "temperature": 0.5}, {"sensitivity": [3.0, 2.0]}
    found = merge("sens", [FIRST], [0.9], numbers=numbers, layers=layers)
    first, second = (2 * torch.softmax(torch.tensor([0.6 * 3.0, 0.4 * 2.0]) / 0.5, 0)).tolist()
    assert_close(found, first * BASE + second * 0.4 * 0.9 * FIRST)


def test_sens_outside_the_blocks_adds_the_scaled_task_vector():
    numbers, layers = {"alpha": 0.4, "temperature": 0.5}, {"sensitivity": [None, None]}
    assert_close(merge("sens", [FIRST], [0.9], numbers=numbers, layers=layers), BASE + 0.4 * 0.9 * FIRST)


def test_sensitivities_become_a_pair_that_sums_to_two():
    found = sensitivity_pair([3.0, 2.0], 0.4, 0.5)
    scores = torch.tensor([0.6 * 3.0, 0.4 * 2.0], dtype=torch.float64) / 0.5
    assert found == pytest.approx((2 * torch.softmax(scores, 0)).tolist()) and sum(found) == pytest.approx(2)
    assert sensitivity_pair([1.0, 1.0], 0.5, 0.1) == pytest.approx((1, 1))
    assert sensitivity_pair([None, 2.0], 0.4, 0.5) == sensitivity_pair([3.0, None], 0.4, 0.5) == (1.0, 1.0)


@pytest.mark.filterwarnings("error")
def test_large_sensitivities_saturate():
    assert sensitivity_pair([1e4, 1.0], 0.5, 1.0) == pytest.approx((2, 0))
    assert sensitivity_pair([1.0, 1e4], 0.5, 1.0) == pytest.approx((0, 2))


ORDERED = {"opcm", "obim"}  # the models take turns, in the order of their names


@pytest.mark.parametrize("method, count, tolerance", [
    (name, count, tolerance) for name, row in METHODS.items() for count, tolerance in ((2, 0), (3, 1e-6))
    if count <= (row.models[1] or count) and name not in ORDERED
])  # fmt: skip
def test_the_order_of_models_changes_nothing_but_the_last_bit_of_sums_of_three(method, count, tolerance):
    base, models, s = any_case(method, count)
    expected = merge_tensor(method, base, models, s)
    for order in itertools.permutations(range(count)):
        found = merge_tensor(method, base, [models[i] for i in order], permuted(s, order))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(method, dtype):
    base, models, s = any_case(method, 1 if METHODS[method].single else 2)
    base, models = base.to(dtype), [model.to(dtype) for model in models]
    found, expected = (
        merge_tensor(method, base, models, s),
        merge_tensor(method, base.float(), [model.float() for model in models], s),
    )
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert not torch.equal(found, found.to(dtype).float())
