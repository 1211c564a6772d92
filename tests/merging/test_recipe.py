"""What a recipe means: parameters by layer and filter, coefficients in all their spellings, ACM around every method, scope."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import recipe, same
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.config import ParameterSetting, evaluate_setting
from pydantic import TypeAdapter
from safetensors.torch import save_file

import acm
from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging.methods import merge_tensor
from acm.merging.plan import make_plan
from acm.merging.recipe import Recipe, check_parameters, load_recipe, resolve
from acm.merging.registry import METHODS
from acm.merging.settings import Settings, place, sensitivity_pair

VALUES = {"embed": 0.25, "0": 0.25, "1": 0.75, "norm": 0.25, "lm_head": 0.25}  # what the list [0.25, 0.75] means
OTHERS = {"embed": 0.5, "0": 0.5, "1": 0.125, "norm": 0.5, "lm_head": 0.5}
NAMES = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight",
         "model.layers.1.self_attn.q_proj.bias", "model.layers.11.input_layernorm.weight"]  # fmt: skip


numbers = st.one_of(st.floats(-2, 2), st.integers(-3, 3))
gradients = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=6))
filters = st.sampled_from([None, "*", "mlp", "self_attn", "norm", "layers.1.", "lm_head", "weight"])
conditions = st.fixed_dictionaries({"value": gradients}, optional={"filter": filters})
parameter = st.one_of(gradients, conditions, st.lists(conditions, min_size=1, max_size=4))


def theirs(setting, name, t):
    return evaluate_setting(name, TypeAdapter(ParameterSetting).validate_python(setting), t, validate=float)


@settings(max_examples=400, deadline=None)
@given(setting=parameter, name=st.sampled_from(NAMES), t=st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1)))
def test_parameters_resolve_as_in_mergekit(setting, name, t):
    check_parameters({"weight": setting}, METHODS["task_arithmetic"], "parameters")
    expected = theirs(setting, name, t)
    assert resolve(setting, name, t) == (
        expected if expected is None else pytest.approx(expected, rel=1e-12, abs=1e-12)
    )


@settings(deadline=None)
@given(own=st.none() | parameter, shared=st.none() | parameter, name=st.sampled_from(NAMES), t=st.floats(0, 1))
def test_the_models_own_parameter_holds_then_the_recipes(own, shared, name, t):
    content = recipe("ties", "base", "left") | {
        "parameters": {"weight": 1.0} | ({} if shared is None else {"lambda": shared})
    }
    content["models"][0]["parameters"] = {} if own is None else {"weight": own}
    found = Recipe.model_validate(content)
    (entry,) = found.finetuned
    for key, source, rest, default in (("weight", own, None, 1.0), ("lambda", None, shared, 1.0)):
        values = [theirs(s, name, t) for s in (source, rest) if s is not None]
        expected = next((value for value in values if value is not None), default)
        assert found.setting(key, entry, name, t) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("blocks", [1, 2, 5, 28])
def test_layers_stand_evenly_on_a_list(blocks):
    expected = np.linspace(0, 1, blocks) if blocks > 1 else [1.0]  # mergekit gives a single layer the last value
    assert [place(str(i), blocks) for i in range(blocks)] == pytest.approx(expected)
    assert [place(layer, blocks) for layer in ("embed", "norm", "lm_head")] == [0, 0, 0]


def test_a_parameter_that_no_filter_gives_some_tensor_is_missed_by_the_plan(f32):
    with pytest.raises(UserError, match=r"needs `weight` for .*left at lm_head\.weight"):
        make_plan(
            *load_recipe(recipe("task_arithmetic", *f32[:2], parameters={"weight": [{"filter": "mlp", "value": 0.5}]}))
        ).check()


@pytest.mark.parametrize("change, words", [
    ({"modules": {"text_decoder": {}}}, ["modules", "unknown key"]),
    ({"tokenizer": {"source": "base"}}, ["tokenizer", "unknown key"]),
    ({"chat_template": "auto"}, ["chat_template", "unknown key"]),
    ({"merge_method": "passthrough"}, ["merge_method", "passthrough"]),
    ({"merge_method": "nuslerp"}, ["nuslerp", "Did you mean 'slerp'?"]),
    ({"parameters": {"weight": 1.0, "filter_wise": True}}, ["filter_wise", "task_arithmetic"]),
    ({"parameters": {"weight": 1.0, "rescale": True}}, ["rescale", "task_arithmetic"]),
    ({"slices": [{"sources": [{"model": "a"}]}]}, ["`slices` must be one slice"]),  # beside `models`
    (lambda c: {"slices": [{"sources": c["models"]}] * 2}, ["`slices` must be one slice of all layers", "stacking"]),
    (lambda c: {"slices": [{"sources": c["models"], "residual_weight": 0.1}]}, ["slices", "residual_weight"]),
    (lambda c: {"slices": [{"sources": c["models"], "base_model": "x"}]}, ["slices", "base_model"]),
    (lambda c: {"slices": [{"sources": c["models"], "parameters": 3}]}, ["slices", "parameters"]),
    (lambda c: {"slices": [{"parameters": {}}]}, ["models"]),
    (lambda c: {"slices": [{"sources": [{**m, "layer_range": [0, 1]} for m in c["models"]]}]}, ["layer_range", "left", "[0, 2]"]),
    (lambda c: {"slices": [{"sources": [{**m, "layer_range": [1, 2]} for m in c["models"]]}]}, ["layer_range", "left", "[0, 2]"]),
])  # fmt: skip
def test_what_only_mergekit_has_is_refused_by_name(f32, tmp_path, change, words):
    content = recipe("task_arithmetic", *f32[:2], parameters={"weight": 1.0})
    if callable(change):
        change = change(content)
        del content["models"]
    with pytest.raises(UserError) as error:
        acm.merge(content | change, tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not list(tmp_path.iterdir())


def as_json(folder, content):
    (folder / "coefficients.json").write_text(json.dumps({"coefficients": content}))
    return str(folder / "coefficients.json")


def as_csv(folder, content):
    with (folder / "coefficients.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["layer", "coefficient", "finetuned", "remark"])
        writer.writeheader()
        for model, values in content.items():
            writer.writerows(
                {"finetuned": model, "layer": layer, "coefficient": v, "remark": ""} for layer, v in values.items()
            )
    return str(folder / "coefficients.csv")


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("method, parameters", [("task_arithmetic", {}), ("ties", {"density": 0.3})])
def test_all_spellings_of_coefficients_give_the_same_bytes(f32, merged, tmp_path, models, method, parameters):
    content = {"left": VALUES, "right": OTHERS} if models == 2 else {"left": VALUES}
    lists = {"left": [0.25, 0.75], "right": [0.5, 0.125]}
    spellings = [as_json(tmp_path, content), as_csv(tmp_path, content), content, {m: lists[m] for m in content},
                 content | {"left": lists["left"]}]  # fmt: skip
    spellings += [lists["left"]] if models == 1 else []
    whole = [
        merged(recipe(method, *f32[: 1 + models], parameters=parameters, coefficients=given)) for given in spellings
    ]
    assert all(same(other, whole[0]) for other in whole[1:])
    (tmp_path / "lists.json").write_text(json.dumps({"coefficients": lists}))
    assert same(
        merged(recipe(method, *f32[: 1 + models], parameters=parameters, coefficients=str(tmp_path / "lists.json"))),
        whole[0],
    )


def test_one_list_of_coefficients_holds_for_every_model(f32, merged):
    one, each = (
        merged(recipe("task_arithmetic", *f32, coefficients=given))
        for given in ([0.25, 0.75], {"left": VALUES, "right": VALUES})
    )
    assert same(one, each)


@pytest.mark.parametrize("given, words", [
    ({"right": VALUES}, ["model in `coefficients`", "'left'", "right"]),
    ({"left": {"embed": 0.5}}, ["λ of layer 0 for left", "None"]),
    ({"left": []}, ["left", "None"]),
    ([], ["left", "None"]),
    ({"left": [0.5, float("nan")]}, ["left", "nan"]),
    ([float("inf")], ["left", "finite"]),
    ({"left": ["a"]}, ["coefficients"]),
    (0.5, ["coefficients"]),
    ("absent.csv", ["absent.csv", "not a readable table"]),
])  # fmt: skip
def test_coefficients_that_lack_something(f32, tmp_path, given, words):
    with pytest.raises(UserError) as error:
        acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=given), tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("text, words", [
    ("finetuned,layer\nleft,0\n", ["columns finetuned, layer, coefficient"]),
    ("finetuned,layer,coefficient\nleft,0,half\n", ["half"]),
    ("finetuned,layer,coefficient\nleft,0,0.5\n", ["layer 1 for left", "None"]),
    ("finetuned,layer,coefficient\nleft,0\n", ["columns"]),
    ("", ["left"]),
])  # fmt: skip
def test_tables_that_lack_something(f32, tmp_path, text, words):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UserError) as error:
        acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=str(tmp_path / "c.csv")), tmp_path / "out")
    assert all(word in str(error.value) for word in [str(tmp_path / "c.csv"), *words]), str(error.value)


@pytest.mark.parametrize(
    "content", [{"left": ["a", "b"]}, {"left": [None]}, {"left": [{"filter": "mlp"}]}, {"left": [[0.5]]}], ids=str
)
def test_lists_of_a_json_file_that_are_no_numbers(f32, tmp_path, content):
    with pytest.raises(UserError, match="left"):
        acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=as_json(tmp_path, content)), tmp_path / "out")


@pytest.fixture(scope="module")
def statistics(f32, tensors, tmp_path_factory):
    """Random statistics: {method: {model: {tensor: numbers}}}, their files, and the sensitivities."""
    folder, generator = tmp_path_factory.mktemp("statistics"), torch.Generator().manual_seed(3)
    shapes = {n: t.shape for n, t in tensors(f32[0]).items()}
    matrices = {n: shape for n, shape in shapes.items() if ".layers." in n and len(shape) == 2}

    def gram(inputs):
        x = torch.randn(40, inputs, generator=generator)
        return x.T @ x

    found = {
        "fisher": {
            m: {n: torch.rand(shape, generator=generator) for n, shape in shapes.items()} for m in ("left", "right")
        },
        "regmean": {m: {n: gram(shape[1]) for n, shape in matrices.items()} for m in ("left", "right")},
        "aim": {"left": {n: torch.rand(shape[1], generator=generator) for n, shape in matrices.items()}},
    }
    found["fisher"]["left"]["lm_head.weight"][3:5] = found["fisher"]["right"]["lm_head.weight"][3:5] = 0.0
    for method, models in found.items():
        for model, content in models.items():
            save_file(content, folder / f"{method}-{model}.safetensors")
    sensitivity = {"base": {"0": 0.2, "1": 0.9}, "left": {"0": 0.7, "1": 0.1}}
    (folder / "sensitivity.json").write_text(json.dumps({"sensitivity": sensitivity}))
    return found, folder, sensitivity


def with_statistics(content, folder):
    """The recipe, its models with the files of their statistics."""
    method = content["merge_method"]
    for entry in content["models"][: 1 if method == "aim" else None] if method in {"fisher", "regmean", "aim"} else []:
        entry["parameters"] = {"statistics": str(folder / f"{method}-{entry['model'].rsplit('/', 1)[1]}.safetensors")}
    if method == "sens":
        content["parameters"] = content["parameters"] | {"sensitivity": str(folder / "sensitivity.json")}
    return content


OWN = {  # parameters that a method needs beside its weight
    "ties": {"density": 0.3, "normalize": False}, "dare_linear": {"density": 0.6}, "dare_ties": {"density": 0.6},
    "breadcrumbs": {"density": 0.4, "gamma": 0.1}, "breadcrumbs_ties": {"density": 0.4}, "della": {"density": 0.6, "normalize": False},
    "della_linear": {"density": 0.6}, "twin": {"rank": 0.3}, "lore": {"mu": 0.3, "normalize": False}, "regmean": {"alpha": 0.8},
    "aim": {"omega": 0.4}, "sens": {"alpha": 0.6, "temperature": 0.5},
}  # fmt: skip
SINGLE = {"interpolation", "slerp", "sens"}
SLERP = "slerp"
WEIGHABLE = [m for m in METHODS if METHODS[m].takes_coefficients and m != "slerp"]


def folders_of(method, f32):
    return f32[:2] if method in SINGLE else f32


@pytest.mark.parametrize("method", [*(m for m in WEIGHABLE if m not in {"model_stock", "fisher", "regmean"}), SLERP])
def test_equal_coefficients_give_the_plain_method(f32, merged, statistics, method):
    weight = {"t" if method == "slerp" else "weight": 0.7}
    own, folders = OWN.get(method, {}), folders_of(method, f32)
    plain = merged(with_statistics(recipe(method, *folders, parameters=own | weight), statistics[1]))
    for spelling in ([0.7], {m.name: dict.fromkeys(VALUES, 0.7) for m in folders[1:]}):
        content = recipe(method, *folders, parameters=own, coefficients=spelling, election="weighted")
        assert same(merged(with_statistics(content, statistics[1])), plain)


@pytest.mark.parametrize("method", ["model_stock", "fisher", "regmean"])
def test_coefficients_of_one_give_the_plain_method_that_has_no_weight(f32, merged, statistics, method):
    content, ones = (recipe(method, *f32, **extra) for extra in ({}, {"coefficients": [1.0]}))
    assert same(*(merged(with_statistics(c, statistics[1])) for c in (content, ones)))


@pytest.mark.parametrize(
    "method", [*(m for m in WEIGHABLE if m not in {"lore", "sens"}), SLERP]
)  # those two change the base itself
def test_coefficients_of_zero_give_the_base(f32, merged, tensors, statistics, method):
    content = recipe(method, *folders_of(method, f32), parameters=OWN.get(method), coefficients=[0.0])
    assert same(merged(with_statistics(content, statistics[1])), tensors(f32[0]))


@pytest.mark.parametrize("method", ["task_arithmetic", "interpolation", SLERP])
def test_coefficients_of_one_give_the_model(f32, bf16, merged, tensors, method):
    for folders in (f32, bf16):
        assert same(merged(recipe(method, *folders[:2], coefficients=[1.0, 1.0])), tensors(folders[1]))


@pytest.mark.parametrize("value, source", [(0.0, 0), (0.7, None), (1.0, 1)])
def test_coefficients_stand_for_t_of_slerp(f32, merged, tensors, value, source):
    found = merged(recipe("slerp", *f32[:2], parameters={"t": 0.5}, coefficients=[value]))
    assert same(found, merged(recipe("slerp", *f32[:2], parameters={"t": value})))
    assert source is None or same(found, tensors(f32[source]))


@pytest.mark.parametrize("coefficients", [None, {"left": VALUES, "right": OTHERS}], ids=["plain", "acm"])
@pytest.mark.parametrize("method", ["fisher", "regmean", "aim", "sens"])
def test_statistics_files_reach_the_method(f32, merged, tensors, statistics, method, coefficients):
    found, folder, sensitivity = statistics
    folders, own = folders_of(method, f32), OWN.get(method, {})
    content = recipe(
        method,
        *folders,
        parameters=own,
        coefficients=coefficients and {m.name: coefficients[m.name] for m in folders[1:]},
    )
    result = merged(with_statistics(content, folder))
    base, *finetuned = map(tensors, folders)
    for name, tensor in result.items():
        layer = layer_of(name)
        weights = [coefficients[m.name][layer] if coefficients else 1.0 for m in folders[1:]]
        numbers = dict(own)
        if method == "sens":
            pair = [sensitivity[m].get(layer) for m in ("base", "left")]
            numbers |= dict(zip(("c_0", "c_1"), sensitivity_pair(*pair, own["alpha"], own["temperature"]), strict=True))
        held = [models.get(name) for models in found.get(method, {}).values()]
        expected = merge_tensor(method, base[name], [m[name] for m in finetuned],
                                Settings(weights, [1.0] * len(weights), numbers=numbers, statistics=held))  # fmt: skip
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("method, file, words", [
    ("fisher", "absent", ["absent.safetensors"]),
    *((method, file, [file, "model.layers."])
      for method, file in (("fisher", "regmean-left"), ("fisher", "aim-left"), ("regmean", "aim-left"), ("aim", "regmean-left"))),
    ("sens", None, ["sensitivity", "left"]),
])  # fmt: skip
def test_statistics_of_another_method(f32, statistics, tmp_path, method, file, words):
    own = {"statistics": str(statistics[1] / f"{file}.safetensors")}
    if method == "sens":
        (tmp_path / "sensitivity.json").write_text(
            json.dumps({"sensitivity": {"base": {"0": 1.0, "1": 1.0}, "left": {"0": 1.0}}})
        )
        own = {"sensitivity": str(tmp_path / "sensitivity.json")}
    with pytest.raises(UserError) as error:
        acm.merge(recipe(method, *f32[:2], parameters=OWN.get(method, {}) | own), tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)


def globally(folders, tensors, density, gamma, weights, elects):
    """numpy: |δ| of all tensors sorted together, the γ largest and the smallest dropped; weighted sum, or that of the elected sign."""
    base, *finetuned = ({n: t.double().numpy() for n, t in tensors(f).items()} for f in folders)
    deltas = []
    for model in finetuned:
        delta = {n: model[n].astype(np.float32) - base[n].astype(np.float32) for n in base}
        size = np.sort(np.concatenate([np.abs(d).ravel() for d in delta.values()]))[::-1]
        top, kept = int(gamma * len(size)), int(density * len(size))
        deltas.append(
            {
                n: np.where((np.abs(d) <= size[top]) & (np.abs(d) >= size[top + kept - 1]), d, 0.0)
                for n, d in delta.items()
            }
        )
    found = {}
    for name, values in base.items():
        parts = np.stack([w * d[name].astype(float) for w, d in zip(weights, deltas, strict=True)])
        sign = np.where(parts.sum(axis=0) >= 0, 1, -1)
        found[name] = (
            values + np.where(np.sign(parts) == sign, parts, 0.0).sum(axis=0) if elects else values + parts.sum(axis=0)
        )
    return found


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
def test_global_scope_sorts_all_tensors_together(f32, merged, tensors, method, models):
    folders, weights = f32[: 1 + models], [0.7, 0.4][:models]
    gamma = {} if method == "ties" else {"gamma": 0.05}
    content = recipe(method, *folders, parameters={"density": 0.2, "normalize": False} | gamma, scope="global")
    for entry, weight in zip(content["models"], weights, strict=True):
        entry["parameters"] = {"weight": weight}
    found, local = merged(content), merged(content | {"scope": "tensor"})
    expected = globally(folders, tensors, 0.2, gamma.get("gamma", 0), weights, elects=method != "breadcrumbs")
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], atol=1e-7, rtol=0)
    assert not same(found, local)


def test_global_scope_refuses_a_density_that_differs_between_tensors(f32, tmp_path):
    density = [{"filter": "mlp", "value": 0.9}, {"value": 0.1}]
    content = recipe("ties", *f32[:2], parameters={"weight": 1.0, "density": density}, scope="global")
    with pytest.raises(UserError, match="density"):
        acm.merge(content, tmp_path / "out")


@pytest.mark.parametrize("density", [0.9, 0.1])
def test_della_refuses_probabilities_outside_0_and_1(f32, tmp_path, density):
    with pytest.raises(UserError, match="epsilon"):
        acm.merge(
            recipe("della", *f32[:2], parameters={"weight": 1.0, "density": density, "epsilon": 0.15}), tmp_path / "out"
        )


def test_relative_paths_of_statistics_start_at_the_recipe(f32, statistics, tensors, tmp_path):
    (tmp_path / "recipe.yml").write_text(
        json.dumps(recipe("aim", *f32[:2], parameters={"statistics": "aim.safetensors"}))
    )
    (tmp_path / "aim.safetensors").write_bytes((statistics[1] / "aim-left.safetensors").read_bytes())
    assert load_recipe(tmp_path / "recipe.yml")[1] == tmp_path
    whole = recipe("aim", *f32[:2], parameters={"statistics": str(tmp_path / "aim.safetensors")})
    assert same(*(tensors(acm.merge(r, tmp_path / o)) for r, o in ((tmp_path / "recipe.yml", "a"), (whole, "b"))))
