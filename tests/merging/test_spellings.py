"""Recipes in the shapes of public model cards, as mergekit reads them and as it writes them back, run unchanged."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from helpers import assert_equal, recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit import merge_methods
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.config import ConditionalParameter, MergeConfiguration, evaluate_setting
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from transformers import AutoTokenizer

import acm
from acm.errors import UserError
from acm.merging import mergekit
from acm.merging.export import mergekit_recipe
from acm.merging.mergekit import values
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe
from acm.merging.registry import METHODS

SAME = {  # shape → a recipe that mergekit merges to the same numbers
    "linear": """
models:
  - model: LEFT
    parameters:
      weight: 0.3
  - model: RIGHT
    parameters:
      weight: 0.7
merge_method: linear
dtype: float32
""",
    "linear, numbers as text, a flag as a number": """
merge_method: linear
models: [{model: LEFT, parameters: {weight: 3e-1}}, {model: RIGHT, parameters: {weight: '0.25'}}]
parameters: {normalize: 0.0, int8_mask: 1.0}
dtype: float32
""",
    "linear by layers": """
models:
  - model: LEFT
    parameters: {weight: [1, 0.5, 0]}
  - model: RIGHT
    parameters: {weight: [0.1, 0.5, 1.0]}
merge_method: linear
parameters: {normalize: true}
dtype: float32
""",
    "linear by filters, on top of a base": """
merge_method: linear
base_model: BASE
models:
  - model: BASE
    parameters: {weight: 0.2}
  - model: LEFT
    parameters:
      weight:
        - filter: mlp
          value: [0.2, 0.8]
        - filter: self_attn
          value: 0.4
        - value: 0.5
dtype: float32
""",
    "slerp, classic": """
slices:
  - sources:
      - model: LEFT
        layer_range: [0, 5]
      - model: RIGHT
        layer_range: [0, 5]
merge_method: slerp
base_model: LEFT
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
dtype: float32
""",
    "slerp of models, parameters that it has not": """
models: [{model: LEFT}, {model: RIGHT}]
merge_method: slerp
base_model: LEFT
dtype: float32
parameters:
  t: [0.1, 0.9]
  embed_slerp: true
  normalize: true
  weight: 0.3
""",
    "slerp of slices with their own t": """
slices:
  - sources: [{model: LEFT, layer_range: [0, 2]}, {model: RIGHT, layer_range: [0, 2]}]
    parameters: {t: 0.2}
  - sources: [{model: LEFT, layer_range: [2, 4]}, {model: RIGHT, layer_range: [2, 4]}]
    parameters:
      t: [{filter: mlp, value: [0.1, 0.6]}, {value: 0.3}]
  - sources: [{model: LEFT, layer_range: [4, 5]}, {model: RIGHT, layer_range: [4, 5]}]
merge_method: slerp
base_model: LEFT
parameters: {t: [0.9, 0.7]}
dtype: float32
""",
    "slices whose models have their own weights": """
slices:
  - sources:
      - {model: LEFT, layer_range: [0, 3], parameters: {weight: [0.2, 0.9]}}
      - {model: RIGHT, layer_range: [0, 3], parameters: {weight: 1}}
      - {model: BASE, layer_range: [0, 3]}
  - sources:
      - {model: RIGHT, layer_range: [3, 5]}
      - {model: LEFT, layer_range: [3, 5], parameters: {weight: 5e-1}}
      - {model: BASE, layer_range: [3, 5]}
    parameters: {weight: [{filter: self_attn, value: 0.1}]}
merge_method: task_arithmetic
base_model: BASE
parameters: {weight: [0.4, 0.6], lambda: '1.2'}
dtype: float32
""",
    "modules with models": """
merge_method: task_arithmetic
base_model: BASE
modules:
  default:
    models: [{model: LEFT, parameters: {weight: 0.3}}, {model: RIGHT}]
    parameters: {weight: [{filter: mlp, value: 0.9}]}
parameters: {weight: 0.6}
dtype: float32
""",
    "modules with slices": """
merge_method: task_arithmetic
base_model: BASE
modules:
  default:
    slices:
      - sources: [{model: LEFT, layer_range: [0, 4]}, {model: BASE, layer_range: [0, 4]}]
        parameters: {weight: 0.2}
      - sources: [{model: LEFT, layer_range: [4, 5]}, {model: BASE, layer_range: [4, 5]}]
parameters: {weight: [0.6, 0.8]}
dtype: float32
""",
    "task arithmetic": """
merge_method: task_arithmetic
base_model: BASE
models:
  - model: BASE
  - model: LEFT
    parameters:
      weight: 0.7
  - model: RIGHT
    parameters:
      weight: -0.2
parameters:
  normalize: false
  int8_mask: true
  rescale: true
  density: 0.4
dtype: float32
tokenizer_source: base
""",
    "task arithmetic, empty blocks": """
merge_method: task_arithmetic
base_model: BASE
models:
  - model: BASE
    parameters:
  - model: LEFT
    parameters: {weight: 1}
parameters:
slices:
modules:
tokenizer:
chat_template:
out_dtype:
dtype: float32
""",
    "ties": """
models:
  - model: BASE
    # no parameters necessary for base model
  - model: LEFT
    parameters:
      density: 0.5
      weight: 0.5
  - model: RIGHT
    parameters:
      density: 0.5
      weight: 0.3
merge_method: ties
base_model: BASE
parameters:
  normalize: 1.0
  int8_mask: 1.0
  rescale: false
dtype: float32
""",
    "ties by layers": """
models:
  - model: LEFT
    parameters:
      density: [1, 0.7, 0.1]
      weight: 1.0
  - model: RIGHT
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1]
merge_method: ties
base_model: BASE
parameters: {normalize: [true, false], lambda: 8e-1}
dtype: float32
""",
    "ties with a filter for one matrix": """
models:
  - model: LEFT
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: BASE
parameters:
  normalize: [{filter: mlp, value: 'true'}, {value: 0}]
dtype: float32
""",
    "breadcrumbs": """
merge_method: breadcrumbs
base_model: BASE
models: [{model: LEFT, parameters: {weight: 0.7, density: 0.9, gamma: 1e-2}}, {model: RIGHT, parameters: {weight: 0.1}}]
parameters: {density: 0.8, rescale: 0}
dtype: float32
""",
    "breadcrumbs with ties": """
merge_method: breadcrumbs_ties
base_model: BASE
models: [{model: LEFT}, {model: RIGHT}]
parameters: {weight: 0.6, density: 0.9, gamma: 0.02, lambda: 0.9}
dtype: float32
""",
    "model stock, weights that it has not": """
models:
  - model: LEFT
  - model: RIGHT
    parameters: {weight: 0.8}
merge_method: model_stock
base_model: BASE
parameters: {normalize: false, filter_wise: false, int8_mask: true}
dtype: float32
""",
    "passthrough of one model": "{models: [{model: LEFT}], merge_method: passthrough, dtype: float32}",
    "passthrough of all layers of one model": """
slices:
  - sources: [{model: RIGHT, layer_range: [0, 3]}]
  - sources: [{model: RIGHT, layer_range: [3, 5]}]
merge_method: passthrough
dtype: float32
""",
    "models as mappings": """
merge_method: task_arithmetic
base_model: {model: {path: BASE, revision: null}, lora: null, override_architecture: null}
models:
  - model: {model: {path: LEFT}}
    parameters: {weight: 0.4}
  - {model: {model: RIGHT}, parameters: {weight: .3}}
dtype: float32
""",
    "a tokenizer block": """
merge_method: linear
base_model: BASE
models: [{model: LEFT}, {model: RIGHT}]
parameters: {weight: 1.}
dtype: torch.float32
tokenizer: {source: union, tokens: {}, pad_to_multiple_of: 1}
""",
    "a tokenizer of one of the models": """
merge_method: linear
models: [{model: LEFT}, {model: RIGHT}]
parameters: {weight: +5e-1}
dtype: float32
tokenizer: {source: {model: {path: RIGHT}}}
""",
    "an empty tokenizer block, which means union": """
merge_method: linear
models: [{model: LEFT}, {model: RIGHT}]
parameters: {weight: 0.5}
dtype: float32
tokenizer: {}
""",
}
DRAWN = {  # methods that draw a random mask: merged here alone
    "dare_ties": """
models:
  - model: BASE
  - model: LEFT
    parameters: {density: 0.53, weight: 0.4}
  - model: RIGHT
    parameters: {density: 0.53, weight: 0.3}
merge_method: dare_ties
base_model: BASE
parameters: {int8_mask: true}
dtype: bfloat16
""",
    "dare_linear in slices": """
slices:
  - sources:
      - {model: LEFT, layer_range: [0, 5], parameters: {density: 7e-1, weight: [0.4, 1]}}
      - {model: BASE, layer_range: [0, 5]}
merge_method: dare_linear
base_model: BASE
parameters: {rescale: 1, lambda: '.9'}
dtype: float32
out_dtype: float16
""",
    "della": """
models: [{model: LEFT, parameters: {density: 0.5, weight: 0.5}}, {model: RIGHT, parameters: {weight: 0.6}}]
merge_method: della
base_model: BASE
parameters: {epsilon: 0.05, lambda: 1, density: 0.7}
dtype: bfloat16
tokenizer_source: union
""",
    "della_linear": """
models: [{model: LEFT, parameters: {density: 0.5, weight: [0.5, 0.6]}}]
merge_method: della_linear
base_model: BASE
parameters: {epsilon: 1e-1, normalize: 1.0}
dtype: float32
""",
}
SHAPES = SAME | DRAWN


def filled(text, folders):
    """A recipe's text with folders in place of BASE, LEFT and RIGHT."""
    for word, folder in zip(("BASE", "LEFT", "RIGHT"), folders, strict=True):
        text = text.replace(word, str(folder))
    return text


def written_back(text):
    """The recipe as mergekit writes it: after reading it, and in the normal form that it keeps beside a merge."""
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    plain = config.to_yaml()
    planner = MergePlanner.__new__(MergePlanner)
    planner.config, planner.options = config, MergeOptions()
    planner._method = merge_methods.get(config.merge_method)
    planner.arch_info = get_architecture_info(config, planner.options)
    planner.normalize_config()
    return plain, config.to_yaml()


def merged(tensors, text, out):
    """The tensors that acm makes of a recipe's text, in a file of its own."""
    out.parent.mkdir(exist_ok=True)
    out.with_suffix(".yml").write_text(text)
    return tensors(acm.merge(out.with_suffix(".yml"), out))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_mergekit_writes_back_merges_to_the_same_bytes(deep, tensors, tmp_path, shape):
    text = filled(SHAPES[shape], deep)
    first = merged(tensors, text, tmp_path / "first")
    for number, back in enumerate(written_back(text)):
        again = merged(tensors, back, tmp_path / f"again-{number}")
        assert first.keys() == again.keys() and all(first[name].equal(again[name]) for name in first), back


@pytest.mark.parametrize("shape", SAME)
def test_mergekit_merges_to_the_same_numbers(deep, tensors, run_mergekit, tmp_path, shape):
    text = filled(SAME[shape], deep)
    ours, theirs = merged(tensors, text, tmp_path / "ours"), tensors(run_mergekit(text, tmp_path / "theirs"))
    assert_equal(ours, theirs, tensors(deep[0]), everywhere=False)


@pytest.mark.parametrize("shape", SAME)
def test_what_is_exported_for_mergekit_says_the_same(deep, tensors, tmp_path, shape):
    text = filled(SAME[shape], deep)
    (tmp_path / "r.yml").write_text(text)
    try:
        exported = mergekit_recipe(make_plan(*load_recipe(tmp_path / "r.yml")).check(), tmp_path)
    except UserError as error:
        assert "padding rows" in str(error)
        return
    MergeConfiguration.model_validate(yaml.safe_load(exported))
    first, again = merged(tensors, text, tmp_path / "first"), merged(tensors, exported, tmp_path / "again")
    assert all(first[name].equal(again[name]) for name in first), exported


INLINE = "{% for m in messages %}{{ m['content'] }}{% endfor %}\n"


@pytest.mark.parametrize("wanted, templates, expected", [
    ("auto", ["a {{x}}", "b {{x}}\n", "b {{x}}"], "b {{x}}"),  # most of the models
    ("auto", ["a {{x}}", "b {{x}}", "c {{x}}"], "a {{x}}"),  # the first of as many
    ("auto", [None, "b {{x}}", None], "b {{x}}"), ("auto", [None, None, None], None),
    (INLINE, ["a {{x}}", None, None], INLINE), (INLINE, [None, None, None], INLINE),
])  # fmt: skip
@pytest.mark.parametrize("inline", [True, False])
def test_chat_templates(f32, run_mergekit, tmp_path, wanted, templates, expected, inline):
    folders = []
    for folder, template in zip(f32, templates, strict=True):
        folders.append(Path(shutil.copytree(folder, tmp_path / folder.name)))
        (folders[-1] / "chat_template.jinja").unlink(missing_ok=True)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        if template and inline:
            settings["chat_template"] = template
        elif template:
            (folders[-1] / "chat_template.jinja").write_text(template)
        (folders[-1] / "tokenizer_config.json").write_text(json.dumps(settings))
    content = recipe("linear", *folders, parameters={"weight": 0.5}, chat_template=wanted, dtype="float32")
    ours = AutoTokenizer.from_pretrained(acm.merge(content, tmp_path / "ours")).chat_template
    assert (ours and ours.strip()) == (expected and expected.strip())
    assert (
        yaml.safe_load(mergekit_recipe(make_plan(load_recipe(content)[0], Path()), Path()))["chat_template"] == wanted
    )
    if templates[0] != "a {{x}}" or wanted != "auto" or "b {{x}}\n" in templates:  # else mergekit draws one of them
        theirs = AutoTokenizer.from_pretrained(run_mergekit(yaml.safe_dump(content), tmp_path / "theirs")).chat_template
        assert (ours and ours.strip()) == (theirs and theirs.strip())


@pytest.mark.parametrize("name", ["chatml", "llama3", "alpaca", "mistral", "exaone"])
def test_templates_that_mergekit_has_by_name(f32, run_mergekit, tmp_path, monkeypatch, name):
    content = recipe("linear", *f32, parameters={"weight": 0.5}, chat_template=name, dtype="float32")
    out = acm.merge(content, tmp_path / "ours")
    theirs = AutoTokenizer.from_pretrained(run_mergekit(yaml.safe_dump(content), tmp_path / "theirs")).chat_template
    assert AutoTokenizer.from_pretrained(out).chat_template.strip() == theirs.strip()
    assert yaml.safe_load((out / "recipe.yml").read_text())["chat_template"].strip() == theirs.strip()
    monkeypatch.setattr(mergekit, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=f"'{name}' is a template that comes with mergekit: install that"):
        load_recipe(content)


@pytest.mark.parametrize("method, given, idle", [
    ("slerp", {"t": 0.5, "weight": 0.3, "int8_mask": True}, ["weight"]), ("linear", {"weight": 1}, []),
    ("task_arithmetic", {"weight": 1, "density": 0.5, "rescale": True}, ["density", "rescale"]),
    ("linear", {"weight": 1, "lambda": [1, 2], "smooth": 0.0}, ["lambda", "smooth"]),
])  # fmt: skip
def test_parameters_without_effect_are_said(f32, method, given, idle):
    content = recipe(method, f32[0], f32[1], parameters=given)
    warned = [f.text for f in make_plan(load_recipe(content)[0], Path()).findings if "without effect" in f.text]
    assert warned == ([f"{', '.join(idle)}: without effect on {method}, as in mergekit."] if idle else [])


@pytest.mark.parametrize("method, key", [("slerp", "wieght"), ("interpolation", "density"), ("ties", "select_topk")])
def test_other_parameters_are_refused(f32, method, key):
    with pytest.raises(UserError, match=f"unknown key of {method} '{key}'"):
        load_recipe(recipe(method, f32[0], f32[1], parameters=METHODS[method].example | {key: 0.5}))


DOCUMENTS = """
name: first
merge_method: linear
models: [{model: LEFT}, {model: RIGHT}]
parameters: {weight: 0.5}
---
merge_method: task_arithmetic
base_model: BASE
models: [{model: first}]
parameters: {weight: 0.5}
"""


def test_recipes_of_one_file_run_one_at_a_time(deep, tensors, tmp_path):
    file = tmp_path / "all.yml"
    file.write_text(filled(DOCUMENTS, deep))
    with pytest.raises(UserError, match=r"2 recipes \(first, one without a name\).*`.*all\.yml#first`"):
        acm.merge(file, tmp_path / "out")
    with pytest.raises(UserError, match=r"unknown recipe in .* 'frist'.* Did you mean 'first'"):
        acm.merge(f"{file}#frist", tmp_path / "out")
    with pytest.raises(UserError, match="first does not exist"):
        acm.merge(f"{file}#", tmp_path / "out")
    first, last = (
        tensors(acm.merge(f"{file}#first", tmp_path / "first")),
        tensors(acm.merge(f"{file}#", tmp_path / "last")),
    )
    base, left, right = map(tensors, deep)
    for name, tensor in last.items():
        torch.testing.assert_close(first[name], (left[name] + right[name]) / 2)
        torch.testing.assert_close(tensor, (base[name] + first[name]) / 2)
    file.write_text(filled(DOCUMENTS.replace("---\n", "---\nname: first\n"), deep))
    with pytest.raises(UserError, match="give each a `name` of its own"):
        acm.merge(f"{file}#first", tmp_path / "out")


def test_a_file_whose_name_has_a_number_sign(deep, tmp_path):
    (tmp_path / "a#b.yml").write_text(filled(SAME["linear"], deep))
    assert acm.merge(tmp_path / "a#b.yml", tmp_path / "out").is_dir()


def test_two_folders_of_one_name_are_told_apart_by_their_parents(f32, tensors, tmp_path):
    """As distinct names merge: the names are the keys of coefficients and of random masks."""
    paths = {}
    for parent, folder in (("one", f32[1]), ("two", f32[2])):
        paths[parent] = Path(shutil.copytree(folder, tmp_path / parent / "model"))
    content = recipe("task_arithmetic", f32[0], *paths.values(), dtype="float32")
    given = {"one/model": [0.1, 0.9], "two/model": [0.5, 0.3]}
    out = acm.merge(content | {"coefficients": given}, tmp_path / "out")
    assert json.loads((out / "coefficients.json").read_text())["coefficients"].keys() == given.keys()
    plain = recipe(
        "task_arithmetic", *f32, dtype="float32", coefficients=dict(zip(("left", "right"), given.values(), strict=True))
    )
    expected = tensors(acm.merge(plain, tmp_path / "plain"))
    assert all(tensor.equal(expected[name]) for name, tensor in tensors(out).items())
    with pytest.raises(UserError, match=r"'one/model'.*Known: model, two/model"):
        acm.merge(content | {"coefficients": {"model": [0.1], "two/model": [0.1]}}, tmp_path / "again")


@pytest.mark.parametrize("models, names", [
    (["a/left", "b/right"], ["left", "right"]), (["left", "a/left"], ["a/left", "left"]),
    (["x/y/m", "z/y/m", "n"], ["n", "x/y/m", "z/y/m"]), (["/m", "a/m"], ["/m", "a/m"]),
    (["o/m@main", "o/m@dev"], ["m@dev", "m@main"]), (["o/m", "p/m+q/r"], ["m", "r"]),
])  # fmt: skip
def test_names_of_models(models, names):
    found, _ = load_recipe(recipe("task_arithmetic", "base", *models, parameters={"weight": 1.0}))
    assert sorted(found.names) == sorted(names)
    assert (
        found.names
        == load_recipe(recipe("task_arithmetic", "base", *models[::-1], parameters={"weight": 1.0}))[0].names
    )


@pytest.mark.parametrize("given, expected", [
    ({"model": {"path": "o/m", "revision": "main"}}, "o/m@main"), ({"model": "o/m"}, "o/m"),
    ({"model": {"path": "o/m"}, "lora": {"path": "a/b", "revision": "x"}}, "o/m+a/b@x"),
    ({"model": "o/m", "lora": "a/b", "override_architecture": None}, "o/m+a/b"), ("o/m@main+a/b", "o/m@main+a/b"),
])  # fmt: skip
def test_models_as_mergekit_writes_them(given, expected):
    content = {"merge_method": "linear", "models": [{"model": given}], "parameters": {"weight": 1}}
    assert load_recipe(content)[0].models[0].model == expected
    assert str(ModelReference.model_validate(given)) == expected


@settings(max_examples=100, deadline=None)
@given(st.floats(-9, 9) | st.integers(-9, 9), st.sampled_from(["{}", "{:.3e}", "{:.0e}", "{:+f}", "  {} "]))
def test_numbers_as_text_mean_what_they_mean_in_mergekit(number, form):
    text = form.format(number)
    found = values({"weight": [{"filter": "mlp", "value": [text, 1]}, {"value": text}]}, "linear")
    assert found == {"weight": [{"filter": "mlp", "value": [float(text), 1]}, {"value": float(text)}]}
    assert evaluate_setting("mlp", [ConditionalParameter(value=text)], validate=float) == float(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "half", "", "0x10", "1_000", "1,5", "٣"])
def test_texts_that_are_no_finite_number_are_refused(text):
    content = recipe("task_arithmetic", "a", "b", parameters={"weight": text})
    with pytest.raises(UserError, match="weight must be a"):
        load_recipe(content)
