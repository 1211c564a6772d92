"""Genomes make recipes in mergekit's format whose coefficients are the genes."""

import numpy as np
import pytest
from helpers import recipe
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging.tensors import planned
from acm.searching.spaces import Space

TIES = {"weight": 1.0, "density": 0.5, "normalize": False}


@pytest.fixture(scope="session")
def deep(make_model, tmp_path_factory):
    """A pair of two blocks; the fine-tuned one has the base's final norm."""
    folder = tmp_path_factory.mktemp("deep")
    base = make_model(folder / "base", 0)
    norm = load_file(base / "model.safetensors")["model.norm.weight"]
    return base, make_model(folder / "tuned", 1, base, edit=lambda model: model.model.norm.weight.copy_(norm))


def space(pair, method="task_arithmetic", parameters=None, **settings):
    return Space(planned(recipe(method, *pair, parameters=parameters or {"weight": 1.0})), **settings)


def coefficients(found, point):
    """Tensor → the coefficients of its merge."""
    return {job.name: job.settings.coefficients for job in planned(found.recipe(point)).jobs}


def test_a_layer_without_an_update_has_no_gene(deep):
    assert list(space(deep).genes) == ["embed", "0", "1", "lm_head"]


@given(st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4))
def test_the_coefficient_of_each_layer_is_its_gene(deep, values):
    found = space(deep)
    point = dict(zip(found.genes, values, strict=True))
    for name, (value,) in coefficients(found, point).items():
        assert value == pytest.approx(point.get(layer_of(name), 0.0), abs=1e-12)


def test_one_is_one_coefficient_everywhere(deep):
    assert set(map(tuple, coefficients(space(deep, genome="one"), {"λ": 0.3}).values())) == {(0.3,)}


def test_groups_share_a_gene(f32):
    found = space(f32[:2], group=2)
    assert list(found.genes) == ["embed", "0–1", "norm", "lm_head"]
    values = coefficients(found, dict.fromkeys(found.genes, 0.1) | {"0–1": 0.7})
    assert {value for name, (value,) in values.items() if ".layers." in name} == {0.7}


def test_depth_is_a_sum_of_cosines_for_attention_and_mlp(f32):
    found = space(f32[:2], genome="depth", terms=2)
    assert found.genes["attention 0"] == (-0.5, 1.5) and found.genes["mlp 1"] == (-0.5, 0.5)
    point = {
        "attention 0": 0.5,
        "attention 1": 0.2,
        "mlp 0": 0.3,
        "mlp 1": -0.1,
        "embedding and head": 0.9,
        "norm": 0.8,
    }
    values = coefficients(found, point)
    for block, sign in ((0, 1), (1, -1)):  # cos 0 and cos π
        assert values[f"model.layers.{block}.self_attn.q_proj.weight"] == pytest.approx([0.5 + sign * 0.2])
        assert values[f"model.layers.{block}.mlp.up_proj.weight"] == pytest.approx([0.3 - sign * 0.1])
        assert values[f"model.layers.{block}.input_layernorm.weight"] == pytest.approx([0.4 + sign * 0.05])
    assert values["model.embed_tokens.weight"] == values["lm_head.weight"] == [0.9]
    assert values["model.norm.weight"] == [0.8]


def test_each_of_two_models_has_its_genes(f32):
    found = space(f32, genome="one")
    assert list(found.genes) == ["left λ", "right λ"]
    assert set(map(tuple, coefficients(found, {"left λ": 0.2, "right λ": 0.9}).values())) == {(0.2, 0.9)}


def test_parameters_of_the_method_are_genes_too(f32):
    found = space(
        f32[:2], "ties", {"weight": 1.0, "density": 0.5, "normalize": False}, genome="one", also={"density": (0.1, 1.0)}
    )
    assert found.genes == {"λ": (-0.5, 1.5), "density": (0.1, 1.0)}
    assert planned(found.recipe({"λ": 0.4, "density": 0.2})).jobs[0].settings.density == [0.2]


def test_slerp_has_its_angle_by_layer(f32):
    found = space(f32[:2], "slerp", {"t": 0.5}, low=0.0, high=1.0)
    assert list(found.genes) == ["embed", "0", "1", "norm", "lm_head"]
    assert set(np.ravel(list(coefficients(found, dict.fromkeys(found.genes, 0.25)).values()))) == {0.25}


@pytest.mark.parametrize(
    ("method", "parameters", "settings", "words"),
    [
        ("task_arithmetic", {"weight": 1.0}, {"genome": "layers"}, "genome"),
        ("task_arithmetic", {"weight": 1.0}, {"low": 1.0, "high": 1.0}, "are no bounds"),
        ("task_arithmetic", {"weight": 1.0}, {"high": float("nan")}, "are no bounds"),
        ("task_arithmetic", {"weight": 1.0}, {"group": 0}, "group: is 0"),
        ("task_arithmetic", {"weight": 1.0}, {"also": {"density": (0.1, 1)}}, "density"),
        (
            "ties",
            {"weight": 1.0, "density": 0.5, "normalize": False},
            {"also": {"density": (0.1, 2)}},
            "out of its range",
        ),
        ("task_arithmetic", {"weight": 1.0}, {"genome": "depth", "terms": 5}, "give at most 2"),
        ("ties", {"weight": 1.0}, {}, "they change nothing"),
        ("karcher", {}, {}, "no genome fits karcher"),
        ("linear", {"weight": 1.0}, {}, "no genome fits linear"),
    ],
)
def test_what_does_not_fit_is_refused(f32, method, parameters, settings, words):
    with pytest.raises(UserError, match=words):
        Space(planned(recipe(method, *f32[:2], parameters=parameters)), **settings)


def test_coefficients_in_the_recipe_are_refused(f32):
    content = recipe("task_arithmetic", *f32[:2], coefficients={"left": [0.1, 0.2]})
    with pytest.raises(UserError, match="the search chooses them"):
        Space(planned(content))


def test_a_searched_parameter_holds_for_models_that_have_their_own(f32):
    models = [{"model": str(f32[1]), "parameters": {"density": 0.3}}]
    content = recipe("ties", *f32[:2], parameters={"weight": 1.0, "normalize": False}) | {"models": models}
    found = Space(planned(content), genome="one", also={"density": (0.1, 1.0)})
    assert planned(found.recipe({"λ": 0.4, "density": 0.9})).jobs[0].settings.density == [0.9]


def test_a_curve_stays_within_the_bounds(f32):
    found = space(f32[:2], genome="depth", terms=2)
    point = dict.fromkeys(found.genes, 0.5) | {"attention 0": 1.5, "attention 1": 0.5}
    assert max(value for (value,) in coefficients(found, point).values()) == 1.5
