"""What a recipe means: parameters by layer and filter, coefficients in all their spellings, trimming of all tensors."""

import csv
import json

import numpy as np
import pytest
from helpers import EMBEDDING, HEAD, NORM, ROWS, recipe, same
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.config import ParameterSetting, evaluate_setting
from pydantic import TypeAdapter

import acm
from acm.errors import UserError
from acm.merging.parameters import check_parameters, resolve
from acm.merging.plan import make_plan
from acm.merging.recipe import Recipe, load_recipe
from acm.merging.registry import METHODS
from acm.merging.settings import place

VALUES = {"embed": 0.25, "0": 0.25, "1": 0.75, "norm": 0.25, "lm_head": 0.25}  # what the list [0.25, 0.75] means
OTHERS = {"embed": 0.5, "0": 0.5, "1": 0.125, "norm": 0.5, "lm_head": 0.5}
NAMES = [
    EMBEDDING, NORM, HEAD, "model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.bias",
    "model.layers.11.input_layernorm.weight",
]  # fmt: skip


numbers = st.one_of(st.floats(-2, 2), st.integers(-3, 3))
gradients = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=6))
filters = st.sampled_from([None, "*", "mlp", "self_attn", "norm", "layers.1.", "lm_head", "weight"])
conditions = st.fixed_dictionaries({"value": gradients}, optional={"filter": filters})
parameter = st.one_of(gradients, conditions, st.lists(conditions, min_size=1, max_size=4))


def theirs(setting, name, t):
    """The value by mergekit."""
    return evaluate_setting(name, TypeAdapter(ParameterSetting).validate_python(setting), t, validate=float)


@settings(max_examples=400, deadline=None)
@given(setting=parameter, name=st.sampled_from(NAMES), t=st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1)))
def test_parameters_resolve_as_in_mergekit(setting, name, t):
    check_parameters({"weight": setting}, METHODS["task_arithmetic"], "parameters")
    expected = theirs(setting, name, t)
    found = resolve(setting, name, t)
    assert found is expected if expected is None else found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(deadline=None)
@given(own=st.none() | parameter, shared=st.none() | parameter, name=st.sampled_from(NAMES), t=st.floats(0, 1))
def test_the_models_own_parameter_holds_then_the_recipes(own, shared, name, t):
    content = recipe("ties", "base", "left", parameters={"weight": 1.0})
    if shared is not None:
        content["parameters"]["lambda"] = shared
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
    content = recipe("task_arithmetic", *f32[:2], parameters={"weight": [{"filter": "mlp", "value": 0.5}]})
    with pytest.raises(UserError, match=r"needs `weight` for .*left at lm_head\.weight"):
        make_plan(*load_recipe(content)).check()


def sliced(content, layers):
    """One slice of these layers of every model."""
    return {"slices": [{"sources": [model | {"layer_range": layers} for model in content["models"]]}]}


def halves(sources):
    """Two slices of one layer each, whose sources are the model `a` with these keys."""
    ranges = ([0, 1], [1, 2])
    return {
        "slices": [{"sources": [{"model": "a", "layer_range": found} | own for own in sources]} for found in ranges]
    }


@pytest.mark.parametrize("change, words", [
    ({"modules": {"text_decoder": {}}}, ["modules", "text_decoder", "several parts"]),
    ({"modules": {"default": {}, "vision": {}}}, ["modules", "default, vision", "several parts"]),
    ({"modules": {"default": {"models": []}}}, ["`models` stands in `modules` too"]),
    ({"modules": {"default": {"model": []}}}, ["modules.default", "Did you mean 'models'?"]),
    ({"tokenizer": {"source": "base", "tokens": {"x": {"source": "a"}}}}, ["`tokenizer.tokens`", "not supported"]),
    ({"tokenizer": {"sources": "base"}}, ["tokenizer", "Did you mean 'source'?"]),
    ({"tokenizer": {"source": "base"}, "tokenizer_source": "base"}, ["tokenizer_source", "keep one"]),
    ({"tokenizer": {"source": "base", "pad_to_multiple_of": 64}}, ["pad_to_multiple_of", str(ROWS), "remove it"]),
    ({"tokenizer": {"source": "base", "pad_to_multiple_of": 0}}, ["pad_to_multiple_of", "at least 1"]),
    ({"tokenizer": "base"}, ["`tokenizer` must be a mapping", "tokenizer_source"]),
    ({"experts": [{"source_model": "a"}], "gate_mode": "hidden"}, ["`experts`", "mergekit-moe"]),
    ({"genome": {}}, ["`genome`", "mergekit-evolve"]),
    ({"base_model": {"model": {"path": "a"}, "override_architecture": "B"}}, ["base_model", "override_architecture"]),
    ({"base_model": {"modle": "a"}}, ["base_model", "Did you mean 'model'?"]),
    ({"dtype": "float64"}, ["dtype", "'float32'"]), ({"out_dtype": "int8"}, ["out_dtype"]),
    ({"chat_template": "chatlm"}, ["chat_template", "`auto`", "Jinja"]),
    ({"chat_template": "../chat_templates/chatml"}, ["chat_template", "`auto`", "Jinja"]),
    ({"chat_template": "org/model"}, ["chat_template", "`auto`", "Jinja"]), ({"chat_template": "{{x}}"}, ["Jinja"]),
    ({"merge_method": "passthrough"}, ["merge_method", "passthrough"]),
    ({"parameters": {"weight": 1.0, "filter_wise": "many"}}, ["filter_wise must be true or false"]),
    ({"merge_method": "model_stock", "parameters": {"filter_wise": True}}, ["filter_wise of model_stock", "mergekit"]),
    ({"merge_method": "ties", "parameters": {"weight": 1.0, "rescale": 1.0}}, ["rescale of ties", "mergekit's alone"]),
    ({"merge_method": "breadcrumbs", "parameters": {"rescale": [{"value": True}]}}, ["rescale of breadcrumbs"]),
    ({"slices": [{"sources": [{"model": "a"}]}]}, ["`models` and `slices`", "keep one"]),
    (lambda c: {"slices": [{"sources": c["models"]}] * 2}, ["slices", "layer_range"]),
    (lambda c: {"slices": sliced(c, [0, 1])["slices"] * 2}, ["stacks or drops layers", "make the model with mergekit"]),
    (lambda c: {"slices": sliced(c, [1, 2])["slices"] + sliced(c, [0, 1])["slices"]}, ["stacks or drops layers"]),
    (lambda c: {"slices": sliced(c, [0, 1])["slices"] + sliced(c, ["1", 2])["slices"]}, ["two whole numbers"]),
    (lambda c: {"slices": sliced(c, [0, 1])["slices"] + [{"sources": [{"model": "a", "layer_range": [1, 2]}]}]},
     ["stacks or drops layers"]),
    (lambda c: {"slices": [{"sources": [{"model": "a", "layer_range": [0, 1]}, {"model": "b", "layer_range": [1, 2]}]},
                           *sliced(c, [1, 2])["slices"]]}, ["stacks or drops layers"]),
    (lambda _: halves([{}, {}]), ["a comes twice in one slice"]), (lambda _: halves([{"weight": 1}]), ["key 'weight'"]),
    (lambda _: halves([{"parameters": {"weight": ["a", 1]}}]), ["weight must be a finite number, not a"]),
    (lambda _: halves([{"parameters": [1]}]), ["`parameters` must map names to values"]),
    (lambda c: {"slices": sliced(c, [0, 1])["slices"] + sliced(c, [1, 3])["slices"]}, ["layer_range", "[0, 2]"]),
    (lambda c: sliced(c, [0, 2]) | {"merge_method": "passthrough", "parameters": {}}, ["remove `base_model`"]),
    (lambda c: sliced(c, [0, 1]) | {"merge_method": "passthrough", "parameters": {}, "base_model": None}, ["[0, 2]"]),
    (lambda c: sliced(c, [0, 2]) | {"merge_method": "passthrough", "parameters": {"scale": 0.5}}, ["with a scale"]),
    (lambda c: {"slices": [{"sources": c["models"], "residual_weight": 0.1}]}, ["slices", "residual_weight"]),
    (lambda c: {"slices": [{"sources": c["models"], "base_model": "x"}]}, ["slices", "base_model"]),
    (lambda c: {"slices": [{"sources": c["models"], "parameters": 3}]}, ["`parameters` must map names"]),
    (lambda c: {"slices": [{"parameters": {}}]}, ["models"]),
    (lambda c: sliced(c, [0, 1]), ["layer_range", "left", "[0, 2]"]),
    (lambda c: sliced(c, [1, 2]), ["layer_range", "left", "[0, 2]"]),
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
    """The path of a JSON file of coefficients."""
    (folder / "coefficients.json").write_text(json.dumps({"coefficients": content}))
    return str(folder / "coefficients.json")


def as_csv(folder, content):
    """The path of a table of coefficients, with a further column."""
    rows = [(layer, value, model, "") for model, values in content.items() for layer, value in values.items()]
    with (folder / "coefficients.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("layer", "coefficient", "finetuned", "remark"), *rows])
    return str(folder / "coefficients.csv")


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("method, parameters", [("task_arithmetic", {}), ("ties", {"density": 0.3})])
def test_all_spellings_of_coefficients_give_the_same_bytes(f32, merged, tmp_path, models, method, parameters):
    content = {"left": VALUES, "right": OTHERS} if models == 2 else {"left": VALUES}
    lists = {"left": [0.25, 0.75], "right": [0.5, 0.125]}
    (tmp_path / "lists.json").write_text(json.dumps({"coefficients": lists}))
    spellings = [content, {model: lists[model] for model in content}, content | {"left": lists["left"]}]
    spellings += [as_json(tmp_path, content), as_csv(tmp_path, content), str(tmp_path / "lists.json")]
    spellings += [lists["left"]] if models == 1 else []
    first, *others = (
        merged(recipe(method, *f32[: 1 + models], parameters=parameters, coefficients=given)) for given in spellings
    )
    assert all(same(other, first) for other in others)


def test_one_list_of_coefficients_holds_for_every_model(f32, merged):
    one, each = (
        merged(recipe("task_arithmetic", *f32, coefficients=given))
        for given in ([0.25, 0.75], {"left": VALUES, "right": VALUES})
    )
    assert same(one, each)


@pytest.mark.parametrize("given, words", [
    ({"right": VALUES}, ["model in `coefficients`", "'left'", "right"]),
    ({"left": {"embed": 0.5}}, ["lacks layer 0 of left"]),
    ({"left": []}, ["left", "[]"]),
    ([], ["left", "[]"]),
    ({"left": [0.5, float("nan")]}, ["left", "nan"]),
    ([float("inf")], ["left", "finite"]),
    ({"left": ["a"]}, ["coefficients"]),
    (0.5, ["coefficients"]),
    ("absent.csv", ["no coefficients at", "absent.csv", "calibrate first"]),
])  # fmt: skip
def test_coefficients_that_lack_something(f32, tmp_path, given, words):
    with pytest.raises(UserError) as error:
        acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=given), tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("text, words", [
    ("finetuned,layer\nleft,0\n", ["columns finetuned, layer, coefficient"]),
    ("finetuned,layer,coefficient\nleft,0,half\n", ["half"]),
    ("finetuned,layer,coefficient\nleft,0,0.5\n", ["lacks layer 1 of left"]),
    ("finetuned,layer,coefficient\nleft,0\n", ["columns"]),
    ("", ["lacks the column"]),
])  # fmt: skip
def test_tables_that_lack_something(f32, tmp_path, text, words):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UserError) as error:
        acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=str(tmp_path / "c.csv")), tmp_path / "out")
    assert all(word in str(error.value) for word in [str(tmp_path / "c.csv"), *words]), str(error.value)


@pytest.mark.parametrize("content", [
    {"left": ["a", "b"]}, {"left": [None]}, {"left": [{"filter": "mlp"}]}, {"left": [[0.5]]},
], ids=str)  # fmt: skip
def test_lists_of_a_json_file_that_are_no_numbers(f32, tmp_path, content):
    with pytest.raises(UserError, match="left"):
        acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=as_json(tmp_path, content)), tmp_path / "out")


def globally(folders, tensors, density, gamma, weights, elects):
    """In numpy: |δ| of all tensors sorted together, the γ largest and the smallest dropped, then summed by weight.

    elects: only what agrees with the sign of the sum is summed.
    """
    base, *finetuned = ({n: t.double().numpy() for n, t in tensors(f).items()} for f in folders)
    deltas = []
    for model in finetuned:
        delta = {n: model[n].astype(np.float32) - base[n].astype(np.float32) for n in base}
        size = np.sort(np.concatenate([np.abs(d).ravel() for d in delta.values()]))[::-1]
        top, kept = int(gamma * len(size)), int(density * len(size))
        high, low = size[top], size[top + kept - 1]
        deltas.append({n: np.where((np.abs(d) <= high) & (np.abs(d) >= low), d, 0.0) for n, d in delta.items()})
    found = {}
    for name, values in base.items():
        terms = np.stack([w * d[name].astype(float) for w, d in zip(weights, deltas, strict=True)])
        agree = np.sign(terms) == np.where(terms.sum(axis=0) >= 0, 1, -1)
        found[name] = values + np.where(agree | (not elects), terms, 0.0).sum(axis=0)
    return found


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.trims])
def test_global_scope_sorts_all_tensors_together(f32, merged, tensors, method, models):
    folders, weights = f32[: 1 + models], [0.7, 0.4][:models]
    gamma = {"gamma": 0.05} if "gamma" in METHODS[method].parameters else {}
    content = recipe(method, *folders, parameters={"density": 0.2, "normalize": False} | gamma, scope="global")
    for entry, weight in zip(content["models"], weights, strict=True):
        entry["parameters"] = {"weight": weight}
    found, local = merged(content), merged(content | {"scope": "tensor"})
    expected = globally(folders, tensors, 0.2, gamma.get("gamma", 0), weights, elects=METHODS[method].elects)
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
    content = recipe("della", *f32[:2], parameters={"weight": 1.0, "density": density, "epsilon": 0.15})
    with pytest.raises(UserError, match="epsilon"):
        acm.merge(content, tmp_path / "out")
