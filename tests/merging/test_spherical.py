"""Methods that turn tensors on spheres: closed forms, properties, oracles in numpy, and what a base means to them."""

import itertools

import numpy as np
import pytest
import torch
from helpers import recipe, same
from tensor_cases import BASE, FIRST, SECOND, assert_close, merge, randn

import acm
from acm.errors import UserError
from acm.merging import primitives
from acm.merging.methods import merge_tensor
from acm.merging.primitives import gram
from acm.merging.recipe import load_recipe
from acm.merging.settings import Settings

NUSLERP = {"nuslerp_flatten": True, "nuslerp_row_wise": False}
EPS = {"eps": 1e-8}
KARCHER = {"max_iter": 10, "tol": 1e-5}


def orthonormal(count, size=24):
    """Vectors, (count, size) float64."""
    return torch.linalg.qr(randn(size, count, seed=3).double())[0].T


def nuslerp(first, second, weights, base=None, **flags):
    """The method on two vectors of task, at a base (or none)."""
    base = torch.zeros_like(first) if base is None else base
    settings = Settings(weights, weights, numbers=NUSLERP | flags)
    return merge_tensor("nuslerp", base, [base + first, base + second], settings)


def multislerp(deltas, weights, base=None, normalize=True, **extra):
    """The method on task vectors, at a base (or none)."""
    base = torch.zeros_like(deltas[0]) if base is None else base
    settings = Settings(weights, **({"divisors": weights} | extra), normalize=normalize, numbers=EPS)
    return merge_tensor("multislerp", base, [base + delta for delta in deltas], settings)


def karcher(models, **numbers):
    """The method on models."""
    return merge_tensor("karcher", models[0], models, Settings([1.0] * len(models), numbers=KARCHER | numbers))


@pytest.mark.parametrize("step", [1, 7, 31, 33, 100])
def test_inner_products_depend_on_no_chunk(monkeypatch, step):
    monkeypatch.setattr(primitives, "SUMMED", 32)
    vectors = [randn(100, seed=i) for i in range(3)]
    chunks = ([vector[start : start + step] for vector in vectors] for start in range(0, 100, step))
    assert np.array_equal(gram(chunks, 3), gram([vectors], 3))


@pytest.mark.parametrize("angle", [0.1, 1.0, np.pi / 2, 3.0])
@pytest.mark.parametrize("weights, t", [([0.7, 0.3], 0.3), ([1.0, 3.0], 0.75), ([2.0, 0.0], 0.0), ([-1.0, 2.0], 2.0),
                                        ([0.0, 0.0], 0.5), ([1.0, -1.0], 0.5)])  # fmt: skip
def test_nuslerp_turns_directions_and_keeps_lengths(angle, weights, t):
    u, v = orthonormal(2)
    first, second = 2 * u, 5 * (np.cos(angle) * u + np.sin(angle) * v)
    expected = (np.sin((1 - t) * angle) * first + np.sin(t * angle) * second) / np.sin(angle)
    base = randn(4, 6)
    found = nuslerp(first.float().view(4, 6), second.float().view(4, 6), weights, base)
    assert_close(found - base, expected.view(4, 6), 1e-5)


def arcs(first, second, t, axis):
    """In numpy: an arc for each vector along an axis; None: for the whole tensor."""
    first, second = (np.asarray(x, np.float64) for x in (first, second))
    cosine = (first * second).sum(axis, keepdims=True) / np.sqrt(
        (first**2).sum(axis, keepdims=True) * (second**2).sum(axis, keepdims=True)
    )
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * first + np.sin(t * angle) * second) / np.sin(angle)


@pytest.mark.parametrize("shape", [(6, 5), (1, 5), (4, 3, 5), (7,)])
@pytest.mark.parametrize("flatten, row_wise", itertools.product([True, False], repeat=2))
def test_nuslerp_of_the_whole_of_rows_and_of_columns(shape, flatten, row_wise):
    base, first, second = (randn(*shape, seed=i) for i in range(3))
    axis = None if flatten or len(shape) == 1 else 0 if row_wise else -1
    on_a_line = shape[0] == 1 and axis == 0  # as all vectors of one entry
    expected = 0.75 * first + 0.25 * second if on_a_line else arcs(first, second, 0.25, axis)
    found = nuslerp(first, second, [0.6, 0.2], base, nuslerp_flatten=flatten, nuslerp_row_wise=row_wise)
    assert_close(found - base, expected, 1e-5)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, -2.0])
@pytest.mark.parametrize(
    "flags", [{}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}]
)
def test_nuslerp_of_vectors_on_a_line_interpolates(factor, flags):
    first = randn(6, 5)
    assert_close(nuslerp(first, factor * first, [0.7, 0.3], **flags), (0.7 + 0.3 * factor) * first)


@pytest.mark.parametrize("flags", [{}, {"nuslerp_flatten": False}])
def test_nuslerp_of_unchanged_tensors_is_the_base(flags):
    base, zero = randn(6, 5), torch.zeros(6, 5)
    assert torch.equal(nuslerp(zero, zero, [0.7, 0.3], base, **flags), base)
    quarter = np.sin(0.7 * np.pi / 2)  # nothing and something are at a right angle
    assert_close(nuslerp(randn(6, 5, seed=1), zero, [0.7, 0.3], base, **flags), base + quarter * randn(6, 5, seed=1))


def by_tangents(deltas, weights):
    """In numpy: the rule of multislerp in all its steps, without its small constant."""
    vectors = np.stack([np.asarray(delta, np.float64).ravel() for delta in deltas])
    norms = np.linalg.norm(vectors, axis=1)
    units = vectors / norms[:, None]
    mean = weights @ units
    mean /= np.linalg.norm(mean)
    tangents = units - (units @ mean)[:, None] * mean
    walk = weights @ tangents
    length = np.linalg.norm(walk)
    assert length < 1e-14  # the walk goes nowhere
    return (weights @ norms) * (np.cos(length) * mean + np.sinc(length / np.pi) * walk).reshape(deltas[0].shape)


@pytest.mark.parametrize("weights", [[0.3, 0.9], [1.0, 1.0, 1.0], [0.5, -0.2, 2.0, 1.0]])
@pytest.mark.parametrize("normalize", [True, False])
def test_multislerp_walks_nowhere_from_the_mean_direction(weights, normalize):
    base, deltas = randn(6, 5), [(i + 1) * randn(6, 5, seed=10 + i) for i in range(len(weights))]
    shares = np.array(weights) / (sum(weights) if normalize else 1)
    assert_close(multislerp(deltas, weights, base, normalize) - base, by_tangents(deltas, shares), 2e-5)


def test_multislerp_of_orthogonal_vectors_by_hand():
    deltas = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 6.0])]
    assert_close(multislerp(deltas, [1.0, 1.0]), [4 / 2**0.5] * 2)  # the mean length, along the diagonal
    assert_close(multislerp(deltas, [0.6, 0.8], normalize=False), [6.0 * 0.6, 6.0 * 0.8])


@pytest.mark.parametrize("normalize", [True, False])
def test_multislerp_of_one_model_is_the_model_and_with_coefficients_interpolation(normalize):
    assert_close(multislerp([FIRST], [0.3], BASE, normalize), BASE + FIRST)
    for coefficient in (0.3, -0.5, 1.5):
        assert_close(multislerp([FIRST], [coefficient], BASE, normalize, divisors=[1.0]), BASE + coefficient * FIRST)


def test_multislerp_of_equal_vectors_is_the_vector():
    assert_close(multislerp([FIRST] * 3, [0.2, 0.5, 0.9], BASE), BASE + FIRST)


def test_multislerp_with_coefficients_divides_by_the_number_of_models():
    deltas, ones = [FIRST, SECOND], {"divisors": [1.0, 1.0]}
    halves = multislerp(deltas, [0.3, 0.9], BASE, **ones) - BASE
    assert_close(2 * halves, multislerp(deltas, [0.3, 0.9], BASE, normalize=False, **ones) - BASE)


@pytest.mark.parametrize("weights, deltas", [
    ([1.0, 1.0], [FIRST, -FIRST]), ([0.4, 0.4], [FIRST, -3 * FIRST]), ([1.0, 1.0, 1.0], [0 * FIRST] * 3),
    ([1.0] * 4, [FIRST, -FIRST, SECOND, -2 * SECOND]),
])  # fmt: skip
def test_multislerp_interpolates_where_directions_cancel(weights, deltas):
    expected = sum(weight * delta for weight, delta in zip(weights, deltas, strict=True)) / sum(weights)
    assert_close(multislerp(deltas, weights, BASE), BASE + expected)


def riemannian(models):
    """In numpy: the mean of directions, by many steps on the sphere itself, and the mean length."""
    vectors = np.stack([np.asarray(model, np.float64).ravel() for model in models])
    norms = np.linalg.norm(vectors, axis=1)
    units = vectors / norms[:, None]
    mean = units.sum(0) / np.linalg.norm(units.sum(0))
    for _ in range(200):
        angles = np.arccos(np.clip(units @ mean, -1, 1))
        logs = (angles / np.sin(angles))[:, None] * (units - np.cos(angles)[:, None] * mean)
        step = 0.5 * logs.mean(0)
        length = np.linalg.norm(step)
        mean = np.cos(length) * mean + np.sinc(length / np.pi) * step
    return norms.mean() * mean.reshape(models[0].shape)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0])
def test_karcher_is_the_riemannian_mean_at_the_mean_length(count, noise):
    models = [(i + 1) * (1 + noise * randn(6, 5, seed=40 + i)) for i in range(count)]
    assert_close(karcher(models, max_iter=50, tol=1e-9), riemannian(models), 2e-5)
    assert_close(karcher(models), riemannian(models), 1e-3)  # ten steps, or fewer


def test_karcher_of_near_models_is_near_their_mean():
    models = [0.2 * randn(40, 16) + 1e-4 * randn(40, 16, seed=1 + i) for i in range(3)]
    assert_close(karcher(models), sum(models) / 3, 2e-7)


def test_karcher_of_two_is_the_middle_of_the_arc():
    u, v = orthonormal(2)
    models = [(3 * u).float(), (5 * (0.6 * u + 0.8 * v)).float()]
    half = np.arccos(0.6) / 2
    assert_close(karcher(models), 4 * (np.cos(half) * u + np.sin(half) * v), 1e-5)


def test_karcher_of_orthogonal_vectors_is_their_diagonal_and_of_equal_ones_the_vector():
    vectors = orthonormal(3).float()
    assert_close(karcher(list(vectors)), vectors.sum(0) / 3**0.5, 1e-5)
    assert_close(karcher([BASE] * 4), BASE)
    assert_close(karcher([BASE]), BASE)


def test_karcher_turns_with_the_models():
    rotation = torch.linalg.qr(randn(24, 24, seed=9))[0]
    models = [randn(24, seed=i) for i in range(3)]
    assert_close(karcher([rotation @ model for model in models]), rotation @ karcher(models), 1e-4)


def test_karcher_without_steps_is_the_mean_direction():
    first, second = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 8.0])
    third = torch.tensor([1.0, 0.0])
    direction = torch.tensor([2.0, 1.0]) / 5**0.5
    assert_close(karcher([first, second, third], max_iter=0), 11 / 3 * direction)


def test_karcher_counts_the_length_of_zero_but_not_its_direction():
    assert_close(karcher([BASE, torch.zeros(4)]), BASE / 2)
    assert torch.equal(karcher([torch.zeros(4)] * 2), torch.zeros(4))


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_karcher_of_opposite_models_is_along_the_first(factor):
    assert_close(karcher([BASE, -factor * BASE]), (1 + factor) / 2 * BASE)


@pytest.mark.parametrize("method", ["nuslerp", "multislerp", "karcher"])
def test_nan_gives_nan_and_no_error(method):
    broken = torch.tensor([1.0, float("nan"), float("inf"), 0.0])
    numbers = NUSLERP | EPS | KARCHER
    found = merge(method, [FIRST, broken], [0.3, 0.9], numbers=numbers, normalize=True)
    assert found.isnan().all()


@pytest.mark.parametrize("method, parameters", [
    ("nuslerp", {"weight": 0.5}), ("nuslerp", {"weight": 0.5, "nuslerp_flatten": False}),
    ("nuslerp", {"weight": 0.5, "nuslerp_flatten": False, "nuslerp_row_wise": True}), ("multislerp", {"weight": 0.5}),
])  # fmt: skip
def test_without_a_base_vectors_start_at_zero(f32, merged, tensors, method, parameters):
    content = recipe(method, *f32, parameters=parameters)
    del content["base_model"]
    found, (left, right) = merged(content), map(tensors, f32[1:])
    flags = NUSLERP | {key: value for key, value in parameters.items() if key in NUSLERP}
    for name, tensor in found.items():
        if method == "nuslerp":
            expected = nuslerp(left[name], right[name], [0.5, 0.5], **flags)
        else:
            expected = multislerp([left[name], right[name]], [0.5, 0.5])
        assert torch.equal(tensor, expected)
    content["models"].insert(0, {"model": str(f32[0])})  # without `base_model` it is a model like any other
    if method == "multislerp":
        assert not same(merged(content), found)


@pytest.mark.parametrize("method", ["nuslerp", "multislerp"])
def test_a_base_that_is_named_is_never_one_of_the_models(f32, merged, method):
    content = recipe(method, *f32, parameters={"weight": 0.5})
    listed = content | {"models": [{"model": str(folder)} for folder in f32]}
    assert same(merged(content), merged(listed))


def test_a_base_that_is_named_is_one_of_karchers_models(f32, merged, tensors):
    found = merged(recipe("karcher", *f32))
    alone = recipe("karcher", *f32)
    alone["models"].append({"model": str(alone.pop("base_model"))})
    assert same(merged(alone), found)
    held = list(map(tensors, f32))
    assert all(torch.equal(tensor, karcher([own[name] for own in held])) for name, tensor in found.items())


def test_a_single_model_is_copied(f32, merged, tensors):
    for method, parameters in (("karcher", {}), ("multislerp", {"weight": 1.0})):
        content = {"merge_method": method, "models": [{"model": str(f32[1])}], "parameters": parameters}
        assert same(merged(content), tensors(f32[1]))


def test_coefficients_of_zero_copy_the_base_but_weights_of_zero_are_equal(f32, merged, tensors):
    content = recipe("nuslerp", *f32)
    assert same(merged(content | {"coefficients": [0.0]}), tensors(f32[0]))
    zeros, ones = (merged(content | {"parameters": {"weight": weight}}) for weight in (0.0, 1.0))
    assert same(zeros, ones)


def test_of_coefficients_nuslerp_takes_the_ratio(f32, merged):
    content = recipe("nuslerp", *f32)
    first, second = (
        merged(content | {"coefficients": {"left": [left], "right": [right]}})
        for left, right in ((0.25, 0.75), (0.125, 0.375))
    )
    assert same(first, second)


@pytest.mark.parametrize("method, count, extra, words", [
    ("nuslerp", 1, {}, "nuslerp takes exactly 2 models besides the base, not 1"),
    ("nuslerp", 3, {}, "nuslerp takes exactly 2 models besides the base, not 3"),
    ("nuslerp", 2, {"base_model": None, "coefficients": [0.5]}, "nuslerp has task vectors .*`base_model`; name it"),
    ("multislerp", 2, {"base_model": None, "coefficients": [0.5]}, "only with `base_model`"),
    ("karcher", 2, {"coefficients": [0.5]}, "karcher has no task vectors; use task_arithmetic"),
    ("nuslerp", 2, {"parameters": {}}, "nuslerp needs `weight`"),
    ("multislerp", 2, {"parameters": {"weight": 0.0}}, "sum to 0, and `normalize_weights` divides"),
    ("multislerp", 2, {"parameters": {"weight": [0.5, 0.0]}}, "sum to 0 at .*, and `normalize_weights` divides"),
    ("multislerp", 2, {"parameters": {"weight": 1.0, "eps": 0}}, "eps is a small number above 0, not 0"),
    ("karcher", 2, {"parameters": {"max_iter": 2.5}}, "max_iter is a whole number from 0 to 999, not 2.5"),
    ("karcher", 2, {"parameters": {"tol": 0.0}}, "tol is a small number above 0, not 0"),
    ("nuslerp", 2, {"parameters": {"weight": 1.0, "nuslerp_flatten": "half"}}, "nuslerp_flatten must be true or false"),
])  # fmt: skip
def test_what_is_refused(f32, tmp_path, method, count, extra, words):
    models = [f32[1], f32[2], f32[0]][:count]
    base = "elsewhere" if count == 3 else f32[0]
    content = recipe(method, base, *models, parameters={"weight": 0.5} if method != "karcher" else {}) | extra
    with pytest.raises(UserError, match=words):
        acm.merge(content, tmp_path / "out")


def test_weights_that_sum_to_zero_are_taken_where_nothing_is_divided(f32):
    content = recipe("multislerp", *f32, parameters={"weight": 0.0, "normalize_weights": False})
    assert load_recipe(content)[0].merge_method == "multislerp"
