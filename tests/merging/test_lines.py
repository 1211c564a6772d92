"""LiNeS: a factor that grows along the blocks."""

import pytest
import torch
from helpers import recipe, same
from tensor_cases import BASE, FIRST, SECOND, assert_close, merge

import acm
from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging.registry import METHODS

DEFAULTS = METHODS["lines"].defaults


@pytest.mark.parametrize("depth, factor", [(0.0, 0.4), (0.5, 0.9), (1.0, 1.4)])
def test_the_factor_grows_with_the_depth(depth, factor):
    found = merge("lines", [FIRST, SECOND], [0.5, 2.0], numbers={"alpha": 0.4, "beta": 1.0}, depth=depth)
    assert_close(found, BASE + factor * (0.5 * FIRST + 2.0 * SECOND))


@pytest.mark.parametrize("given, count, ends", [
    ({}, 1, (1, 1)), ({"alpha": 0.3}, 1, (0.3, 1)), ({"beta": 0.5}, 1, (1, 1.5)),
    ({}, 2, (0.5, 1)), ({"alpha": 0.3}, 2, (0.3, 1)), ({"beta": 0.25}, 2, (0.5, 0.75)),
    ({"alpha": -0.5, "beta": 0.0}, 2, (-0.5, -0.5)),
])  # fmt: skip
def test_what_is_not_given_follows_from_the_number_of_models(given, count, ends):
    numbers = {key: given.get(key, DEFAULTS[key]) for key in ("alpha", "beta")}
    for depth, factor in zip((0.0, 1.0), ends, strict=True):
        found = merge("lines", [FIRST] * count, [1.0] * count, numbers=numbers, depth=depth)
        assert_close(found, BASE + factor * count * FIRST)


@pytest.mark.parametrize("given", [{"alpha": 0.25, "beta": 0.5}, {"alpha": 0.25}, {}])
@pytest.mark.parametrize("models", [1, 2])
def test_it_is_task_arithmetic_whose_weight_runs_along_the_layers(deep, merged, given, models):
    """To the byte: these numbers and the places of five blocks have no rounding."""
    a = given.get("alpha", 1 / models)
    ends = [a, a + given.get("beta", 1 - a)]
    folders = deep[: 1 + models]
    expected = merged(recipe("task_arithmetic", *folders, parameters={"weight": ends}))
    assert same(merged(recipe("lines", *folders, parameters=given)), expected)


def test_acms_coefficients_and_weights_scale_the_task_vectors(deep, merged, tensors):
    shared = {"alpha": 0.25, "beta": 0.5}
    by_weight = recipe("lines", *deep, parameters=shared)
    for entry, weight in zip(by_weight["models"], (0.5, 2.0), strict=True):
        entry["parameters"] = {"weight": weight}
    found = merged(by_weight)
    by_layer = merged(recipe("lines", *deep, parameters=shared, coefficients={"left": [0.5], "right": [2.0]}))
    assert same(found, by_layer)
    base, left, right = map(tensors, deep)
    for name, tensor in found.items():
        factor = 0.25 + 0.5 * {"0": 0, "1": 0.25, "2": 0.5, "3": 0.75, "4": 1}.get(layer_of(name), 0)
        changed = 0.5 * (left[name] - base[name]) + 2 * (right[name] - base[name])
        torch.testing.assert_close(tensor, base[name] + factor * changed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", ["1 over the number of models", "half", True, float("nan")])
def test_a_recipe_gives_numbers_alone(f32, tmp_path, value):
    with pytest.raises(UserError, match="alpha must be a"):
        acm.merge(recipe("lines", *f32, parameters={"alpha": value}), tmp_path / "out")
