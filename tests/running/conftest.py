"""Profiles into which the tests of importing take records. All files here are made up."""

import json

import pandas as pd
import pytest
import yaml
from helpers_imported import CAP, LONG, MATHS, TASKS, N, items_of

from acm.profiles import load_profile


@pytest.fixture(autouse=True)
def benchmarks_are_not_at_hand(monkeypatch):
    """The items of these tests are made up; where the real ones are, importing would compare them."""
    monkeypatch.delenv("ACM_DATA", raising=False)


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


THINKS = "<think>Wait, 2+2.</think>The answer is \\boxed{2}."


@pytest.fixture
def maths(named, f32, tokenizer):
    """A profile of mathematics tasks without data here, a cap of 100, and right records; keywords change columns."""
    profile = named("mine", MATHS, max_tokens=100)

    def make(**columns):
        rows = [{
            "task": task, "item": i, "repeat": 0, "correct": float(i == 0), "answer": "2", "gold": item["gold"],
            "response": THINKS, "length": len(tokenizer(THINKS)["input_ids"]), "truncated": False,
            "thinking_closed": True, "reflections": 1, "correct_string": float(i == 0), "answer_from": "box",
            "question": item["question"],
        } for task in MATHS for i, item in enumerate(items_of(task))]  # fmt: skip
        facts = {"engine": "lm-eval/transformers", "dtype": "float32", "device": "cpu", "batch_size": 64,
                 "max_tokens": 100, "seed": 0, "model": "0123456789abcdef"}  # fmt: skip
        labels = {"profile": "mine", "experiment": LONG, "model": "TA", "method": "TA", "setting": json.dumps(facts)}
        return pd.DataFrame(rows).assign(**labels).assign(**columns)

    return profile, make
