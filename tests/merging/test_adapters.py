"""LoRA adapters as models: against peft's own merge, and against the formula written out."""

import json
import math
import shutil

import numpy as np
import peft
import pytest
import torch
from helpers import EMBEDDING, HEAD, SINGLE, halfway, recipe
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import acm
from acm.checkpoints import ADAPTER, Checkpoint
from acm.errors import UserError
from acm.evaluation.harness import model_folder
from acm.lora import WEIGHTS
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Q = "model.layers.0.self_attn.q_proj"


def train(base, folder, seed=0, edit=None, **settings):
    """An adapter that peft writes, every weight of it random. Returns its folder, and the tensors of peft's merge."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    config = peft.LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": PROJECTIONS, **settings})
    model = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator) + ("magnitude" in name))
        if edit:
            edit(model)
    model.save_pretrained(folder)
    return folder, model.merge_and_unload().state_dict()


def alone(model):
    """The recipe that writes one model as it is."""
    return {"merge_method": "linear", "models": [{"model": str(model)}], "parameters": {"weight": 1}}


def assert_near(found, expected, dtype=torch.float32):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == dtype and tensor.shape == expected[name].shape
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6 if dtype == torch.float32 else 0.01)


@pytest.fixture(scope="session")
def adapters(f32, tmp_path_factory):
    """Two adapters of the float32 base."""
    folder = tmp_path_factory.mktemp("adapters")
    return train(f32[0], folder / "one", 1)[0], train(f32[0], folder / "two", 2)[0]


@pytest.fixture
def changed(adapters, tmp_path):
    """A copy of the first adapter, its config changed (None: a field goes) and its tensors edited."""

    def make(config=None, tensors=None):
        folder = shutil.copytree(adapters[0], tmp_path / "changed")
        content = json.loads((folder / ADAPTER).read_text()) | (config or {})
        (folder / ADAPTER).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        if tensors:
            held = load_file(folder / WEIGHTS)
            tensors(held)
            save_file(held, folder / WEIGHTS)
        return folder

    return make


SETTINGS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"down_proj": 2, "layers.1.self_attn.q_proj": 5},
        "alpha_pattern": {r"^model\.layers\.0.*v_proj": 11, "q_proj": 7},
    },
    "dora": {"use_dora": True},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["lm_head", "up_proj"]},
    "saved": {"modules_to_save": ["lm_head", "embed_tokens", "norm"]},
    "tokens": {"trainable_token_indices": [3, 1, 7]},
    "tokens of two": {"trainable_token_indices": {"embed_tokens": [0, 5], "lm_head": [6]}},
    "lora_bias": {"target_modules": ["q_proj", "v_proj"], "lora_bias": True},
    "all biases": {"bias": "all"},
    "biases": {"bias": "lora_only"},
    "some layers": {"layers_to_transform": [1]},
    "pattern": {"target_modules": r".*\.1\.mlp\.(up|down)_proj"},
    "all-linear": {"target_modules": "all-linear", "exclude_modules": ["o_proj"]},
    "turned": {"fan_in_fan_out": True, "target_modules": ["q_proj"]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_gives_what_peft_merges(name, f32, merged, tmp_path):
    """All linear maps of the model alike, square ones (q, o) among them."""
    folder, expected = train(f32[0], tmp_path / "adapter", **SETTINGS[name])
    found = merged(alone(f"{f32[0]}+{folder}"))
    assert_near(found, expected)
    before = load_file(f32[0] / SINGLE)
    assert any(not torch.equal(before[key], tensor) for key, tensor in found.items())


def test_a_bfloat16_base_is_merged_in_float32_and_rounded_once(bf16, merged, tmp_path):
    folder, expected = train(bf16[0], tmp_path / "adapter")
    found = merged(alone(f"{bf16[0]}+{folder}"))
    assert_near(found, expected, torch.bfloat16)
    held, before = load_file(folder / WEIGHTS), load_file(bf16[0] / SINGLE)
    a, b = (held[f"base_model.model.{Q}.lora_{which}.weight"].double() for which in "AB")
    assert torch.equal(found[f"{Q}.weight"], (before[f"{Q}.weight"].double() + 5 / 3 * (b @ a)).float().bfloat16())


def test_no_rounding_between_adapter_and_merge(bf16, merged, tmp_path):
    """Half of a task vector that is far below bfloat16's spacing is still there in a float32 result."""
    folder, _ = train(bf16[0], tmp_path / "adapter", lora_alpha=0.01)
    found = merged(halfway(bf16[0], folder, out_dtype="float32"))
    held, before = load_file(folder / WEIGHTS), load_file(bf16[0] / SINGLE)
    a, b = (held[f"base_model.model.{Q}.lora_{which}.weight"].double() for which in "AB")
    delta = found[f"{Q}.weight"].double() - before[f"{Q}.weight"].double()
    torch.testing.assert_close(delta, 0.005 / 3 * (b @ a), rtol=0, atol=1e-7)
    assert delta.abs().max() > 1e-5


METHODS = {
    "task_arithmetic": {"weight": 0.4},
    "ties": {"weight": 0.7, "density": 0.3},
    "dare_ties": {"weight": 0.7, "density": 0.5},
    "linear": {"weight": 0.5},
    "della": {"weight": 0.5, "density": 0.5, "epsilon": 0.1},
    "model_stock": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_adapters_merge_as_the_folders_that_they_make(method, f32, adapters, merged, tmp_path):
    """Byte for byte, whether they are named alone, with their base, or beside a whole model."""
    folders = [acm.merge(alone(f"{f32[0]}+{adapter}"), tmp_path / adapter.name) for adapter in adapters]
    expected = merged(recipe(method, f32[0], *folders, f32[2], parameters=METHODS[method]))
    found = merged(recipe(method, f32[0], *adapters, f32[2], parameters=METHODS[method]))
    assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
    assert all(np.array_equal(found[name].numpy(), tensor.numpy()) for name, tensor in expected.items())


@pytest.mark.parametrize("shared", [{"kernels": False}, {"threads": 3}, {"kernels": False, "threads": 1}])
def test_chunks_and_threads_change_no_byte(shared, large, tmp_path, tensors):
    folder, _ = train(large[0], tmp_path / "adapter", r=16)
    content = recipe("ties", large[0], folder, large[1], parameters={"density": 0.2, "weight": 1})
    one, other = acm.merge(content, tmp_path / "one"), acm.merge(content, tmp_path / "other", **shared)
    assert all(torch.equal(tensor, tensors(other)[name]) for name, tensor in tensors(one).items())


def test_adapters_stack_and_a_base_may_have_one(f32, adapters, merged):
    """First one, then two: B₁ A₁ and B₂ A₂ add up. As a base it names the shards of the whole model."""
    one, two = adapters
    found = merged(alone(f"{f32[0]}+{one}+{two}"))
    held = [load_file(folder / WEIGHTS) for folder in adapters]
    before = load_file(f32[0] / SINGLE)
    for module in (Q, "model.layers.1.mlp.down_proj"):
        names = [f"base_model.model.{module}.lora_{which}.weight" for which in "BA"]
        delta = sum(5 / 3 * (h[names[0]] @ h[names[1]]) for h in held)
        torch.testing.assert_close(found[f"{module}.weight"], before[f"{module}.weight"] + delta, rtol=0, atol=1e-6)
    halves = merged(halfway(f"{f32[0]}+{one}", f"{f32[0]}+{two}"))
    middle = [merged(alone(f"{f32[0]}+{folder}")) for folder in adapters]
    torch.testing.assert_close(halves[f"{Q}.weight"], (middle[0][f"{Q}.weight"] + middle[1][f"{Q}.weight"]) / 2)
