"""Models that differ: what is found before a merge, from configs and headers alone, and the config of the result."""

import json
import shutil
from collections import namedtuple

import pytest
import torch
from helpers import INDEX, assert_found, halfway, plan_of, same, texts
from safetensors.torch import load_file, save_file

import acm
from acm.errors import UserError
from acm.merging.compatibility import ANCESTRY

BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
    "model.layers.1.self_attn.masked_bias": torch.zeros(3).bool(),
}


@pytest.mark.parametrize("stored", [0, 1])
def test_buffers_that_old_conversions_store_count_for_nothing(bf16, variant, tensors, tmp_path, stored):
    pair = list(bf16[:2])
    pair[stored] = variant(pair[stored], "old", weights=lambda held: held.update(BUFFERS))
    plan = plan_of(*pair).check()
    assert not any("dtypes differ" in text for text in texts(plan, "note"))
    found, expected = (
        tensors(acm.merge(halfway(*models), tmp_path / name))
        for name, models in (("found", pair), ("expected", bf16[:2]))
    )
    assert same(found, expected)


def test_an_index_may_name_buffers(make_model, f32, tmp_path):
    old = make_model(tmp_path / "old", 0, shard="20KB")
    path = old / INDEX
    index = json.loads(path.read_text())
    name, shard = next(iter(BUFFERS)), min(index["weight_map"].values())
    save_file(load_file(old / shard) | {name: BUFFERS[name]}, old / shard, metadata={"format": "pt"})
    path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {name: shard}}))
    assert plan_of(old, f32[1]).check().jobs


CHANGED = {
    "model_type": "llama", "hidden_act": "gelu", "hidden_activation": "gelu", "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5, "num_attention_heads": 2, "num_key_value_heads": 4, "head_dim": 8, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 3,
}  # fmt: skip


@pytest.mark.parametrize("key", ANCESTRY)
def test_another_architecture_is_an_error_that_names_both_values(f32, variant, key):
    held, value = json.loads((f32[0] / "config.json").read_text()).get(key, 12), CHANGED[key]
    base, other = variant(f32[0], "parent", {key: held}), variant(f32[1], "other", {key: value})
    plan = plan_of(base, other)
    assert_found(plan, "error", f"{key} is {value} against {held}", str(other), str(base), "base_model")
    with pytest.raises(UserError, match=key):
        plan.check()


DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0}
LINEAR = {"factor": 2.0}


@pytest.mark.parametrize("ours, theirs, key", [
    ({}, {"rope_parameters": DEFAULT | {"rope_theta": 5e5}}, "rope_theta"),
    ({}, {"rope_parameters": None, "rope_theta": 5e5}, "rope_theta"),
    ({"rope_parameters": None, "rope_theta": 1e6}, {"rope_parameters": None}, "rope_theta"),
    ({}, {"rope_parameters": DEFAULT | YARN}, "rope_scaling"),
    ({}, {"rope_scaling": YARN}, "rope_scaling"),
    ({"rope_scaling": YARN}, {"rope_scaling": YARN | {"factor": 8.0}}, "rope_scaling"),
    ({}, {"rope_parameters": None}, None),
    ({}, {"rope_parameters": None, "rope_theta": 10000, "rope_scaling": None}, None),
    ({"rope_parameters": DEFAULT | YARN}, {"rope_parameters": None, "rope_theta": 10000.0, "rope_scaling": YARN}, None),
    ({"rope_scaling": LINEAR | {"type": "linear"}}, {"rope_scaling": LINEAR | {"rope_type": "linear"}}, None),
], ids=str)  # fmt: skip
def test_rope_that_differs_is_a_warning_wherever_it_is_written(f32, variant, ours, theirs, key):
    plan = plan_of(variant(f32[0], "parent", ours), variant(f32[1], "other", theirs))
    found = [text for text in texts(plan, "warning") if "rope" in text]
    assert [text.split()[0] for text in found] == ([key] if key else []) and not texts(plan, "error")


def test_an_unrelated_model_is_a_warning_and_an_identical_one_a_note(f32, make_model, variant, tmp_path):
    stranger = make_model(tmp_path / "stranger", 7)
    assert_found(plan_of(f32[0], stranger), "warning", "task vector of stranger", "may not be its ancestor")
    assert_found(plan_of(f32[0], variant(f32[0], "copy")), "note", "copy equals base wherever it was sampled")
    assert not texts(plan_of(*f32), "warning")


def test_all_tensors_that_differ_are_listed(f32, variant):
    def edit(held):
        held["model.norm.weight"] = torch.ones(8)
        held["model.layers.0.mlp.extra.weight"] = torch.ones(2)
        del held["model.layers.1.mlp.up_proj.weight"]

    other = variant(f32[1], "other", weights=edit)
    (text,) = texts(plan := plan_of(f32[0], other), "error")
    lines = [
        "3 tensors differ",
        "model.norm.weight: (16,) against (8,)",
        f"model.layers.0.mlp.extra.weight: missing in {f32[0]}",
        f"model.layers.1.mlp.up_proj.weight: missing in {other}",
    ]
    assert all(line in text for line in lines) and not plan.jobs


def test_errors_of_all_models_are_listed_together(f32, variant):
    others = [variant(f32[1], "a", {"rms_norm_eps": 1e-5}), variant(f32[2], "b", {"hidden_act": "gelu"})]
    with pytest.raises(UserError, match=r"cannot run:\n(.|\n)*rms_norm_eps(.|\n)*hidden_act"):
        plan_of(f32[0], *others).check()


def test_a_disk_that_is_too_small_is_an_error(f32, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    assert_found(plan := plan_of(*f32), "error", "no space left", "GB needed")
    with pytest.raises(UserError, match="no space left"):
        plan.check()
    with pytest.raises(UserError, match="no space left"):
        acm.merge(halfway(*f32), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key, value", [
    ("eos_token_id", 7), ("pad_token_id", 2), ("bos_token_id", 5), ("eos_token_id", [0, 7]),
])  # fmt: skip
def test_special_ids_that_differ_are_a_note(f32, variant, key, value):
    plan = plan_of(f32[0], variant(f32[1], "other", {key: value}))
    assert_found(plan, "note", f"{key} is {value} in other")
    assert plan.config[key] == json.loads((f32[0] / "config.json").read_text())[key]
    assert plan_of(f32[0], variant(f32[1], "third", {key: value}), tokenizer_source="third").config[key] == value


def test_chat_templates_that_differ_are_a_note(f32, variant):
    other = variant(f32[1], "other")
    (other / "chat_template.jinja").write_text("{{ messages }}")
    assert_found(plan_of(f32[0], other), "note", "other has another chat template")
    assert not [t for t in texts(plan_of(*f32), "note") if "template" in t]


def test_a_folder_without_tokenizer_has_no_chat_template_of_its_own(f32, variant):
    bare = variant(f32[1], "bare")
    (bare / "tokenizer_config.json").unlink()
    assert not [t for t in texts(plan_of(f32[0], bare), "note") if "template" in t]


def test_stored_dtypes_that_differ_are_a_note(f32, bf16):
    assert_found(plan_of(f32[0], bf16[1]), "note", "stored dtypes differ", "float32", "bfloat16")


@pytest.mark.parametrize("own, extra, expected", [
    ({"max_position_embeddings": 1024}, {}, 1024),
    ({"max_position_embeddings": 256}, {}, 512),
    ({"max_position_embeddings": 1024, "rope_parameters": DEFAULT | {"rope_theta": 5e5}}, {}, 512),
    ({"max_position_embeddings": 1024, "rope_scaling": YARN}, {}, 512),
    ({"max_position_embeddings": None}, {}, 512),
    ({"max_position_embeddings": 1024}, {"compatibility": "paper"}, 512),
])  # fmt: skip
def test_longest_context_is_kept_where_positions_agree(f32, variant, own, extra, expected):
    plan = plan_of(f32[0], variant(f32[1], "other", own), **extra)
    assert plan.config["max_position_embeddings"] == expected
    noted = any("max_position_embeddings is 1024 (the base has 512)" in text for text in texts(plan, "note"))
    assert noted == (expected == 1024)
