"""ACM's coefficients around every method that takes them, and the files that some methods read."""

import json

import pytest
import torch
from helpers import example, folders_of, recipe, same, with_files, without_coefficient, write_files

import acm
from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging.methods import merge_tensor
from acm.merging.recipe import load_recipe
from acm.merging.registry import METHODS
from acm.merging.settings import Settings

LAYERS = ["embed", "0", "1", "norm", "lm_head"]
VALUES = dict(zip(LAYERS, [0.25, 0.25, 0.75, 0.25, 0.25], strict=True))
OTHERS = dict(zip(LAYERS, [0.5, 0.5, 0.125, 0.5, 0.5], strict=True))
WEIGHABLE = [name for name, row in METHODS.items() if row.takes_coefficients]
REPLACING = [name for name in WEIGHABLE if METHODS[name].coefficient]  # those with a parameter that λ stands for


@pytest.fixture(scope="module")
def files(f32, tensors, tmp_path_factory):
    """A folder of random statistics and numbers by layer, and what it holds: {kind: {model: content}}."""
    folder = tmp_path_factory.mktemp("statistics")
    return folder, write_files(folder, tensors, *f32)


def weighed(method, f32, folder, **extra):
    """The method's example, ACM's coefficients in the place of its weight."""
    content = recipe(method, *folders_of(method, f32), parameters=without_coefficient(method), **extra)
    return with_files(content, folder)


@pytest.mark.parametrize("method", [name for name in REPLACING if name != "fisher"])  # it divides by the weights
def test_equal_coefficients_give_the_plain_method(f32, merged, files, method):
    plain = weighed(method, f32, files[0])
    plain["parameters"] = plain["parameters"] | {METHODS[method].coefficient.name: 0.7}
    expected = merged(plain)
    for spelling in ([0.7], {model.name: dict.fromkeys(LAYERS, 0.7) for model in f32[1:]}):
        content = weighed(method, f32, files[0], coefficients=spelling, election="weighted")
        assert same(merged(content), expected)


@pytest.mark.parametrize("method", [name for name in WEIGHABLE if name not in REPLACING or name == "fisher"])
def test_coefficients_of_one_give_the_plain_method(f32, merged, files, method):
    plain, ones = (weighed(method, f32, files[0], **extra) for extra in ({}, {"coefficients": [1.0]}))
    assert same(merged(plain), merged(ones))


@pytest.mark.parametrize("method", [name for name in WEIGHABLE if METHODS[name].copies != "nothing"])
def test_coefficients_of_zero_give_the_base(f32, merged, tensors, files, method):
    assert same(merged(weighed(method, f32, files[0], coefficients=[0.0])), tensors(f32[0]))


@pytest.mark.parametrize("method", [name for name in WEIGHABLE if METHODS[name].copies == "base or model"])
def test_coefficients_of_one_give_the_model(f32, bf16, merged, tensors, method):
    for base, model, _ in (f32, bf16):
        content = recipe(method, base, model, parameters=without_coefficient(method), coefficients=[1.0, 1.0])
        assert same(merged(content), tensors(model))


@pytest.mark.parametrize("value, source", [(0.0, 0), (0.7, None), (1.0, 1)])
def test_coefficients_stand_for_t_of_slerp(f32, merged, tensors, value, source):
    found = merged(recipe("slerp", *f32[:2], parameters={"t": 0.5}, coefficients=[value]))
    assert same(found, merged(recipe("slerp", *f32[:2], parameters={"t": value})))
    assert source is None or same(found, tensors(f32[source]))


def expected_tensor(name, method, held, base, finetuned, weights):
    """The method on a whole tensor, with the files' numbers handed to it by hand."""
    row, layer, n = METHODS[method], layer_of(name), len(weights)
    given = {p.name: row.example.get(p.name, p.default) for p in row.takes}
    numbers = {
        p.name: [given[p.name]] * n if p.per_model else given[p.name]
        for p in row.takes
        if not p.setting and not p.is_file
    }
    layers = {p.name: [own.get(layer) for own in held["layers"].values()] for p in row.takes if p.kind == "layers"}
    kinds = [*(["base_statistics"] if "base_statistics" in row.parameters else []), row.statistics]
    statistics = [content.get(name) for kind in kinds for content in held.get(kind, {}).values()]
    s = Settings(
        weights, [1.0] * n, numbers=numbers, layers=layers, density=[given.get("density")] * n,
        statistics=statistics[: 1 if row.base_statistics else None],
    )  # fmt: skip
    return merge_tensor(method, base[name], [model[name] for model in finetuned], s)


@pytest.mark.parametrize("coefficients", [None, {"left": VALUES, "right": OTHERS}], ids=["plain", "acm"])
@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.reads_files])
def test_files_reach_the_method(f32, merged, tensors, files, method, coefficients):
    folder, held = files
    models = folders_of(method, f32)[1:]
    own = coefficients and {model.name: coefficients[model.name] for model in models}
    result = merged(example(method, f32, folder, coefficients=own))
    base, *finetuned = map(tensors, folders_of(method, f32))
    held = held | {"layers": {model.name: held["layers"][model.name] for model in (f32[0], *models)}}
    for name, tensor in result.items():
        weights = [own[model.name][layer_of(name)] if own else 1.0 for model in models]
        assert torch.equal(tensor, expected_tensor(name, method, held, base, finetuned, weights)), name


@pytest.mark.parametrize("method, file, words", [
    ("fisher", "absent", ["absent.safetensors"]),
    ("fisher", "gram-left", ["gram-left", "model.layers."]),
    ("fisher", "inputs-left", ["inputs-left", "model.layers."]),
    ("regmean", "inputs-left", ["inputs-left", "model.layers."]),
    ("aim", "gram-left", ["gram-left", "model.layers."]),
])  # fmt: skip
def test_statistics_of_another_method_are_refused(f32, files, tmp_path, method, file, words):
    content = recipe(method, *f32[:2], parameters={"statistics": str(files[0] / f"{file}.safetensors")})
    with pytest.raises(UserError) as error:
        acm.merge(content, tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_numbers_by_layer_that_lack_a_layer_are_refused(f32, tmp_path):
    path = tmp_path / "sensitivity.json"
    path.write_text(json.dumps({"sensitivity": {"base": {"0": 1.0, "1": 1.0}, "left": {"0": 1.0}}}))
    content = recipe("sens", *f32[:2], parameters=METHODS["sens"].example | {"sensitivity": str(path)})
    with pytest.raises(UserError, match="lacks layer 1 of left"):
        acm.merge(content, tmp_path / "out")


def test_relative_paths_of_statistics_start_at_the_recipe(f32, files, tensors, tmp_path):
    content = recipe("aim", *f32[:2], parameters={"statistics": "aim.safetensors"})
    (tmp_path / "recipe.yml").write_text(json.dumps(content))
    (tmp_path / "aim.safetensors").write_bytes((files[0] / "inputs-left.safetensors").read_bytes())
    assert load_recipe(tmp_path / "recipe.yml")[1] == tmp_path
    whole = recipe("aim", *f32[:2], parameters={"statistics": str(tmp_path / "aim.safetensors")})
    found, expected = (
        acm.merge(given, tmp_path / out) for given, out in ((tmp_path / "recipe.yml", "a"), (whole, "b"))
    )
    assert same(tensors(found), tensors(expected))
