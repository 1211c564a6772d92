"""Parity with mergekit 0.1.5 in float32: the same YAML text given to both, and recipes with coefficients exported to it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

import acm
from abacus import CHECKPOINTS
from abacus.training import new_model
from acm.__main__ import app
from acm.checkpoints import layer_of
from acm.errors import UserError

DEPTH = 5
LAYERS = {"embed": 0.1, "0": 0.25, "1": 0.95, "2": 0.4, "3": 0.55, "4": 0.7, "norm": 0.65, "lm_head": 0.9}
VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")


def run_mergekit(text, out):
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(out), MergeOptions(quiet=True))
    return out


@pytest.fixture
def both(tmp_path, tensors):
    """Writes one recipe file, runs it through acm and mergekit, and returns what each made."""

    def run(text):
        (tmp_path / "recipe.yml").write_text(text)
        ours = acm.merge(tmp_path / "recipe.yml", tmp_path / "ours")
        return tensors(ours), tensors(run_mergekit(text, tmp_path / "theirs"))

    return run


@pytest.fixture(scope="module")
def deep(tokenizer, tmp_path_factory):
    """Folders of a base and two fine-tuned models of five layers, float32; read only."""
    folder, generator, folders, base = tmp_path_factory.mktemp("deep"), torch.Generator().manual_seed(0), [], None
    for name in ("base", "left", "right"):
        model = new_model(tokenizer, hidden=16, layers=DEPTH)
        noise = {n: torch.randn(t.shape, generator=generator) for n, t in model.state_dict().items()}
        state = {n: base[n] + 0.02 * t if base else 0.2 * t + 0.1 for n, t in noise.items()}
        base = base or state
        model.load_state_dict(state)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        folders.append(folder / name)
    return folders


def assert_equal(ours, theirs, base, everywhere=True):
    """Equal to 1e-6 everywhere, in float32, and unlike the base (in every tensor, or somewhere), so that something was merged."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.float32
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)
    assert (all if everywhere else any)(
        (tensor - base[name].float()).abs().max() > 1e-5 for name, tensor in ours.items()
    )


def ties_at_the_threshold(base, finetuned, density, gamma=0.0):
    """Tensors whose last kept and first dropped magnitudes, at either end, are equal: there mergekit's choice is arbitrary."""
    found = []
    for name, tensor in finetuned.items():
        size = (tensor - base[name]).abs().flatten().sort(descending=True).values
        kept, top = max(1, int(density * len(size))), int(gamma * len(size))
        found += [name for i in (top, top + kept) if 0 < i < len(size) and size[i - 1] == size[i]]
    return found


def write(method, folders, models, parameters, base=True, **extra):
    listed = [{"model": str(folders[i]), "parameters": own} for i, own in models]
    content = {"merge_method": method, "models": listed, "parameters": parameters, "dtype": "float32"} | extra
    return yaml.safe_dump(content | ({"base_model": str(folders[0])} if base else {}))


@pytest.mark.parametrize("models, parameters", [
    ([(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}),
    ([(0, {"weight": 0.5}), (1, {"weight": 0.5})], {"normalize": False}),
    ([(0, {}), (1, {}), (2, {})], {"weight": 1.0}),
])  # fmt: skip
def test_linear(both, f32, tensors, models, parameters):
    assert_equal(*both(write("linear", f32, models, parameters, base=False)), tensors(f32[0]))


@pytest.mark.parametrize("models, parameters", [
    ([(1, {"weight": 0.7})], {}),
    ([(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}),
    ([(0, {}), (1, {"weight": 0.3}), (2, {"weight": 0.9})], {"lambda": 0.4}),
    ([(1, {"weight": 0.3}), (2, {})], {"weight": 1.1, "lambda": 1.5, "normalize": True}),
    ([(1, {"weight": 1.0}), (2, {"weight": -1.0})], {"normalize": True}),
])  # fmt: skip
def test_task_arithmetic(both, f32, tensors, models, parameters):
    assert_equal(*both(write("task_arithmetic", f32, models, parameters)), tensors(f32[0]))


@pytest.mark.parametrize("models, parameters", [
    ([(1, {"weight": 1.0, "density": 0.2})], {"normalize": True, "lambda": 0.7}),
    ([(1, {}), (2, {})], {"weight": 1.0, "density": 0.3, "normalize": True}),
    ([(1, {"weight": 0.3, "density": 0.8}), (2, {"weight": 0.9, "density": 0.25})], {"normalize": True, "lambda": 1.3}),
    ([(1, {"weight": 0.3}), (2, {"weight": 0.9})], {"density": 0.5, "normalize": False}),
    ([(0, {}), (1, {"weight": 0.5}), (2, {"weight": 0.5})], {}),
])  # fmt: skip
def test_ties_without_threshold_ties(both, f32, tensors, models, parameters):
    base = tensors(f32[0])
    for i, own in models:
        density = (parameters | own).get("density", 1.0)
        assert i == 0 or not ties_at_the_threshold(base, tensors(f32[i]), density)
    assert_equal(*both(write("ties", f32, models, parameters)), base)


@pytest.mark.parametrize("text", [
    "merge_method: task_arithmetic\nmodels: [{model: SLOW, parameters: {weight: 0.7}}]",
    "merge_method: linear\nmodels: [{model: SLOW}, {model: FAST}]\nparameters: {weight: 0.5}",
    "merge_method: linear\nmodels: [{model: SLOW, parameters: {weight: 0.5}}]\nparameters: {weight: 0.3}",  # base takes part
], ids=["task-arithmetic", "linear", "linear-base-unlisted"])  # fmt: skip
def test_abacus_fast_and_slow(both, tensors, text):
    fast, slow = CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow"
    text = f"{text}\nbase_model: FAST\ndtype: float32\n".replace("SLOW", str(slow)).replace("FAST", str(fast))
    assert_equal(*both(text), tensors(fast))


def test_abacus_skills_with_ties(both, tensors, tmp_path):
    folders = [CHECKPOINTS / f"abacus-{name}" for name in ("base", "sums", "words")]
    copies = []
    for folder in folders:  # bfloat16 task vectors are full of equal magnitudes; a little noise tells them apart
        copy = tmp_path / folder.name
        copy.mkdir()
        for path in folder.glob("*.json"):
            (copy / path.name).write_bytes(path.read_bytes())
        generator = torch.Generator().manual_seed(len(copies))
        noisy = {n: t.float() + 1e-3 * torch.randn(t.shape, generator=generator)
                 for n, t in load_file(folder / "model.safetensors").items()}  # fmt: skip
        save_file(noisy, copy / "model.safetensors", metadata={"format": "pt"})
        copies.append(copy)
    noisy = [tensors(copy) for copy in copies]
    assert not any(ties_at_the_threshold(noisy[0], finetuned, 0.3) for finetuned in noisy[1:])
    text = write("ties", copies, [(1, {}), (2, {})], {"weight": 1.0, "density": 0.3, "normalize": True, "lambda": 0.2})
    assert_equal(*both(text), tensors(copies[0]))


CLASSIC = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]


@pytest.mark.parametrize(
    "t", [0.3, [0.9, 0.2], [0.1, 0.8, 0.4], [0.1, 0.9, 0.3, 0.7, 0.5], CLASSIC], ids=["t", "2", "3", "5", "filters"]
)
def test_slerp(both, deep, tensors, t):
    assert_equal(
        *both(write("slerp", deep, [(0, {}), (1, {})], {"t": t})), tensors(deep[0]), everywhere=t is not CLASSIC
    )


def test_slerp_written_as_slices_of_all_layers(both, deep, tensors):
    sources = [{"model": str(deep[i]), "layer_range": [0, DEPTH]} for i in (0, 1)]
    content = yaml.safe_load(write("slerp", deep, [], {"t": CLASSIC}, slices=[{"sources": sources}]))
    del content["models"]
    assert_equal(*both(yaml.safe_dump(content)), tensors(deep[0]), everywhere=False)


def test_t_of_a_model_is_refused_or_ignored_as_in_mergekit(both, deep, tensors):
    try:
        assert_equal(*both(write("slerp", deep, [(0, {}), (1, {"t": 0.2})], {"t": 0.7})), tensors(deep[0]))
    except UserError as error:
        assert "t holds for all models" in str(error)


@pytest.mark.parametrize("models", [2, 3])
def test_model_stock(both, f32, make_model, tensors, tmp_path, models):
    folders = [*f32, make_model(tmp_path / "third", 3, parent=f32[1])]  # nearer to the left model than to the right
    assert_equal(
        *both(write("model_stock", folders, [(i, {}) for i in range(1, 1 + models)], {})),
        tensors(f32[0]),
        everywhere=False,
    )


@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("models, parameters", [
    ([(1, {"weight": 0.7})], {"density": 0.4, "gamma": 0.1}),
    ([(1, {"weight": 0.3, "density": 0.8, "gamma": 0.15}), (2, {"weight": -0.9})], {"density": 0.5, "gamma": 0.02, "lambda": 1.3}),
    ([(1, {}), (2, {})], {"weight": 0.5, "density": 0.3, "normalize": True}),
    ([(1, {"density": 1.0}), (2, {"density": 0.95})], {"weight": 0.5, "gamma": 0.2}),  # γ has no room
])  # fmt: skip
def test_breadcrumbs_without_threshold_ties(both, f32, tensors, method, models, parameters):
    base = tensors(f32[0])
    for i, own in models:
        density, gamma = ((parameters | own).get(key, default) for key, default in (("density", 1.0), ("gamma", 0.01)))
        assert not ties_at_the_threshold(base, tensors(f32[i]), density, min(gamma, 1 - density))
    assert_equal(*both(write(method, f32, models, parameters)), base, everywhere=False)


@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties"])
def test_breadcrumbs_of_a_vector_too_short_for_its_density(both, f32, tensors, method):
    assert_equal(*both(write(method, f32, [(1, {"weight": 0.7})], {"density": 0.1})), tensors(f32[0]), everywhere=False)


GRADIENTS = {2: [0.2, 0.9], 3: [0.1, 0.8, 0.4], 5: [0.1, 0.9, 0.3, 0.7, 0.5], 7: [0.3, 0.1, 0.9, 0.3, 0.7, 0.5, 0.2]}
FILTERS = [{"filter": "self_attn", "value": [0.2, 0.9]}, {"filter": "layers.1.", "value": 0.1}, {"filter": "norm", "value": 0.4},
           {"filter": "lm_head", "value": 0.8}, {"value": 0.6}]  # fmt: skip


@pytest.mark.parametrize("values", GRADIENTS.values(), ids=str)
def test_list_along_the_layers_as_weight(both, deep, tensors, values):
    base, left = tensors(deep[0]), tensors(deep[1])
    ours, theirs = both(write("task_arithmetic", deep, [(1, {"weight": values})], {}))
    assert_equal(ours, theirs, base)
    places = np.interp(np.linspace(0, 1, DEPTH), np.linspace(0, 1, len(values)), values)
    for name, tensor in ours.items():  # layers outside the blocks take the first value
        expected = places[int(layer)] if (layer := layer_of(name)).isdecimal() else values[0]
        torch.testing.assert_close(tensor, base[name] + expected * (left[name] - base[name]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs"])
@pytest.mark.parametrize("values", list(GRADIENTS.values())[:3], ids=str)
def test_list_along_the_layers_as_density(both, deep, tensors, method, values):
    base, values = tensors(deep[0]), [max(value, 0.2) for value in values]
    gamma = {"gamma": 0.05} if method == "breadcrumbs" else {}
    for density in np.interp(np.linspace(0, 1, DEPTH), np.linspace(0, 1, len(values)), values):
        assert not ties_at_the_threshold(base, tensors(deep[1]), density, gamma.get("gamma", 0))
    assert_equal(*both(write(method, deep, [(1, {"density": values}), (2, {})], {"weight": [0.9, 0.3]} | gamma)), base)


@pytest.mark.parametrize("own, shared", [
    ({"weight": FILTERS}, {}),
    ({}, {"weight": FILTERS}),
    ({"weight": [{"filter": "mlp", "value": 0.3}]}, {"weight": 0.7}),  # the recipe's where no filter of the model's own fits
    ({"weight": [{"filter": "*", "value": 0.3}, {"value": 0.9}]}, {"weight": 0.7}),
    ({"weight": 0.3}, {"weight": FILTERS}),
    ({"weight": {"filter": "mlp", "value": [0.3, 0.5]}}, {"weight": {"filter": None, "value": 0.2}, "lambda": FILTERS}),
], ids=["model", "recipe", "fallback", "star", "constant", "single"])  # fmt: skip
def test_filters_and_precedence(both, deep, tensors, own, shared):
    assert_equal(*both(write("task_arithmetic", deep, [(1, own), (2, {"weight": 0.5})], shared)), tensors(deep[0]))


def slices(folders, own, of_slice, shared):
    sources = [
        {"model": str(f), "layer_range": [0, DEPTH], **({"parameters": own} if f is folders[1] else {})}
        for f in folders[:3]
    ]
    content = {
        "slices": [{"sources": sources, "parameters": of_slice}],
        "parameters": shared,
        "base_model": str(folders[0]),
    }
    return yaml.safe_dump(content | {"merge_method": "task_arithmetic", "dtype": "float32"})


@pytest.mark.parametrize("own, of_slice, shared", [
    ({"weight": 0.3}, {"weight": 0.6}, {"weight": 0.9}),
    ({}, {"weight": 0.6}, {"weight": 0.9, "lambda": 0.5}),
    ({"weight": [{"filter": "mlp", "value": 0.3}]}, {"weight": [0.2, 0.7]}, {}),
    ({}, {"weight": [{"filter": "mlp", "value": 0.3}]}, {"weight": 0.9}),
])  # fmt: skip
def test_parameters_of_a_slice(both, deep, tensors, own, of_slice, shared):
    assert_equal(*both(slices(deep, own, of_slice, shared)), tensors(deep[0]))


def test_int8_mask_changes_nothing(both, f32, tensors):
    assert_equal(
        *both(write("ties", f32, [(1, {}), (2, {})], {"weight": 0.5, "density": 0.3, "int8_mask": True})),
        tensors(f32[0]),
    )


def test_out_dtype_gives_mergekits_bytes(both, f32):
    ours, theirs = both(
        write("task_arithmetic", f32, [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, out_dtype="bfloat16")
    )
    assert all(t.dtype == theirs[n].dtype == torch.bfloat16 and torch.equal(t, theirs[n]) for n, t in ours.items())


@pytest.mark.parametrize(
    "method, parameters", [("slerp", {"t": 0.4}), ("linear", {"weight": 0.5}), ("task_arithmetic", {"weight": 0.5})]
)
def test_dtype_bfloat16(both, bf16, method, parameters):
    """slerp and linear are float32 inside mergekit too, so but for a rounding here and there the bytes agree."""
    ours, theirs = both(write(method, bf16, [(0, {}), (1, {})], parameters, dtype="bfloat16"))
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.bfloat16
        torch.testing.assert_close(
            tensor.float(), theirs[name].float(), rtol=2**-7 if method != "task_arithmetic" else 2**-6, atol=1e-3
        )
    if method != "task_arithmetic":
        assert sum((t != theirs[n]).sum() for n, t in ours.items()) < 1e-3 * sum(t.numel() for t in ours.values())


def add_tokens(folder, added, rows, seed):
    """Appends special tokens to a model's tokenizer, and random rows to its embedding and head."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.save_pretrained(folder)
    weights, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(seed)
    for name in VOCABULARY:
        weights[name] = torch.cat(
            [weights[name], 0.2 * torch.randn(rows - len(weights[name]), 16, generator=generator)]
        )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))


@pytest.fixture(scope="module")
def worded(make_model, f32, tmp_path_factory):
    """Models with tokens of their own: base, left and right with other added tokens, all padded but the first."""
    folder = tmp_path_factory.mktemp("worded")
    models = [make_model(folder / name, seed, f32[0]) for seed, name in enumerate(("base", "left", "right"), 5)]
    add_tokens(models[1], ["<|think|>", "<|answer|>"], 440, 1)
    add_tokens(models[2], ["<|tool|>", "<|answer|>"], 436, 2)
    return models


THINK, TOOL = {"<|think|>", "<|answer|>"}, {"<|tool|>", "<|answer|>"}


@pytest.mark.parametrize("method, models, parameters, source, added, rows", [
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, "base", set(), 428),
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, "union", THINK | TOOL, 431),
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, 1, THINK, 440),
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, 2, TOOL, 436),
    ("slerp", [(0, {}), (1, {})], {"t": 0.4}, "base", set(), 428),
    ("slerp", [(0, {}), (1, {})], {"t": 0.4}, "union", THINK, 430),
    ("linear", [(0, {}), (1, {}), (2, {})], {"weight": 0.4}, "union", THINK | TOOL, 431),
    ("ties", [(1, {}), (2, {})], {"weight": 0.4}, "union", THINK | TOOL, 431),
])  # fmt: skip
def test_tokenizer_source(both, worded, tensors, tokenizer, tmp_path, method, models, parameters, source, added, rows):
    named = str(worded[source]) if isinstance(source, int) else source
    ours, theirs = both(write(method, worded, models, parameters, tokenizer_source=named))
    ids, other_ids = (AutoTokenizer.from_pretrained(tmp_path / made).get_vocab() for made in ("ours", "theirs"))
    assert ids.keys() == other_ids.keys() == tokenizer.get_vocab().keys() | added
    assert all(len(ours[name]) == rows for name in VOCABULARY)  # mergekit drops padding
    ours |= {n: torch.stack([ours[n][ids[token]] for token in sorted(ids)]) for n in VOCABULARY}
    theirs |= {n: torch.stack([theirs[n][other_ids[token]] for token in sorted(ids)]) for n in VOCABULARY}
    base = tensors(worded[0])
    assert_equal(ours, theirs, base | {n: torch.zeros_like(ours[n]) for n in VOCABULARY})


@pytest.mark.parametrize("method, models, rescale", [
    ("dare_linear", 1, True), ("dare_ties", 1, True), ("della", 1, True), ("della_linear", 1, True), ("della_linear", 1, False),
    ("dare_linear", 2, True), ("dare_ties", 2, True), ("della", 2, False),
])  # fmt: skip
def test_random_methods_agree_in_distribution(f32, tensors, tmp_path, method, models, rescale):
    def flat(folder):
        return torch.cat([tensor.flatten().double() for _, tensor in sorted(tensors(folder).items())])

    base = flat(f32[0])
    plain = sum(flat(folder) - base for folder in f32[1 : 1 + models])
    parameters = {"density": 0.6, "rescale": rescale, "normalize": False, "weight": 1.0}
    found = {"acm": [], "mergekit": []}
    for seed in range(4):
        text = write(method, f32, [(i, {}) for i in range(1, 1 + models)], parameters, seed=seed)
        acm.merge(yaml.safe_load(text), tmp_path / f"acm-{seed}")
        options = MergeOptions(quiet=True, random_seed=seed)
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(tmp_path / f"mergekit-{seed}"), options)
        for program, rows in found.items():
            change = flat(tmp_path / f"{program}-{seed}") - base
            rows.append(
                [
                    (change != 0).double().mean(),
                    change.abs().sum() / plain.abs().sum(),
                    change @ plain / (plain @ plain),
                ]
            )
    ours, theirs = (np.mean(rows, axis=0) for rows in found.values())
    own_rescaling = (
        method.startswith("della") and rescale
    )  # 1 / p against one factor for the L1 norm: magnitudes weigh otherwise
    np.testing.assert_allclose(ours[: 2 if own_rescaling else 3], theirs[: 2 if own_rescaling else 3], atol=0.03)
    if models == 1:
        assert ours[0] == pytest.approx(0.6, abs=0.01) and theirs[0] == pytest.approx(0.6, abs=0.01)
    if models == 1 and rescale:
        np.testing.assert_allclose(ours[1:], 1, atol=0.03)  # task arithmetic on average


@pytest.fixture
def exported(tmp_path, tensors):
    """Merges a recipe with acm, exports it on the command line, merges that with mergekit, and returns what each made."""

    def run(content):
        (tmp_path / "recipe.yml").write_text(yaml.safe_dump(content))
        (tmp_path / "coefficients.json").write_text(
            json.dumps({"coefficients": {"left": LAYERS, "right": dict.fromkeys(LAYERS, 0.8)}})
        )
        ours = acm.merge(tmp_path / "recipe.yml", tmp_path / "ours")
        done = CliRunner().invoke(
            app, ["export", str(tmp_path / "recipe.yml"), "--to", "mergekit", "--out", str(tmp_path / "export.yml")]
        )
        if done.exception:
            raise done.exception
        return tensors(ours), tensors(run_mergekit((tmp_path / "export.yml").read_text(), tmp_path / "theirs"))

    return run


WITH = {"coefficients": "coefficients.json"}


def recipe(method, folders, models=1, own=None, **extra):
    listed = [{"model": str(folder), "parameters": own or {}} for folder in folders[1 : 1 + models]]
    return {"merge_method": method, "base_model": str(folders[0]), "models": listed} | extra


@pytest.mark.parametrize("method, models, own, extra", [
    ("task_arithmetic", 1, {}, WITH),
    ("task_arithmetic", 2, {"weight": 0.4}, WITH | {"parameters": {"lambda": 0.5, "weight": 0.3}}),
    ("task_arithmetic", 2, {"weight": FILTERS}, {"parameters": {"normalize": True}}),
    ("ties", 1, {"density": 0.3}, WITH | {"parameters": {"normalize": False}}),
    ("ties", 2, {"density": 0.3}, WITH | {"parameters": {"normalize": False}, "election": "weighted"}),
    ("breadcrumbs", 1, {"gamma": 0.1}, WITH | {"parameters": {"density": 0.4}}),
    ("breadcrumbs", 2, {"density": 0.4}, WITH),
    ("slerp", 1, {}, WITH),
    ("slerp", 1, {}, WITH | {"parameters": {"t": 0.5}}),
    ("slerp", 1, {}, {"parameters": {"t": CLASSIC}}),
    ("linear", 2, {"weight": [0.3, 0.6]}, {"parameters": {"weight": 0.2}}),
    ("model_stock", 2, {}, {}),
])  # fmt: skip
def test_export_gives_the_same_in_mergekit(exported, deep, tensors, method, models, own, extra):
    assert_equal(*exported(recipe(method, deep, models, own, **extra)), tensors(deep[0]), everywhere=False)


def test_export_names_models_so_that_mergekit_finds_them(deep, exported, tensors, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folders = [os.path.relpath(folder, tmp_path) for folder in deep]
    assert_equal(*exported(recipe("task_arithmetic", folders, 2, **WITH)), tensors(deep[0]))


def export(content, folder):
    (folder / "recipe.yml").write_text(yaml.safe_dump(content))
    done = CliRunner().invoke(app, ["export", str(folder / "recipe.yml")])
    if done.exception:
        raise done.exception
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("name", ["folder", "path"])
def test_export_names_the_tokenizers_source_so_that_mergekit_finds_it(deep, tmp_path, name):
    models = [os.path.relpath(folder, tmp_path) for folder in deep]
    content = recipe(
        "task_arithmetic",
        models,
        parameters={"weight": 0.5},
        tokenizer_source="left" if name == "folder" else models[1],
    )
    assert Path(export(content, tmp_path)["tokenizer_source"]) == deep[1]


def test_export_refuses_or_reproduces_padding_rows(exported, worded, tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(worded[1])
    try:
        ours, theirs = exported(
            recipe("task_arithmetic", [worded[1], copy], parameters={"weight": 0.5}, tokenizer_source="base")
        )
    except UserError as error:
        assert "rows" in str(error)
    else:
        assert all(tensor.shape == theirs[n].shape for n, tensor in ours.items())


def test_export_to_standard_output_and_unknown_formats(deep, tmp_path):
    assert export(recipe("task_arithmetic", deep, parameters={"weight": 0.5}), tmp_path)["models"][0]["model"] == str(
        deep[1]
    )
    done = CliRunner().invoke(app, ["export", str(tmp_path / "recipe.yml"), "--to", "mergkit"])
    assert done.exit_code != 0 and "Did you mean 'mergekit'?" in str(done.exception)


@pytest.mark.parametrize("method, models, extra, reason", [
    ("dare_linear", 1, {"parameters": {"weight": 1.0, "density": 0.5}}, "merge_method dare_linear"),
    ("dare_ties", 2, {"parameters": {"weight": 1.0, "density": 0.5}}, "merge_method dare_ties"),
    ("della", 1, {"parameters": {"weight": 1.0, "density": 0.5}}, "merge_method della"),
    ("interpolation", 1, {"parameters": {"weight": 0.5}}, "merge_method interpolation"),
    ("twin", 1, {"parameters": {"weight": 0.5, "rank": 0.5}}, "merge_method twin"),
    ("lore", 2, {"parameters": {"mu": 0.5}}, "merge_method lore"),
    ("ties", 1, {"parameters": {"weight": 0.5, "density": 0.5}, "scope": "global"}, "scope: global"),
    ("ties", 2, WITH | {"parameters": {"normalize": False}}, "election: unweighted"),
    ("breadcrumbs_ties", 2, {"parameters": {"weight": 0.5}, "election": "unweighted"}, "election: unweighted"),
    ("ties", 1, WITH, "normalize: true with coefficients"),
    ("task_arithmetic", 1, WITH | {"parameters": {"normalize": True}}, "normalize: true with coefficients"),
    ("model_stock", 2, WITH, "coefficients with model_stock"),
])  # fmt: skip
def test_export_refuses_what_mergekit_cannot_do(deep, tmp_path, method, models, extra, reason):
    (tmp_path / "coefficients.json").write_text(json.dumps({"coefficients": {"left": LAYERS, "right": LAYERS}}))
    with pytest.raises(UserError, match=f"no equal of .*{reason}"):
        export(recipe(method, deep, models, **extra), tmp_path)


def test_export_refuses_heads_and_rows_that_differ(deep, worded, tmp_path):
    tied = tmp_path / "tied"
    shutil.copytree(deep[1], tied)
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    weights = {n: t for n, t in load_file(tied / "model.safetensors").items() if n != "lm_head.weight"}
    save_file(weights, tied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="no equal of models whose heads are tied and untied"):
        export(recipe("task_arithmetic", [deep[0], tied], parameters={"weight": 0.5}), tmp_path)
    with pytest.raises(UserError, match="no equal of embeddings of unlike length or order"):
        export(recipe("task_arithmetic", worded, parameters={"weight": 0.5}), tmp_path)
