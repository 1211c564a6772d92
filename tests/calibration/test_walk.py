"""Calibration: the table against plain forward passes and scikit-learn, controls, interruptions, choice of texts, errors."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import mutual_info_score
from transformers import AutoModelForCausalLM

import acm
import acm.calibration.journal
import acm.calibration.texts
import acm.calibration.walk
from acm.calibration.coefficients import write_coefficients
from acm.calibration.controls import CONTROLS
from acm.calibration.layerwise import LayerwiseModel
from acm.calibration.walk import COLUMNS, Walk, groups, read_texts, select_texts
from acm.errors import UserError

TEXTS = [
    "question: nora has 17 shells. she finds 4 more. how many shells are left? answer:",
    "question: what is 17+5? answer:",
    "question: add 3, 4, 5. answer:",
]
LAYERS = ["embed", "0", "1", "norm", "lm_head"]
THEMES = ["apples pears figs", "books pages ink", "coins notes bank", "eggs hens straw", "kites wind string"]
ALL = {"controls": CONTROLS, "estimators": ("plug-in", "miller-madow")}
PAIR = ["finetuned", "layer", "sample", "estimator", "control"]


def mutual_info(x, y):
    return mutual_info_score(*(np.unique(a.float().numpy().ravel(), return_inverse=True)[1].ravel() for a in (x, y)))


@torch.no_grad()
def activations(folder, text, tokenizer, weights=None):
    """Layer → bf16 activations of a plain forward pass."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if weights:
        model.load_state_dict(weights)
    parts = [
        model.model.embed_tokens,
        *(block.mlp.down_proj for block in model.model.layers),
        model.model.norm,
        model.lm_head,
    ]
    found = {}
    for layer, part in zip(LAYERS, parts, strict=True):
        part.register_forward_hook(lambda _m, _i, output, layer=layer: found.__setitem__(layer, output[0].bfloat16()))
    model(tokenizer(text, return_tensors="pt")["input_ids"])
    return found


@pytest.fixture(scope="module")
def plain(f32, tokenizer):
    """Folder name → text → layer → activations."""
    return {folder.name: [activations(folder, text, tokenizer) for text in TEXTS] for folder in f32}


@pytest.fixture(scope="module")
def table(f32):
    base, left, right = f32
    return acm.calibrate(base, {"left": left, "right": right}, TEXTS, **ALL)


@pytest.fixture
def ran(monkeypatch):
    """The layers that were walked through."""
    found, real = [], Walk.layer_rows

    def layer_rows(self, layer, *rest):
        found.append(layer)
        return real(self, layer, *rest)

    monkeypatch.setattr(Walk, "layer_rows", layer_rows)
    return found


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


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
            assert row["value"] == pytest.approx(mutual_info(x, y), abs=1e-9)
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
            assert row["tokens"] == n and row["value"] == pytest.approx(mutual_info(x, y), abs=1e-9)
            assert row["norm_finetuned"] == pytest.approx(y.double().norm(dim=1).mean().item(), rel=1e-12)


def test_unrelated_is_the_fine_tuned_model_with_its_channels_permuted(table, plain, f32, tokenizer):
    wired = LayerwiseModel(f32[1], torch.float32, torch.device("cpu"), rewired=0)
    weights = {name: wired.weight(name) for name in wired.checkpoint.tensors}
    found = activations(f32[1], TEXTS[1], tokenizer, weights)
    rows = indexed(table, finetuned="left", control="unrelated", estimator="plug-in", sample=1)
    for layer in LAYERS:
        assert rows.loc[layer, "value"] == pytest.approx(mutual_info(plain["base"][1][layer], found[layer]), abs=1e-9)


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
    found = acm.calibrate(
        f32[0], {"right": f32[2]}, TEXTS, controls=CONTROLS[::-1], estimators=("miller-madow", "plug-in")
    )
    whole, alone = (t.sort_values(PAIR, ignore_index=True) for t in (table[table.finetuned == "right"], found))
    assert_same(alone, whole)
    turned = acm.calibrate(f32[0], {"right": f32[2], "left": f32[1]}, TEXTS, **ALL)
    assert list(turned["finetuned"].unique()) == ["right", "left"]
    assert_same(turned.sort_values(PAIR, ignore_index=True), table.sort_values(PAIR, ignore_index=True))


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
def test_large_heads_in_parts_give_the_same(f32, monkeypatch, estimators):
    controls = ("none", "shuffled", "other-sample", "unrelated")
    whole = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, controls, estimators)
    monkeypatch.setattr(acm.calibration.walk, "PART", 1000)
    parts = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, controls, estimators, threads=2)
    pd.testing.assert_frame_equal(parts, whole, rtol=1e-9, atol=1e-12)


def test_bfloat16_equals_a_plain_pass_in_bfloat16(bf16, tokenizer):
    found = acm.calibrate(bf16[0], {"left": bf16[1]}, TEXTS[:1], controls=("none",), dtype="bfloat16").set_index(
        "layer"
    )
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        outputs = [
            AutoModelForCausalLM.from_pretrained(f, dtype=torch.bfloat16)(ids, output_hidden_states=True)
            for f in bf16[:2]
        ]
    for layer, pair in {"norm": [o.hidden_states[-1] for o in outputs], "lm_head": [o.logits for o in outputs]}.items():
        assert found.loc[layer, "value"] == pytest.approx(mutual_info(*pair), abs=1e-9)


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
        logits = [activations(folder, TEXTS[0], tokenizer)["lm_head"][:, :428] for folder in pair]
        assert found.loc[("none", "lm_head"), "value"] == pytest.approx(mutual_info(*logits), abs=1e-9)


def test_tokens_that_one_model_has_no_embedding_for_are_refused(f32, make_model, tmp_path):
    shorter = make_model(tmp_path / "shorter", 1, edit=lambda model: model.resize_token_embeddings(9))
    with pytest.raises(UserError, match="shorter has no embedding for"):
        acm.calibrate(f32[0], {"shorter": shorter}, TEXTS)


# Interruptions


FEW = {"texts": TEXTS[:2], "controls": ("none", "shuffled", "unrelated"), "estimators": ("plug-in", "miller-madow")}


class Killed(Exception):
    pass


def small_run(f32, **more):
    return acm.calibrate(f32[0], {"left": f32[1]}, **FEW | more)


@pytest.fixture(scope="module")
def small(f32):
    return small_run(f32)


def interrupted(f32, keep, layer, where, **more):
    """A run that dies at a layer: before it is noted, or between its states and its rows, or after."""

    def die(*_, **__):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        real_add, real_parquet = acm.calibration.journal.Journal.add, pd.DataFrame.to_parquet

        def add(self, name, *rest):
            if name == layer and where == "before":
                die()
            patch.setattr(pd.DataFrame, "to_parquet", die if name == layer and where == "within" else real_parquet)
            real_add(self, name, *rest)
            if name == layer and where == "after":
                die()

        patch.setattr(acm.calibration.journal.Journal, "add", add)
        with pytest.raises(Killed):
            small_run(f32, keep=keep, **more)


@pytest.fixture(scope="module")
def broken_off(f32, tmp_path_factory):
    keep = tmp_path_factory.mktemp("broken") / "keep"
    interrupted(f32, keep, "1", "after")
    return keep


@pytest.fixture
def keep(broken_off, tmp_path):
    """What a run that died after layer 1 has left."""
    return shutil.copytree(broken_off, tmp_path / "keep")


@pytest.mark.parametrize("where", ["before", "within", "after"])
@pytest.mark.parametrize("layer", LAYERS)
def test_an_interrupted_run_goes_on_with_the_next_layer(f32, small, tmp_path, ran, layer, where):
    keep = tmp_path / "keep"
    interrupted(f32, keep, layer, where)
    ran.clear()
    assert_same(small_run(f32, keep=str(keep)), small)
    assert ran == LAYERS[LAYERS.index(layer) + (where == "after") :]
    assert not keep.exists()


def leftovers(keep):
    return sorted(path for path in keep.rglob("*") if path.is_file())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 64
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize(
    "name", ["000-embed.parquet", "001-0.parquet", "002-1.parquet", "002-1.safetensors", "002-1.json"]
)
def test_damaged_leftovers_are_not_believed(f32, small, keep, damage, name):
    (path,) = [path for path in leftovers(keep) if path.name == name]
    damage(path)
    assert_same(small_run(f32, keep=keep), small)
    assert not keep.exists()


def test_a_run_that_is_interrupted_again_and_again_ends_the_same(f32, small, tmp_path):
    keep = tmp_path / "keep"
    for layer in ("0", "0", "norm", "lm_head"):
        interrupted(f32, keep, layer, "before")
    assert len([path for path in leftovers(keep) if path.suffix == ".safetensors"]) == 1
    assert_same(small_run(f32, keep=keep), small)


@pytest.mark.parametrize("change", [
    {"seed": 3}, {"controls": tuple(CONTROLS)[:2]}, {"estimators": ("plug-in",)}, {"dtype": "bfloat16"}, {"max_tokens": 5}, {"texts": TEXTS[1:]},
])  # fmt: skip
def test_changed_settings_start_anew(f32, keep, ran, change):
    kept = leftovers(keep)
    assert_same(small_run(f32, keep=keep, **change), small_run(f32, **change))
    assert ran == LAYERS * 2 and leftovers(keep) == kept


@pytest.mark.parametrize("blind", [False, True])
def test_a_changed_model_starts_anew_even_if_its_identity_does_not_tell(
    f32, make_model, tmp_path, monkeypatch, ran, blind
):
    if blind:  # of large files the identity reads both ends alone
        monkeypatch.setattr(acm.calibration.journal, "identity", lambda folder: "same")
    own = [f32[0], make_model(tmp_path / "left", 1, f32[0])]
    interrupted(own, tmp_path / "keep", "1", "after")
    make_model(tmp_path / "left", 7, f32[0])
    ran.clear()
    found = small_run(own, keep=tmp_path / "keep")
    assert ran == LAYERS
    assert_same(found, small_run(own))


def test_what_else_lies_in_the_folder_stays(f32, keep):
    (keep / "mine.txt").write_text("not yours")
    small_run(f32, keep=keep)
    assert [path.name for path in leftovers(keep)] == ["mine.txt"]


def test_a_failing_run_leaves_no_folder_before_it_has_something_to_keep(f32, tmp_path):
    with pytest.raises(UserError):
        acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, dtype="float33", keep=tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


KILL = """
import os, signal, sys
import acm.calibration.journal
from acm.calibration.walk import calibrate
real = acm.calibration.journal.Journal.add
def add(self, layer, *rest):
    if layer == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, layer, *rest)
acm.calibration.journal.Journal.add = add
base, left, keep, *texts = sys.argv[1:]
calibrate(base, {"left": left}, texts, controls=("none", "shuffled", "unrelated"), estimators=("plug-in", "miller-madow"), keep=keep)
"""


def test_a_killed_process_leaves_what_the_next_one_continues_from(f32, small, tmp_path, ran):
    command = [sys.executable, "-c", KILL, *f32[:2], tmp_path / "keep", *FEW["texts"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_same(small_run(f32, keep=tmp_path / "keep"), small)
    assert ran == LAYERS[2:] and not (tmp_path / "keep").exists()


# Errors


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


@pytest.mark.parametrize("part", [1 << 24, 100])
def test_activations_that_are_not_finite_are_refused(f32, make_model, tmp_path, monkeypatch, part):
    monkeypatch.setattr(acm.calibration.walk, "PART", part)
    huge = make_model(tmp_path / "huge", 1, f32[0], edit=lambda model: model.lm_head.weight.fill_(3e38))
    with pytest.raises(UserError, match=r"huge, layer lm_head, text [123]: activations hold NaN or infinity"):
        acm.calibrate(f32[0], {"huge": huge}, TEXTS)


def test_no_fine_tuned_model_gives_an_empty_table(f32):
    found = acm.calibrate(f32[0], {}, TEXTS)
    assert list(found.columns) == COLUMNS and found.empty


# Texts


def themed_texts():
    rng = np.random.default_rng(0)
    return [
        f"{i} {' '.join(rng.permutation(THEMES[i % 5].split()))} {' '.join(THEMES[i % 5].split())}" for i in range(100)
    ]


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


@pytest.mark.parametrize(
    "module, words", [(None, "needs the package sentence-transformers"), ("broken", "cannot be loaded")]
)
def test_an_encoder_that_cannot_be_had_is_refused(monkeypatch, module, words):
    class Broken:
        @staticmethod
        def SentenceTransformer(name, **_):
            raise OSError("no network")

    monkeypatch.setitem(sys.modules, "sentence_transformers", module and Broken)
    with pytest.raises(UserError, match=f"encoder some/encoder {words}"):
        select_texts(themed_texts(), 5, 3, encoder="some/encoder")


def test_read_texts_takes_the_field_or_the_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"question": t, "n": 1}) + "\n\n" for t in TEXTS))
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n")
    assert read_texts(tmp_path / "a.jsonl") == read_texts(tmp_path / "a.txt") == TEXTS


def test_read_texts_joins_fields_and_lists(tmp_path):
    row = {"question": "why", "trace": ["one", "two"], "answer": "so"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    for field in ("question+trace+answer", "question + trace + answer"):
        assert read_texts(tmp_path / "a.jsonl", field) == ["why one two so"]
    assert read_texts(tmp_path / "a.jsonl", "trace") == ["one two"]
    for field, named in (("question+proof", "proof"), ("", "")):
        with pytest.raises(UserError, match=f"no field '{named}' that is text; it has question, trace, answer"):
            read_texts(tmp_path / "a.jsonl", field)


def test_read_texts_splits_at_line_feeds_alone(tmp_path):
    texts = ["one\u2028line", "other\x85line"]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"question": t}, ensure_ascii=False) + "\r\n" for t in texts), encoding="utf-8-sig"
    )
    assert read_texts(tmp_path / "a.jsonl") == texts


def test_files_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    with pytest.raises(UserError, match=r"a\.txt is not readable as UTF-8"):
        read_texts(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["simplescaling/s1K", "simplescaling/s1K-1.1"])
def test_a_dataset_of_the_hub_is_read_or_refused(monkeypatch, name):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"question": "why", "cot": ["a"]}])
    assert read_texts(name) == ["why"]

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(UserError, match=rf"{name}: no such file here, and the hub gives no dataset .*ConnectionError"):
        read_texts(name)
    with pytest.raises(
        UserError, match=rf"{name}: .* no dataset of that name at revision {'a' * 40} \(ConnectionError\)"
    ):
        read_texts(f"{name}@{'a' * 40}")


def test_a_commit_after_the_name_is_the_one_that_the_hub_is_asked_for(monkeypatch):
    monkeypatch.setattr(
        "datasets.load_dataset", lambda name, split, revision: [{"question": f"{name} {split} {revision}"}]
    )
    assert read_texts("simplescaling/s1K") == ["simplescaling/s1K train None"]
    assert read_texts("simplescaling/s1K-1.1@" + "a" * 40) == ["simplescaling/s1K-1.1 train " + "a" * 40]


def test_the_table_keeps_the_hash_of_its_texts_through_parquet_and_into_the_coefficients(f32, tmp_path):
    def stored(texts):
        acm.calibrate(f32[0], {"left": f32[1]}, texts, controls=("none",)).to_parquet(
            tmp_path / "mi.parquet", index=False
        )
        content = write_coefficients(
            tmp_path / "coefficients.json", pd.read_parquet(tmp_path / "mi.parquet"), {"texts": "some.jsonl"}
        )
        assert content["provenance"]["texts"] == "some.jsonl"
        return content["provenance"]["texts_sha256"]

    changed = [*TEXTS[:-1], TEXTS[-1].replace("5", "6")]
    assert stored(TEXTS) == hashlib.sha256(json.dumps(TEXTS).encode()).hexdigest()
    assert len({stored(TEXTS), stored(TEXTS[::-1]), stored(changed)}) == 3 and stored(list(TEXTS)) == stored(TEXTS)


@pytest.mark.parametrize("name", ["texts/absent.jsonl", "absent.txt", "a/b/c"])
def test_missing_file_is_refused(monkeypatch, name):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=f"{name} does not exist; set `calibration.texts`"):
        read_texts(name)


@pytest.mark.parametrize("above, line", [("", 2), ("\n\n", 4)])
def test_missing_field_is_refused_with_line_and_known_fields(tmp_path, above, line):
    (tmp_path / "a.jsonl").write_text('{"question": "a", "gold": "1"}\n' + above + '{"prompt": "b", "gold": "2"}\n')
    with pytest.raises(
        UserError, match=rf"a\.jsonl, line {line}: no field 'question' that is text; it has prompt, gold"
    ):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "line", ['{"question": "a"', '"question"', "7", '{"question": null}', '{"question": ["a", 7]}', "[" * 100_000]
)
def test_malformed_jsonl_is_refused_with_its_file(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl"):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "content, message",
    [("\n", "holds no calibration text"), ('{"question": "a"}\n{"question": " "}\n', "text 2 is empty")],
)
def test_empty_files_and_texts_are_refused(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=rf"a\.jsonl.*{message}"):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.skipif(
    "ACM_DATA" not in os.environ, reason="ACM_DATA names no folder with the real calibration questions (s1K)"
)
def test_the_papers_calibration_set_is_drawn_from_s1k():
    texts = read_texts(Path(os.environ["ACM_DATA"]) / "calibration" / "s1k_questions.jsonl")
    chosen = select_texts(texts)
    assert len(texts) == 1000 and len(set(chosen)) == 100 and set(chosen) <= set(texts)
