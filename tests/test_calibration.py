"""Calibration: activations against a plain forward pass, the table against scikit-learn, choice of texts, errors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from transformers import AutoTokenizer

import acm
from acm.calibration import controlled, each_activation, load_model, read_texts, select_texts
from acm.errors import UserError

TEXTS = [
    "question: nora has 17 shells. she finds 4 more. how many shells are left? answer:",
    "question: what is 17+5? answer:",
    "question: add 3, 4, 5. answer:",
]
LAYERS = ["embed", "0", "1", "norm", "lm_head"]
THEMES = ["apples pears figs", "books pages ink", "coins notes bank", "eggs hens straw", "kites wind string"]


def mutual_info(x, y):
    return mutual_info_score(*(np.unique(a.float().numpy().ravel(), return_inverse=True)[1].ravel() for a in (x, y)))


@pytest.fixture(scope="module")
def model(f32):
    return load_model(f32[0], "float32")


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]


@pytest.fixture(scope="module")
def plain(model, ids):
    with torch.inference_mode():
        return model(ids, output_hidden_states=True, use_cache=False)


@pytest.fixture(scope="module")
def seen(model, ids):
    found = {}
    each_activation(model, ids, found.__setitem__)
    return found


@pytest.fixture(scope="module")
def table(f32):
    base, left, right = f32
    return acm.calibrate(base, {"left": left, "right": right}, TEXTS)


def test_layers_come_in_order_with_one_row_per_token(seen, ids):
    assert list(seen) == LAYERS
    assert all(a.dtype == torch.bfloat16 and a.ndim == 2 and len(a) == ids.shape[1] for a in seen.values())


def test_embed_is_the_rows_of_the_embedding(seen, model, ids):
    assert torch.equal(seen["embed"], model.model.embed_tokens.weight[ids[0]].bfloat16())


def test_norm_is_the_last_hidden_state(seen, plain):
    assert torch.equal(seen["norm"], plain.hidden_states[-1][0].bfloat16())


def test_head_is_the_logits(seen, plain):
    assert torch.equal(seen["lm_head"], plain.logits[0].bfloat16())


@torch.inference_mode()
@pytest.mark.parametrize("layer", [0, 1])
def test_block_is_the_output_of_down_proj_before_the_residual(seen, model, plain, layer):
    block, hidden = model.model.layers[layer], plain.hidden_states[layer]
    rotary = model.model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
    middle = hidden + block.self_attn(block.input_layernorm(hidden), position_embeddings=rotary, attention_mask=None)[0]
    x = middle * torch.rsqrt(middle.pow(2).mean(-1, keepdim=True) + model.config.rms_norm_eps) * block.post_attention_layernorm.weight
    gate, up, down = (getattr(block.mlp, f"{part}_proj").weight for part in ("gate", "up", "down"))
    gated = x @ gate.T
    output = (gated * torch.sigmoid(gated) * (x @ up.T)) @ down.T
    torch.testing.assert_close(seen[str(layer)].float(), output[0], rtol=2**-8, atol=1e-6)  # bf16 rounding
    following = middle + output if layer == 0 else model.model.norm(middle + output)
    torch.testing.assert_close(following, plain.hidden_states[layer + 1])


def test_hooks_are_gone_afterwards(model, ids):
    called = []
    each_activation(model, ids, lambda name, _: called.append(name))
    with torch.inference_mode():
        model(ids)
    assert called == LAYERS


def test_table_has_the_columns_and_rows_of_the_design(table):
    assert list(table.columns) == ["finetuned", "layer", "sample", "tokens", "estimator", "control", "value"]
    assert len(table) == 2 * len(LAYERS) * len(TEXTS) * 3
    assert not table.duplicated(["finetuned", "layer", "sample", "estimator", "control"]).any()
    assert list(table["layer"].unique()) == LAYERS and set(table["control"]) == {"none", "shuffled", "gaussian"}


def test_tokens_are_those_of_the_base_tokenizer(table, tokenizer):
    assert table.groupby("sample")["tokens"].unique().map(list).tolist() == [[len(tokenizer(t)["input_ids"])] for t in TEXTS]


@torch.inference_mode()
def test_real_pair_equals_scikit_learn_on_collected_activations(table, f32, tokenizer):
    base, left = (load_model(folder, "float32") for folder in f32[:2])
    for sample, text in enumerate(TEXTS):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        both = [m(ids, output_hidden_states=True) for m in (base, left)]
        pairs = {"embed": [o.hidden_states[0] for o in both], "norm": [o.hidden_states[-1] for o in both],
                 "lm_head": [o.logits for o in both]}  # fmt: skip
        rows = table[(table.finetuned == "left") & (table["sample"] == sample) & (table.control == "none")].set_index("layer")
        for layer, (x, y) in pairs.items():
            assert rows.loc[layer, "value"] == pytest.approx(mutual_info(x.bfloat16(), y.bfloat16()), abs=1e-9)


def test_model_against_itself_gives_the_entropy(f32, model, ids, seen):
    found = acm.calibrate(f32[0], {"itself": f32[0]}, TEXTS[:1], controls=("none",)).set_index("layer")["value"]
    for layer in LAYERS:
        counts = np.unique(seen[layer].float().numpy(), return_counts=True)[1]
        p = counts / counts.sum()
        assert found[layer] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-9)


def test_shuffling_tokens_lowers_the_information_of_a_model_with_itself(f32):
    found = acm.calibrate(f32[0], {"itself": f32[0]}, TEXTS[:1], controls=("none", "shuffled"))
    none, shuffled = (found[found.control == c].set_index("layer")["value"] for c in ("none", "shuffled"))
    assert (shuffled < none).all()


def test_a_fine_tuned_model_may_be_called_base(f32):
    base, left, _ = f32
    expected = acm.calibrate(base, {"left": left}, TEXTS[:1], controls=("none",))
    found = acm.calibrate(base, {"base": left}, TEXTS[:1], controls=("none",))
    assert found["value"].tolist() == expected["value"].tolist()


def test_controls_are_seeded(f32, table):
    base, left, right = f32
    again = acm.calibrate(base, {"left": left, "right": right}, TEXTS)
    assert again.equals(table)
    other = acm.calibrate(base, {"left": left, "right": right}, TEXTS, seed=1)
    same = (other["value"] == table["value"]).groupby(table["control"]).mean()
    assert same["none"] == 1 and same["shuffled"] < 0.5 and same["gaussian"] < 0.5


def test_shuffling_permutes_whole_tokens_of_the_fine_tuned_side():
    x, y = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    left, right = controlled("shuffled", x, y, "key")
    assert torch.equal(left, x) and not torch.equal(right, y)
    assert sorted(map(tuple, right.tolist())) == sorted(map(tuple, y.tolist()))
    assert acm.mutual_information(right, right) == pytest.approx(acm.mutual_information(y, y), abs=1e-12)  # entropy


def test_gaussian_is_independent_standard_normal_of_the_same_shape():
    x = torch.full((400, 50), 3.0).bfloat16()
    left, right = (a.float() for a in controlled("gaussian", x, x, "key"))
    assert left.shape == right.shape == x.shape
    assert abs(left.mean()) < 0.03 and abs(left.std() - 1) < 0.03 and abs((left * right).mean()) < 0.03


def test_controls_differ_between_keys():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    for control in ("shuffled", "gaussian"):
        one, same, other = (controlled(control, x, x, key)[1] for key in ("a", "a", "b"))
        assert torch.equal(one, same) and not torch.equal(one, other)


def themed_texts():
    rng = np.random.default_rng(0)
    return [f"{i} {' '.join(rng.permutation(THEMES[i % 5].split()))} {' '.join(THEMES[i % 5].split())}" for i in range(100)]


def test_select_texts_takes_as_many_of_each_cluster_in_the_order_of_the_input():
    texts = themed_texts()
    chosen = select_texts(texts, clusters=5, per_cluster=3)
    places = [texts.index(text) for text in chosen]
    assert places == sorted(places) and len(set(places)) == 15
    assert sorted(place % 5 for place in places) == sorted([*range(5)] * 3)


def test_select_texts_is_seeded():
    texts = themed_texts()
    assert select_texts(texts, 5, 3, seed=1) == select_texts(texts, 5, 3, seed=1) != select_texts(texts, 5, 3, seed=2)


def test_select_texts_keeps_a_small_set_whole():
    assert select_texts(TEXTS, clusters=2, per_cluster=2) == TEXTS


def test_read_texts_takes_the_field_or_the_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"question": t, "n": 1}) + "\n\n" for t in TEXTS))
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n")
    assert read_texts(tmp_path / "a.jsonl") == read_texts(tmp_path / "a.txt") == TEXTS


@pytest.mark.parametrize("texts, message", [([], "no calibration text"), (["fine", "  \n"], "text 2 is empty")])
def test_empty_texts_are_refused(f32, texts, message):
    with pytest.raises(UserError, match=message):
        acm.calibrate(f32[0], {"left": f32[1]}, texts)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent\.jsonl does not exist; set `calibration.texts`"):
        read_texts(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("above, line", [("", 2), ("\n\n", 4)])
def test_missing_field_is_refused_with_line_and_known_fields(tmp_path, above, line):
    (tmp_path / "a.jsonl").write_text('{"question": "a", "gold": "1"}\n' + above + '{"prompt": "b", "gold": "2"}\n')
    with pytest.raises(UserError, match=rf"a\.jsonl, line {line}: no field 'question' that is text; it has prompt, gold"):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize("line", ['{"question": "a"', '"question"', "7", '{"question": null}'])
def test_malformed_jsonl_is_refused_with_its_file(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl"):
        read_texts(tmp_path / "a.jsonl")


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"a\.jsonl holds no calibration text"):
        read_texts(tmp_path / "a.jsonl")


def test_missing_model_folder_is_refused(f32, tmp_path):
    for base, finetuned in ((f32[0], tmp_path / "absent"), (tmp_path / "absent", f32[0])):
        with pytest.raises(UserError, match="model folder .*absent does not exist"):
            acm.calibrate(base, {"left": finetuned}, TEXTS)


def test_model_of_another_shape_is_refused_with_its_tensors(f32, make_model, tmp_path):
    wide = make_model(tmp_path / "wide", hidden=32)
    with pytest.raises(UserError) as error:
        acm.calibrate(f32[0], {"wide": wide}, TEXTS)
    assert "o_proj.weight: (16, 16) against (32, 32)" in str(error.value) and "fine-tuned from" in str(error.value)


@pytest.mark.parametrize("broken", ["base", "finetuned"])
def test_nan_in_a_checkpoint_is_refused_with_tensor_and_count(f32, make_model, tmp_path, broken):
    def poison(model):
        model.model.layers[1].mlp.up_proj.weight[0, :3] = torch.tensor([float("nan"), float("inf"), float("nan")])

    bad = make_model(tmp_path / "bad", edit=poison)
    base, finetuned = (bad, f32[1]) if broken == "base" else (f32[0], bad)
    with pytest.raises(UserError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds 3 values that are NaN or infinite"):
        acm.calibrate(base, {"left": finetuned}, TEXTS)


def test_unknown_control_is_refused(f32):
    with pytest.raises(UserError, match="unknown control 'uniform'.*gaussian"):
        acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, controls=("none", "uniform"))


def test_unknown_estimator_is_refused(f32):
    with pytest.raises(ValueError, match="unknown estimator 'kde'"):
        acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, estimator="kde")


@pytest.mark.skipif("ACM_DATA" not in os.environ, reason="ACM_DATA names no folder with the real calibration questions (s1K)")
def test_the_papers_calibration_set_is_drawn_from_s1k():
    texts = read_texts(Path(os.environ["ACM_DATA"]) / "calibration" / "s1k_questions.jsonl")
    chosen = select_texts(texts)
    assert len(texts) == 1000 and len(set(chosen)) == 100 and set(chosen) <= set(texts)


def test_vocabularies_of_unlike_size_are_compared_on_their_common_rows(f32, make_model, tmp_path):
    longer = make_model(tmp_path / "longer", 1, f32[0], edit=lambda model: model.resize_token_embeddings(440))
    table = acm.calibrate(f32[0], {"longer": longer}, TEXTS[:1], controls=("none",))
    ids = AutoTokenizer.from_pretrained(f32[0])(TEXTS[0], return_tensors="pt")["input_ids"]
    logits = [load_model(folder, "float32")(ids).logits[0, :, :428].detach().to(torch.bfloat16) for folder in (f32[0], longer)]
    assert table.set_index("layer").loc["lm_head", "value"] == pytest.approx(mutual_info(*logits), abs=1e-9)
