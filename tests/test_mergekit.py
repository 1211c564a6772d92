"""Parity with mergekit 0.1.5 in float32: the same YAML text given to both."""

import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

import acm
from abacus import CHECKPOINTS


@pytest.fixture
def both(tmp_path, tensors):
    """Writes one recipe file, runs it through acm and mergekit, and returns what each made."""

    def run(text):
        (tmp_path / "recipe.yml").write_text(text)
        ours = acm.merge(tmp_path / "recipe.yml", tmp_path / "ours")
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(tmp_path / "theirs"), MergeOptions(quiet=True))
        return tensors(ours), tensors(tmp_path / "theirs")

    return run


def assert_equal(ours, theirs, base):
    """Equal to 1e-6 everywhere, in float32, and unlike the base, so that something was merged."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.float32
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)
    assert all((tensor - base[name].float()).abs().max() > 1e-5 for name, tensor in ours.items())


def ties_at_the_threshold(base, finetuned, density):
    """Tensors whose last kept and first dropped magnitudes are equal: there mergekit's choice is arbitrary."""
    found = []
    for name, tensor in finetuned.items():
        size = (tensor - base[name]).abs().flatten().sort(descending=True).values
        kept = max(1, int(density * len(size)))
        found += [name] if kept < len(size) and size[kept - 1] == size[kept] else []
    return found


def write(method, folders, models, parameters, base=True):
    listed = [{"model": str(folders[i]), "parameters": own} for i, own in models]
    content = {"merge_method": method, "models": listed, "parameters": parameters, "dtype": "float32"}
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
