"""Question 6, rivals: scenes, trials on real merges, and tables and words on records with known answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from questions.made_up import FRONTIER, LAYERS, TASKS, assert_in_order, assert_plain, labelled, made_up
from safetensors.torch import load_file

from abacus import CHECKPOINTS
from acm.errors import UserError
from acm.merging.registry import METHODS
from acm.profiles import load_profile
from acm.questions import rivals, rivals_answer, rivals_families, rivals_figures, rivals_fresh, rivals_inputs
from acm.questions.rivals import EQUAL, USUAL, Scene, Trial
from acm.questions.study import Study, plain
from acm.reporting import statistics

ACM = {"abacus-slow": dict(zip(LAYERS, np.linspace(0.2, 0.9, len(LAYERS)), strict=True))}
TRIED = ["linear", "ties", "tsvm", "fisher", "led", "dare_linear", "dare_ties"]
RULES = list(rivals_inputs.RULE_SETTINGS)
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
    scene = rivals_inputs.measured(study, scene, TRIED, RULES)
    rules = rivals_inputs.rule_sets(study, scene, RULES)
    trials, records = rivals.judge(study, scene, [*TRIED, "model_stock"], {"ACM": rules["ACM"]}, ACM)
    return study, scene, trials, records, rules


def test_every_rule_gives_every_layer_a_coefficient(judged):
    rules = judged[-1]
    assert list(rules) == RULES
    for own in rules.values():
        assert set(own["abacus-slow"]) == set(LAYERS) and np.isfinite(list(own["abacus-slow"].values())).all()
    assert rules["ACM"] != rules["ACM, no shift"] != rules["ACM, shift over all layers"]


def test_statistics_are_gathered_once(judged, monkeypatch):
    study, scene = judged[:2]
    monkeypatch.setattr(rivals_inputs, "calibrate", lambda *_, **__: pytest.fail("calibrated again"))
    assert rivals_inputs.measured(study, replace(scene, statistics=None), TRIED, RULES) == scene
    assert rivals_inputs.measured(study, replace(scene, statistics=None), ["led"], ["ACM"]) == scene
    known = json.loads((scene.statistics / "measured.json").read_text())
    assert known["kinds"] == ["fisher", "led", "sensitivity"] and known["estimators"] == ["plug-in", "cka", "distance"]
    for other in ({"kinds": ["aim"]}, {"estimators": ["ksg"]}, {"seed": 1}):
        assert rivals_inputs.suffices(known, known) and not rivals_inputs.suffices(known, known | other)
    assert not rivals_inputs.suffices({}, known)


@pytest.mark.parametrize(
    "methods, rules, needed",
    [
        (["ties"], ["equal norms"], None),
        (["ties", "led"], ["effective rank"], (("led",), ("plug-in",))),
        (["ties"], ["1 − CKA"], ((), ("cka",))),
        (["sens"], [], (("sensitivity",), ("plug-in",))),
        (["ota", "fisher"], ["sensitivity", "ACM"], (("fisher", "sensitivity"), ("plug-in",))),
    ],
)
def test_only_what_is_asked_for_is_gathered(quick, monkeypatch, methods, rules, needed):
    asked = []
    monkeypatch.setattr(rivals_inputs, "calibrated", lambda _, scene, *more: asked.append(more) or scene)
    one, two = rivals_inputs.scenes(quick, CHECKPOINTS / "abacus-base", None)
    assert rivals_inputs.measured(quick, one, methods, rules) == one
    assert asked == ([] if needed is None else [needed])
    asked.clear()  # rules and sensitivities are of one task vector
    kinds = () if needed is None else tuple(kind for kind in needed[0] if kind != "sensitivity")
    rivals_inputs.measured(quick, two, methods, rules)
    assert asked == ([(kinds, ("plug-in",))] if kinds else [])


def test_a_rule_that_reads_the_models_alone_needs_no_calibration(quick):
    (one,) = rivals_inputs.scenes(quick, None, None)
    assert list(rivals_inputs.rule_sets(quick, one, ["equal norms"])) == ["equal norms"]
    with pytest.raises(UserError, match="no statistics"):
        rivals_inputs.rule_sets(quick, one, ["ACM"])


def test_names_that_a_parameter_chooses():
    assert rivals_inputs.selected("rules", None, rivals_inputs.RULE_SETTINGS) == RULES
    assert rivals_inputs.selected("methods", ["ties", "led", "ties"], METHODS) == ["ties", "led"]
    for bad, said in (
        (["ACMM"], r"rules: 'ACMM' is unknown; known are ACM; ACM, shift over all layers; .*; activation shift\."),
        ("ACM", r"rules must be a list of names, or null for all of them, not 'ACM'\."),
        ([], r"rules must be a list of names, or null for all of them, not nothing\."),
        ([3], "rules: '3' is unknown"),
    ):
        with pytest.raises(UserError, match=said):
            rivals_inputs.selected("rules", bad, rivals_inputs.RULE_SETTINGS)


def test_what_the_shipped_profile_of_real_weights_asks_is_known():
    own = load_profile("smol").questions["rivals"]
    assert rivals_inputs.selected("rules", own["rules"], rivals_inputs.RULE_SETTINGS) == own["rules"]
    for name in rivals_inputs.selected("methods", own["methods"], METHODS):
        assert METHODS[name].models[0] == 1 and "seed" not in METHODS[name].example


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
        f"The rival TIES is shown to beat the bar {rivals_answer.EQUALLY}. Above, with scene and setting: TIES (one, "
        "equal norm). These winners were not tested on fresh items. "
    )
    assert_plain(text)
    assert "At equal norm 1 of 3 trials are below" in text
    assert "Before merges are scaled to equal norm, 0 trials are above." in text
    assert (
        "methods at equal norm 1 above, 1 below, 1 without a difference shown, 1 the same as an earlier model." in text
    )
    found = numbers["one"]["method"][EQUAL]
    assert found["above"] == ["TIES"] and found["same"] == {METHODS["tsvm"].title: REFERENCE}
    text, _ = rivals_answer.verdict([(table[0], table[1][table[1]["name"] == "ota"])])
    assert text.startswith(f"No other method or rule is shown to beat the bar {rivals_answer.EQUALLY}. At")


def test_figures_show_every_rival_that_is_no_known_model(table):
    figure = rivals_figures.draw([table], "method")
    assert labelled(figure) == 1
    assert figure.get_label() == "At equal norm TIES beats plain interpolation, and 1 of 3 falls below it"
    assert [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()] == [
        METHODS[name].title for name in ("ties", "iso_c", "ota")
    ]


def test_a_figure_claims_no_winner_that_fresh_items_do_not_confirm(table):
    figure = rivals_figures.draw([table], "method", found_twice(0.0, 0.05))
    assert figure.get_label().startswith("At equal norm no merge is confirmed to beat plain interpolation")
    assert figure.axes[0].get_yticklabels()[0].get_text() == "TIES\n(not confirmed)"


def test_a_figure_of_many_names_those_that_are_told_apart(table):
    scene, rows = table
    alike = rows[rows["name"] == "iso_c"]
    more = [alike.assign(rival=f"other {i}") for i in range(rivals_figures.MANY)]
    figure = rivals_figures.draw([(scene, pd.concat([rows, *more]))], "method")
    titles = {METHODS[name].title for name in ("ties", "ota")}
    names = {label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()}
    assert names == {*titles, "41 more, not told apart"}


def test_what_lies_off_the_axis_or_outside_the_bar_is_written(table):
    rows = table[1].copy()
    rows.loc[rows["name"] == "ota", ["above", "above_low", "above_high"]] -= 60
    columns = ["above", "above_low", "above_high"]
    rows.loc[rows["name"] == "iso_c", [*columns, "verdict"]] = [np.nan] * 3 + ["outside"]
    texts = [text.get_text() for text in rivals_figures.draw([(table[0], rows)], "method").axes[0].texts]
    assert "← −80" in texts and "outside the bar's range" in texts


def test_the_table_as_text(table):
    shown = rivals_answer.shown(table[1])
    assert shown["points above"].str.match(r"[+-]\d+\.\d \[").all() and shown["norm"].eq("1.00").all()


def test_winners_are_above_the_bar_at_equal_norm(table):
    scene, rows = table
    trials = [trial_of(name) for name in rows["name"]]
    (winner,) = rivals_fresh.winners([table], [trials])
    assert winner.names == ("one", "TIES", EQUAL) and winner.trial is trials[0]
    assert winner.first["value"] == pytest.approx(20, abs=0.5)
    for other in ({"setting": USUAL}, {"setting": "permuted"}, {"barred": False}):
        assert not rivals_fresh.winners([(scene, rows.assign(**other))], [trials])
    assert len(rivals_fresh.winners([(scene, rows.assign(setting="ACM"))], [trials])) == 1


def found_twice(ties, iso):
    """The fresh table of two winners, so many points above the bar there, as fractions."""
    scene = Scene("one", "made up", "x", Path("base"), {"slow": Path("slow")})
    first = {"value": 5.0, "low": 2.0, "high": 8.0}
    found = [rivals_fresh.Winner(scene, trial_of(name), first) for name in ("ties", "iso_c")]
    placed = {w.trial.label: (0.6, above) for w, above in zip(found, (ties, iso), strict=True)}
    records = made_up(placed | {REFERENCE: (0.6, 0.0)}, items=120, noise=0.05)
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=400)
    return rivals_fresh.compared(found, {"one": sample}, FRONTIER)


def test_winners_are_confirmed_by_fresh_items_or_are_not(table):
    fresh = found_twice(0.05, 0.0)
    assert fresh["lead"].tolist() == pytest.approx([5, 0], abs=1) and fresh["n"].eq(240).all()
    assert fresh["righter"].tolist() == pytest.approx(fresh["lead"].tolist(), abs=1.5)
    assert fresh["verdict"].tolist() == ["above", "no difference shown"] and fresh["detectable"].between(0.1, 3).all()
    np.testing.assert_allclose(fresh["p_adjusted"], statistics.holm(fresh["p"].to_numpy()))
    assert rivals_fresh.shown(fresh)["verdict"].tolist() == ["confirmed", "not confirmed"]
    text, numbers = rivals_answer.verdict([table], fresh)
    assert_in_order(
        text, "The rival TIES is shown to beat the bar", "TIES (one, equal norm). On 240 fresh items TIES",
        "points above the bar. On fresh items TIES is confirmed (p ", ", adjusted by Holm for 2 winners). The smallest",
        "On the items where TIES was found, the same merge is +5.0 [+2.0, +8.0] points above the bar.",
        "Accuracy and length of TIES on the fresh items, minus those of λ = 0.7 everywhere:",
        "Iso-C (one, equal norm)", "not confirmed",
    )  # fmt: skip
    assert_plain(text)
    assert len(numbers["fresh"]) == 2
    json.dumps(plain(numbers), allow_nan=False)


def test_the_answer_does_not_claim_what_fresh_items_do_not_confirm(table):
    text, numbers = rivals_answer.verdict([table], found_twice(0.0, 0.05))
    assert text.startswith(rivals_answer.UNCONFIRMED) and numbers["one"]["method"][EQUAL]["above"] == ["TIES"]
    below = rivals_fresh.shown(found_twice(-0.1, 0.0))["verdict"]
    assert below.tolist() == ["refuted: below the raised bar", "not confirmed"]


def test_a_winner_outside_the_bar_there_is_not_confirmed(table):
    scene, trial = table[0], trial_of("ties")
    records = made_up({trial.label: (1.2, 0.1), REFERENCE: (0.6, 0.0)})
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=400)
    first = {"value": 5.0, "low": 2.0, "high": 8.0}
    fresh = rivals_fresh.compared([rivals_fresh.Winner(scene, trial, first)], {"one": sample}, FRONTIER)
    assert fresh["verdict"].tolist() == ["outside"]
    text, numbers = rivals_answer.verdict([table], fresh)
    assert_in_order(text, rivals_answer.UNCONFIRMED, "is outside the bar's range.", "TIES is not confirmed")
    assert_plain(text)
    json.dumps(plain(numbers), allow_nan=False)


def test_why_winners_are_not_tested(quick, folder):
    assert "none to test" in rivals_fresh.left_out(quick, [])
    assert "question 2 comes first" in rivals_fresh.left_out(quick, [None])
    skills = Study(str(folder / "mini.yaml"), "general", "quick")
    assert "no fresh items" in rivals_fresh.left_out(skills, [None])


def test_winners_are_merged_again_at_the_references_norm(judged, monkeypatch):
    study, scene, trials = judged[:3]
    frontier = study.results.frontier
    known = made_up({}, items=20, tasks=["abacus_easy_fresh"])
    asked = {}

    def evaluate(model, profile, experiment, folder, label, tasks):
        assert tasks == ["abacus_easy_fresh"] and experiment == "long-to-short"
        asked[label] = (rivals.moved(scene.base, model), rivals.moved(scene.finetuned["abacus-slow"], model))
        found = known[known["method"] == "frontier-0.5"].assign(method=label)
        return found.assign(correct=found["correct"] + 0.1 * (label != REFERENCE))

    monkeypatch.setattr(rivals_fresh, "evaluate_model", evaluate)
    path = rivals_fresh.frontier_file(study)
    path.parent.mkdir(exist_ok=True)
    known[known["method"] != "abacus-slow"].to_parquet(path)
    (trial,) = [trial for trial in trials if (trial.name, trial.setting) == ("ties", EQUAL)]
    winners = [rivals_fresh.Winner(scene, trial, {"value": 5.0, "low": 2.0, "high": 8.0})]
    assert "question 2 comes first" in rivals_fresh.left_out(study, winners)  # it lacks a point of the frontier
    known.assign(more=1).to_parquet(path)
    assert rivals_fresh.left_out(study, winners) == ""
    table = rivals_fresh.table_of(study, winners)
    assert list(asked) == [REFERENCE, trial.label] and table["lead"].tolist() == pytest.approx([10])
    norm, whole = asked[REFERENCE][0], asked[REFERENCE][0] / 0.7
    assert asked[trial.label][0] == pytest.approx(norm, rel=1e-6)
    cosine = (norm**2 + whole**2 - asked[trial.label][1] ** 2) / (2 * norm * whole)
    assert cosine == pytest.approx(trial.cosine, abs=1e-4)
    records = pd.read_parquet(study.folder / "fresh.parquet")
    assert set(records["method"]) == {*frontier, REFERENCE, trial.label} and set(records["scene"]) == {"one"}


def both_models(name="iso_cts", **other):
    """A winner of the scene with two task vectors."""
    folder = CHECKPOINTS / "abacus-base"
    both = {model: CHECKPOINTS / model for model in ("abacus-fast", "abacus-slow")}
    scene = Scene("two", "made up", "long-to-short", folder, both)
    return rivals_fresh.Winner(scene, replace(trial_of(name), **other), {"value": 5.0, "low": 2.0, "high": 8.0})


def test_fresh_families_test_methods_at_equal_norm_that_read_no_statistics(table):
    found = [both_models(), both_models("fisher"), both_models(kind="rule"), both_models(setting="ACM")]
    assert rivals_families.tested(found) == found[:1]
    alone = rivals_fresh.Winner(table[0], trial_of("ties"), found[0].first)
    assert rivals_families.tested([alone]) == []


def test_winners_are_held_against_the_bar_of_each_fresh_family(quick, tmp_path, monkeypatch):
    winner, frontier = both_models(), quick.results.frontier
    assert rivals_families.table_of(quick, [winner], tmp_path).empty  # question 5 has asked none
    for family in ("seed-1", "seed-2"):
        for model in ("abacus-base", "abacus-fast", "abacus-slow"):
            (tmp_path / family / model).mkdir(parents=True)
            (tmp_path / family / model / "config.json").touch()
    curves = [made_up({}, items=40, tasks=["abacus_easy"], seed=i).assign(family=f"seed-{i + 1}") for i in range(3)]
    path = rivals_families.records_file(quick)
    path.parent.mkdir(exist_ok=True)
    pd.concat(curves).to_parquet(path)
    merged = []

    def evaluated(study, scene, trials, tasks):
        (trial,) = trials
        merged.append(trial.recipe)
        assert tasks is None and scene.base.parent == scene.finetuned["abacus-slow"].parent
        lead = {"seed-1": 0.2, "seed-2": 0.0}[scene.base.parent.name]
        own = curves[scene.base.parent.name == "seed-2"].query("method == 'frontier-0.5' and item < 3")
        better = own.assign(method=trial.label, correct=own["correct"] + lead)
        others = [own.assign(method=name) for name in [scene.reference_name, *rivals_fresh.raised(scene, [])]]
        others[-1]["correct"] += 0.1 * (scene.base.parent.name == "seed-1")  # a shorter average that raises the bar
        return pd.concat([*others, better])

    monkeypatch.setattr(rivals_families, "evaluated", evaluated)
    table = rivals_families.table_of(quick, [winner], tmp_path)
    assert [*table["family"]] == ["seed-1", "seed-2", "all"] and [*frontier] == FRONTIER
    assert table["above"].tolist() == pytest.approx([20, 0, 10], abs=1e-9)
    assert table["lead"].tolist() == pytest.approx([10, 0, 5], abs=1e-9)  # above the raised bar
    assert table["righter"].tolist() == pytest.approx([20, 0, 10]) and table["longer"].eq(0).all()
    assert table["verdict"][0] == "above" and str(tmp_path / "seed-2") in merged[1]["base_model"]
    records = pd.read_parquet(quick.folder / "families.parquet")
    assert records["item"].max() < 3  # those of the study
    sentence = " ".join(rivals_families.told(table))
    assert sentence.startswith("Over 2 fresh families Iso-CTS (two, equal norm) is +10.0 [")
    assert "is +5.0 [" in sentence and "In 1 of these families" in sentence and rivals_families.told(table[:0]) == []
    assert len(rivals_families.shown(table)) == 3
