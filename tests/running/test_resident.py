"""Merges in memory give the records of merges in folders, with one engine and no folder."""

import json
import logging
import shutil

import pytest
import yaml

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
