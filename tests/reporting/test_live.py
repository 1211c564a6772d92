"""live.json: the report's own numbers, the calibration's λ, and the best of a search by its own rule."""

import json
import shutil

import pandas as pd
import pytest

from acm.paths import REPORTS, ROOT
from acm.profiles import load_profile
from acm.reporting import live as module
from acm.reporting.live import write_live
from acm.reporting.results import Results

EXPERIMENT = "long-to-short"
COMMITTED = REPORTS / "tiny" / EXPERIMENT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The committed results that the file is made of, in a folder of their own."""
    home = tmp_path_factory.mktemp("reports")
    (home / EXPERIMENT).mkdir()
    for path in (COMMITTED / "records.parquet", *COMMITTED.glob("coefficients*.json")):
        shutil.copy(path, home / EXPERIMENT)
    shutil.copytree(REPORTS / "tiny" / "searches" / "abacus", home / "searches" / "abacus")
    return home


def made(folder):
    return json.loads(write_live(Results(load_profile("tiny"), EXPERIMENT, folder)).read_text("utf-8"))


@pytest.fixture(scope="module")
def found(folder):
    return made(folder)


def test_the_committed_file_is_what_the_committed_results_give(found):
    stated = json.loads((COMMITTED / "live.json").read_text("utf-8"))
    assert stated.pop("provenance").keys() == found["provenance"].keys()
    assert stated == {name: value for name, value in found.items() if name != "provenance"}


def test_numbers_are_those_of_the_main_table(found):
    table = pd.read_csv(COMMITTED / "tables" / "main.csv").query("task == 'average'").set_index("method")
    names = {0: "abacus-fast", 1: "abacus-slow"}
    rows = {names.get(row["lambda"], f"frontier-{row['lambda']:g}"): row for row in found["frontier"]}
    rows |= {row["method"]: row for row in found["methods"]}
    assert set(rows) == set(table.index)
    for name, row in rows.items():
        for column in ("n", *(f"{what}{end}" for what in ("accuracy", "length") for end in ("", "_low", "_high"))):
            assert row[column] == pytest.approx(table.loc[name, column], abs=1e-9), (name, column)
        for end, other in (("", ""), ("_low", "_high"), ("_high", "_low")):
            assert row[f"reduction{end}"] == pytest.approx(-table.loc[name, f"length_change{other}"], abs=1e-9), name
    assert [row["lambda"] for row in found["frontier"]] == [i / 10 for i in range(11)]


def test_presets_are_the_calibrations_and_the_searchs_best(found):
    for preset, name in (("acm", "coefficients.json"), ("noise", "coefficients-gaussian.json")):
        own = json.loads((COMMITTED / name).read_text())["coefficients"]["abacus-slow"]
        assert found["presets"][preset]["coefficients"] == own
        assert [*own] == found["layers"]
    best, front = found["presets"]["search"], pd.read_csv(REPORTS / "tiny" / "searches" / "abacus" / "front.csv")
    rows = front[front["arm"].str.startswith("cmaes-95") & (front["role"] == "best")]
    rows = rows[rows["value"] == rows["value"].max()]  # of the highest value, the shortest
    row = rows.loc[rows["tokens"].idxmin()]
    assert best["provenance"]["point"] == f"{row['arm']}-{row['candidate']}" and best["title"].endswith("95 %")
    assert best["coefficients"] == {layer: row[layer] for layer in found["layers"]}
    assert "Items 0 to 59" in best["note"] and str(best["provenance"]["fresh"]["n"]) == "2001"


def test_the_challenge_asks_the_tasks_in_turn(found):
    asked = found["challenge"]["items"]
    tasks = ["abacus_easy", "abacus_medium", "abacus_hard"]
    expected = [(tasks[i % 3], 60 + i // 3) for i in range(50)]  # a search chose by the first 60
    assert [(one["task"], one["item"]) for one in asked] == expected
    records = pd.read_parquet(COMMITTED / "records.parquet").query("method == 'ACM-TA'").set_index(["task", "item"])
    for one in asked:
        row = records.loc[(one["task"], one["item"])]
        assert (one["question"], one["gold"], one["length"]) == (row["question"], row["gold"], row["length"])
        assert one["correct"] is bool(row["correct"])


def test_a_search_of_other_models_or_none_gives_no_preset(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "moved")
    facts = tmp_path / "moved" / "searches" / "abacus" / "search.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"models": ["0" * 16, "1" * 16]}))
    assert [*made(tmp_path / "moved")["presets"]] == ["acm", "noise"]
    shutil.rmtree(tmp_path / "moved" / "searches")
    assert [*made(tmp_path / "moved")["presets"]] == ["acm", "noise"]


def test_only_what_a_browser_can_hold_and_repeat_has_the_file(folder, monkeypatch):
    assert write_live(Results(load_profile("tiny"), "general", "reports")) is None
    results = Results(load_profile("tiny"), EXPERIMENT, folder)
    results.records = results.records.drop(columns="question")
    assert write_live(results) is None
    weights = ROOT / "abacus" / "checkpoints" / "abacus-slow" / "model.safetensors"
    monkeypatch.setattr(module, "MOST", weights.stat().st_size - 1)
    assert write_live(Results(load_profile("tiny"), EXPERIMENT, folder)) is None
    monkeypatch.setattr(module, "MOST", weights.stat().st_size)
    warm = Results(load_profile("tiny"), EXPERIMENT, folder)
    warm.experiment = warm.experiment.model_copy(update={"temperature": 0.6})
    assert write_live(warm) is None


def test_a_target_in_tokens_and_a_search_without_fresh_items():
    point = pd.Series(
        {"arm": "cmaes-52t-0", "candidate": 3, "accuracy": 90.0, "tokens": 50.0, "asked": 9, "embed": 0.1}
    )
    facts = {
        "settings": {"validation": {"tasks": ["a"], "first": 5, "end": 8}, "fresh": None, "candidates": 4},
        "source": "0", "versions": {},
    }  # fmt: skip
    preset = module.search_preset("own", point, facts)
    assert preset["title"] == "Search, target 52 tokens" and preset["note"] == "Items 5 to 7 of a chose these λ."
    assert preset["provenance"]["fresh"] == {}
