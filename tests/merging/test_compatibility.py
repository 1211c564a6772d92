"""Models that differ: findings, config, heads and vocabularies of the result, from headers alone and in the merged folder."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections import namedtuple

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import acm
from acm.errors import UserError
from acm.merging.compatibility import ANCESTRY
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe
from acm.paths import ROOT

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAMBDA = 0.3
IDS = torch.tensor([[5, 17, 300, 42, 7]])


def recipe(*folders, method="task_arithmetic", **extra):
    return {"merge_method": method, "base_model": str(folders[0]), "models": [{"model": str(f)} for f in folders[1:]],
            "parameters": {"weight": LAMBDA}} | extra  # fmt: skip


def plan_of(*folders, **extra):
    return make_plan(*load_recipe(recipe(*folders, **extra)))


def texts(plan, level):
    return [finding.text for finding in plan.findings if finding.level == level]


def assert_found(plan, level, *words):
    """Exactly one finding of this level has all the words."""
    assert sum(all(str(word) in text for word in words) for text in texts(plan, level)) == 1, plan.findings


@pytest.fixture
def variant(tmp_path):
    """A copy of a model folder: config fields changed (None: removed), its weights or tokenizer.json edited in place."""

    def make(source, name, config=None, weights=None, tokenizer=None):
        folder = tmp_path / name
        shutil.copytree(source, folder)
        for file, edit in (
            ("config.json", lambda c: c.update(config or {})),
            ("tokenizer.json", tokenizer or (lambda _: None)),
        ):
            content = json.loads((folder / file).read_text())
            edit(content)
            (folder / file).write_text(
                json.dumps({k: v for k, v in content.items() if v is not None or config is None or k not in config})
            )
        if weights:
            held = load_file(folder / "model.safetensors")
            weights(held)
            save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def loaded(folder, caplog):
    """The model, once transformers has loaded it without any warning."""
    transformers.utils.logging.enable_propagation()
    caplog.clear()
    try:
        with caplog.at_level(logging.WARNING), warnings.catch_warnings():
            warnings.simplefilter("error")
            model = AutoModelForCausalLM.from_pretrained(folder)
    finally:
        transformers.utils.logging.disable_propagation()
    assert not caplog.records
    return model


def between(base, other):
    return base + LAMBDA * (other - base)


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
        tensors(acm.merge(recipe(*models), tmp_path / name))
        for name, models in (("found", pair), ("expected", bf16[:2]))
    )
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_index_may_name_buffers(make_model, f32, tmp_path):
    old = make_model(tmp_path / "old", 0, shard="20KB")
    path = old / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name, shard = next(iter(BUFFERS)), min(index["weight_map"].values())
    save_file(load_file(old / shard) | {name: BUFFERS[name]}, old / shard, metadata={"format": "pt"})
    path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {name: shard}}))
    assert plan_of(old, f32[1]).check().jobs


CHANGED = {"model_type": "llama", "hidden_act": "gelu", "hidden_activation": "gelu", "rms_norm_eps": 1e-5, "layer_norm_eps": 1e-5,
           "num_attention_heads": 2, "num_key_value_heads": 4, "head_dim": 8, "hidden_size": 32, "intermediate_size": 64,
           "num_hidden_layers": 3}  # fmt: skip


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
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, None),
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
    for line in ("3 tensors differ", "model.norm.weight: (16,) against (8,)", f"model.layers.0.mlp.extra.weight: missing in {f32[0]}",
                 f"model.layers.1.mlp.up_proj.weight: missing in {other}"):  # fmt: skip
        assert line in text
    assert not plan.jobs


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
        acm.merge(recipe(*f32), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "key, value", [("eos_token_id", 7), ("pad_token_id", 2), ("bos_token_id", 5), ("eos_token_id", [0, 7])]
)
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
    assert any("max_position_embeddings is 1024 (the base has 512)" in t for t in texts(plan, "note")) == (
        expected == 1024
    )


@pytest.fixture
def tie(variant):
    """A tied copy: its embedding is its head."""
    return lambda source, name: variant(
        source, name, {"tie_word_embeddings": True}, weights=lambda held: held.pop(HEAD)
    )


def assembled(tensors, tied, base, other, head):
    """The logits of a model put together by hand in transformers."""
    config = transformers.AutoConfig.from_pretrained(base, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config)
    state = {n: between(t, tensors(other)[n]) for n, t in tensors(base).items() if n != HEAD}
    model.load_state_dict(state | {HEAD: state[EMBEDDING] if tied else head})
    return model(IDS).logits


@pytest.mark.parametrize("tied_one", ["base", "left"])
@pytest.mark.parametrize("extra, tied", [
    ({}, False), ({"tie_word_embeddings": False}, False), ({"tie_word_embeddings": True}, True), ({"compatibility": "paper"}, None),
], ids=str)  # fmt: skip
def test_heads_tied_and_untied(f32, tie, tensors, tmp_path, caplog, tied_one, extra, tied):
    base, other = (tie(f, f"tied-{f.name}") if f.name == tied_one else f for f in f32[:2])
    tied = tied_one == "base" if tied is None else tied
    plan = plan_of(base, other, **extra)
    done = f"head of {'left' if tied_one == 'base' else 'base'} is lost" if tied else "its own"
    assert_found(plan, "warning", "ties its head", f"tied-{tied_one}", done)
    out = acm.merge(recipe(base, other, **extra), tmp_path / "out")
    found, ours, theirs = tensors(out), tensors(base), tensors(other)
    heads = between(ours.get(HEAD, ours[EMBEDDING]), theirs.get(HEAD, theirs[EMBEDDING]))
    assert (HEAD in found) != tied and json.loads((out / "config.json").read_text())["tie_word_embeddings"] == tied
    if not tied:
        torch.testing.assert_close(found[HEAD], heads, rtol=0, atol=1e-7)
    model = loaded(out, caplog)
    torch.testing.assert_close(model(IDS).logits, assembled(tensors, tied, base, other, heads), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied_one, wanted", [
    ("base", True), ("base", False), ("left", False), ("left", True),
])  # fmt: skip
def test_an_explicit_head_beside_the_papers_rules_is_consistent(f32, tie, tensors, tmp_path, caplog, tied_one, wanted):
    base, other = (tie(f, f"tied-{f.name}") if f.name == tied_one else f for f in f32[:2])
    try:
        out = acm.merge(recipe(base, other, compatibility="paper", tie_word_embeddings=wanted), tmp_path / "out")
    except UserError as error:
        assert "compatibility" in str(error)
        return
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] == (HEAD not in tensors(out))
    loaded(out, caplog)


def test_a_head_of_its_own_is_declared_even_where_the_config_was_silent(f32, tie, variant):
    """Architectures whose default is a tied head (Gemma) leave the field out."""
    base, other = (variant(f, f"silent-{f.name}", {"tie_word_embeddings": None}) for f in (tie(f32[0], "tied"), f32[1]))
    assert plan_of(base, other).config.get("tie_word_embeddings") is False


def test_shards_with_a_new_head_load(make_model, variant, tensors, tmp_path, caplog):
    whole = make_model(tmp_path / "whole", shard="20KB")
    base = variant(whole, "base", {"tie_word_embeddings": True})
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shard = base / index["weight_map"].pop(HEAD)
    save_file({n: t for n, t in load_file(shard).items() if n != HEAD}, shard, metadata={"format": "pt"})
    path.write_text(json.dumps(index))
    out = acm.merge(recipe(base, whole), tmp_path / "out")
    assert tensors(out).keys() == tensors(whole).keys() and len(list(out.glob("*.safetensors"))) > 1
    loaded(out, caplog)


@pytest.mark.parametrize("wanted, kind", [(True, "untie"), (False, "tie")])
def test_the_head_is_not_decided_where_models_agree(f32, tie, wanted, kind):
    folders = f32[:2] if kind == "untie" else [tie(f, f"tied-{f.name}") for f in f32[:2]]
    assert_found(plan_of(*folders, tie_word_embeddings=wanted), "error", f"these all {kind} their heads", "Remove it")
    assert not texts(plan_of(*folders), "error")


ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.fixture
def words(variant):
    """A model with further added tokens and rows (random, seeded), its special tokens perhaps in each other's place."""

    def make(source, name, tokens=(), rows=428, swapped=False, seed=1):
        def tokenizer(content):
            content["added_tokens"] += [ADDED | {"id": 428 + i, "content": token} for i, token in enumerate(tokens)]
            if swapped:
                first, second = content["added_tokens"][:2]
                first["id"], second["id"] = 1, 0
                content["added_tokens"][:2] = [second, first]
                content["model"]["vocab"] |= {first["content"]: 1, second["content"]: 0}

        def weights(held):
            generator = torch.Generator().manual_seed(seed)
            for key in (EMBEDDING, HEAD):
                held[key] = torch.cat([held[key], torch.randn(rows - 428, 16, generator=generator)])
                if swapped:
                    held[key][[0, 1]] = held[key][[1, 0]]

        ids = {"eos_token_id": 1, "pad_token_id": 0} if swapped else {}
        return variant(source, name, {"vocab_size": rows} | ids, weights, tokenizer)

    return make


@pytest.mark.parametrize("ours, theirs", [(428, 440), (440, 428), (436, 440)])
def test_rows_of_unlike_number_are_merged_by_id(f32, words, tensors, tmp_path, caplog, ours, theirs):
    base, other = words(f32[0], "a", rows=ours), words(f32[1], "b", rows=theirs, seed=2)
    assert_found(plan_of(base, other), "warning", f"vocabulary rows: a {ours}, b {theirs}; the result has 440")
    out = acm.merge(recipe(base, other), tmp_path / "out")
    found, first, second = map(tensors, (out, base, other))
    for name in (EMBEDDING, HEAD):
        common = min(ours, theirs)
        torch.testing.assert_close(
            found[name][:common], between(first[name][:common], second[name][:common]), rtol=0, atol=1e-7
        )
        longer = first if ours > theirs else second
        assert torch.equal(
            found[name][common:], longer[name][common:]
        )  # extra rows are those of the model that has them
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 440
    assert loaded(out, caplog)(IDS).logits.shape[-1] == 440


def alone(method, base, other, weight):
    """A recipe whose result is the base (0) or the other model (1) to the byte."""
    content = recipe(base, other, method=method, parameters={"t" if method == "slerp" else "weight": weight})
    if method == "linear":
        content["models"].append({"model": str(base), "parameters": {"weight": 1 - weight}})
    return content


@pytest.mark.parametrize("method", ["task_arithmetic", "slerp", "linear"])
@pytest.mark.parametrize("ours, theirs, weight", [
    (428, 440, 0.0), (428, 440, 1.0), (440, 428, 0.0), (440, 428, 1.0),
])  # fmt: skip
def test_copied_models_lose_no_row(f32, words, tensors, tmp_path, method, ours, theirs, weight):
    base, other = words(f32[0], "a", rows=ours), words(f32[1], "b", rows=theirs, seed=2)
    found = tensors(acm.merge(alone(method, base, other, weight), tmp_path / "out"))
    for name in (EMBEDDING, HEAD):
        assert torch.equal(found[name][428:], tensors(base if ours > theirs else other)[name][428:])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_copied_models_lose_no_token(f32, words, tensors, tmp_path, weight):
    base, other = words(f32[0], "a", ["<|x|>"], 429), words(f32[1], "b", ["<|y|>"], 429, seed=2)
    out = acm.merge(alone("task_arithmetic", base, other, weight) | {"tokenizer_source": "union"}, tmp_path / "out")
    for token, source in (("<|x|>", base), ("<|y|>", other)):
        assert torch.equal(tensors(out)[EMBEDDING][vocabulary(out)[token]], tensors(source)[EMBEDDING][428])


def test_the_papers_rules_keep_the_bases_rows(f32, words, tensors, tmp_path):
    out = acm.merge(recipe(f32[0], words(f32[1], "b", rows=440), compatibility="paper"), tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == len(tensors(out)[EMBEDDING]) == 428 and config["max_position_embeddings"] == 512


def test_a_tokenizers_source_beside_the_papers_rules_is_consistent(f32, words, tensors, tmp_path):
    content = recipe(f32[0], words(f32[1], "b", ["<|x|>"], 440), compatibility="paper", tokenizer_source="b")
    try:
        out = acm.merge(content, tmp_path / "out")
    except UserError as error:
        assert "compatibility" in str(error)
        return
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(tensors(out)[EMBEDDING])


def vocabulary(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    return content["model"]["vocab"] | {entry["content"]: entry["id"] for entry in content["added_tokens"]}


@pytest.mark.parametrize("source, own, rows", [("base", 0, 436), ("union", None, 436), ("b", 1, 440), ("c", 2, 428)])
@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_rows_follow_their_tokens(f32, words, tensors, tmp_path, caplog, method, source, own, rows):
    folders = [
        words(f32[0], "a", ["<|x|>"], 436, seed=4),
        words(f32[1], "b", ["<|y|>", "<|x|>"], 440),
        words(f32[2], "c", swapped=True),
    ]
    extra = {"parameters": {"weight": LAMBDA, "normalize": False}, "tokenizer_source": source, "method": method}
    plan = plan_of(*folders, **extra)
    assert len([t for t in texts(plan, "note") if "aligned by token" in t]) == 2 and not texts(plan, "error")
    out = acm.merge(recipe(*folders, **extra), tmp_path / "out")
    ids, own_ids = AutoTokenizer.from_pretrained(out).get_vocab(), [vocabulary(f) for f in folders]
    expected_tokens = own_ids[own].keys() if own is not None else set().union(*own_ids)
    assert ids.keys() == expected_tokens and (own is None or ids == own_ids[own])
    assert ids == vocabulary(out)
    found, held = tensors(out), [tensors(f) for f in folders]
    config = json.loads((out / "config.json").read_text())
    assert len(found[EMBEDDING]) == len(found[HEAD]) == config["vocab_size"] == rows
    assert config["eos_token_id"] == ids["<|end|>"] and config["pad_token_id"] == ids["<|pad|>"]
    for name in (EMBEDDING, HEAD):
        for token, i in ids.items():
            parts = [m[name][v[token]] if token in v else None for m, v in zip(held, own_ids, strict=True)]
            present = [part for part in parts if part is not None]
            base = parts[0] if parts[0] is not None else sum(present) / len(present)
            deltas = torch.stack([(base if part is None else part) - base for part in parts[1:]])
            if method == "ties":
                deltas = deltas * torch.where(deltas.sum(0) >= 0, deltas > 0, deltas < 0)
            torch.testing.assert_close(found[name][i], base + LAMBDA * deltas.sum(0), rtol=0, atol=1e-6)
    loaded(out, caplog)


def test_tied_models_need_no_coefficient_for_a_head(f32, words, tie, tensors, tmp_path, caplog):
    base, other = (
        tie(words(f32[0], "a", ["<|x|>"], 429), "base"),
        tie(words(f32[1], "b", ["<|y|>"], 440, seed=2), "left"),
    )
    values = {"embed": 0.3, "0": 0.4, "1": 0.5, "norm": 0.6}
    out = acm.merge(recipe(base, other, tokenizer_source="union", coefficients={"left": values}), tmp_path / "out")
    assert HEAD not in tensors(out) and loaded(out, caplog).config.tie_word_embeddings
    with pytest.raises(UserError, match="layer lm_head for left"):  # a head of its own needs one
        plan_of(tie(f32[0], "tied"), f32[1], coefficients={"left": values})


def test_padding_rows_are_kept(f32, words, tensors, tmp_path):
    folders = [words(f32[0], "a", ["<|x|>"], 448, seed=4), words(f32[1], "b", ["<|y|>", "<|x|>"], 448, seed=5)]
    out = acm.merge(recipe(*folders, tokenizer_source="base"), tmp_path / "out")
    found, first, second = (tensors(f)[EMBEDDING] for f in (out, *folders))
    assert len(found) == 448
    torch.testing.assert_close(found[430:], between(first, second)[430:], rtol=0, atol=1e-7)
    assert torch.equal(found[429], first[429])  # padding of the base, but a token of the other


def test_tokens_that_differ_are_a_warning_unless_they_are_aligned(f32, words):
    other = words(f32[1], "other", swapped=True)
    assert_found(
        plan_of(f32[0], other),
        "warning",
        "2 ids mean different tokens",
        "0: '<|pad|>' against '<|end|>'",
        "tokenizer_source",
    )
    assert_found(plan_of(f32[0], other, tokenizer_source="base"), "note", "aligned by token")


def test_swapped_special_tokens_change_no_other_row(f32, words, tensors, tmp_path):
    other = words(f32[1], "left", swapped=True)
    plain, aligned = (
        tensors(acm.merge(recipe(f32[0], o, tokenizer_source="base"), tmp_path / o.parent.name))
        for o in (f32[1], other)
    )
    assert all(torch.equal(tensor, aligned[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("source", ["union", "base", "other"])
def test_union_refuses_an_unlike_ordinary_vocabulary(f32, variant, source):
    def rename(content):
        content["model"]["vocab"]["zebra"] = content["model"]["vocab"].pop("now")
        content["model"]["merges"] = [m for m in content["model"]["merges"] if "".join(m) != "now"]

    other = variant(f32[1], "other", tokenizer=rename)
    if source == "union":
        with pytest.raises(UserError, match=r"other has 1 other tokens that the base lacks \(such as 'zebra'\)"):
            plan_of(f32[0], other, tokenizer_source=source)
    else:
        assert not texts(plan_of(f32[0], other, tokenizer_source=source), "error")


def test_a_source_that_is_no_model_or_has_no_tokenizer(f32, variant):
    with pytest.raises(UserError, match="unknown tokenizer_source 'lft'"):
        plan_of(*f32, tokenizer_source="lft")
    bare = variant(f32[1], "bare")
    (bare / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"bare has no tokenizer.json"):
        plan_of(f32[0], bare, tokenizer_source="base")


def check(content, folder):
    (folder / "recipe.yml").write_text(yaml.safe_dump(content))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "acm", "check", "recipe.yml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_check_prints_every_finding(f32, variant, tmp_path):
    content = recipe(f32[0], variant(f32[1], "other", {"eos_token_id": 7, "rope_theta": 5e5}))
    done = check(content, tmp_path)
    *printed, last = done.stdout.splitlines()
    expected = [
        str(finding) for finding in make_plan(*load_recipe(content)).findings if "GB are free" not in finding.text
    ]
    assert (
        done.returncode == 0
        and last.startswith("ready: ")
        and set(expected) < set(printed)
        and len(printed) == len(expected) + 1
    )
    assert {line.split(":")[0] for line in printed} == {"warning", "note"}


def test_check_exits_with_1_on_errors(f32, variant, tmp_path):
    other = variant(f32[1], "other", {"rms_norm_eps": 1e-5, "hidden_act": "gelu", "eos_token_id": 7})
    done = check(recipe(f32[0], other), tmp_path)
    assert done.returncode == 1 and [line.split(":")[0] for line in done.stdout.splitlines()].count("error") == 2
    assert "note: eos_token_id" in done.stdout and "Traceback" not in done.stderr and "ready" not in done.stdout
    assert (
        done.stderr.startswith("error: this merge cannot run")
        and "rms_norm_eps" in done.stderr
        and "hidden_act" in done.stderr
    )


def test_check_of_a_large_model_takes_a_moment(f32, tmp_path):
    header, place = {}, 0
    for i in range(500):
        name = "model.embed_tokens.weight" if i == 0 else HEAD if i == 1 else f"model.layers.{i // 20}.mlp.w{i}.weight"
        header[name] = {"dtype": "BF16", "shape": [4000, 5000], "data_offsets": [place, place := place + 40_000_000]}
    text = json.dumps(header).encode()
    folders = [tmp_path / "big", tmp_path / "large"]
    for folder in folders:
        folder.mkdir()
        shutil.copyfile(f32[0] / "config.json", folder / "config.json")
        with (folder / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + place)
        if (folder / "model.safetensors").stat().st_blocks > 10_000:
            pytest.skip("this file system has no sparse files")
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        done = check(recipe(*folders), tmp_path)
        seconds.append(time.perf_counter() - start)
    assert "reads 40.00 GB, writes 20.00 GB" in done.stdout and min(seconds) < 8  # of 40 GB only the headers are read
