"""Parity with mergekit 0.1.5 in float32: the same text of a recipe given to both."""

import numpy as np
import pytest
import torch
import yaml
from helpers import CLASSIC, EMBEDDING, FILTERS, HEAD, ROWS, SINGLE, assert_equal, same, write
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import acm
from abacus import CHECKPOINTS
from acm.checkpoints import layer_of
from acm.errors import UserError

DEPTH = 5  # layers of the models `deep`
VOCABULARY = (EMBEDDING, HEAD)


def ties_at_the_threshold(base, finetuned, density, gamma=0.0):
    """Tensors whose last kept and first dropped magnitudes, at either end, are equal: mergekit chooses arbitrarily."""
    found = []
    for name, tensor in finetuned.items():
        size = (tensor - base[name]).abs().flatten().sort(descending=True).values
        kept, top = max(1, int(density * len(size))), int(gamma * len(size))
        found += [name for i in (top, top + kept) if 0 < i < len(size) and size[i - 1] == size[i]]
    return found


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
    "merge_method: linear\nmodels: [{model: SLOW, parameters: {weight: 0.5}}]\nparameters: {weight: 0.3}",  # and base
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
        held = load_file(folder / SINGLE)
        noisy = {n: t.float() + 1e-3 * torch.randn(t.shape, generator=generator) for n, t in held.items()}
        save_file(noisy, copy / SINGLE, metadata={"format": "pt"})
        copies.append(copy)
    noisy = [tensors(copy) for copy in copies]
    assert not any(ties_at_the_threshold(noisy[0], finetuned, 0.3) for finetuned in noisy[1:])
    text = write("ties", copies, [(1, {}), (2, {})], {"weight": 1.0, "density": 0.3, "normalize": True, "lambda": 0.2})
    assert_equal(*both(text), tensors(copies[0]))


@pytest.mark.parametrize("t", [
    0.3, [0.9, 0.2], [0.1, 0.8, 0.4], [0.1, 0.9, 0.3, 0.7, 0.5], CLASSIC,
], ids=["t", "2", "3", "5", "filters"])  # fmt: skip
def test_slerp(both, deep, tensors, t):
    made = both(write("slerp", deep, [(0, {}), (1, {})], {"t": t}))
    assert_equal(*made, tensors(deep[0]), everywhere=t is not CLASSIC)


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
    made = both(write("model_stock", folders, [(i, {}) for i in range(1, 1 + models)], {}))
    assert_equal(*made, tensors(f32[0]), everywhere=False)


@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("models, parameters", [
    ([(1, {"weight": 0.7})], {"density": 0.4, "gamma": 0.1}),
    ([(1, {"weight": 0.3, "density": 0.8, "gamma": 0.15}), (2, {"weight": -0.9})],
     {"density": 0.5, "gamma": 0.02, "lambda": 1.3}),
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


GRADIENTS = ([0.2, 0.9], [0.1, 0.8, 0.4], [0.1, 0.9, 0.3, 0.7, 0.5], [0.3, 0.1, 0.9, 0.3, 0.7, 0.5, 0.2])


@pytest.mark.parametrize("values", GRADIENTS, ids=str)
def test_list_along_the_layers_as_weight(both, deep, tensors, values):
    base, left = tensors(deep[0]), tensors(deep[1])
    ours, theirs = both(write("task_arithmetic", deep, [(1, {"weight": values})], {}))
    assert_equal(ours, theirs, base)
    places = np.interp(np.linspace(0, 1, DEPTH), np.linspace(0, 1, len(values)), values)
    for name, tensor in ours.items():  # layers outside the blocks take the first value
        expected = places[int(layer)] if (layer := layer_of(name)).isdecimal() else values[0]
        torch.testing.assert_close(tensor, base[name] + expected * (left[name] - base[name]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs"])
@pytest.mark.parametrize("values", GRADIENTS[:3], ids=str)
def test_list_along_the_layers_as_density(both, deep, tensors, method, values):
    base, values = tensors(deep[0]), [max(value, 0.2) for value in values]
    gamma = {"gamma": 0.05} if method == "breadcrumbs" else {}
    for density in np.interp(np.linspace(0, 1, DEPTH), np.linspace(0, 1, len(values)), values):
        assert not ties_at_the_threshold(base, tensors(deep[1]), density, gamma.get("gamma", 0))
    assert_equal(*both(write(method, deep, [(1, {"density": values}), (2, {})], {"weight": [0.9, 0.3]} | gamma)), base)


@pytest.mark.parametrize("own, shared", [
    ({"weight": FILTERS}, {}),
    ({}, {"weight": FILTERS}),
    ({"weight": [{"filter": "mlp", "value": 0.3}]}, {"weight": 0.7}),  # the recipe's where no filter of its own fits
    ({"weight": [{"filter": "*", "value": 0.3}, {"value": 0.9}]}, {"weight": 0.7}),
    ({"weight": 0.3}, {"weight": FILTERS}),
    ({"weight": {"filter": "mlp", "value": [0.3, 0.5]}}, {"weight": {"filter": None, "value": 0.2}, "lambda": FILTERS}),
], ids=["model", "recipe", "fallback", "star", "constant", "single"])  # fmt: skip
def test_filters_and_precedence(both, deep, tensors, own, shared):
    assert_equal(*both(write("task_arithmetic", deep, [(1, own), (2, {"weight": 0.5})], shared)), tensors(deep[0]))


def slices(folders, own, of_slice, shared):
    """The text of a recipe with one slice. own: parameters of the second model."""
    sources = [{"model": str(folder), "layer_range": [0, DEPTH]} for folder in folders]
    sources[1]["parameters"] = own
    content = {"slices": [{"sources": sources, "parameters": of_slice}], "parameters": shared}
    more = {"base_model": str(folders[0]), "merge_method": "task_arithmetic", "dtype": "float32"}
    return yaml.safe_dump(content | more)


@pytest.mark.parametrize("own, of_slice, shared", [
    ({"weight": 0.3}, {"weight": 0.6}, {"weight": 0.9}),
    ({}, {"weight": 0.6}, {"weight": 0.9, "lambda": 0.5}),
    ({"weight": [{"filter": "mlp", "value": 0.3}]}, {"weight": [0.2, 0.7]}, {}),
    ({}, {"weight": [{"filter": "mlp", "value": 0.3}]}, {"weight": 0.9}),
])  # fmt: skip
def test_parameters_of_a_slice(both, deep, tensors, own, of_slice, shared):
    assert_equal(*both(slices(deep, own, of_slice, shared)), tensors(deep[0]))


def test_int8_mask_changes_nothing(both, f32, tensors):
    parameters = {"weight": 0.5, "density": 0.3, "int8_mask": True}
    assert_equal(*both(write("ties", f32, [(1, {}), (2, {})], parameters)), tensors(f32[0]))


def test_out_dtype_gives_mergekits_bytes(both, f32):
    models = [(1, {"weight": 0.3}), (2, {"weight": 0.9})]
    ours, theirs = both(write("task_arithmetic", f32, models, {}, out_dtype="bfloat16"))
    assert same(ours, theirs) and {t.dtype for t in ours.values()} == {torch.bfloat16}


@pytest.mark.parametrize("method, parameters", [
    ("slerp", {"t": 0.4}), ("linear", {"weight": 0.5}), ("task_arithmetic", {"weight": 0.5}),
])  # fmt: skip
def test_dtype_bfloat16(both, bf16, method, parameters):
    """slerp and linear are float32 inside mergekit too, so but for a rounding here and there the bytes agree."""
    ours, theirs = both(write(method, bf16, [(0, {}), (1, {})], parameters, dtype="bfloat16"))
    rounding = 2**-6 if method == "task_arithmetic" else 2**-7
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.bfloat16
        torch.testing.assert_close(tensor.float(), theirs[name].float(), rtol=rounding, atol=1e-3)
    if method != "task_arithmetic":
        assert sum((t != theirs[n]).sum() for n, t in ours.items()) < 1e-3 * sum(t.numel() for t in ours.values())


THINK, TOOL = {"<|think|>", "<|answer|>"}, {"<|tool|>", "<|answer|>"}


@pytest.mark.parametrize("method, models, parameters, source, added, rows", [
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, "base", set(), ROWS),
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, "union", THINK | TOOL, ROWS + 3),
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, 1, THINK, 440),
    ("task_arithmetic", [(1, {"weight": 0.3}), (2, {"weight": 0.9})], {}, 2, TOOL, 436),
    ("slerp", [(0, {}), (1, {})], {"t": 0.4}, "base", set(), ROWS),
    ("slerp", [(0, {}), (1, {})], {"t": 0.4}, "union", THINK, ROWS + 2),
    ("linear", [(0, {}), (1, {}), (2, {})], {"weight": 0.4}, "union", THINK | TOOL, ROWS + 3),
    ("ties", [(1, {}), (2, {})], {"weight": 0.4}, "union", THINK | TOOL, ROWS + 3),
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
    ("dare_linear", 1, True), ("dare_ties", 1, True), ("della", 1, True), ("della_linear", 1, True),
    ("della_linear", 1, False), ("dare_linear", 2, True), ("dare_ties", 2, True), ("della", 2, False),
])  # fmt: skip
def test_random_methods_agree_in_distribution(f32, tensors, tmp_path, run_mergekit, method, models, rescale):
    def flat(folder):
        return torch.cat([tensor.flatten().double() for _, tensor in sorted(tensors(folder).items())])

    base = flat(f32[0])
    plain = sum(flat(folder) - base for folder in f32[1 : 1 + models])
    parameters = {"density": 0.6, "rescale": rescale, "normalize": False, "weight": 1.0}
    found = {"acm": [], "mergekit": []}
    for seed in range(4):
        text = write(method, f32, [(i, {}) for i in range(1, 1 + models)], parameters, seed=seed)
        acm.merge(yaml.safe_load(text), tmp_path / f"acm-{seed}")
        run_mergekit(text, tmp_path / f"mergekit-{seed}", seed)
        for program, rows in found.items():
            change = flat(tmp_path / f"{program}-{seed}") - base
            kept, norm = (change != 0).double().mean(), change.abs().sum() / plain.abs().sum()
            rows.append([kept, norm, change @ plain / (plain @ plain)])
    ours, theirs = (np.mean(rows, axis=0) for rows in found.values())
    # mergekit rescales DELLA by one factor for the L1 norm, we by 1 / p, so that magnitudes weigh otherwise
    compared = 2 if method.startswith("della") and rescale else 3
    np.testing.assert_allclose(ours[:compared], theirs[:compared], atol=0.03)
    if models == 1:
        assert ours[0] == pytest.approx(0.6, abs=0.01) and theirs[0] == pytest.approx(0.6, abs=0.01)
    if models == 1 and rescale:
        np.testing.assert_allclose(ours[1:], 1, atol=0.03)  # task arithmetic on average
