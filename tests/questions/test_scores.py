"""Question 7, scores: merges of a family, outcomes and rank correlations on records with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from questions.made_up import assert_plain
from scipy.stats import spearmanr

from acm.paths import ROOT
from acm.questions import scores, scores_answer, scores_worth
from acm.questions.scores import OF_LAYERS, OF_PAIRS, OF_VECTORS, Outcomes
from acm.questions.study import SLIM
from acm.reporting.inspection import SCORES, read_worth, worth_lines

TASKS = {"maths": ["easy", "hard"], "sums": ["sums"], "words": ["words"]}
RIGHT = {  # family → method → how many of 10 items of each skill are right
    "one": {
        "abacus-fast": {"maths": 4, "sums": 1, "words": 2}, "abacus-slow": {"maths": 9, "sums": 1, "words": 2},
        "abacus-sums": {"maths": 2, "sums": 10, "words": 0}, "abacus-fast + abacus-slow": {"maths": 8},
        "abacus-fast + abacus-sums": {"maths": 3, "sums": 6}, "abacus-slow + abacus-sums": {"maths": 5, "sums": 2},
        "only 0": {"maths": 4}, "only 1": {"maths": 5}, "only lm_head": {"maths": 7},
    },
}  # fmt: skip
RIGHT["two"] = RIGHT["one"] | {"abacus-fast + abacus-sums": {"maths": 3, "sums": 7}}
PAIRS = [("abacus-fast", "abacus-slow"), ("abacus-fast", "abacus-sums"), ("abacus-slow", "abacus-sums")]


def records():
    """Records of two families in which a method has as many right as RIGHT says, and 10 tokens for each right item."""
    rows = [
        (method, task, item, 0, float(item < right), 10.0 * right, False, family)
        for family, methods in RIGHT.items()
        for method, skills in methods.items()
        for skill, right in skills.items()
        for task in TASKS[skill]
        for item in range(10)
    ]
    return pd.DataFrame(rows, columns=[*SLIM, "family"])


def tables():
    """The tables of the merges: scores that rise with the outcome in pairs and layers, and fall with it in vectors."""
    kept = {PAIRS[0]: 0.9, PAIRS[1]: 0.3, PAIRS[2]: 0.1}  # and a little more where a family keeps more
    pairs = [
        {"family": family, "kind": " + ".join(pair), "first": pair[0], "second": pair[1]}
        | dict.fromkeys(OF_PAIRS, score + 0.1 * (family == "two" and pair == PAIRS[1]))
        for family in RIGHT for pair, score in kept.items()
    ]  # fmt: skip
    sizes = {"abacus-fast": 3.0, "abacus-slow": 2.0, "abacus-sums": 5.0}
    vectors = [
        {"family": family, "model": model, **dict.fromkeys(OF_VECTORS, size)}
        for family in RIGHT for model, size in sizes.items()
    ]  # fmt: skip
    layers = [
        {"family": family, "layer": layer, **dict.fromkeys(OF_LAYERS, size)}
        for family in RIGHT for layer, size in {"0": 1.0, "1": 2.0, "lm_head": 3.0}.items()
    ]  # fmt: skip
    return {"pairs": pd.DataFrame(pairs), "vectors": pd.DataFrame(vectors), "layers": pd.DataFrame(layers)}


@pytest.fixture(scope="module")
def outcomes():
    return Outcomes(records(), TASKS, draws=200)


@pytest.fixture(scope="module")
def table(outcomes):
    return scores_worth.tests(outcomes, tables())


def test_what_an_average_keeps_is_its_points_less_those_of_the_better_model(outcomes):
    kept = outcomes.pairs(tables()["pairs"])
    assert kept[:3, 0] == pytest.approx([80 - 90, (30 - 40 + 60 - 100) / 2, (50 - 90 + 20 - 100) / 2])
    assert kept.shape == (6, 201) and (kept[3:, 0] - kept[:3, 0]) == pytest.approx([0, 5, 0])


def test_members_are_held_against_their_own_skill(outcomes):
    rows, own = outcomes.members(tables()["pairs"], tables()["vectors"])
    assert [*rows["model"][:4]] == ["abacus-fast", "abacus-sums", "abacus-slow", "abacus-sums"]
    assert own[:4, 0] == pytest.approx([30 - 40, 60 - 100, 50 - 90, 20 - 100]) and len(rows) == 8
    assert [*rows["norm"][:4]] == [3, 5, 2, 5]


def test_layers_are_held_against_the_fast_model(outcomes):
    assert outcomes.layers(tables()["layers"], "accuracy")[:3, 0] == pytest.approx([0, 10, 30])
    assert outcomes.layers(tables()["layers"], "length")[:3, 0] == pytest.approx([0, 10, 30])


def test_the_correlation_is_spearmans():
    x, y = np.random.default_rng(0).integers(5, size=(2, 20)).astype(float)
    assert scores_worth.correlation(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert np.isnan(scores_worth.correlation(x, np.ones(20))) and np.isnan(scores_worth.correlation(x[:2], y[:2]))


def test_a_score_that_rises_with_the_outcome_has_one(table):
    found = table.set_index(["score", "outcome"])
    assert found.loc[("cosine", scores_worth.KEPT), "found"] == pytest.approx(1)
    assert found.loc[("norm", scores_worth.POINTS), "found"] == pytest.approx(1)
    assert found.loc[("depth", scores_worth.POINTS), "found"] == pytest.approx(1)
    assert found.loc[("norm", scores_worth.OWN), "found"] < 0
    assert len(table) == len(OF_PAIRS) + len(OF_VECTORS) + 2 * (len(OF_LAYERS) + 1)
    assert (
        table.loc[table["of"] == "pair", "unlike"].eq(1).all()
        and table.loc[table["of"] != "pair", "unlike"].isna().all()
    )


def test_kin_merges_widen_the_interval():
    """Twenty copies of one family are one family: the chance of its six kinds decides, and the interval must say so."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=6)
    y = x + rng.normal(size=6)
    families = pd.Series(np.repeat([f"family {i}" for i in range(20)], 6))
    taken = scores_worth.drawn(families, [f"kind {i}" for i in range(6)] * 20, 400)
    outcomes = np.repeat(np.tile(y, 20)[:, None], 401, axis=1)
    found = scores_worth.correlations(np.tile(x, 20), outcomes, taken, np.zeros(120, int))
    assert found[0] == pytest.approx(spearmanr(x, y).statistic)
    assert np.nanpercentile(found, 97.5) - np.nanpercentile(found, 2.5) > 0.5


def test_a_draw_takes_whole_families_and_kin():
    families, kin = pd.Series(["a", "a", "b", "b"]), ["x", "y", "x", "y"]
    first, *draws = scores_worth.drawn(families, kin, 200)
    assert [*first] == [0, 1, 2, 3] and {len(rows) for rows in draws} == {4}
    counts = np.array([np.bincount(rows, minlength=4) for rows in draws]).reshape(-1, 2, 2)
    assert (counts[:, 0] * counts[:, 1, ::-1] == (counts[:, 0] * counts[:, 1, ::-1])[:, ::-1]).all()  # a product
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_of_layers_each_family_has_its_own_correlation():
    x, y = np.array([1.0, 2, 3, 10, 20, 30]), np.array([1.0, 2, 3, 3, 2, 1])
    families = np.array([0, 0, 0, 1, 1, 1])
    assert scores_worth.correlations(x, y[:, None], [np.arange(6)], families) == pytest.approx([0])
    constant = np.where(families == 1, 5.0, x)  # the second family has none: the first one's counts
    assert scores_worth.correlations(constant, y[:, None], [np.arange(6)], families) == pytest.approx([1])
    unknown = np.where(families == 1, np.nan, x)
    assert scores_worth.correlations(unknown, y[:, None], [np.arange(6)], families) == pytest.approx([1])


def test_equal_outcomes_are_ties():
    """0.3 − 0.2 and 0.2 − 0.1 are the same points, though not the same floats."""
    assert 0.3 - 0.2 != 0.2 - 0.1
    rows = pd.DataFrame({"family": "one", "layer": ["0", "1"]})
    found = Outcomes(pd.DataFrame(columns=[*SLIM, "family"]), {})
    values = {"abacus-fast": 0.0, "only 0": 0.3 - 0.2, "only 1": 0.2 - 0.1}
    found.accuracy = lambda family, skill, method, what="accuracy": np.array([values[method]])
    assert found.layers(rows, "accuracy")[0] == found.layers(rows, "accuracy")[1]


def test_a_score_without_a_correlation_has_no_row(outcomes):
    given = tables()
    given["pairs"]["cosine"] = 0.5
    given["vectors"]["norm"] = np.nan
    found = scores_worth.tests(outcomes, given)
    assert "cosine" not in set(found["score"]) and "norm" not in set(found.loc[found["of"] == "task vector", "score"])


def test_one_family_without_unlike_skills_can_be_asked():
    part = records()[lambda rows: (rows["family"] == "one") & ~rows["method"].str.contains("sums")]
    given = {name: rows[rows["family"] == "one"] for name, rows in tables().items()}
    given["pairs"] = given["pairs"].iloc[:1]
    found = scores_worth.tests(Outcomes(part, TASKS, draws=50), given)
    assert set(found["of"]) == {"layer"} and "Within a kind" not in scores_answer.verdict(found)[0]


def test_the_mean_of_a_kind_is_taken_away():
    values, kinds = np.array([1.0, 3, 10, 14]), pd.Series(["a", "a", "b", "b"])
    assert scores_worth.centred(values, kinds).tolist() == [-1, 1, -2, 2]
    assert scores_worth.centred(values[:, None] * [1, 2], kinds)[:, 1].tolist() == [-2, 2, -4, 4]


def test_trials_of_question_6_are_compared_within_their_scenes():
    trials = pd.DataFrame({
        "scene": ["one"] * 4 + ["two"] * 4, "setting": "example", "same_as": "", "norm": [1.0, 2, 3, 4] * 2,
        "length": [5.0, 6, 7, 8, 108, 107, 106, 105], "above": np.nan, "cosine": 1.0,
    })  # fmt: skip
    found = scores_worth.trials(trials)
    assert [*found["scene"]] == ["one", "two"] and found["ρ"].tolist() == pytest.approx([1, -1])
    assert found["merges"].eq(4).all()


@pytest.mark.parametrize("score", ["norm", "cosine", "no such score"])
def test_the_answer_names_what_is_shown(table, score):
    given = table.assign(shown=(table["score"] == score) & (table["outcome"] != scores_worth.OWN))
    text, numbers = scores_answer.verdict(given)
    assert_plain(text)
    heads = {
        "norm": f"Scores of `acm inspect` are shown to foretell what a merge does in 2 of "
        f"{(table['score'] != scores_worth.DEPTH).sum()} tests. No score is shown to foretell what an average of two "
        f"models keeps. Rank correlations that are shown: the size ‖δ‖ of a layer's update and the points",
        "cosine": "Only the cosine of a pair is shown to foretell an outcome, how much accuracy an average of",
    }
    assert text.startswith(heads.get(score, scores_answer.NONE_DOES)) and len(numbers["tests"]) == len(table)
    assert "Depth alone, a control, and" in text and "Without pairs of like skills" in text


def test_inspect_reads_what_the_scores_were_worth(table, tmp_path):
    scores_worth.write_worth(table, tmp_path / "worth.json")
    worth = read_worth(tmp_path / "worth.json")
    cosine = next(score for score in SCORES if score.name == "cosine")
    _, (_, of, outcome, found, within, *counts) = worth_lines([cosine], worth)
    assert (of, outcome) == ("pair", scores_worth.KEPT) and found.startswith("+1.00 [") and within.startswith("+1.00 [")
    assert counts[1:] == ["6", "2"]
    (rank,) = [row for row in worth if row["score"] == "stable_rank" and row["outcome"] == scores_worth.TOKENS]
    assert rank["of"] == "layer" and rank["in_kind"] is None and not any(row["score"] == "depth" for row in worth)


def test_the_figure_shows_every_row(table, outcomes):
    pairs = tables()["pairs"]
    figure = scores_worth.draw(table, pairs, outcomes.pairs(pairs)[:, 0])
    *left, right = figure.axes
    shown = [label.get_text().replace("\n", " ") for axes in left for label in axes.get_yticklabels()]
    assert shown == [*table["title"]] == [*scores_worth.shown(table)["score"]]
    assert len({line.get_gid() for line in right.lines if line.get_gid()}) == 3
    assert f"of {(table['score'] != scores_worth.DEPTH).sum()} tests" in figure.get_label()


def test_families_that_are_not_trained_are_left_out(tmp_path):
    found = scores.families(tmp_path)
    assert [*found] == ["shipped"] and [*found["shipped"]] == [scores.BASE, *scores.MODELS]


def test_merges_of_a_family_are_made_scored_and_evaluated(quick):
    shipped = scores.families(ROOT / "nowhere")["shipped"]
    made = scores.merges(quick, "general", {"shipped": {name: shipped[name] for name in [*shipped][:3]}})
    (pair,) = made["pairs"].to_dict("records")
    assert pair["kind"] == "abacus-fast + abacus-slow" and 0.7 < pair["cosine"] < 0.8
    assert [*made["vectors"]["model"]] == ["abacus-fast", "abacus-slow"]
    assert [*made["layers"]["layer"]] == ["embed", *"012345", "norm", "lm_head"]
    evaluated = {"abacus-fast", "abacus-slow", pair["kind"], *(f"only {layer}" for layer in made["layers"]["layer"])}
    assert {*made["records"]["method"]} == evaluated and {*made["records"]["task"]} == {"abacus_easy"}
    tasks = scores.tasks_of(quick, "general")
    assert tasks == {"maths": ["abacus_easy"], "sums": ["abacus_sums"]}
    assert Outcomes(made["records"], tasks, draws=5).layers(made["layers"], "length").shape == (9, 6)
    assert json.loads((quick.folder / "merges.json").read_text()) == {"shipped": [*shipped][:3]}
