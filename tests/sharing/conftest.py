"""A small profile of the embedded pair, made-up records of it, and folders to submit."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from acm.evaluation.task_files import load_items
from acm.identity import identity
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.sharing.submit import submit

LONG, CAP, N, TASKS = "long-to-short", 60, 4, ["abacus_easy", "abacus_medium"]
FAST, SLOW, HALF = "abacus-fast", "abacus-slow", "frontier-0.5"
# method → how many words stand before the answer, and how many items of a task are right
MADE = {FAST: (0, 1), HALF: (8, 2), SLOW: (20, 4), "TA": (12, 2), "ACM-TA": (12, 4)}
STATED = {
    "method": "ACM-TA", "who": "A. Tester", "hardware": "1 CPU core", "hours": 0.5, "date": "2026-01-02",
    "licence": "CC0-1.0",
}  # fmt: skip


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of the embedded pair, one point of the frontier and N items; its run lies in the test's folder."""
    monkeypatch.setattr("acm.profiles.RUNS", tmp_path / "runs")
    monkeypatch.setattr("acm.sharing.submit.RUNS", tmp_path / "runs")
    monkeypatch.setattr("acm.sharing.committed.REPORTS", tmp_path / "reports")
    experiment = {
        "base": f"abacus/checkpoints/{FAST}", "finetuned": [f"abacus/checkpoints/{SLOW}"], "reference": SLOW,
        "tasks": TASKS, "frontier": [0.5], "calibration": {"texts": "texts.jsonl"},
        "methods": {
            "TA": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}},
            "ACM-TA": {"merge_method": "task_arithmetic", "coefficients": "none"},
        },
    }  # fmt: skip
    content = {"items": N, "max_tokens": CAP, "dtype": "float32", "experiments": {LONG: experiment}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    return load_profile(str(tmp_path / "mine.yaml"))


@pytest.fixture
def records(tokenizer):
    """Made-up records of some methods; keywords change columns."""

    def make(*methods, **columns):
        frames = []
        for method in methods:
            words, right = MADE.get(method, (12, 2))
            folder = ROOT / "abacus" / "checkpoints" / method
            model = identity(folder) if folder.is_dir() else "0123456789abcdef"
            facts = {"engine": "lm-eval/transformers", "dtype": "float32", "device": "cpu", "batch_size": 64,
                     "max_tokens": CAP, "seed": 0, "model": model}  # fmt: skip
            rows = []
            for task in TASKS:
                for i, item in enumerate(load_items(task)[:N]):
                    answer = item["gold"] if i < right else "none"
                    text = f"{'so ' * words}the answer is {answer}."
                    rows.append({
                        "task": task, "item": i, "repeat": 0, "correct": float(i < right),
                        "answer": answer if i < right else "none", "gold": item["gold"], "response": text,
                        "length": len(tokenizer(text, add_special_tokens=False)["input_ids"]), "truncated": False,
                        "thinking_closed": None, "reflections": 0,
                    })  # fmt: skip
            labels = {"profile": "mine", "experiment": LONG, "model": method, "method": method}
            frames.append(pd.DataFrame(rows).assign(**labels, setting=json.dumps(facts)))
        return pd.concat(frames, ignore_index=True).assign(**columns)

    return make


@pytest.fixture
def folder(tmp_path, records, profile):
    """A folder to submit; keywords change what it states, None leaves a field out."""

    def make(*methods, **stated):
        place = tmp_path / "mine"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        records(*(methods or (FAST, SLOW, HALF, "ACM-TA"))).to_parquet(place / "records.parquet", index=False)
        said = {key: value for key, value in (STATED | stated).items() if value is not None}
        (place / "submission.yml").write_text(yaml.safe_dump(said))
        λ = {SLOW: dict.fromkeys(("embed", "0", "norm", "lm_head"), 0.5)}
        (place / "coefficients.json").write_text(json.dumps({"t": 0.7, "coefficients": λ}))
        return place

    return make


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Where the one entry is kept that tests take copies of."""
    return tmp_path_factory.mktemp("kept") / "community"


@pytest.fixture
def entry(profile, folder, kept, tmp_path):
    """An entry that the command has written, in a community folder of its own."""
    if not kept.exists():
        submit(folder(), profile, LONG, "mine", kept)
    shutil.copytree(kept, tmp_path / "community")
    return tmp_path / "community" / f"{FAST}+{SLOW}" / "mine"


@pytest.fixture
def written(tmp_path):
    """The names of all files below the test's folders for results."""
    return lambda: [p for name in ("community", "runs") for p in (tmp_path / name).rglob("*") if p.is_file()]
