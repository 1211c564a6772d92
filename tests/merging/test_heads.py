"""Models whose heads are tied to their embeddings, beside models whose heads are their own."""

import json

import pytest
import torch
import transformers
from helpers import EMBEDDING, HEAD, INDEX, assert_found, halfway, loaded, middle, plan_of, texts
from helpers_calibration import edit_tensors, make_decoder
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import acm
from acm.errors import UserError

IDS = torch.tensor([[5, 17, 300, 42, 7]])


def assembled(tensors, tied, base, other, head):
    """The logits of a model put together by hand in transformers."""
    config = transformers.AutoConfig.from_pretrained(base, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config)
    state = {n: middle(t, tensors(other)[n]) for n, t in tensors(base).items() if n != HEAD}
    model.load_state_dict(state | {HEAD: state[EMBEDDING] if tied else head})
    return model(IDS).logits


@pytest.mark.parametrize("tied_one", ["base", "left"])
@pytest.mark.parametrize("extra, tied", [
    ({}, False),
    ({"tie_word_embeddings": False}, False),
    ({"tie_word_embeddings": True}, True),
    ({"compatibility": "paper"}, None),
], ids=str)  # fmt: skip
def test_heads_tied_and_untied(f32, tie, tensors, tmp_path, caplog, tied_one, extra, tied):
    base, other = (tie(f, f"tied-{f.name}") if f.name == tied_one else f for f in f32[:2])
    tied = tied_one == "base" if tied is None else tied
    plan = plan_of(base, other, **extra)
    done = f"head of {'left' if tied_one == 'base' else 'base'} is lost" if tied else "its own"
    assert_found(plan, "warning", "ties its head", f"tied-{tied_one}", done)
    out = acm.merge(halfway(base, other, **extra), tmp_path / "out")
    found, ours, theirs = tensors(out), tensors(base), tensors(other)
    heads = middle(ours.get(HEAD, ours[EMBEDDING]), theirs.get(HEAD, theirs[EMBEDDING]))
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
        out = acm.merge(halfway(base, other, compatibility="paper", tie_word_embeddings=wanted), tmp_path / "out")
    except UserError as error:
        assert "compatibility" in str(error)
        return
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] == (HEAD not in tensors(out))
    loaded(out, caplog)


def test_a_head_of_its_own_is_declared_even_where_the_config_was_silent(f32, tie, variant):
    silent = {"tie_word_embeddings": None, "model_type": "unlisted"}
    base, other = (variant(f, f"silent-{f.name}", silent) for f in (tie(f32[0], "tied"), f32[1]))
    assert plan_of(base, other).config.get("tie_word_embeddings") is False


def test_a_gemma_ties_its_head_without_a_word(variant, tokenizer, tensors, tmp_path, caplog):
    """It leaves the field out of its config."""
    size = {"vocab_size": len(tokenizer), "pad_token_id": None}
    base, other = (make_decoder(tmp_path / name, "Gemma2", **size) for name in ("base", "other"))
    tokenizer.save_pretrained(base)
    base = variant(base, "silent", {"tie_word_embeddings": None})
    assert HEAD not in tensors(acm.merge(halfway(base, other), tmp_path / "tied"))
    edit_tensors(other, **{HEAD: torch.ones(len(tokenizer), 16)})
    out = acm.merge(halfway(base, other), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False and HEAD in tensors(out)
    for folder in (out, tmp_path / "tied"):
        loaded(folder, caplog)


def test_shards_with_a_new_head_load(make_model, variant, tensors, tmp_path, caplog):
    whole = make_model(tmp_path / "whole", shard="20KB")
    base = variant(whole, "base", {"tie_word_embeddings": True})
    path = base / INDEX
    index = json.loads(path.read_text())
    shard = base / index["weight_map"].pop(HEAD)
    save_file({n: t for n, t in load_file(shard).items() if n != HEAD}, shard, metadata={"format": "pt"})
    path.write_text(json.dumps(index))
    out = acm.merge(halfway(base, whole), tmp_path / "out")
    assert tensors(out).keys() == tensors(whole).keys() and len(list(out.glob("*.safetensors"))) > 1
    loaded(out, caplog)


@pytest.mark.parametrize("wanted, kind", [(True, "untie"), (False, "tie")])
def test_the_head_is_not_decided_where_models_agree(f32, tie, wanted, kind):
    folders = f32[:2] if kind == "untie" else [tie(f, f"tied-{f.name}") for f in f32[:2]]
    assert_found(plan_of(*folders, tie_word_embeddings=wanted), "error", f"these all {kind} their heads", "Remove it")
    assert not texts(plan_of(*folders), "error")
