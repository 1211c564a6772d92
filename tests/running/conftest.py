"""Profiles into which the tests of importing take records. All files here are made up."""

import pytest
import yaml
from helpers_imported import CAP, LONG, TASKS, N

from acm.profiles import load_profile


@pytest.fixture
def profile(f32, tmp_path, monkeypatch):
    """A profile of two pico folders, two tasks and N items, whose run lies in the test's folder."""
    monkeypatch.setattr("acm.profiles.RUNS", tmp_path / "runs")
    experiment = {
        "base": str(f32[0]), "finetuned": [str(f32[1])], "reference": f32[1].name, "tasks": TASKS, "frontier": [0.5],
        "calibration": {"texts": "texts.jsonl"},
        "methods": {"TA": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}}},
    }  # fmt: skip
    content = {"items": N, "max_tokens": CAP, "dtype": "float32", "experiments": {LONG: experiment}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_profile(str(path))


@pytest.fixture
def sampled(profile, tmp_path):
    """The same with two sampled responses to each item, evaluated task by task."""
    path = tmp_path / "mine.yaml"
    content = yaml.safe_load(path.read_text()) | {"jobs": "task"}
    content["experiments"][LONG] |= {"temperature": 0.6, "top_p": 0.95, "repeats": 2}
    path.write_text(yaml.safe_dump(content))
    return load_profile(str(path))


@pytest.fixture
def named(profile, tmp_path):
    """The same profile under another name, with other tasks and further keys of its experiment."""

    def make(name, tasks, **keys):
        content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
        content["experiments"][LONG] |= {"tasks": tasks} | keys
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return load_profile(str(tmp_path / f"{name}.yaml"))

    return make


@pytest.fixture
def stored(profile):
    return lambda: sorted(path.name for path in (profile.folder / LONG).rglob("*") if path.is_file())
