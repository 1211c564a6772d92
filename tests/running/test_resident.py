"""Merges in memory give the records of merges in folders, with one engine and no folder."""

import json
import logging
import shutil
import weakref

import pytest
import yaml
from helpers_evaluation import FAST

from acm import evaluate
from acm.errors import UserError
from acm.evaluation.backends import RecordingLM
from acm.merging.tensors import planned
from acm.merging.unwritten import Unwritten
from acm.profiles import load_profile
from acm.running import resident as module
from acm.running.merges import merged, model_of
from acm.running.resident import Resident

EXPERIMENT = "pair"


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of abacus with a run in the test's folder, and coefficients that a method reads."""
    monkeypatch.setattr("acm.profiles.RUNS", tmp_path / "runs")
    experiment = {
        "base": "abacus/checkpoints/abacus-fast", "finetuned": ["abacus/checkpoints/abacus-slow"],
        "reference": "abacus-slow", "tasks": ["abacus_easy", "abacus_medium"], "caps": {"TIES": 9},
        "calibration": {"texts": "abacus/benchmarks/calibration_problems.jsonl"}, "frontier": [0.5],
        "repeats": 2, "temperature": 0.8,
        "methods": {
            "TIES": {"merge_method": "ties", "parameters": {"weight": 1.0, "density": 0.5}},
            "ACM-TA": {"merge_method": "task_arithmetic", "coefficients": "none"},
        },
    }  # fmt: skip
    content = {
        "items": 3,
        "max_tokens": 16,
        "dtype": "float32",
        "batch_size": 4,
        "experiments": {EXPERIMENT: experiment},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    found = load_profile(str(tmp_path / "mine.yaml"))
    write_coefficients(found, 0.3)
    return found


def write_coefficients(profile, value):
    layers = dict.fromkeys(["embed", *map(str, range(6)), "norm", "lm_head"], value)
    path = profile.folder / EXPERIMENT / "coefficients.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"coefficients": {"abacus-slow": layers}}))


@pytest.fixture
def own(monkeypatch):
    """A process that has loaded nothing yet; counts the engines that start."""
    starts, load = [], module.stay_loaded
    monkeypatch.setattr(module, "RESIDENT", Resident())
    monkeypatch.setattr(module, "stay_loaded", lambda folder, *more: starts.append(folder.name) or load(folder, *more))
    return starts


def records(profile, method, merges):
    model = model_of(profile, EXPERIMENT, method, merges)
    return [
        evaluate(model, tasks, **profile.evaluation(EXPERIMENT, method, repeat))
        for tasks, repeat in profile.experiment(EXPERIMENT).calls()
    ]


def test_all_records_are_those_of_folders_and_one_engine_starts(profile, own, caplog):
    e = profile.experiment(EXPERIMENT)
    expected = {}
    for method in e.models:
        if method in e.method_names:
            made = merged(profile, EXPERIMENT, method)
            assert made.place == f"the folder {method}" and "# T" in made.card and len(made.tensors) == 75
        expected[method] = records(profile, method, "folder")
    assert not own and len(list(profile.folder.rglob("*.safetensors"))) == 3
    shutil.rmtree(profile.folder / EXPERIMENT / "models")
    for method in e.models:
        if method in e.method_names:
            made = merged(profile, EXPERIMENT, method, "memory")
            assert made.place == "memory" and "# T" in made.card and len(made.tensors) == 75
        found = records(profile, method, "memory")
        assert all(ours.equals(theirs) for ours, theirs in zip(found, expected[method], strict=True)), method
    assert own == ["abacus-fast"] and not list(profile.folder.rglob("*.safetensors"))
    assert not expected["TIES"][0].equals(expected["TIES"][1])


def test_a_merge_is_taken_again_only_when_something_has_changed(profile, own, monkeypatch):
    taken, take = [], RecordingLM.take
    monkeypatch.setattr(RecordingLM, "take", lambda *given: taken.append(given[-1]) or take(*given))
    first = model_of(profile, EXPERIMENT, "ACM-TA", "memory").identity
    assert model_of(profile, EXPERIMENT, "ACM-TA", "memory").identity == first and taken == ["ACM-TA"]
    write_coefficients(profile, 0.4)
    assert model_of(profile, EXPERIMENT, "ACM-TA", "memory").identity != first
    assert taken == ["ACM-TA"] * 2 and own == ["ACM-TA"]


def test_a_model_is_not_asked_for_the_answers_of_the_next(profile, own):
    models = {name: model_of(profile, EXPERIMENT, name, "memory") for name in ("TIES", "ACM-TA")}
    asked = ["abacus_easy"], profile.evaluation(EXPERIMENT, "TIES")
    with pytest.raises(UserError, match="holds another model than TIES now; ask model_of for it again"):
        evaluate(models["TIES"], asked[0], **asked[1])
    assert set(evaluate(models["ACM-TA"], asked[0], **asked[1])["model"]) == {"ACM-TA"}
    assert model_of(profile, EXPERIMENT, "ACM-TA", "memory") is models["ACM-TA"] is not models["TIES"]
    module.RESIDENT.close()
    with pytest.raises(UserError, match="holds another model than ACM-TA now"):
        evaluate(models["ACM-TA"], asked[0], **asked[1])
    assert models["ACM-TA"].lm.model is None  # its memory is free


@pytest.mark.parametrize("first", ["none", "abacus-fast"])
def test_a_model_that_fails_to_be_taken_ends_the_engine(profile, own, monkeypatch, first):
    if first != "none":
        model_of(profile, EXPERIMENT, first, "memory")
    closed, close = [], RecordingLM.close
    monkeypatch.setattr(RecordingLM, "close", lambda self: closed.append(self) or close(self))
    with monkeypatch.context() as broken:
        broken.setattr(RecordingLM, "take", lambda self, tensors, name: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model_of(profile, EXPERIMENT, "TIES", "memory")
    assert len(closed) == 1 and module.RESIDENT.model is None
    assert model_of(profile, EXPERIMENT, "TIES", "memory").identity and len(own) == 2


def test_merges_are_made_on_the_cpu_beside_the_engine(profile, own, monkeypatch):
    asked = []
    monkeypatch.setattr("acm.merging.tensors.place_of", lambda device, method: asked.append(device) or "cpu")
    monkeypatch.setattr("acm.merging.engine.place_of", lambda device, method: asked.append(device) or "cpu")
    model_of(profile, EXPERIMENT, "TIES", "memory")
    model_of(profile, EXPERIMENT, "abacus-slow", "memory")
    monkeypatch.setattr(RecordingLM, "misfit", lambda self, shapes: "its names are others")
    model_of(profile, EXPERIMENT, "ACM-TA", "memory")
    assert asked == ["cpu"] * 3


def test_an_engine_that_takes_no_tensors_starts_once_a_merge_and_leaves_no_folder(profile, own, monkeypatch):
    monkeypatch.setattr(module, "apart", lambda engine: "its workers are elsewhere")
    monkeypatch.setattr(RecordingLM, "misfit", lambda self, shapes: "its workers are elsewhere")
    left = profile.folder / EXPERIMENT / module.PASSING / "TIES"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("of a killed process")
    model_of(profile, EXPERIMENT, "TIES", "memory")
    model_of(profile, EXPERIMENT, "ACM-TA", "memory")
    assert own == ["TIES", "ACM-TA"] and not list(profile.folder.rglob("*.safetensors"))


def test_the_first_engine_is_gone_before_one_starts_from_a_folder(profile, own, monkeypatch):
    engines, alive, load = [], [], module.stay_loaded

    def loaded(*given):
        alive.append(sum(engine() is not None for engine in engines))
        held = load(*given)
        engines.append(weakref.ref(held.lm))
        return held

    monkeypatch.setattr(RecordingLM, "misfit", lambda self, shapes: "its names are others")
    monkeypatch.setattr(module, "stay_loaded", loaded)
    model_of(profile, EXPERIMENT, "TIES", "memory")
    assert alive == [0, 0]


def test_a_parent_whose_weights_are_not_read_is_refused_before_it_is_taken(profile, own, variant, monkeypatch):
    monkeypatch.setattr(Resident, "take", lambda *given: pytest.fail("is taken"))
    tied = variant(FAST, "tied", {"tie_word_embeddings": True})
    with pytest.raises(UserError, match="holds a head of its own, and vLLM would take the embedding"):
        module.RESIDENT.parent(tied, profile.model_copy(update={"backend": "vllm", "device": "cuda"}), 16)


def test_what_does_not_fit_starts_the_engine_anew_and_says_why(profile, own, f32, tmp_path, caplog):
    caplog.set_level(logging.INFO, "acm.running")
    held = module.RESIDENT
    model_of(profile, EXPERIMENT, "frontier-0.5", "memory")
    other = planned({"merge_method": "linear", "models": [{"model": str(f32[0]), "parameters": {"weight": 1.0}}]})
    loaded = held.merged(Unwritten(other, tmp_path / "other"), profile, 16)
    assert own == ["frontier-0.5", "other"] and loaded.name == "other" and loaded.identity
    assert "other is loaded anew: other has another config.json than the loaded frontier-0.5" in caplog.text


def test_what_no_loaded_model_takes_goes_through_a_folder_and_says_so(profile, own, monkeypatch, caplog):
    merged(profile, EXPERIMENT, "frontier-0.5")
    expected = records(profile, "frontier-0.5", "folder")
    monkeypatch.setattr(RecordingLM, "misfit", lambda self, shapes: "its names are others")
    found = records(profile, "frontier-0.5", "memory")
    assert all(ours.equals(theirs) for ours, theirs in zip(found, expected, strict=True))
    assert "frontier-0.5: its names are others, so it is merged into a folder for a moment" in caplog.text


def test_a_place_that_is_none_is_refused_before_anything_is_removed(profile):
    merged(profile, EXPERIMENT, "frontier-0.5")
    with pytest.raises(UserError, match=r"place of merges.*disc"):
        merged(profile, EXPERIMENT, "frontier-0.5", "disc")
    assert model_of(profile, EXPERIMENT, "frontier-0.5").is_dir()
