"""Statistics for merge methods against hooks and autograd on a plain model, interruptions, and the merge engine."""

import json

import pytest
import torch
from helpers_calibration import Killed, edit_tensors, load_plain, make_decoder
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

import acm
import acm.calibration.importance
import acm.calibration.journal
import acm.calibration.walk
from acm.architectures import EMBEDDING, HEAD
from acm.calibration.registry import STATISTICS
from acm.errors import UserError

TEXTS = ["question: what is 17+5? answer:", "question: add 3, 4, 5. answer: 12", "7"]  # the last is one token
SETTINGS = {"controls": ("none",), "kinds": STATISTICS}


@pytest.fixture(scope="module")
def found(f32, tmp_path_factory):
    """The folder of the statistics of three models."""
    folder = tmp_path_factory.mktemp("statistics") / "new"
    acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, statistics=folder, **SETTINGS)
    return folder


def encoded(tokenizer):
    return [tokenizer(text, return_tensors="pt")["input_ids"] for text in TEXTS]


def read(folder):
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@torch.no_grad()
def inputs(folder, ids):
    """Linear weight → its inputs (tokens, channels) over all texts."""
    model, seen = load_plain(folder), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _m, given, name=name: seen.setdefault(f"{name}.weight", []).append(given[0][0])
            )
    for text in ids:
        model(text)
    return {name: torch.cat(each) for name, each in seen.items()}


def gradients(folder, ids):
    """Gradients of each text's mean negative log likelihood, one dictionary for each text."""
    model, each = load_plain(folder), []
    for text in ids:
        if text.shape[1] > 1:
            model.zero_grad()
            cross_entropy(model(text).logits[0, :-1], text[0, 1:]).backward()
            each.append({name: p.grad.clone() for name, p in model.named_parameters()})
    return model, each


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(
            found[name], value, rtol=2e-4, atol=1e-6 * value.abs().max().item(), msg=lambda m, name=name: f"{name}: {m}"
        )


def fisher(each):
    return {name: torch.stack([gradient[name].square() for gradient in each]).mean(0) for name in each[0]}


def sensitivities(model, each):
    names = [name for name in each[0] if ".layers." in name]
    sums = {}
    for name in names:
        mean = torch.stack([gradient[name] for gradient in each]).mean(0)
        layer = name.split(".")[2]
        sums[layer] = sums.get(layer, 0) + (model.get_parameter(name).detach() * mean).abs().sum().item()
    norm = sum(v * v for v in sums.values()) ** 0.5
    return {layer: value / norm for layer, value in sums.items()}


def test_aim_is_the_bases_mean_absolute_input(found, f32, tokenizer):
    assert_close(read(found / "aim"), {name: x.abs().mean(0) for name, x in inputs(f32[0], encoded(tokenizer)).items()})


@pytest.mark.parametrize("model", [1, 2])
def test_regmean_is_the_mean_gram_matrix_of_the_inputs(found, f32, tokenizer, model):
    expected = {name: x.T @ x / len(x) for name, x in inputs(f32[model], encoded(tokenizer)).items()}
    assert_close(read(found / "regmean" / f32[model].name), expected)


@pytest.mark.parametrize("model", [1, 2])
def test_fisher_is_the_mean_squared_gradient_of_the_texts(found, f32, tokenizer, model):
    assert_close(read(found / "fisher" / f32[model].name), fisher(gradients(f32[model], encoded(tokenizer))[1]))


@pytest.mark.parametrize("model", [0, 1, 2])
def test_led_is_the_weight_times_the_mean_magnitude_of_the_gradients(found, f32, tokenizer, model):
    plain, each = gradients(f32[model], encoded(tokenizer))
    magnitude = {name: torch.stack([gradient[name].abs() for gradient in each]).mean(0) for name in each[0]}
    expected = {name: plain.get_parameter(name).detach().abs() * value for name, value in magnitude.items()}
    assert_close(read(found / "led" / f32[model].name), expected)


def test_sensitivity_is_the_normed_sum_of_weight_times_gradient(found, f32, tokenizer):
    content = json.loads((found / "sensitivity.json").read_text())
    assert list(content) == ["sensitivity", "provenance"] and content["provenance"]["n"] == 2
    assert list(content["sensitivity"]) == ["base", "left", "right"]
    for folder in f32:
        assert content["sensitivity"][folder.name] == pytest.approx(
            sensitivities(*gradients(folder, encoded(tokenizer))), rel=1e-4
        )


@pytest.mark.parametrize("stored", [None, 1, 2])
@pytest.mark.parametrize("kind", ["Gemma2", "Gemma3Text", "Qwen3"])
def test_other_decoders_tied_and_stored_heads(tmp_path, tokenizer, kind, stored):
    size = {"vocab_size": len(tokenizer), "pad_token_id": None, "tie_word_embeddings": True}
    folder = make_decoder(tmp_path / "model", kind, **size)
    if stored:
        edit_tensors(folder, **{HEAD: load_file(folder / "model.safetensors")[EMBEDDING] * stored})
    tokenizer.save_pretrained(folder)
    acm.calibrate(folder, {"tuned": folder}, TEXTS, statistics=tmp_path / "out", **SETTINGS)
    model, each = gradients(folder, encoded(tokenizer))
    expected = fisher(each)
    if stored == 1:  # one tensor, stored twice
        expected[HEAD] = expected[EMBEDDING]
    assert_close(read(tmp_path / "out" / "fisher" / "tuned"), expected)
    found = json.loads((tmp_path / "out" / "sensitivity.json").read_text())["sensitivity"]
    assert found["tuned"] == found["model"] == pytest.approx(sensitivities(model, each), rel=1e-4)


def test_bfloat16_is_near_to_float32(found, f32, tmp_path):
    acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, statistics=tmp_path, dtype="bfloat16", **SETTINGS)
    for kind in ("aim", "regmean/left", "fisher/left"):
        near, exact = read(tmp_path / kind), read(found / kind)
        assert near.keys() == exact.keys()
        assert all((near[name] - exact[name]).norm() < 0.1 * exact[name].norm() for name in exact), kind


def test_unwanted_kinds_are_not_written(f32, tmp_path):
    acm.calibrate(
        f32[0],
        {"left": f32[1]},
        TEXTS,
        controls=("none",),
        statistics=str(tmp_path / "out"),
        kinds=("sensitivity", "aim"),
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["aim", "sensitivity.json"]


def test_statistics_change_no_table_and_unrelated_models_get_none(f32, tmp_path, found):
    settings = {"controls": ("none", "unrelated")}
    plain_table = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, **settings)
    assert acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, statistics=tmp_path, kinds=STATISTICS, **settings).equals(
        plain_table
    )
    assert files(tmp_path) == {
        p: b for p, b in files(found).items() if "right" not in p and p != "sensitivity.json"
    } | {"sensitivity.json": (tmp_path / "sensitivity.json").read_bytes()}


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("place, count", [("add", 1), ("add", 4), ("head", 1), ("embedding", 1)])
@pytest.mark.parametrize("loss", [None, "aim/1.safetensors", "regmean"])
def test_an_interrupted_run_writes_the_same_files(f32, tmp_path, monkeypatch, place, count, loss):
    given = {"statistics": tmp_path / "out", "keep": tmp_path / "keep", **SETTINGS}
    owner = acm.calibration.journal.Journal if place == "add" else acm.calibration.importance.Backward
    real, calls = getattr(owner, place), []

    def dying(self, *rest):
        calls.append(place)
        if len(calls) > count:
            raise Killed
        return real(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, dying)
        with pytest.raises(Killed):
            acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, **given)
    for path in [p for p in (tmp_path / "out").rglob("*.safetensors") if loss and loss in str(p)]:
        path.unlink()
    acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, **given)
    whole = tmp_path / "whole"
    acm.calibrate(f32[0], {"left": f32[1], "right": f32[2]}, TEXTS, statistics=whole, **SETTINGS)
    assert files(tmp_path / "out") == files(whole) and not (tmp_path / "keep").exists()


def test_what_cannot_be_had_is_refused_before_any_work(f32, tmp_path, monkeypatch):
    monkeypatch.setattr(acm.calibration.walk, "check_weights", lambda folder: pytest.fail("began to work"))
    for kind in ("fisher", "led", "sensitivity"):
        with pytest.raises(UserError, match="at least two tokens"):
            acm.calibrate(f32[0], {"left": f32[1]}, ["7"], statistics=tmp_path, kinds=(kind,))
    with pytest.raises(UserError, match="two are called 'base'"):
        acm.calibrate(f32[0], {"base": f32[1]}, TEXTS, statistics=tmp_path, kinds=("sensitivity",))


def merged(f32, folder, out, method, tensors, **parameters):
    own = {"fisher": "statistics", "regmean": "statistics"}.get(method)
    models = [{"model": str(m), "parameters": {own: str(folder / method / m.name)} if own else {}} for m in f32[1:]]
    content = {"merge_method": method, "base_model": str(f32[0]), "models": models, "parameters": parameters}
    return tensors(acm.merge(content, out))


def test_the_merge_engine_takes_the_statistics(found, f32, tmp_path, tensors):
    base, left, right = (tensors(folder) for folder in f32)
    by_fisher = merged(f32, found, tmp_path / "f", "fisher", tensors)
    weights = [read(found / "fisher" / name) for name in ("left", "right")]
    assert weights[0].keys() == base.keys()
    name = "model.layers.0.mlp.up_proj.weight"
    total = weights[0][name] + weights[1][name]
    expected = (
        base[name]
        + (weights[0][name] * (left[name] - base[name]) + weights[1][name] * (right[name] - base[name])) / total
    )
    torch.testing.assert_close(by_fisher[name], expected, rtol=1e-4, atol=1e-6)

    by_regmean = merged(f32, found, tmp_path / "r", "regmean", tensors, alpha=1.0)
    grams = [read(found / "regmean" / model)[name] for model in ("left", "right")]
    inner = [left[name].double() @ grams[0].double(), right[name].double() @ grams[1].double()]
    residual = by_regmean[name].double() @ (grams[0] + grams[1]).double() - sum(inner)
    assert residual.abs().max() < 1e-3 * sum(inner).abs().max()

    by_aim = merged(f32, found, tmp_path / "a", "aim", tensors, statistics=str(found / "aim"), omega=0.4)
    importance = read(found / "aim")[name]
    relaxed = 1 - importance / importance.max() * 0.6
    torch.testing.assert_close(
        by_aim[name], base[name] + (left[name] + right[name] - 2 * base[name]) * relaxed, rtol=1e-4, atol=1e-6
    )


def test_the_merge_engine_takes_the_sensitivities(found, f32, tmp_path, tensors):
    path = found / "sensitivity.json"
    result = merged(f32[:2], found, tmp_path / "s", "sens", tensors, sensitivity=str(path), alpha=0.6, temperature=0.5)
    scores = json.loads(path.read_text())["sensitivity"]
    base, left, name = tensors(f32[0]), tensors(f32[1]), "model.layers.1.mlp.up_proj.weight"
    first, second = 2 * torch.softmax(torch.tensor([0.4 * scores["base"]["1"], 0.6 * scores["left"]["1"]]) / 0.5, 0)
    torch.testing.assert_close(
        result[name], first * base[name] + second * 0.6 * (left[name] - base[name]), rtol=1e-4, atol=1e-6
    )
