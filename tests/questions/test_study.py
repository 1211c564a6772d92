"""A study: its files, its merges and its verdict."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from questions.made_up import LAYERS

from acm.errors import UserError
from acm.questions.study import SLIM, Study, counted
from acm.reporting import statistics


def test_a_study_knows_models_and_records_of_the_pipeline(quick, folder):
    base, finetuned = quick.models
    assert base.name == "abacus-fast" and list(finetuned) == ["abacus-slow"]
    assert list(quick.known) == SLIM and set(quick.known["method"]) == {"abacus-fast", "abacus-slow", "frontier-0.5"}
    general = Study(str(folder / "mini.yaml"), "general", "quick")
    assert list(general.models[1]) == ["abacus-sums", "abacus-words"]
    assert set(general.known["method"]) == {"abacus-base", "abacus-sums", "abacus-words", "frontier-0.5"}


@pytest.fixture(scope="module")
def merged(folder):
    """Two merges evaluated, and again with the batches that were kept."""
    asked = Study(str(folder / "mini.yaml"), "long-to-short", "merged")
    given = {
        "half 0": {"coefficients": {"abacus-slow": dict.fromkeys(LAYERS, 0.5)}},
        "none 0": {"coefficients": {"abacus-slow": dict.fromkeys(LAYERS, 0.0)}},
    }
    first = asked.evaluate(given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("acm.evaluation.harness.RecordingLM.generate_batch", lambda *_: pytest.fail("generated again"))
        again = Study(str(folder / "mini.yaml"), "long-to-short", "merged").evaluate(given)
    return asked, given, first, again


def test_evaluation_stores_slim_records_and_its_merges(merged):
    asked, given, first, _ = merged
    stored = pd.read_parquet(asked.folder / "records.parquet")
    assert list(stored) == SLIM and stored.notna().all(axis=None)
    assert stored.groupby("method").size().to_dict() == dict.fromkeys(
        ["abacus-fast", "abacus-slow", "frontier-0.5", "half 0", "none 0"], 3
    )
    pd.testing.assert_frame_equal(stored, first[SLIM])
    assert json.loads((asked.folder / "merges.json").read_text()) == given


def test_kept_batches_give_the_same_records_without_generating(merged):
    _, _, first, again = merged
    pd.testing.assert_frame_equal(first[SLIM], again[SLIM])


def test_merged_models_are_gone_and_batches_stay(merged):
    folder = merged[0].folder
    assert not list(folder.rglob("*.safetensors")) and len(list(folder.glob("batches/*/*.json"))) == 2
    assert {p.name for p in folder.iterdir()} == {"batches", "records.parquet", "merges.json"}


def test_a_merge_of_nothing_answers_as_its_base(merged):
    from acm import evaluate

    asked, _, first, _ = merged
    plainly = evaluate(asked.models[0], ["abacus_easy"], items=3, max_tokens=16)
    for column in ("correct", "length", "truncated"):
        assert first.loc[first["method"] == "none 0", column].tolist() == plainly[column].tolist()


def test_the_sample_pairs_merges_with_the_pipelines_items(merged):
    asked, _, first, _ = merged
    sample = asked.sample(first)
    assert sample.items == {"abacus_easy": 3} and sample.methods == list(first["method"].unique())
    assert statistics.average(sample, "abacus-slow", "length")[0] == pytest.approx(21)


def test_a_study_without_the_pipelines_records_says_what_to_run(folder, monkeypatch):
    monkeypatch.setattr("acm.profiles.RUNS", folder / "elsewhere")
    with pytest.raises(UserError, match="run the evaluation first"):
        _ = Study(str(folder / "mini.yaml"), "long-to-short", "quick").known


def test_a_verdict_is_strict_json(quick):
    numbers = {
        "a": np.float64(1.5),
        "b": np.nan,
        "c": {"d": np.int64(3), 0.7: np.float32("inf")},
        "e": [np.bool_(True), -np.inf],
        "f": np.array([1.0, np.nan]),
    }
    assert quick.save_verdict("Why?", "Because.", numbers) == "Because."

    def refuse(word):
        pytest.fail(f"{word} is not JSON")

    content = json.loads((quick.folder / "verdict.json").read_text(), parse_constant=refuse)
    assert content["numbers"] == {"a": 1.5, "b": None, "c": {"d": 3, "0.7": None}, "e": [True, None], "f": [1.0, None]}
    assert (content["question"], content["verdict"]) == ("Why?", "Because.")
    assert {"profile", "profile_hash", "experiment", "source", "versions"} <= set(content["provenance"])


def test_what_json_cannot_hold_at_all_is_refused(quick):
    with pytest.raises(TypeError):
        quick.save_verdict("Why?", "Because.", {"a": object()})


def test_figures_carry_caption_and_provenance(quick):
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    quick.save_figure(figure, "line", "A line.")
    stem = quick.folder / "figures" / "line"
    assert all(stem.with_suffix(kind).stat().st_size for kind in (".svg", ".png"))
    content = json.loads(stem.with_suffix(".json").read_text())
    assert content["caption"] == f"A line. Profile mini ({quick.profile.hash}), experiment long-to-short."
    assert content["provenance"]["experiment"] == "long-to-short" and content["provenance"]["items"] == 3


def test_counted_has_a_plural():
    assert [counted(n, "draw") for n in (0, 1, 2)] == ["0 draws", "1 draw", "2 draws"]
