"""Layer rules against closed forms, numpy and autograd; their controls; bad input; the command."""

import json
import shutil

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from helpers import HEAD, recipe
from helpers_calibration import (
    LAYERS,
    TEXTS,
    activations,
    edit_tensors,
    length,
    load_plain,
    make_decoder,
    rank_by_svd,
    task_vectors_of,
)
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

import acm
from acm.__main__ import app
from acm.architectures import EMBEDDING
from acm.calibration import layer_rules
from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.layer_rules import cautious, rule_coefficients, within
from acm.calibration.nulls import controlled
from acm.calibration.random_fisher import fisher_by_layer, random_tokens
from acm.calibration.rules import LAYER_CONTROLS, RULES, layer_control_table, rule_table, settings_of
from acm.calibration.task_vectors import Sizes, effective_ranks
from acm.checkpoints import Checkpoint, layer_of
from acm.errors import UserError
from acm.paths import ROOT
from acm.records import write_parquet

CPU = torch.device("cpu")
MODELS = ("left", "right")
OF_WEIGHTS = ("equal_norm", "magnitude", "effective_rank", "fim")
GIVEN = {"lines": {"a": 0.3}, "fim": {"sequences": 2, "length": 6}}  # what a rule cannot do without, and small sizes
OTHER_PAIR = {"embed": 0.4, "0": 0.1, "1": 0.3, "2": 0.8, "norm": 0.2, "lm_head": 0.7}  # of three blocks
FIM = settings_of(RULES["fim"], {})


@pytest.fixture(scope="module")
def calibrated(f32, tmp_path_factory):
    """A folder with the MI table and the sensitivities of the pico models."""
    folder = tmp_path_factory.mktemp("calibrated")
    table = acm.calibrate(
        f32[0], dict(zip(MODELS, f32[1:], strict=True)), TEXTS, controls=("none", "shuffled", "gaussian"),
        estimators=("plug-in", "shuffle-corrected", "cka", "distance"), statistics=folder, kinds=("sensitivity",),
    )  # fmt: skip
    write_parquet(table, folder / "mi.parquet")
    (folder / "moved.json").write_text(json.dumps({"coefficients": {"pair": OTHER_PAIR}}))
    return folder


def inputs(name, f32, calibrated):
    """What a rule reads, of the pico models."""
    needs = RULES[name].needs
    found = {"base": f32[0], "finetuned": f32[1:]} if "models" in needs else {}
    found |= {"table": calibrated / "mi.parquet"} if "table" in needs else {}
    found |= {"sensitivity": calibrated / "sensitivity.json"} if "sensitivity" in needs else {}
    return found | ({"found": calibrated / "moved.json"} if "found" in needs else {})


def coefficients(name, *args, **more):
    return rule_coefficients(name, *args, **more)["coefficients"]


# ---- the registry


def test_every_row_has_a_function_and_every_function_a_row():
    assert set(layer_rules.FUNCTIONS) == set(RULES)
    assert all(name == rule.name for name, rule in RULES.items())
    fixed = {name for name, rule in RULES.items() if not rule.scaled}
    assert fixed == {"acm", "lines", "moved", "sensitivity_ranks", "mi_ranks"}


def test_the_documentation_holds_what_the_command_prints():
    printed = CliRunner().invoke(app, ["coefficients", "--rules"]).output
    docs = (ROOT / "docs/calibration.md").read_text(encoding="utf-8")
    assert printed == f"{rule_table()}\n" and printed in docs, "put what `acm coefficients --rules` prints there"
    assert layer_control_table() in docs


@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_every_layer_of_every_model_a_number_that_a_merge_takes(name, f32, calibrated, tmp_path):
    content = rule_coefficients(name, GIVEN.get(name), **inputs(name, f32, calibrated))
    found = content["coefficients"]
    assert list(found) == list(MODELS) and all(list(layers) == LAYERS for layers in found.values())
    every = [v for layers in found.values() for v in layers.values()]
    assert all(type(v) is float and np.isfinite(v) and (v >= 0 or name.endswith("_ranks")) for v in every)
    assert len(set(found["left"].values())) > 1
    layer_rules.write_rule(tmp_path / "c.json", content, {"n": 1})
    acm.merge(recipe("ties", *f32, coefficients=str(tmp_path / "c.json")), tmp_path / "out")
    stored = json.loads((tmp_path / "c.json").read_text())
    assert stored["rule"] == name and stored["coefficients"] == found and stored["provenance"]["n"] == 1
    assert set(stored["parameters"]) >= set(GIVEN.get(name, {}))


# ---- the rules


def test_acm_is_the_mapping_of_the_table_in_all_three_readings(calibrated):
    table = pd.read_parquet(calibrated / "mi.parquet")
    for shift in ("layer", "global", "none"):
        given = {"t": 0.5, "shift": shift}
        assert coefficients("acm", given, table=calibrated / "mi.parquet") == coefficients_from_table(table, 0.5, shift)
    content = rule_coefficients("acm", table=calibrated / "mi.parquet", control="shuffled")
    assert content["coefficients"] == coefficients_from_table(table, control="shuffled")
    assert content["parameters"] == {"t": 0.7, "shift": "layer", "estimator": "plug-in"}
    assert content["provenance"] == {"texts_sha256": table.attrs["texts_sha256"]}
    found = coefficients("acm", table=calibrated / "mi.parquet", control="uniform")
    assert found == coefficients_from_table(table, control="uniform")


def test_lines_are_a_ramp_over_the_blocks(tmp_path):
    base, other = (make_decoder(tmp_path / name, "Qwen2", num_hidden_layers=5) for name in ("base", "other"))
    (found,) = coefficients("lines", {"a": 0.2}, base=base, finetuned=[other]).values()
    assert found == pytest.approx(
        {"embed": 0.2, "0": 0.2, "1": 0.4, "2": 0.6, "3": 0.8, "4": 1.0, "norm": 0.2, "lm_head": 0.2}
    )
    (found,) = coefficients("lines", {"a": 0.5, "b": -0.2}, base=base, finetuned=[other]).values()
    assert [found[str(i)] for i in range(5)] == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3])


def test_a_ramp_of_one_block_is_its_start(tmp_path):
    folder = make_decoder(tmp_path / "one", "Qwen2", num_hidden_layers=1)
    assert set(coefficients("lines", {"a": 0.4}, base=folder, finetuned=[folder])["one"].values()) == {0.4}


def test_ranks_order_the_layers_by_what_the_rule_reads(f32, calibrated):
    scores = json.loads((calibrated / "sensitivity.json").read_text())["sensitivity"]
    given = {"a": 0.2, "b": -0.4, "alpha": 0.6}
    found = coefficients("sensitivity_ranks", given, **inputs("sensitivity_ranks", f32, calibrated))["left"]
    leads = {k: 0.6 * scores["left"][k] - 0.4 * scores["base"][k] if k.isdigit() else 0.0 for k in LAYERS}
    for layer, value in leads.items():  # twice the rank: layers below, and those not above
        twice = sum(v < value for v in leads.values()) + sum(v <= value for v in leads.values())
        middle, most = len(LAYERS) + 1, len(LAYERS) - 1
        assert found[layer] == pytest.approx(0.2 - 0.4 * (twice + 1 - middle) / most)
    assert found["embed"] == found["norm"] == found["lm_head"]
    table = pd.read_parquet(calibrated / "mi.parquet").query("estimator == 'shuffle-corrected' and control == 'none'")
    means = table[table["finetuned"] == "left"].groupby("layer")["value"].mean().sort_values()
    found = coefficients("mi_ranks", table=calibrated / "mi.parquet")["left"]
    line = np.linspace(0.14 - 0.32, 0.14 + 0.32, len(LAYERS))
    assert found == pytest.approx(dict(zip(means.index, line, strict=True)))


def test_a_tied_head_takes_the_place_of_the_embedding(tmp_path, calibrated):
    base, other = (
        make_decoder(tmp_path / name, "Qwen2", num_hidden_layers=3, tie_word_embeddings=True) for name in ("a", "b")
    )
    found = coefficients("moved", base=base, finetuned=[other], found=calibrated / "moved.json")["b"]
    assert found == OTHER_PAIR | {"lm_head": OTHER_PAIR["embed"]}
    scores = {"0": 0.2, "1": 0.3, "2": 0.1}
    (tmp_path / "s.json").write_text(json.dumps({"sensitivity": {"a": scores, "b": scores}}))
    found = coefficients(
        "sensitivity_ranks", {"a": 0, "b": -1}, base=base, finetuned=[other], sensitivity=tmp_path / "s.json"
    )["b"]  # of five layers, two outside the blocks
    assert found == pytest.approx({"embed": 0.75, "2": 0, "0": -0.5, "1": -1, "norm": 0.75, "lm_head": 0.75})


def test_ranks_of_equal_values_are_their_mean():
    values = {"embed": 3.0, "0": -1.0, "1": 7.0, "norm": 4.0, "lm_head": 4.0}
    assert [*layer_rules.by_ranks(values, 0.5, 1).values()] == [0.0, -0.5, 1.5, 0.75, 0.75]
    assert layer_rules.by_ranks({"0": 3.0}, 0.5, 1) == {"0": 0.5}


def test_moved_takes_the_coefficients_of_another_pair_at_the_same_depth(f32, calibrated):
    found = coefficients("moved", **inputs("moved", f32, calibrated))
    assert found["left"] == found["right"] == {"embed": 0.4, "0": 0.1, "1": 0.8, "norm": 0.2, "lm_head": 0.7}
    four = layer_rules.by_depth(OTHER_PAIR, ["embed", *"0123", "norm", "lm_head"])
    assert [four[block] for block in "0123"] == pytest.approx([0.1, 0.1 + 0.2 * 2 / 3, 0.3 + 0.5 / 3, 0.8])
    assert layer_rules.by_depth(OTHER_PAIR, ["0"]) == {"0": 0.1}
    tied = layer_rules.by_depth({"embed": 0.4, "0": -0.2}, ["embed", "0", "1", "norm", "lm_head"])
    assert tied == pytest.approx({"embed": 0.4, "0": -0.2, "1": -0.2, "norm": 0.1, "lm_head": 0.4})
    with pytest.raises(UserError, match=r"unknown model of the other pair 'pear'\. Did you mean 'pair'"):
        coefficients("moved", {"model": "pear"}, **inputs("moved", f32, calibrated))


@pytest.mark.parametrize("c", [0.07, 2.0])
def test_equal_norms_move_every_layer_by_the_same_length(c, f32, merged, tensors):
    found = coefficients("equal_norm", {"c": c}, base=f32[0], finetuned=f32[1:])
    base, left = tensors(f32[0]), tensors(f32[1])
    for layer, pairs in task_vectors_of(base, left).items():
        assert found["left"][layer] == pytest.approx(c / length(d for _, d in pairs), rel=1e-12)
    moved = merged(recipe("task_arithmetic", *f32[:2], coefficients={"left": found["left"]}))
    lengths = [length(d for _, d in pairs) for pairs in task_vectors_of(base, moved).values()]
    assert lengths == pytest.approx([c] * len(LAYERS), rel=1e-4)


def test_magnitude_is_the_relative_length_over_its_maximum(f32, tensors):
    found = coefficients("magnitude", base=f32[0], finetuned=f32[1:])
    for name, folder in zip(MODELS, f32[1:], strict=True):
        pairs = task_vectors_of(tensors(f32[0]), tensors(folder)).items()
        relative = {layer: length(d for _, d in each) / length(x for x, _ in each) for layer, each in pairs}
        expected = {layer: value / max(relative.values()) for layer, value in relative.items()}
        assert found[name] == pytest.approx(expected, rel=1e-12) and max(found[name].values()) == 1.0


def test_effective_rank_is_base_over_change_weighted_by_size(f32, tensors):
    found = coefficients("effective_rank", base=f32[0], finetuned=f32[1:])
    for name, folder in zip(MODELS, f32[1:], strict=True):
        for layer, pairs in task_vectors_of(tensors(f32[0]), tensors(folder)).items():
            of_base, of_change = (sum(p[i].size * rank_by_svd(p[i]) for p in pairs) for i in (0, 1))
            assert found[name][layer] == pytest.approx(of_base / of_change, rel=1e-9)
    assert found["left"]["norm"] == pytest.approx(1.0)  # a vector has one direction


def test_equal_models_have_coefficients_that_change_nothing(f32, tmp_path):
    copy = shutil.copytree(f32[0], tmp_path / "copy")
    for name in ("equal_norm", "magnitude", "effective_rank"):
        assert set(coefficients(name, base=f32[0], finetuned=[copy])["copy"].values()) == {0.0}
    assert set(coefficients("fim", GIVEN["fim"], base=f32[0], finetuned=[copy])["copy"].values()) == {1.0}


def test_a_head_that_both_models_tie_has_the_embeddings_coefficient(f32, tie):
    base, left = (tie(folder, folder.name) for folder in f32[:2])
    for name in OF_WEIGHTS:
        found = coefficients(name, GIVEN.get(name), base=base, finetuned=[left])["left"]
        assert list(found) == LAYERS and found["lm_head"] == found["embed"]
    both = coefficients("magnitude", base=base, finetuned=[f32[1]])["left"]  # the model's own head less the embedding
    assert both["lm_head"] != both["embed"]


def test_only_the_rows_that_both_vocabularies_have_are_compared(f32, tmp_path, tensors):
    wider = shutil.copytree(f32[1], tmp_path / "left")
    more = {name: torch.cat([tensors(wider)[name], torch.full((3, 16), 99.0)]) for name in (EMBEDDING, HEAD)}
    edit_tensors(wider, **more)
    for name in OF_WEIGHTS:
        settings = GIVEN.get(name)
        expected = coefficients(name, settings, base=f32[0], finetuned=[f32[1]])
        assert coefficients(name, settings, base=f32[0], finetuned=[wider]) == expected


def test_an_adapter_is_read_as_the_model_that_it_makes(f32, tmp_path):
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    peft.get_peft_model(load_plain(f32[0]), config).save_pretrained(tmp_path / "tuned")
    models = [{"model": f"{f32[0]}+{tmp_path / 'tuned'}"}]
    folder = acm.merge({"merge_method": "linear", "models": models, "parameters": {"weight": 1}}, tmp_path / "m/tuned")
    for name in OF_WEIGHTS:
        found = coefficients(name, GIVEN.get(name), base=f32[0], finetuned=[tmp_path / "tuned"])
        assert found == coefficients(name, GIVEN.get(name), base=f32[0], finetuned=[folder])
    ranks = effective_ranks(Checkpoint(f32[0]), Checkpoint(folder))
    assert ranks["0"][1] < 2 and ranks["norm"][1] == 0  # two matrices of rank 2, and what did not change


def gradients_squared(folder, ids):
    """Tensor → mean over sequences of the squared gradient, by autograd on the whole model."""
    model, total = load_plain(folder), {}
    for text in ids:
        model.zero_grad()
        cross_entropy(model(text).logits[0, :-1], text[0, 1:]).backward()
        for name, parameter in model.named_parameters():
            total[name] = total.get(name, 0) + parameter.grad.square() / len(ids)
    return total


def perturbed(folder, out):
    """A copy whose weights are a little off."""
    shutil.copytree(folder, out)
    held = load_file(out / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    noise = {n: (1 + i % 3) * 0.01 * torch.randn(t.shape, generator=generator) for i, (n, t) in enumerate(held.items())}
    edit_tensors(out, **{name: tensor + noise[name] for name, tensor in held.items()})
    return out


def fisher_by_hand(folder, ids, entries):
    squares = gradients_squared(folder, ids)
    layers = {}
    for name, value in squares.items():
        layers.setdefault(layer_of(name), []).append(value.double())
    found = {}
    for layer, values in layers.items():
        total, count = sum(float(v.sum()) for v in values), sum(v.numel() for v in values)
        found[layer] = total / count if entries == "mean" else total
    return found if "lm_head" in found else found | {"lm_head": found["embed"]}


@pytest.mark.parametrize("entries", ["mean", "sum"])
@pytest.mark.parametrize("kind, more", [("Qwen2", {}), ("Qwen2", {"tie_word_embeddings": True}), ("Gemma2", {})])
def test_fim_is_the_sigmoid_of_the_log_score_with_autograd_as_the_oracle(kind, more, entries, tmp_path):
    base = make_decoder(tmp_path / "base", kind, **more)
    other = perturbed(base, tmp_path / "other")
    given = {"sequences": 3, "length": 9, "seed": 5, "entries": entries, "slope": 0.8, "offset": 0.1, "factor": 0.7}
    found = coefficients("fim", given, base=base, finetuned=[other])["other"]
    ids = torch.randint(97, (3, 1, 9), generator=torch.Generator().manual_seed(5))
    fisher, held, theirs = (
        fisher_by_hand(base, list(ids), entries),
        *(load_file(f / "model.safetensors") for f in (base, other)),
    )
    change = {}
    for name, x in held.items():
        change[layer_of(name)] = change.get(layer_of(name), 0.0) + float((theirs[name] - x).double().square().sum())
    change.setdefault("lm_head", change["embed"])
    z = {layer: np.log(fisher[layer] * change[layer]) for layer in found}
    centre = np.mean(list(z.values()))
    expected = {layer: 0.7 / (1 + np.exp(-0.8 * (0.1 - value + centre))) for layer, value in z.items()}
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == ["embed", "0", "1", "2", "norm", "lm_head"]


def test_random_fisher_in_bfloat16_is_near(tmp_path):
    base = Checkpoint(make_decoder(tmp_path / "base", "Llama"))
    ids = random_tokens(97, 4, 12, 0)
    exact, near = (fisher_by_layer(base, ids, dtype, CPU) for dtype in (torch.float32, torch.bfloat16))
    assert all(near[layer].total == pytest.approx(exact[layer].total, rel=0.3) for layer in exact)
    assert sum(trace.entries for trace in exact.values()) == sum(i.size for i in base.tensors.values())


def test_random_tokens_follow_from_the_seed_and_fill_the_vocabulary():
    first, same, other = (torch.cat(random_tokens(7, 8, 64, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert first.shape == (8, 64) and set(first.unique().tolist()) == set(range(7))


def test_fim_over_the_deviation_and_with_a_layer_of_score_zero():
    layers = {k: Sizes(v, 1e9, 0.0) for k, v in zip("abcd", (1.0, np.e**2, np.e**4, 0.0), strict=True)}
    found = cautious(dict.fromkeys("abcd", 1.0), layers, FIM | {"scale": "deviation"})
    z = np.array([-2, 0, 2]) / np.std([-2, 0, 2])
    assert list(found.values()) == pytest.approx([*(1 / (1 + np.exp(z))), 1.0])
    nothing = cautious(dict.fromkeys("abcd", 0.0), layers, FIM)
    assert set(nothing.values()) == {1.0}
    alike = cautious(dict.fromkeys("ab", 1.0), {k: Sizes(2.0, 1e9, 0.0) for k in "ab"}, FIM | {"scale": "deviation"})
    assert set(alike.values()) == {0.5}


@pytest.mark.parametrize(
    "change, inner", [(4.0, 0.0), (4.0, 1.5), (4.0, -1.9), (0.01, 0.05), (100.0, -9.0), (0.0, 0.0)]
)
@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.5, 2.0])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_within_is_the_largest_coefficient_that_keeps_the_norm(change, inner, tolerance, value):
    found = within(value, Sizes(change, 1.0, inner), tolerance)
    grid = np.linspace(0, value, 200_001)
    norms = np.sqrt(np.maximum(0, 1 + 2 * grid * inner + grid**2 * change))
    kept = grid[(np.abs(norms - 1) <= tolerance * (1 + 1e-9))]
    assert found == pytest.approx(kept.max(), abs=2e-5) and 0 <= found <= value


def test_fim_lowers_what_would_change_a_layers_norm_too_much():
    layers = {"a": Sizes(1.0, 1e9, 0.0), "b": Sizes(1.0, 1.0, 0.0)}
    found = cautious({"a": 1.0, "b": 1.0}, layers, FIM)
    assert found == pytest.approx({"a": 0.5, "b": (1.05**2 - 1) ** 0.5})
    assert cautious({"a": 1.0, "b": 1.0}, layers, FIM | {"tolerance": 1.0}) == {"a": 0.5, "b": 0.5}


def test_within_leaves_a_layer_of_zeros_alone():
    assert within(0.6, Sizes(2.0, 0.0, 0.0), 0.05) == 0.6


def test_sensitivity_is_the_weight_that_sens_gives_to_the_change(f32, calibrated):
    found = coefficients(
        "sensitivity", {"alpha": 0.6, "temperature": 0.5}, **inputs("sensitivity", f32, calibrated)
    )  # fmt: skip
    scores = json.loads((calibrated / "sensitivity.json").read_text())["sensitivity"]
    for model in MODELS:
        for block in ("0", "1"):
            pair = np.exp(np.array([0.4 * scores["base"][block], 0.6 * scores[model][block]]) / 0.5)
            assert found[model][block] == pytest.approx(0.6 * 2 * pair[1] / pair.sum())
        assert {found[model][layer] for layer in ("embed", "norm", "lm_head")} == {0.6}


def test_a_more_sensitive_layer_has_a_larger_coefficient(f32, tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"sensitivity": {"base": {"0": 0.5, "1": 0.5}, "left": {"0": 0.1, "1": 0.9}}}))
    found = coefficients("sensitivity", base=f32[0], finetuned=f32[1:2], sensitivity=path)["left"]
    assert found["0"] < found["1"]


def cka_by_hand(x, y):
    x, y = (a.double().numpy() - a.double().numpy().mean(0) for a in (x, y))
    return np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def test_rules_of_activations_are_means_over_texts(f32, calibrated, tokenizer):
    similar, moved = (
        coefficients(name, table=calibrated / "mi.parquet")["left"] for name in ("cka", "activation_shift")
    )
    base, left = ([activations(folder, text, tokenizer) for text in TEXTS] for folder in f32[:2])
    for layer in LAYERS:
        pairs = [(a[layer], b[layer]) for a, b in zip(base, left, strict=True)]
        assert similar[layer] == pytest.approx(1 - np.mean([cka_by_hand(x, y) for x, y in pairs]), abs=1e-9)
        shifts = [float((y.double() - x.double()).norm() / x.double().norm()) for x, y in pairs]
        assert moved[layer] == pytest.approx(np.mean(shifts), rel=1e-9)


def test_equal_activations_have_cka_1_and_no_shift(f32, tmp_path):
    table = acm.calibrate(f32[0], {"same": f32[0]}, TEXTS, controls=("none",), estimators=("cka", "distance"))
    write_parquet(table, tmp_path / "mi.parquet")
    assert coefficients("cka", table=tmp_path / "mi.parquet")["same"] == pytest.approx(
        dict.fromkeys(LAYERS, 0), abs=1e-9
    )
    assert set(coefficients("activation_shift", table=tmp_path / "mi.parquet")["same"].values()) == {0.0}


def test_controls_of_the_table_take_away_what_they_say(calibrated):
    path = calibrated / "mi.parquet"
    real, shuffled, noise = (
        coefficients("activation_shift", table=path, control=control)["left"]
        for control in ("none", "shuffled", "gaussian")
    )
    assert all(real[layer] < shuffled[layer] for layer in LAYERS)
    assert all(1.2 < noise[layer] < 1.6 for layer in LAYERS)  # √2 of two independent normal arrays


def test_distance_by_hand():
    assert acm.mutual_information(np.array([3.0, 4.0]), np.array([3.0, 1.0]), "distance") == pytest.approx(0.6)
    assert np.isnan(acm.mutual_information(np.zeros(3), np.ones(3), "distance"))


# ---- mean and controls


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("control", LAYER_CONTROLS)
def test_every_rule_has_the_same_controls(name, control, f32, calibrated):
    own, scaled = inputs(name, f32, calibrated), {"mean": 0.7} if RULES[name].scaled else {}
    plain = coefficients(name, GIVEN.get(name), **own, **scaled)
    content = rule_coefficients(name, GIVEN.get(name), **own, **scaled, control=control, seed=1)
    assert content["coefficients"] == controlled(plain, control, 1)
    assert (content["control"], content["seed"], content["mean"]) == (control, 1, scaled.get("mean"))
    for layers in (plain["left"], content["coefficients"]["left"]):
        assert np.mean(list(layers.values())) == pytest.approx(
            scaled.get("mean", np.mean(list(plain["left"].values())))
        )


# ---- bad input


@pytest.mark.parametrize("name, given, words", [
    ("lins", {}, "unknown rule 'lins'. Did you mean 'lines'"),
    ("lines", {}, "lines needs `a`"),
    ("lines", {"a": 0.3, "c": 1}, "unknown parameter of lines 'c'"),
    ("magnitude", {"c": 1}, "magnitude takes no parameters"),
    ("lines", {"a": "much"}, "a of lines must be a number, not 'much'"),
    ("lines", {"a": True}, "a of lines must be a number, not true"),
    ("lines", {"a": [0.3]}, "a of lines must be a number, not a list"),
    ("lines", {"a": float("nan")}, "a of lines must be a finite number"),
    ("lines", {"a": 10**400}, "a of lines must be a finite number"),
    ("equal_norm", {"c": 0}, "c of equal_norm is above 0, not 0"),
    ("fim", {"sequences": 2.5}, "sequences of fim is a whole number"),
    ("fim", {"length": 1}, "length of fim is a whole number from 2"),
    ("fim", {"slope": -1}, "slope of fim is above 0"),
    ("fim", {"entries": "median"}, "unknown entries of fim 'median'"),
    ("fim", {"scale": 3}, "scale of fim must be a word, not 3"),
    ("fim", {"device": "tpu"}, "unknown device 'tpu'"),
    ("fim", {"dtype": "int8"}, "unknown dtype 'int8'"),
    ("sensitivity", {"alpha": 1.5}, r"alpha of sensitivity is in \[0, 1\]"),
    ("acm", {"shift": "layers"}, "unknown shift of acm 'layers'. Did you mean 'layer'"),
    ("acm", {"estimator": "ckas"}, "unknown estimator of acm"),
])  # fmt: skip
def test_parameters_that_the_row_does_not_know_are_refused(name, given, words, f32, calibrated):
    own = inputs(name, f32, calibrated) if name in RULES else {}
    with pytest.raises(UserError, match=words):
        rule_coefficients(name, given, **own)


def test_numbers_as_yaml_gives_them_are_taken(f32):
    found = coefficients("lines", {"a": "1e-3", "b": 1}, base=f32[0], finetuned=f32[1:])["left"]
    assert found["0"] == 1e-3 and found["1"] == 1.001


def test_inputs_that_are_missing_or_idle_are_refused(f32, calibrated, tmp_path):
    table, models = {"table": calibrated / "mi.parquet"}, {"base": f32[0], "finetuned": f32[1:]}
    for name, given, words in (
        ("acm", {}, "reads an MI table"),
        ("acm", models | table, "does not read a base and fine-tuned models"),
        ("magnitude", table | models, "does not read an MI table"),
        ("magnitude", {"base": f32[0]}, "reads a base and fine-tuned models"),
        ("magnitude", {"finetuned": f32[1:]}, "reads a base and fine-tuned models"),
        ("sensitivity", models, "reads a file of sensitivities"),
        ("cka", {"table": tmp_path / "absent.parquet"}, "no MI table at"),
        ("cka", {"table": f32[0] / "config.json"}, "not a readable parquet file"),
        ("magnitude", models | {"control": "shuffled"}, "of MI tables, and the rule magnitude reads none"),
        ("magnitude", models | {"control": "shuffld"}, "unknown control 'shuffld'"),
        ("acm", table | {"mean": 0.7}, "leave --mean out"),
        ("acm", table | {"control": "unrelated"}, "has no rows of the control unrelated"),
        ("magnitude", {"base": f32[0], "finetuned": [f32[1], f32[1]]}, "names two fine-tuned models"),
    ):
        with pytest.raises(UserError, match=words):
            rule_coefficients(name, **given)
    with pytest.raises(UserError, match="no rows of the estimator kraskov; calibrate with --estimator kraskov too"):
        rule_coefficients("acm", {"estimator": "kraskov"}, **table)


@pytest.mark.parametrize("change, words", [
    (lambda t: t.drop(columns="layer"), "lacks the column layer"),
    (lambda t: t[(t["layer"] != "1") | (t["sample"] != 0)], "lacks a text of left in some layer"),
    (lambda t: pd.concat([t, t]), "or has it twice"),
    (lambda t: t.assign(value=t["value"].where(t["layer"] != "norm")), "no finite cka of text 0 at layer norm"),
    (lambda t: t.assign(value="much"), "no finite cka"),
])  # fmt: skip
def test_tables_that_are_not_whole_are_refused(change, words, calibrated, tmp_path):
    write_parquet(change(pd.read_parquet(calibrated / "mi.parquet")), tmp_path / "mi.parquet")
    with pytest.raises(UserError, match=words):
        rule_coefficients("cka", table=tmp_path / "mi.parquet")


@pytest.mark.parametrize("content, words", [
    ({"base": {"0": 1, "1": 1}}, "unknown model in .*'left'"),
    ({"base": {"0": 1, "1": 1}, "left": {"0": 1}}, "sensitivity of layer 1 of left must be a number from 0"),
    ({"base": {"0": 1, "1": -1}, "left": {"0": 1, "1": 1}}, "sensitivity of layer 1 of base"),
    ({"base": {"0": 1, "1": "x"}, "left": {"0": 1, "1": 1}}, "sensitivity of layer 1 of base"),
    ({"base": 3, "left": {"0": 1, "1": 1}}, "sensitivity of layer 0 of base"),
    (None, "has no `sensitivity`"),
])  # fmt: skip
def test_sensitivities_that_are_missing_or_no_numbers_are_refused(content, words, f32, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"sensitivity": content}))
    with pytest.raises(UserError, match=words):
        rule_coefficients("sensitivity", base=f32[0], finetuned=[f32[1]], sensitivity=tmp_path / "s.json")


@pytest.mark.parametrize("content, words", [
    ({"pair": OTHER_PAIR, "third": OTHER_PAIR}, "are of pair, third; give one, as in --set model=pair"),
    ({"pair": OTHER_PAIR | {"4": 1}}, "blocks from 0 without a gap"),
    ({"pair": OTHER_PAIR | {"mlp": 1}}, "blocks from 0 without a gap"),
    ({"pair": {"embed": 1}}, "blocks from 0 without a gap"),
    ({"pair": OTHER_PAIR | {"1": "x"}}, "coefficient of layer 1 of pair must be a finite number"),
    ({"pair": OTHER_PAIR | {"1": True}}, "coefficient of layer 1 of pair must be a finite number"),
    ({"pair": 3}, "map no layer to a number"),
    ({}, "names no model"),
    (None, "has no `coefficients`"),
])  # fmt: skip
def test_coefficients_of_another_pair_that_are_no_numbers_by_layer_are_refused(content, words, f32, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"coefficients": content}))
    with pytest.raises(UserError, match=words):
        coefficients("moved", base=f32[0], finetuned=f32[1:], found=tmp_path / "c.json")


@pytest.mark.parametrize("name", ["lines", *OF_WEIGHTS])
def test_models_of_other_shapes_or_without_a_layer_are_refused(name, f32, make_model, tmp_path):
    other = make_model(tmp_path / "other", hidden=32)
    with pytest.raises(UserError, match="not a fine-tuned version"):
        rule_coefficients(name, GIVEN.get(name), base=f32[0], finetuned=[other])
    for lost, layer in (("model.norm.weight", "norm"), (EMBEDDING, "embed"), ("model.layers.0.", "0")):
        folder = shutil.copytree(f32[1], tmp_path / f"without-{layer}")
        held = load_file(folder / "model.safetensors")
        edit_tensors(folder, **{tensor: None for tensor in held if tensor.startswith(lost)})
        with pytest.raises(UserError, match=f"no tensor of layer {layer}"):
            rule_coefficients(name, GIVEN.get(name), base=f32[0], finetuned=[folder])
        with pytest.raises(UserError, match=f"no tensor of layer {layer}"):
            rule_coefficients(name, GIVEN.get(name), base=folder, finetuned=[f32[1]])


@pytest.mark.parametrize("name", OF_WEIGHTS)
@pytest.mark.filterwarnings("error")
def test_weights_that_are_not_finite_are_refused(name, f32, poisoned):
    with pytest.raises(UserError, match=r"lm_head\.weight holds 3 values that are NaN or infinite"):
        rule_coefficients(name, GIVEN.get(name), base=f32[0], finetuned=[poisoned])
    with pytest.raises(UserError, match=r"lm_head\.weight holds 3 values that are NaN or infinite"):
        rule_coefficients(name, GIVEN.get(name), base=poisoned, finetuned=[f32[0]])


def test_magnitude_refuses_a_base_layer_of_zeros(f32, variant):
    base = variant(f32[0], "zeros", weights=lambda held: held["model.norm.weight"].zero_())
    with pytest.raises(UserError, match="layer norm of the base are 0"):
        rule_coefficients("magnitude", base=base, finetuned=[f32[1]])


def test_the_order_of_the_models_changes_nothing(f32):
    for name in OF_WEIGHTS:
        one, other = (coefficients(name, GIVEN.get(name), base=f32[0], finetuned=m) for m in (f32[1:], f32[:0:-1]))
        assert one == other and list(other) == ["right", "left"]


# ---- the command


def run(*words):
    return CliRunner().invoke(app, ["coefficients", *map(str, words)])


def test_the_command_writes_the_file_with_its_provenance(f32, calibrated, tmp_path):
    out = tmp_path / "new" / "c.json"
    done = run("--rule", "magnitude", "--base", f32[0], "--finetuned", f32[1], "--finetuned", f32[2], "--mean", 0.7,
               "--control", "permuted", "--seed", 4, "--out", out)  # fmt: skip
    assert done.exit_code == 0 and done.output == f"coefficients: {out}\n"
    stored = json.loads(out.read_text())
    expected = rule_coefficients("magnitude", base=f32[0], finetuned=f32[1:], mean=0.7, control="permuted", seed=4)
    assert stored["coefficients"] == expected["coefficients"]
    assert list(stored) == ["rule", "parameters", "mean", "control", "seed", "coefficients", "provenance"]
    facts = stored["provenance"]
    assert facts["base"] == str(f32[0]) and facts["finetuned"] == list(map(str, f32[1:]))
    assert len(facts["source"]) == 16 and "numpy" in facts["versions"]


def test_the_command_reads_a_table_by_default(calibrated, tmp_path):
    table = calibrated / "mi.parquet"
    done = run("--table", table, "--set", "t=0.9", "--set", "shift=none", "--out", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "c.json").read_text())
    assert stored["coefficients"] == coefficients_from_table(pd.read_parquet(table), 0.9, "none")
    assert stored["parameters"] == {"t": 0.9, "shift": "none", "estimator": "plug-in"}
    assert stored["provenance"]["table"] == str(table) and len(stored["provenance"]["texts_sha256"]) == 64


@pytest.mark.parametrize("words, says", [
    (["--rule", "lines", "--set", "a"], "--set a: write parameter=value"),
    (["--rule", "lines", "--set", "=3"], "write parameter=value"),
    (["--rule", "lines", "--set", "a=1", "--set", "a=2"], "'a' names two values of --set"),
    (["--rule", "lines", "--set", "a=[1"], "not readable as YAML"),
    (["--rule", "nothing"], "unknown rule 'nothing'"),
    ([], "the rule acm reads an MI table (--table); name what is missing."),
    (["--rule", "fim", "--base", "nowhere", "--finetuned", "nowhere"], "model folder nowhere does not exist"),
])  # fmt: skip
def test_the_command_refuses_in_one_sentence_and_writes_nothing(words, says, tmp_path):
    done = run(*words, "--out", tmp_path / "c.json")
    assert isinstance(done.exception, UserError) and says in str(done.exception) and "\n" not in str(done.exception)
    assert not list(tmp_path.iterdir())
