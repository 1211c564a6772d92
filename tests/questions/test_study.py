"""A study: its files, its merges and its verdict."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from questions.made_up import LAYERS, TASKS

from acm.errors import UserError
from acm.questions.study import SLIM, Apart, Study, apart, counted, joined
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
    assert (content["question"], content["answer"], content["verdict"]) == ("Why?", "Because.", "Because.")
    assert {"profile", "profile_hash", "experiment", "source", "versions"} <= set(content["provenance"])


def test_the_answer_of_a_verdict_is_its_first_sentence_or_the_one_that_is_given(quick):
    def answer():
        return json.loads((quick.folder / "verdict.json").read_text())["answer"]

    text = "It is 0.5 of all, i.e. half. ACM has 3."
    quick.save_verdict("Why?", text, {})
    assert answer() == "It is 0.5 of all, i.e. half."
    quick.save_verdict("Why?", text, {}, answer="It is 0.5 of all")
    assert answer() == "It is 0.5 of all"
    with pytest.raises(ValueError, match="does not begin"):
        quick.save_verdict("Why?", text, {}, answer="No")


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


def graded(differences, draws=300, seed=0):
    """Differences of grades, (pairs, items), of one task, with their bootstrap."""
    n = differences.shape[1]
    counts = np.vstack([np.ones(n), np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)])
    return Apart(dict.fromkeys(("righter", "longer"), differences @ counts.T / n), (differences,))


def test_the_accuracies_of_one_pair_have_bonett_and_prices_interval():
    rng = np.random.default_rng(0)
    rows = [
        (method, task, i, 0, float(rng.random() < right), 10.0)
        for method, right in (("a", 0.9), ("b", 0.8)) for task in TASKS for i in range(50)
    ]  # fmt: skip
    records = pd.DataFrame(rows, columns=["method", "task", "item", "repeat", "correct", "length"])
    found = apart(statistics.bootstrap(records, ["a", "b"], TASKS, draws=50), [("a", "b")]).columns()
    right = records.pivot_table(index=["task", "item"], columns="method", values="correct")
    centres, squares = [], []
    for task in TASKS:  # from the counts of items on which one alone is right
        gained, lost = (
            ((right["a"] > right["b"])[task].sum() + 1) / 52,
            ((right["a"] < right["b"])[task].sum() + 1) / 52,
        )
        centres.append(gained - lost)
        squares.append((gained + lost - (gained - lost) ** 2) / 52)
    centre, half = np.mean(centres), 1.959964 * np.sqrt(np.sum(squares)) / 2
    ends = [100 * (centre - half), 100 * (centre + half)]
    assert [found["righter_low"], found["righter_high"]] == pytest.approx(ends)
    assert found["longer_low"] == found["longer"] == found["longer_high"] == 0  # every item is equally long


@pytest.mark.parametrize("pairs", [1, 5])
def test_items_that_are_all_graded_alike_leave_an_interval_of_accuracy(pairs):
    found = graded(np.zeros((pairs, 98))).columns()
    half = 100 * 1.959964 * np.sqrt(2 / 100) / 10  # of 98 items and the two that are added
    assert [found["righter_low"], found["righter"], found["righter_high"]] == pytest.approx([-half, 0, half])


def test_intervals_of_several_pairs_hold_their_level_where_few_items_differ():
    """Four pairs of merges. On an item in 60 they can differ, and nine pairs of ten then do."""
    rng, truth = np.random.default_rng(1), 100 * 0.9 * (0.014 - 0.002)
    within = {"bootstrap": 0, "ours": 0}
    for _ in range(300):
        differ = rng.choice([1.0, -1.0, 0.0], p=[0.014, 0.002, 0.984], size=100)
        made = graded(np.where(rng.random((4, 100)) < 0.9, differ, 0))
        found, drawn = made.columns(), statistics.describe(statistics.over_draws(made.drawn["righter"]))
        within["bootstrap"] += drawn["low"] <= truth <= drawn["high"]
        within["ours"] += found["righter_low"] <= truth <= found["righter_high"]
    assert within["bootstrap"] < 0.85 * 300 and within["ours"] >= 0.95 * 300


def test_draws_that_disagree_widen_the_interval_beyond_that_of_items():
    found = graded(np.repeat([[0.2], [-0.2], [0.0]], 400, axis=1)).columns()
    assert found["righter_high"] - found["righter_low"] > 30


def test_pairs_of_several_parts_are_joined():
    parts = [graded(np.full((1, 20), height)) for height in (0.1, 0.3)]
    assert joined(parts).columns()["righter"] == pytest.approx(20) and len(joined(parts).grades[0]) == 2


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "draw", "1 draw"),
        (5, "calibration draw", "5 calibration draws"),
        (6, "group of blocks", "6 groups of blocks"),
    ],
)
def test_what_is_counted_has_its_plural(number, noun, words):
    assert counted(number, noun) == words
