"""The merge engine on pico checkpoints: bytes, layers, shards, seeds, loading, and nothing left behind."""

import doctest
import hashlib
import json
import shutil
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
import yaml
from helpers import EMBEDDING, HEAD, INDEX, NORM, SINGLE, example, interrupt, loaded, names, recipe, same, write_files
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import acm
from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging import engine
from acm.merging.recipe import Recipe
from acm.merging.registry import METHODS

LAYERS = {"embed": 0.1, "0": 0.25, "1": 0.4, "norm": 0.65, "lm_head": 0.9}
DARE = {"weight": 0.7, "density": 0.6}


def coefficients(folder, values, *models):
    path = folder / "coefficients.json"
    path.write_text(json.dumps({"coefficients": {m.name: values for m in models}}))
    return str(path)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_ties", "interpolation"])
def test_merged_folder_loads_without_warnings(bf16, tokenizer, tmp_path, caplog, method):
    out = acm.merge(recipe(method, *bf16[:2], parameters={"weight": 0.7}), tmp_path / "out")
    model, found = loaded(out, caplog), AutoTokenizer.from_pretrained(out)
    assert model.dtype == torch.bfloat16 and found.get_vocab() == tokenizer.get_vocab()
    ids = found("question: what is 17+5? answer:", return_tensors="pt")["input_ids"]
    assert torch.isfinite(model(ids).logits).all()


def test_folder_holds_what_the_design_promises(bf16, tmp_path):
    base, left, _ = bf16
    out = acm.merge(recipe("task_arithmetic", base, left, parameters={"weight": 0.7}), tmp_path / "out")
    copied = ("generation_config.json", "tokenizer.json", "tokenizer_config.json")
    assert {*names(out)} >= {"config.json", SINGLE, "README.md", *copied}
    for name in copied:
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert json.loads((out / "config.json").read_text()) == json.loads((base / "config.json").read_text())


def test_the_bases_limit_of_a_response_is_not_the_merges(bf16, tmp_path):
    base, left, _ = bf16
    limited = shutil.copytree(base, tmp_path / "base")
    stated = json.loads((base / "generation_config.json").read_text())
    (limited / "generation_config.json").write_text(json.dumps(stated | {"max_new_tokens": 2048, "max_length": 99}))
    out = acm.merge(recipe("task_arithmetic", limited, left, parameters={"weight": 0.7}), tmp_path / "out")
    assert json.loads((out / "generation_config.json").read_text()) == stated


@pytest.mark.parametrize("method", ["task_arithmetic", "interpolation"])
@pytest.mark.parametrize("weight, source", [(0, 0), (0.0, 0), (1, 1), (1.0, 1)])
def test_coefficients_zero_and_one_copy_bytes(bf16, merged, tensors, method, weight, source):
    assert same(merged(recipe(method, *bf16[:2], parameters={"weight": weight})), tensors(bf16[source]))


@pytest.mark.parametrize("source", [0, 1])
def test_coefficients_of_a_file_zero_and_one_copy_bytes(f32, merged, tensors, tmp_path, source):
    path = coefficients(tmp_path, dict.fromkeys(LAYERS, float(source)), f32[1])
    assert same(merged(recipe("task_arithmetic", *f32[:2], coefficients=path)), tensors(f32[source]))


def test_linear_of_one_model_copies_its_bytes(make_model, merged, tensors, tmp_path):
    def zeros(model):  # −0 must survive
        model.model.layers[0].mlp.up_proj.weight[0] = -0.0

    model = make_model(tmp_path / "a", edit=zeros)
    for weight in (1, 1.0):
        listed = [{"model": str(model), "parameters": {"weight": weight}}]
        assert same(merged({"merge_method": "linear", "models": listed}), tensors(model))


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_linear_with_weights_zero_and_one_gives_one_model(f32, merged, tensors, weights):
    listed = [{"model": str(m), "parameters": {"weight": w}} for m, w in zip(f32[1:], weights, strict=True)]
    assert same(merged({"merge_method": "linear", "models": listed}), tensors(f32[1 + weights.index(1.0)]))


def test_all_zero_coefficients_copy_the_base_for_several_models(f32, merged, tensors):
    assert same(merged(recipe("task_arithmetic", *f32, parameters={"weight": 0.0})), tensors(f32[0]))


@pytest.mark.parametrize("models", [1, 2])
def test_equal_coefficients_give_task_arithmetic(bf16, merged, tmp_path, models):
    finetuned = bf16[1 : 1 + models]
    path = coefficients(tmp_path, dict.fromkeys(LAYERS, 0.7), *finetuned)
    acm_ta = merged(recipe("task_arithmetic", bf16[0], *finetuned, coefficients=path))
    assert same(acm_ta, merged(recipe("task_arithmetic", bf16[0], *finetuned, parameters={"weight": 0.7})))


def test_equal_coefficients_give_ties_with_lambda(bf16, merged, tmp_path):
    path = coefficients(tmp_path, dict.fromkeys(LAYERS, 0.7), bf16[1])
    acm_ties = merged(recipe("ties", *bf16[:2], parameters={"density": 0.2}, coefficients=path))
    assert same(acm_ties, merged(recipe("ties", *bf16[:2], parameters={"density": 0.2, "weight": 1.0, "lambda": 0.7})))


def test_equal_coefficients_give_ties_of_several_models(f32, merged, tmp_path):
    path = coefficients(tmp_path, dict.fromkeys(LAYERS, 0.7), *f32[1:])
    found = merged(recipe("ties", *f32, parameters={"density": 0.3}, coefficients=path))
    plain = merged(recipe("ties", *f32, parameters={"density": 0.3, "weight": 1.0, "lambda": 0.7}))
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-7)


def test_lambda_multiplies_coefficients(f32, merged, tensors, tmp_path):
    path = coefficients(tmp_path, LAYERS, *f32[1:])
    found = merged(recipe("task_arithmetic", *f32, parameters={"lambda": 0.5, "normalize": True}, coefficients=path))
    base, left, right = map(tensors, f32)
    for name, tensor in found.items():
        expected = base[name] + 0.5 * LAYERS[layer_of(name)] * (left[name] + right[name] - 2 * base[name]) / 2
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_each_layer_gets_its_own_coefficient(f32, merged, tensors, tmp_path):
    path = coefficients(tmp_path, LAYERS, f32[1])
    found = merged(recipe("task_arithmetic", *f32[:2], coefficients=path))
    base, left = tensors(f32[0]), tensors(f32[1])
    blocks = {str(i): [name for name in base if name.startswith(f"model.layers.{i}.")] for i in (0, 1)}
    places = {"embed": [EMBEDDING], "norm": [NORM], "lm_head": [HEAD]} | blocks
    assert sum(map(len, places.values())) == len(base) == len(found) and len(places["0"]) == 12
    for layer, held in places.items():
        for name in held:
            expected = base[name] + LAYERS[layer] * (left[name] - base[name])
            torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-7)


def test_each_model_gets_its_own_coefficients(f32, merged, tensors, tmp_path):
    path = tmp_path / "coefficients.json"
    values = {"left": dict.fromkeys(LAYERS, 0.2), "right": dict.fromkeys(LAYERS, 0.9)}
    path.write_text(json.dumps({"coefficients": values}))
    found = merged(recipe("task_arithmetic", *f32, coefficients=str(path)))
    base, left, right = map(tensors, f32)
    for name, tensor in found.items():
        expected = base[name] + 0.2 * (left[name] - base[name]) + 0.9 * (right[name] - base[name])
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method, parameters", [
    ("linear", {"weight": 0.3}), ("task_arithmetic", {"weight": 0.3}), ("ties", {"weight": 0.3, "density": 0.4}),
    ("dare_linear", DARE), ("dare_ties", DARE),
])  # fmt: skip
def test_order_of_the_models_changes_no_byte(f32, merged, method, parameters):
    base, left, right = f32
    listed = [{"model": str(left), "parameters": {"weight": 0.6}}, {"model": str(right)}]
    one, other = (
        merged({"merge_method": method, "base_model": str(base), "models": models, "parameters": parameters})
        for models in (listed, listed[::-1])
    )
    assert same(one, other)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_linear"])
def test_shards_change_no_byte(make_model, tensors, tmp_path, method):
    parameters = DARE if method != "task_arithmetic" else {"weight": 0.7}
    outs = []
    for shard in ("5GB", "20KB"):
        base = make_model(tmp_path / shard / "base", shard=shard)
        left = make_model(tmp_path / shard / "left", 1, parent=base, shard=shard)
        outs.append(acm.merge(recipe(method, base, left, parameters=parameters), tmp_path / shard / "out"))
    whole, sharded = outs
    assert same(tensors(whole), tensors(sharded))
    index = json.loads((sharded / INDEX).read_text())
    assert len(set(index["weight_map"].values())) == len(list(sharded.glob("*.safetensors"))) > 1
    assert index["weight_map"].keys() == tensors(whole).keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors(whole).values())
    state = AutoModelForCausalLM.from_pretrained(sharded).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tensors(whole).items())


def test_shards_of_the_models_may_differ(make_model, f32, tensors, merged, tmp_path):
    sharded = make_model(tmp_path / "left", 1, parent=f32[0], shard="20KB")
    whole = merged(recipe("task_arithmetic", f32[0], f32[1], parameters={"weight": 0.7}))
    assert same(merged(recipe("task_arithmetic", f32[0], sharded, parameters={"weight": 0.7})), whole)


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.random])
def test_masks_are_seeded(f32, merged, method):
    first, again, other = (merged(example(method, f32, seed=seed)) for seed in (3, 3, 4))
    assert same(first, again)
    assert all(not torch.equal(first[n], other[n]) for n in first if first[n].numel() > 100)


def test_dare_masks_differ_between_models_and_tensors(f32, merged, tensors):
    kept = {}
    base = tensors(f32[0])
    for model in f32[1:]:
        found = merged(recipe("dare_linear", f32[0], model, parameters={"weight": 1.0, "density": 0.5}))
        for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.gate_proj.weight"):
            kept[model.name, name] = found[name] != base[name]
    masks = list(kept.values())
    assert all((a == b).float().mean() < 0.6 for i, a in enumerate(masks) for b in masks[:i])


def test_recipe_from_dict_object_and_file_agree(f32, merged, tmp_path):
    content = recipe("ties", *f32, parameters={"weight": 1.0, "density": 0.3})
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(content))
    path, mapping = tmp_path / "recipe.yml", MappingProxyType(content)
    one, *others = map(merged, (content, mapping, Recipe.model_validate(content), path, str(path)))
    assert all(same(one, other) for other in others)


def test_relative_paths_resolve_against_the_folder_of_the_recipe(make_model, tensors, tmp_path, monkeypatch):
    make_model(tmp_path / "models/left", 1, parent=make_model(tmp_path / "models/base"))
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "coefficients.json").write_text(json.dumps({"coefficients": {"left": LAYERS}}))
    content = recipe("task_arithmetic", "../models/base", "../models/left", coefficients="coefficients.json")
    (folder / "recipe.yml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path / "models")
    found = tensors(acm.merge("../recipes/recipe.yml", "out"))
    base, left = tensors(tmp_path / "models/base"), tensors(tmp_path / "models/left")
    torch.testing.assert_close(found[HEAD], base[HEAD] + 0.9 * (left[HEAD] - base[HEAD]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("given, stored", [
    ({"out_dtype": "bfloat16"}, "bfloat16"),
    ({"dtype": "float16"}, "float16"),
    ({"dtype": "float32", "out_dtype": "bfloat16"}, "bfloat16"),
    ({}, "float32"),
])  # fmt: skip
def test_output_dtype_is_stored_and_declared(f32, tensors, tmp_path, given, stored):
    out = acm.merge(recipe("task_arithmetic", *f32[:2], parameters={"weight": 0.5}, **given), tmp_path / "out")
    assert {str(t.dtype) for t in tensors(out).values()} == {f"torch.{stored}"}
    assert json.loads((out / "config.json").read_text())["dtype"] == stored
    assert str(AutoModelForCausalLM.from_pretrained(out).dtype) == f"torch.{stored}"


def test_bfloat16_is_rounded_once_at_the_end(f32, bf16, merged, tensors):
    found = merged(recipe("task_arithmetic", *bf16[:2], parameters={"weight": 0.7}))
    base, left = ({n: t.float() for n, t in tensors(m).items()} for m in bf16[:2])
    assert all(torch.equal(t, (base[n] + 0.7 * (left[n] - base[n])).bfloat16()) for n, t in found.items())


def test_model_card_tells_recipe_and_identity_of_every_input(f32, tmp_path):
    path = coefficients(tmp_path, LAYERS, *f32[1:])
    content = recipe("ties", *f32, parameters={"density": 0.3}, coefficients=path)
    out = acm.merge(content, tmp_path / "out")
    card = (out / "README.md").read_text()
    size = (f32[0] / SINGLE).stat().st_size
    assert all(f"`{folder.name}`: {size} bytes, headers sha256 `" in card for folder in f32)
    assert "contents sha256" not in card
    header = yaml.safe_load(card.split("---")[1])
    assert header["base_model"] == ["base", "left", "right"] and "merge" in header["tags"]
    shown = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert shown == yaml.safe_load((out / "recipe.yml").read_text())
    assert shown["merge_method"] == "ties" and shown["parameters"] == {"density": 0.3}
    assert "with coefficients by layer" in card and "2306.01708" in card and acm.__version__ in card
    assert json.loads((out / "coefficients.json").read_text())["coefficients"]["left"] == LAYERS


@pytest.mark.parametrize("content, words", [
    ({"t": 0.7, "estimator": "plug-in"}, " with ACM coefficients (arXiv:2505.14009)"),
    ({"rule": "magnitude"}, " with coefficients by layer, rule `magnitude`"),
    ({"estimator": "plug-in", "control": "gaussian"}, " with coefficients by layer, rule `acm, gaussian`"),
    ({}, " with coefficients by layer"),
    ({"rule": ["x"]}, " with coefficients by layer"),
    (None, " with coefficients by layer"),
])  # fmt: skip
def test_model_card_credits_the_rule_of_the_coefficients(f32, tmp_path, content, words):
    given = [0.5, 0.7]
    if content is not None:
        given = str(tmp_path / "coefficients.json")
        layers = dict.fromkeys(["embed", "0", "1", "norm", "lm_head"], 0.5)
        (tmp_path / "coefficients.json").write_text(json.dumps(content | {"coefficients": {"left": layers}}))
    merged = acm.merge(recipe("task_arithmetic", *f32[:2], coefficients=given), tmp_path / "out")
    assert f"\n# Task Arithmetic{words}\n" in (merged / "README.md").read_text()


def test_model_card_tells_base_and_model_of_one_name_apart_by_their_contents(make_model, f32, tmp_path):
    twin = make_model(tmp_path / "base", 1, parent=f32[0])
    content = recipe("task_arithmetic", f32[0], twin, parameters={"weight": 0.5})
    card = (acm.merge(content, tmp_path / "out", hash_inputs=True) / "README.md").read_text()
    weights = [(model / SINGLE).read_bytes() for model in (f32[0], twin)]
    digests = [hashlib.sha256(hashlib.sha256(raw).digest()).hexdigest() for raw in weights]
    assert digests[0] != digests[1] and all(f"contents sha256 `{digest}`" in card for digest in digests)


def test_model_card_names_the_hub_revision(make_model, f32, tmp_path):
    revision = "0123456789abcdef0123456789abcdef01234567"
    blobs, snapshot = tmp_path / "models--some--model/blobs", tmp_path / "models--some--model/snapshots" / revision
    shutil.copytree(f32[1], blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():  # as in the hub's cache
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    out = acm.merge(recipe("task_arithmetic", f32[0], snapshot, parameters={"weight": 0.5}), tmp_path / "out")
    assert f"hub revision `{revision}` of `some/model`" in (out / "README.md").read_text()


def test_base_in_the_list_of_models_is_no_task_vector(f32, merged):
    base, left, _ = f32
    with_base = recipe("ties", base, base, left, parameters={"weight": 0.5, "density": 0.3})
    assert same(merged(with_base), merged(recipe("ties", base, left, parameters={"weight": 0.5, "density": 0.3})))


@pytest.mark.parametrize("out", ["out", "new/out"])
def test_failure_on_the_way_leaves_nothing_behind(f32, make_model, tmp_path, out):
    def poison(model):
        model.model.norm.weight[3] = float("nan")

    bad = make_model(tmp_path / "bad", edit=poison)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        acm.merge(recipe("task_arithmetic", f32[0], bad, parameters={"weight": 0.5}), tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


def test_interruption_leaves_what_is_done_for_the_next_run(f32, merged, tensors, tmp_path, monkeypatch):
    content = recipe("task_arithmetic", *f32[:2], parameters={"weight": 0.5})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "write_companions", interrupt)
        acm.merge(content, tmp_path / "out")
    assert names(tmp_path) == [".out.part"]
    out = acm.merge(content, tmp_path / "out")
    assert names(tmp_path) == ["out"] and not (out / "journal.jsonl").exists()
    assert same(tensors(out), merged(content))


def test_leftover_of_a_killed_run_is_replaced(f32, merged, tmp_path):
    for name in [f".merged-0.part/{file}" for file in ("model-00001-of-00009.safetensors", "junk.txt")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("junk")
    merged(recipe("task_arithmetic", *f32[:2], parameters={"weight": 0.5}))
    assert not (tmp_path / "merged-0/junk.txt").exists() and names(tmp_path) == ["merged-0"]


def test_average_takes_config_and_tokenizer_of_the_first_model_listed(f32, tmp_path):
    base, left, _ = f32
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}}
    marked = shutil.copytree(base, tmp_path / "zebra")
    (marked / "config.json").write_text(json.dumps(json.loads((base / "config.json").read_text()) | rope))
    models = [{"model": str(m), "parameters": {"weight": 1.0}} for m in (marked, left)]
    out = acm.merge({"merge_method": "linear", "models": models}, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["rope_parameters"]["rope_theta"] == 123.0


def test_the_dtype_of_an_older_config_survives(bf16, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(bf16[0], older)
    config = json.loads((older / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    (older / "config.json").write_text(json.dumps(config))
    out = acm.merge(recipe("task_arithmetic", older, bf16[1], parameters={"weight": 0.5}), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_config_that_promises_a_head_which_is_not_there(f32, tmp_path):
    tied = shutil.copytree(f32[0], tmp_path / "tied")
    whole = load_file(tied / SINGLE)
    whole.pop(HEAD)
    save_file(whole, tied / SINGLE, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"tied has no lm_head\.weight, but its config says"):
        acm.merge(recipe("task_arithmetic", tied, f32[1], parameters={"weight": 0.5}), tmp_path / "out")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_merges_its_example(f32, merged, tensors, tmp_path, method):
    write_files(tmp_path, tensors, *f32)
    found, base = merged(example(method, f32, tmp_path)), tensors(f32[0])
    assert found.keys() == base.keys() and all(found[name].isfinite().all() for name in base)
    assert any(not torch.equal(found[name], base[name]) for name in base)


def test_the_example_in_the_docstring_of_merge_runs():
    (example,) = doctest.DocTestFinder(recurse=False).find(engine.merge, "acm.merge", globs={"Path": Path})
    assert doctest.DocTestRunner().run(example) == (0, len(example.examples)) and example.examples


@pytest.mark.parametrize(
    "device, words", [("gpu", ["unknown device 'gpu'", "auto", "cpu", "cuda"]), ("cuda:7", ["no such GPU"])]
)
def test_a_device_that_is_not_there_is_refused_before_any_work(f32, tmp_path, device, words):
    with pytest.raises(UserError) as error:
        acm.merge(example("task_arithmetic", f32), tmp_path / "out", device=device)
    assert all(word in str(error.value) for word in words) and not list(tmp_path.iterdir())
