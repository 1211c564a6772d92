"""Question 6, rivals: scenes, trials on real merges, and tables and words on records with known answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from questions.made_up import FRONTIER, LAYERS, TASKS, labelled, made_up
from safetensors.torch import load_file

from abacus import CHECKPOINTS
from acm.errors import UserError
from acm.merging.registry import METHODS
from acm.questions import rivals, rivals_answer, rivals_inputs
from acm.questions.rivals import EQUAL, USUAL, Scene, Trial
from acm.questions.study import Study
from acm.reporting import statistics

ACM = {"abacus-slow": dict(zip(LAYERS, np.linspace(0.2, 0.9, len(LAYERS)), strict=True))}
TRIED = ["linear", "ties", "tsvm", "fisher", "led", "dare_linear", "dare_ties"]
REFERENCE = "λ = 0.7 everywhere"


def tensors(name):
    return load_file(CHECKPOINTS / name / "model.safetensors")


def test_how_far_a_model_moved_is_the_norm_of_all_its_tensors_together():
    fast, slow = tensors("abacus-fast"), tensors("abacus-slow")
    expected = sum((slow[name].double() - fast[name].double()).square().sum().item() for name in fast) ** 0.5
    assert rivals.moved(CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow") == pytest.approx(expected, rel=1e-9)


def test_sketches_are_as_far_apart_as_their_models():
    fast, slow, base = (CHECKPOINTS / name for name in ("abacus-fast", "abacus-slow", "abacus-base"))
    sketches = {path: rivals.sketch(fast, path) for path in (fast, slow, base)}
    assert not sketches[fast].any() and sketches[slow].shape == (rivals.SKETCHED,)
    for first, second in ((fast, slow), (slow, base)):
        found = np.linalg.norm(sketches[first] - sketches[second])
        assert found == pytest.approx(rivals.moved(first, second), rel=0.1)


def test_too_few_draws_to_adjust_for_all_trials_are_refused(table):
    scene, trials = table[0], [trial_of("ties"), *(trial_of("iso_c", str(i)) for i in range(20))]
    records = made_up({trial.label: (0.6, 0.1) for trial in trials} | {REFERENCE: (0.7, 0.0)})
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=400)
    with pytest.raises(ValueError, match="400 draws are too few to adjust 21 trials"):
        rivals_answer.compared(scene, trials, sample, FRONTIER)


def test_scenes_of_a_profile(quick):
    one, two, skills = rivals_inputs.scenes(quick, CHECKPOINTS / "abacus-base", "general")
    assert one.alone and list(one.finetuned) == ["abacus-slow"] and one.reference_name == REFERENCE
    assert list(two.finetuned) == ["abacus-fast", "abacus-slow"] and two.base.name == "abacus-base"
    assert list(skills.finetuned) == ["abacus-sums", "abacus-words"] and skills.experiment == "general"
    assert [scene.name for scene in rivals_inputs.scenes(quick, None, None)] == ["one"]
    assert two.reference["parameters"] == {"weight": 0.5} and one.reference["parameters"] == {"weight": 0.7}
    with pytest.raises(UserError, match="no statistics"):
        one.measured("fisher")


def test_what_a_scene_can_take(quick):
    one, two, _ = rivals_inputs.scenes(quick, CHECKPOINTS / "abacus-base", "general")
    taken = {scene.name: {name for name, row in METHODS.items() if scene.takes(row)} for scene in (one, two)}
    assert {"sens", "interpolation", "slerp", "nearswap"} <= {name for name, row in METHODS.items() if row.single}
    assert "model_stock" in taken["two"] - taken["one"] and "interpolation" in taken["one"] - taken["two"]
    assert {"nuslerp", "karcher", "multislerp"} <= taken["one"] & taken["two"]  # of the base as one more model
    assert not {name for name in taken["one"] if METHODS[name].reads_files}
    measured = replace(one, statistics=Path("somewhere"))
    assert {"fisher", "led", "sens", "aim"} <= {name for name, row in METHODS.items() if measured.takes(row)}


@pytest.fixture(scope="module")
def judged(folder):
    """Trials of the scene of one task vector, their records, λ by every rule, and how often models were evaluated."""
    study = Study(str(folder / "mini.yaml"), "long-to-short", "rivals")
    (scene,) = rivals_inputs.scenes(study, None, None)
    scene = rivals_inputs.measured(study, scene, TRIED)
    rules = rivals_inputs.rule_sets(study, scene)
    trials, records = rivals.judge(study, scene, [*TRIED, "model_stock"], {"ACM": rules["ACM"]}, ACM)
    return study, scene, trials, records, rules


def test_every_rule_gives_every_layer_a_coefficient(judged):
    rules = judged[-1]
    assert list(rules) == list(rivals_inputs.RULE_SETTINGS)
    for own in rules.values():
        assert set(own["abacus-slow"]) == set(LAYERS) and np.isfinite(list(own["abacus-slow"].values())).all()
    assert rules["ACM"] != rules["ACM, no shift"] != rules["ACM, shift over all layers"]


def test_statistics_are_gathered_once(judged, monkeypatch):
    study, scene = judged[:2]
    monkeypatch.setattr(rivals_inputs, "calibrate", lambda *_, **__: pytest.fail("calibrated again"))
    assert rivals_inputs.measured(study, replace(scene, statistics=None), TRIED) == scene
    kinds = json.loads((scene.statistics / "measured.json").read_text())["kinds"]
    assert kinds == ["fisher", "led", "sensitivity"]


def test_trials_have_the_references_norm_and_known_models_are_not_evaluated_again(judged):
    trials = {(trial.name, trial.setting): trial for trial in judged[2]}
    assert {name for name, _ in trials} == {*TRIED, "ACM"}
    for (_, setting), trial in trials.items():
        assert setting == USUAL or trial.norm == pytest.approx(1, rel=1e-9)
        assert -1 <= trial.cosine <= 1 + 1e-9
    for name in ("tsvm", "fisher"):  # one task vector: the model itself, and at equal norm the reference
        assert trials[name, USUAL].same_as == "abacus-slow" and trials[name, EQUAL].same_as == REFERENCE
        assert trials[name, USUAL].norm == pytest.approx(1 / 0.7, rel=1e-5) and (name, "ACM") not in trials
        assert trials[name, USUAL].cosine == pytest.approx(1, abs=1e-6)
    assert trials["linear", EQUAL].same_as == REFERENCE and trials["linear", USUAL].norm == pytest.approx(5 / 7)
    assert trials["dare_ties", USUAL].same_as == "DARE, example" and not trials["dare_linear", USUAL].same_as
    assert not trials["ties", EQUAL].same_as and trials["ties", EQUAL].cosine < 0.95
    assert ("ties", "ACM") in trials and ("ACM", "permuted") in trials and ("ACM", "reversed") in trials


def test_records_of_trials_are_complete(judged):
    _, scene, trials, records, _ = judged
    wanted = {trial.label for trial in trials} | {"abacus-fast", "abacus-slow", scene.reference_name, "frontier-0.5"}
    assert set(records["method"]) == wanted and records.groupby("method").size().eq(3).all()
    table = rivals_answer.table_of(judged[0], scene, trials, records)
    assert len(table) == len(trials) and table["n"].eq(3).all()


def trial_of(name, setting=EQUAL, **more):
    return Trial("method", name, METHODS[name].title, setting, 1.0, 0.9, **more)


@pytest.fixture(scope="module")
def table():
    """The table of three methods: 20 points above the bar, on it, 20 below; and one that is a known model."""
    scene = Scene("one", "one task vector: made up", "x", Path("base"), {"slow": Path("slow")})
    trials = [trial_of("ties"), trial_of("iso_c"), trial_of("ota"), trial_of("tsvm", same_as=REFERENCE)]
    placed = {trial.label: (0.6, above) for trial, above in zip(trials, (0.2, 0.0, -0.2), strict=False)}
    records = made_up(placed | {REFERENCE: (0.7, 0.0)}, items=120)
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=400)
    return scene, rivals_answer.compared(scene, trials, sample, FRONTIER)


def test_points_above_the_bar_and_verdicts(table):
    rows = table[1].set_index("name")
    assert rows["above"].round(6).tolist() == pytest.approx([20, 0, -20, 0], abs=0.5)
    assert rows["verdict"].tolist() == ["above", "no difference shown", "below", f"is {REFERENCE}"]
    assert rows["p_adjusted"].isna().tolist() == [False, False, False, True]
    assert (rows["righter"] - rows["righter"]["iso_c"]).round(1).tolist()[:3] == [20, 0, -20]


def test_an_interval_that_holm_takes_back_is_no_difference():
    row = pd.Series({"same_as": "", "p_adjusted": 0.2})
    lead = np.concatenate([[0.1], np.linspace(0.05, 0.15, 200)])
    assert rivals_answer.outcome(row, lead) == "no difference shown"
    assert rivals_answer.outcome(row.replace(0.2, 0.01), lead) == "above"
    assert rivals_answer.outcome(row, np.full(201, np.nan)) == "outside"


def test_the_answer_names_who_is_above_and_counts_the_rest(table):
    text, numbers = rivals_answer.verdict([table])
    assert text.startswith(
        "At equal norm above the bar or plain averaging: TIES (one, equal norm). At equal norm 1 of 3 trials that are "
    )
    assert "where task vectors differ in length too, 0 are above." in text
    assert "methods, equal norm: 1 above, 1 below, 1 not told apart, 1 the same as an earlier model." in text
    found = numbers["one"]["method"][EQUAL]
    assert found["above"] == ["TIES"] and found["same"] == {METHODS["tsvm"].title: REFERENCE}
    text, _ = rivals_answer.verdict([(table[0], table[1][table[1]["name"] == "ota"])])
    assert text.startswith(
        "None is shown to be: at equal norm none is above the bar, or above plain averaging where skills are merged. At"
    )


def test_figures_show_every_rival_that_is_no_known_model(table):
    figure = rivals_answer.draw([table], "method")
    assert labelled(figure) == 1
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        METHODS[name].title for name in ("ties", "iso_c", "ota")
    ]


def test_the_table_as_text(table):
    shown = rivals_answer.shown(table[1])
    assert shown["points above"].str.match(r"[+-]\d+\.\d \[").all() and shown["norm"].eq("1.00").all()
