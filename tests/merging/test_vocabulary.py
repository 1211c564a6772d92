"""Vocabularies that differ: rows by id and by token, padding, and the tokenizer of the result."""

import json

import pytest
import torch
from helpers import EMBEDDING, HEAD, ROWS, assert_found, halfway, loaded, middle, plan_of, recipe, same, texts
from transformers import AutoTokenizer

import acm
from acm.errors import UserError
from acm.merging.registry import METHODS

IDS = torch.tensor([[5, 17, 300, 42, 7]])
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.fixture
def words(variant):
    """A model with further added tokens and rows (random, seeded), its special tokens perhaps in each other's place."""

    def make(source, name, tokens=(), rows=ROWS, swapped=False, seed=1):
        def tokenizer(content):
            content["added_tokens"] += [ADDED | {"id": ROWS + i, "content": token} for i, token in enumerate(tokens)]
            if swapped:
                first, second = content["added_tokens"][:2]
                first["id"], second["id"] = 1, 0
                content["added_tokens"][:2] = [second, first]
                content["model"]["vocab"] |= {first["content"]: 1, second["content"]: 0}

        def weights(held):
            generator = torch.Generator().manual_seed(seed)
            for key in (EMBEDDING, HEAD):
                held[key] = torch.cat([held[key], torch.randn(rows - ROWS, 16, generator=generator)])
                if swapped:
                    held[key][[0, 1]] = held[key][[1, 0]]

        ids = {"eos_token_id": 1, "pad_token_id": 0} if swapped else {}
        return variant(source, name, {"vocab_size": rows} | ids, weights, tokenizer)

    return make


@pytest.mark.parametrize("ours, theirs", [(ROWS, 440), (440, ROWS), (436, 440)])
def test_rows_of_unlike_number_are_merged_by_id(f32, words, tensors, tmp_path, caplog, ours, theirs):
    base, other = words(f32[0], "a", rows=ours), words(f32[1], "b", rows=theirs, seed=2)
    assert_found(plan_of(base, other), "warning", f"vocabulary rows: a {ours}, b {theirs}; the result has 440")
    out = acm.merge(halfway(base, other), tmp_path / "out")
    found, first, second = map(tensors, (out, base, other))
    for name in (EMBEDDING, HEAD):
        common = min(ours, theirs)
        expected = middle(first[name][:common], second[name][:common])
        torch.testing.assert_close(found[name][:common], expected, rtol=0, atol=1e-7)
        longer = first if ours > theirs else second  # the model that has the extra rows
        assert torch.equal(found[name][common:], longer[name][common:])
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 440
    assert loaded(out, caplog)(IDS).logits.shape[-1] == 440


def alone(method, base, other, weight):
    """A recipe whose result is the base (0) or the other model (1) to the byte."""
    row = METHODS[method]
    content = recipe(method, base, other, parameters={row.coefficient.name: weight})
    if row.average:
        content["models"].append({"model": str(base), "parameters": {"weight": 1 - weight}})
    return content


@pytest.mark.parametrize("method", ["task_arithmetic", "slerp", "linear"])
@pytest.mark.parametrize("ours, theirs, weight", [
    (ROWS, 440, 0.0), (ROWS, 440, 1.0), (440, ROWS, 0.0), (440, ROWS, 1.0),
])  # fmt: skip
def test_copied_models_lose_no_row(f32, words, tensors, tmp_path, method, ours, theirs, weight):
    base, other = words(f32[0], "a", rows=ours), words(f32[1], "b", rows=theirs, seed=2)
    found = tensors(acm.merge(alone(method, base, other, weight), tmp_path / "out"))
    for name in (EMBEDDING, HEAD):
        assert torch.equal(found[name][ROWS:], tensors(base if ours > theirs else other)[name][ROWS:])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_copied_models_lose_no_token(f32, words, tensors, tmp_path, weight):
    base, other = words(f32[0], "a", ["<|x|>"], ROWS + 1), words(f32[1], "b", ["<|y|>"], ROWS + 1, seed=2)
    out = acm.merge(alone("task_arithmetic", base, other, weight) | {"tokenizer_source": "union"}, tmp_path / "out")
    for token, source in (("<|x|>", base), ("<|y|>", other)):
        assert torch.equal(tensors(out)[EMBEDDING][vocabulary(out)[token]], tensors(source)[EMBEDDING][ROWS])


def test_the_papers_rules_keep_the_bases_rows(f32, words, tensors, tmp_path):
    out = acm.merge(halfway(f32[0], words(f32[1], "b", rows=440), compatibility="paper"), tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == len(tensors(out)[EMBEDDING]) == ROWS and config["max_position_embeddings"] == 512


def test_a_tokenizers_source_beside_the_papers_rules_is_consistent(f32, words, tensors, tmp_path):
    content = halfway(f32[0], words(f32[1], "b", ["<|x|>"], 440), compatibility="paper", tokenizer_source="b")
    try:
        out = acm.merge(content, tmp_path / "out")
    except UserError as error:
        assert "compatibility" in str(error)
        return
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(tensors(out)[EMBEDDING])


def vocabulary(folder):
    """Token → id."""
    content = json.loads((folder / "tokenizer.json").read_text())
    return content["model"]["vocab"] | {entry["content"]: entry["id"] for entry in content["added_tokens"]}


@pytest.mark.parametrize("source, own, rows", [("base", 0, 436), ("union", None, 436), ("b", 1, 440), ("c", 2, ROWS)])
@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_rows_follow_their_tokens(f32, words, tensors, tmp_path, caplog, method, source, own, rows):
    folders = [
        words(f32[0], "a", ["<|x|>"], 436, seed=4),
        words(f32[1], "b", ["<|y|>", "<|x|>"], 440),
        words(f32[2], "c", swapped=True),
    ]
    extra = {"parameters": {"weight": 0.5, "normalize": False}, "tokenizer_source": source, "method": method}
    plan = plan_of(*folders, **extra)
    assert len([t for t in texts(plan, "note") if "aligned by token" in t]) == 2 and not texts(plan, "error")
    out = acm.merge(halfway(*folders, **extra), tmp_path / "out")
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
            rows = [m[name][v[token]] if token in v else None for m, v in zip(held, own_ids, strict=True)]
            present = [row for row in rows if row is not None]
            base = rows[0] if rows[0] is not None else sum(present) / len(present)
            deltas = torch.stack([(base if row is None else row) - base for row in rows[1:]])
            if method == "ties":
                deltas = deltas * torch.where(deltas.sum(0) >= 0, deltas > 0, deltas < 0)
            torch.testing.assert_close(found[name][i], base + 0.5 * deltas.sum(0), rtol=0, atol=1e-6)
    loaded(out, caplog)


def test_tied_models_need_no_coefficient_for_a_head(f32, words, tie, tensors, tmp_path, caplog):
    base = tie(words(f32[0], "a", ["<|x|>"], ROWS + 1), "base")
    other = tie(words(f32[1], "b", ["<|y|>"], 440, seed=2), "left")
    values = {"embed": 0.3, "0": 0.4, "1": 0.5, "norm": 0.6}
    out = acm.merge(halfway(base, other, tokenizer_source="union", coefficients={"left": values}), tmp_path / "out")
    assert HEAD not in tensors(out) and loaded(out, caplog).config.tie_word_embeddings
    with pytest.raises(UserError, match="lacks layer lm_head of left"):  # a head of its own needs one
        plan_of(tie(f32[0], "tied"), f32[1], coefficients={"left": values})


def test_padding_rows_are_kept(f32, words, tensors, tmp_path):
    folders = [words(f32[0], "a", ["<|x|>"], 448, seed=4), words(f32[1], "b", ["<|y|>", "<|x|>"], 448, seed=5)]
    out = acm.merge(halfway(*folders, tokenizer_source="base"), tmp_path / "out")
    found, first, second = (tensors(f)[EMBEDDING] for f in (out, *folders))
    assert len(found) == 448
    torch.testing.assert_close(found[ROWS + 2 :], middle(first, second)[ROWS + 2 :], rtol=0, atol=1e-7)
    assert torch.equal(found[ROWS + 1], first[ROWS + 1])  # padding of the base, but a token of the other


def test_tokens_that_differ_are_a_warning_unless_they_are_aligned(f32, words):
    other = words(f32[1], "other", swapped=True)
    such = ("2 ids mean different tokens", "0: '<|pad|>' against '<|end|>'", "tokenizer_source")
    assert_found(plan_of(f32[0], other), "warning", *such)
    assert_found(plan_of(f32[0], other, tokenizer_source="base"), "note", "aligned by token")


def test_swapped_special_tokens_change_no_other_row(f32, words, tensors, tmp_path):
    other = words(f32[1], "left", swapped=True)
    plain, aligned = (
        tensors(acm.merge(halfway(f32[0], model, tokenizer_source="base"), tmp_path / model.parent.name))
        for model in (f32[1], other)
    )
    assert same(plain, aligned)


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
