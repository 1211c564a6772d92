"""Configs that mean the same in other words, numbers that a dtype cannot hold, and very many shards."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from helpers import INDEX, SINGLE, assert_loads, halfway, plan_of, recipe, same, texts
from safetensors.torch import load_file, save_file

import acm
from acm.errors import UserError
from acm.merging.engine import not_finite

UP = "model.layers.1.mlp.up_proj.weight"
SAME = [  # of the pico models: 4 heads, 2 of keys, hidden size 16
    {"head_dim": 4}, {"head_dim": None}, {"head_dim": 4.0}, {"hidden_size": 16.0, "num_attention_heads": 4.0},
    {"rms_norm_eps": 9.999999974752427e-07}, {"rms_norm_eps": 9.98377799987793e-07}, {"hidden_act": "swish"},
    {"rms_norm_eps": None}, {"hidden_act": None}, {"tie_word_embeddings": None},
    {"rope_parameters": None, "rope_theta": 10000}, {"rope_parameters": None, "rope_scaling": {"type": "default"}},
    {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 1.0}},
    {"torch_dtype": "float32", "dtype": None}, {"torch_dtype": "torch.float32", "dtype": None},
]  # fmt: skip


@pytest.mark.parametrize("spelt", SAME, ids=str)
@pytest.mark.parametrize("where", [0, 1])
def test_configs_that_mean_the_same_are_the_same(f32, variant, tensors, tmp_path, spelt, where):
    pair = list(f32[:2])
    pair[where] = variant(pair[where], "spelt", spelt)
    plan = plan_of(*pair)
    found = texts(plan, "error") + [text for text in texts(plan, "warning") if "rope" in text]
    assert not found
    out = acm.merge(halfway(*pair), tmp_path / "out")
    assert_loads(out)
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"
    assert same(tensors(out), tensors(acm.merge(halfway(*f32[:2]), tmp_path / "plain")))


@pytest.mark.parametrize("changes, word", [
    ({"rms_norm_eps": 1e-5}, "rms_norm_eps"), ({"head_dim": 8}, "head_dim"), ({"hidden_act": "gelu"}, "hidden_act"),
    ({"num_key_value_heads": None}, "num_key_value_heads"), ({"num_hidden_layers": None}, "num_hidden_layers"),
])  # fmt: skip
def test_configs_that_differ_still_do(assert_refused, variant, f32, changes, word):
    assert_refused(word, left=variant(f32[1], "odd", changes))


METHODS = {
    "a copy": {"weight": 1},
    "task_arithmetic": {"weight": 0.9},
    "slerp": {"t": 0.9},
    "ties": {"weight": 1, "density": 0.9},
    "model_stock": {},
}


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype, value", [("float16", 1e5), ("bfloat16", 3.4e38)])
def test_numbers_that_the_dtype_cannot_hold_stop_a_merge(f32, tmp_path, method, dtype, value, kernels):
    """All models have them: near 65,504 float16 ends, near 3.39e38 bfloat16."""
    few = method in ("slerp", "a copy")
    folders = [shutil.copytree(folder, tmp_path / folder.name) for folder in f32[: 2 if few else 3]]
    for folder in folders:
        held = load_file(folder / SINGLE)
        held[UP][3, :2] = torch.tensor([value, -value])
        save_file(held, folder / SINGLE, metadata={"format": "pt"})
    name = "task_arithmetic" if method == "a copy" else method
    content = recipe(name, *folders, parameters=METHODS[method], out_dtype=dtype)
    out = tmp_path / "out"
    with pytest.raises(UserError) as error:
        acm.merge(content, out, kernels=kernels)
    assert all(word in str(error.value) for word in (UP, dtype, "out_dtype")) and str(error.value)[0] in "1234"
    assert not out.exists() and not (tmp_path / ".out.part").exists()
    held = load_file(acm.merge(content | {"out_dtype": "float32"}, out, kernels=kernels) / SINGLE)
    assert torch.isfinite(held[UP]).all()


def test_not_finite_counts():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        values = torch.tensor([1, float("inf"), float("nan"), -float("inf"), 0, torch.finfo(dtype).max], dtype=dtype)
        stored = values.view(torch.int16).numpy().view("u2") if dtype == torch.bfloat16 else values.numpy()
        assert not_finite(stored, str(dtype).removeprefix("torch.")) == 3
        assert not_finite(stored[:0], str(dtype).removeprefix("torch.")) == 0


def test_more_shards_than_a_process_may_open(f32, tmp_path, tensors):
    """Each tensor is a shard of its own."""
    folders = []
    for source in f32[:2]:
        folder = shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("*.safetensors"))
        weight_map = {}
        for i, (name, tensor) in enumerate(load_file(source / SINGLE).items()):
            weight_map[name] = f"model-{i:05}-of-00027.safetensors"
            save_file({name: tensor}, folder / weight_map[name], metadata={"format": "pt"})
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        folders.append(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, hard))
    try:
        out = acm.merge(halfway(*folders), tmp_path / "out", threads=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list(out.glob("*.safetensors"))) == 27
    assert_loads(out)
    assert same(tensors(out), tensors(acm.merge(halfway(*f32[:2]), tmp_path / "whole")))
