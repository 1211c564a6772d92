"""Calibration: the table against plain forward passes and scikit-learn, its controls, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROWS
from helpers_calibration import LAYERS, TEXTS, activations, assert_same, load_plain, oracle

import acm
import acm.calibration.lockstep
import acm.calibration.walk
from acm.calibration.layerwise import LayerwiseModel
from acm.calibration.lockstep import COLUMNS, groups
from acm.calibration.registry import CONTROLS
from acm.errors import UserError

ALL = {"controls": tuple(CONTROLS), "estimators": ("plug-in", "miller-madow")}
PAIR = ["finetuned", "layer", "sample", "estimator", "control"]


@pytest.fixture(scope="module")
def plain(f32, tokenizer):
    """Folder name → text → layer → activations."""
    return {folder.name: [activations(folder, text, tokenizer) for text in TEXTS] for folder in f32}


@pytest.fixture(scope="module")
def table(f32):
    base, left, right = f32
    return acm.calibrate(base, {"left": left, "right": right}, TEXTS, **ALL)


def indexed(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table.set_index([c for c in PAIR if c not in wanted])


def test_columns_and_order_of_rows(table):
    assert list(table.columns) == COLUMNS and list(table.index) == list(range(len(table)))
    expected = [(n, layer, s) for n in ("left", "right") for layer in LAYERS for s in range(3) for _ in range(10)]
    assert list(table[["finetuned", "layer", "sample"]].itertuples(index=False, name=None)) == expected
    assert not table.duplicated(PAIR).any() and set(table["control"]) == set(CONTROLS)


def test_tokens_are_those_of_the_base_tokenizer(table, tokenizer):
    counts = [len(tokenizer(t)["input_ids"]) for t in TEXTS]
    own = table[table.control != "other-sample"]
    assert own.groupby("sample")["tokens"].unique().map(list).tolist() == [[n] for n in counts]


@pytest.mark.parametrize("model", ["left", "right"])
def test_real_pair_equals_scikit_learn_on_a_plain_pass(table, plain, model):
    rows = indexed(table, finetuned=model, control="none", estimator="plug-in")
    for layer in LAYERS:
        for sample in range(3):
            x, y = plain["base"][sample][layer], plain[model][sample][layer]
            row = rows.loc[layer, sample]
            assert row["value"] == pytest.approx(oracle(x, y), abs=1e-9)
            assert row["norm_base"] == pytest.approx(x.double().norm(dim=1).mean().item(), rel=1e-12)
            assert row["norm_finetuned"] == pytest.approx(y.double().norm(dim=1).mean().item(), rel=1e-12)


def test_other_sample_pairs_texts_nearest_in_length(table, plain, tokenizer):
    lengths = [len(tokenizer(t)["input_ids"]) for t in TEXTS]
    order = sorted(range(3), key=lambda i: (lengths[i], i))  # three texts make one ring
    rows = indexed(table, finetuned="left", control="other-sample", estimator="plug-in")
    for place, sample in enumerate(order):
        other = order[(place + 1) % 3]
        n = min(lengths[sample], lengths[other])
        for layer in LAYERS:
            x, y = plain["base"][sample][layer][:n], plain["left"][other][layer][:n]
            row = rows.loc[layer, sample]
            assert row["tokens"] == n and row["value"] == pytest.approx(oracle(x, y), abs=1e-9)
            assert row["norm_finetuned"] == pytest.approx(y.double().norm(dim=1).mean().item(), rel=1e-12)


def test_unrelated_is_the_fine_tuned_model_with_its_channels_permuted(table, plain, f32, tokenizer):
    wired = LayerwiseModel(f32[1], torch.float32, torch.device("cpu"), rewired=0)
    weights = {name: wired.weight(name) for name in wired.checkpoint.tensors}
    found = activations(f32[1], TEXTS[1], tokenizer, weights)
    rows = indexed(table, finetuned="left", control="unrelated", estimator="plug-in", sample=1)
    for layer in LAYERS:
        assert rows.loc[layer, "value"] == pytest.approx(oracle(plain["base"][1][layer], found[layer]), abs=1e-9)


@pytest.mark.parametrize("count, sizes", [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [2, 3]), (100, [2] * 50)])
def test_texts_are_grouped_with_their_neighbours_in_length(count, sizes):
    lengths = np.random.default_rng(0).integers(1, 50, count).tolist()
    found = groups(lengths)
    flat = [i for group in found for i in group]
    assert [len(group) for group in found] == sizes and sorted(flat) == list(range(count))
    assert [lengths[i] for i in flat] == sorted(lengths)


def test_model_against_itself_gives_the_entropy(f32, plain):
    found = acm.calibrate(f32[0], {"itself": f32[0]}, TEXTS[:1], controls=("none", "shuffled"))
    none, shuffled = (found[found.control == c].set_index("layer")["value"] for c in ("none", "shuffled"))
    for layer in LAYERS:
        p = np.unique(plain["base"][0][layer].float().numpy(), return_counts=True)[1] / plain["base"][0][layer].numel()
        assert none[layer] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-9)
    assert (shuffled < none).all()


def test_controls_are_seeded(f32, table):
    other = acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, seed=1, **ALL)
    same = (other["value"] == table["value"]).groupby(table["control"]).mean()
    assert (
        same["none"] == same["other-sample"] == 1 and max(same["shuffled"], same["gaussian"], same["unrelated"]) < 0.5
    )


def test_threads_change_nothing(f32, table):
    assert_same(acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, threads=3, **ALL), table)


def test_values_do_not_depend_on_order_or_company(f32, table):
    turned = {"controls": ALL["controls"][::-1], "estimators": ALL["estimators"][::-1]}
    found = acm.calibrate(f32[0], {"right": f32[2]}, TEXTS, **turned)
    whole, alone = (t.sort_values(PAIR, ignore_index=True) for t in (table[table.finetuned == "right"], found))
    assert_same(alone, whole)
    other = acm.calibrate(f32[0], {"right": f32[2], "left": f32[1]}, TEXTS, **ALL)
    assert list(other["finetuned"].unique()) == ["right", "left"]
    assert_same(other.sort_values(PAIR, ignore_index=True), table.sort_values(PAIR, ignore_index=True))


def test_models_may_have_the_names_of_layers(f32, table):
    found = acm.calibrate(
        f32[0], {"base": f32[1], "norm": f32[1], "0": f32[2], "embed": f32[1]}, TEXTS, controls=("none",)
    )
    assert list(found["finetuned"].unique()) == ["base", "norm", "0", "embed"]
    assert all(list(rows["layer"].unique()) == LAYERS for _, rows in found.groupby("finetuned"))
    values = table[(table.control == "none") & (table.estimator == "plug-in")]
    for name, model in (("base", "left"), ("norm", "left"), ("0", "right"), ("embed", "left")):
        assert found[found.finetuned == name]["value"].tolist() == values[values.finetuned == model]["value"].tolist()


@pytest.mark.parametrize("estimators", [("plug-in", "miller-madow"), ("plug-in", "cosine")])
def test_large_heads_in_chunks_give_the_same(f32, monkeypatch, estimators):
    controls = ("none", "shuffled", "other-sample", "unrelated")
    measures = {"controls": controls, "estimators": estimators}
    whole = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, **measures)
    monkeypatch.setattr(acm.calibration.lockstep, "CHUNK_ENTRIES", 1000)
    chunks = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, threads=2, **measures)
    # The head multiplies other numbers of tokens at a time, and a kernel may then round a logit to the next bf16.
    pd.testing.assert_frame_equal(chunks, whole, rtol=1e-3)


def test_bfloat16_equals_a_plain_pass_in_bfloat16(bf16, tokenizer):
    found = acm.calibrate(bf16[0], {"left": bf16[1]}, TEXTS[:1], controls=("none",), dtype="bfloat16").set_index(
        "layer"
    )
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        outputs = [load_plain(f, torch.bfloat16)(ids, output_hidden_states=True) for f in bf16[:2]]
    for layer, pair in {"norm": [o.hidden_states[-1] for o in outputs], "lm_head": [o.logits for o in outputs]}.items():
        assert found.loc[layer, "value"] == pytest.approx(oracle(*pair), abs=1e-9)


def test_max_tokens_cuts(f32, tokenizer):
    found = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS[:1], controls=("none",), max_tokens=4)
    words = tokenizer.decode(tokenizer(TEXTS[0])["input_ids"][:4])
    assert set(found["tokens"]) == {4}
    assert_same(found, acm.calibrate(f32[0], {"left": f32[1]}, [words], controls=("none",)))


def test_vocabularies_of_unlike_size_are_compared_on_their_common_rows(f32, make_model, tmp_path, tokenizer):
    longer = make_model(tmp_path / "longer", 1, f32[0], edit=lambda model: model.resize_token_embeddings(440))
    for pair in ((f32[0], longer), (longer, f32[0])):
        found = acm.calibrate(pair[0], {"other": pair[1]}, TEXTS[:1], controls=("none", "gaussian")).set_index(
            ["control", "layer"]
        )
        logits = [activations(folder, TEXTS[0], tokenizer)["lm_head"][:, :ROWS] for folder in pair]
        assert found.loc[("none", "lm_head"), "value"] == pytest.approx(oracle(*logits), abs=1e-9)


def test_tokens_that_one_model_has_no_embedding_for_are_refused(f32, make_model, tmp_path):
    shorter = make_model(tmp_path / "shorter", 1, edit=lambda model: model.resize_token_embeddings(9))
    with pytest.raises(UserError, match="shorter has no embedding for"):
        acm.calibrate(f32[0], {"shorter": shorter}, TEXTS)


# ---- what is refused


@pytest.mark.parametrize("given, words", [
    ({"device": "gpu"}, "unknown device 'gpu'"),
    ({"device": "cpu:0:1"}, "unknown device"),
    ({"device": "meta"}, "unknown device"),
    ({"device": "cuda"}, "no such GPU"),
    ({"device": "cuda:3"}, "no such GPU"),
    ({"dtype": "float33"}, "unknown dtype 'float33'.*float32"),
    ({"dtype": "int8"}, "unknown dtype"),
    ({"dtype": "nn"}, "unknown dtype"),
    ({"threads": 0}, "threads must be at least 1"),
    ({"max_tokens": 0}, "max_tokens must be at least 1"),
    ({"max_tokens": -1}, "max_tokens must be at least 1"),
    ({"controls": ("none", "uniform")}, "unknown control 'uniform'.*gaussian"),
    ({"controls": ()}, "at least one control"),
    ({"controls": ("other-sample",)}, "at least two calibration texts"),
    ({"estimators": ("kde",)}, "unknown estimator 'kde'"),
    ({"kinds": ("aim",)}, "need a folder"),
    ({"kinds": ("hessian",), "statistics": Path("x")}, "unknown statistic 'hessian'"),
])  # fmt: skip
def test_wrong_settings_are_refused(f32, monkeypatch, given, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=words):
        acm.calibrate(f32[0], {"left": f32[1]}, TEXTS[:1], **given)


def test_gpus_share_the_models(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    names = {
        device: [str(d) for d in acm.calibration.walk.devices(device)] for device in ("auto", "cuda", "cuda:1", "cpu")
    }
    assert names == {"auto": ["cuda:0", "cuda:1"], "cuda": ["cuda:0", "cuda:1"], "cuda:1": ["cuda:1"], "cpu": ["cpu"]}


def test_auto_is_the_cpu_without_a_gpu(f32, monkeypatch, table):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert_same(acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, device="auto", **ALL), table)


@pytest.mark.parametrize("texts, message", [([], "no calibration text"), (["fine", "  \n"], "text 2 is empty")])
def test_empty_texts_are_refused(f32, texts, message):
    with pytest.raises(UserError, match=message):
        acm.calibrate(f32[0], {"left": f32[1]}, texts)


def test_a_text_without_tokens_is_refused(f32, monkeypatch, tokenizer):
    def strict(text, return_tensors):
        return {"input_ids": tokenizer(text, return_tensors="pt")["input_ids"][:, : 0 if text == "mute" else None]}

    monkeypatch.setattr(acm.calibration.walk.AutoTokenizer, "from_pretrained", lambda *_, **__: strict)
    with pytest.raises(UserError, match="text 2 holds no token"):
        acm.calibrate(f32[0], {"left": f32[1]}, ["loud", "mute"])


@pytest.mark.parametrize("swap, texts", [(("1", "2"), 1), (("a", "e"), 2), (("1", "a"), 1), (("X", "Y"), 0)])
def test_a_model_that_reads_the_texts_otherwise_is_named(f32, tmp_path, caplog, swap, texts):
    """Its ids mean other tokens; only those that occur in a text count."""
    folder = shutil.copytree(f32[1], tmp_path / "left")
    content = json.loads((f32[0] / "tokenizer.json").read_text())
    ids = content["model"]["vocab"]
    one, other = swap
    ids[one], ids[other] = ids[other], ids[one]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    acm.calibrate(f32[0], {"left": folder, "right": f32[2]}, ["a1", "see"], controls=("none",))
    said = [record.getMessage() for record in caplog.records if "otherwise" in record.getMessage()]
    assert said == [] if not texts else len(said) == 1 and f"of left reads {texts} of 2 texts otherwise" in said[0]


@pytest.mark.parametrize("positions, cut, said", [(4, None, True), (4, 4, False), (9, None, False)])
def test_texts_longer_than_the_positions_are_said(f32, tmp_path, caplog, positions, cut, said):
    folder = shutil.copytree(f32[0], tmp_path / "base")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": positions}
    (folder / "config.json").write_text(json.dumps(config))
    acm.calibrate(folder, {"left": f32[1]}, ["1", "12345678"], controls=("none",), max_tokens=cut)
    text = f"--max-tokens {positions}"
    assert any(text in record.getMessage() for record in caplog.records) is said


def test_a_folder_without_tokenizer_is_refused(f32, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(f32[0] / name)
    with pytest.raises(UserError, match="has no tokenizer"):
        acm.calibrate(tmp_path, {"left": f32[1]}, TEXTS)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer of .* cannot be read"):
        acm.calibrate(tmp_path, {"left": f32[1]}, TEXTS)


def test_missing_model_folder_is_refused(f32, tmp_path):
    for base, finetuned in ((f32[0], tmp_path / "absent"), (tmp_path / "absent", f32[0])):
        with pytest.raises(UserError, match=r"model folder .*absent does not exist"):
            acm.calibrate(base, {"left": finetuned}, TEXTS)


def test_model_of_another_shape_is_refused_with_its_tensors(f32, make_model, tmp_path):
    wide = make_model(tmp_path / "wide", hidden=32)
    with pytest.raises(UserError) as error:
        acm.calibrate(f32[0], {"wide": wide}, TEXTS)
    assert "o_proj.weight: (16, 16) against (32, 32)" in str(error.value) and "fine-tuned from" in str(error.value)


def test_a_model_whose_config_has_fewer_blocks_is_refused(f32, make_model, tmp_path):
    short = make_model(tmp_path / "short", 1, f32[0])
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1, "layer_types": ["full_attention"]}))
    with pytest.raises(UserError, match="short has not as many blocks"):
        acm.calibrate(f32[0], {"short": short}, TEXTS)


@pytest.mark.parametrize("broken", ["base", "finetuned"])
def test_nan_in_a_checkpoint_is_refused_with_tensor_and_count(f32, make_model, tmp_path, broken):
    def poison(model):
        model.model.layers[1].mlp.up_proj.weight[0, :3] = torch.tensor([float("nan"), float("inf"), float("nan")])

    bad = make_model(tmp_path / "bad", edit=poison)
    base, finetuned = (bad, f32[1]) if broken == "base" else (f32[0], bad)
    with pytest.raises(
        UserError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds 3 values that are NaN or infinite"
    ):
        acm.calibrate(base, {"left": finetuned}, TEXTS)


@pytest.mark.parametrize("entries", [1 << 24, 100])
def test_activations_that_are_not_finite_are_refused(f32, make_model, tmp_path, monkeypatch, entries):
    monkeypatch.setattr(acm.calibration.lockstep, "CHUNK_ENTRIES", entries)
    huge = make_model(tmp_path / "huge", 1, f32[0], edit=lambda model: model.lm_head.weight.fill_(3e38))
    with pytest.raises(UserError, match=r"huge, layer lm_head, text [123]: activations hold NaN or infinity"):
        acm.calibrate(f32[0], {"huge": huge}, TEXTS)


def test_no_fine_tuned_model_gives_an_empty_table(f32):
    found = acm.calibrate(f32[0], {}, TEXTS)
    assert list(found.columns) == COLUMNS and found.empty
