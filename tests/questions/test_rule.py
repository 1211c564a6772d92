"""Question 5, whether there is a better rule, on records with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from questions.made_up import (
    FRONTIER,
    LAMBDA,
    LAYERS,
    PARENTS,
    TASKS,
    assert_in_order,
    assert_plain,
    information,
    labelled,
    made_up,
    sampled,
)

from acm.errors import UserError
from acm.questions import rule, tilts, variants
from acm.questions.study import SLIM, plain
from acm.reporting import statistics

MADE = ("ACM", "flat", "ramp", rule.TILT)


def family_table(flat=0.0, ramp=0.0, acm=0.0, tilt=0.0, names=("one", "two", "three"), **setting):
    """Records of families; a float, or one for each."""
    heights = [np.broadcast_to(h, len(names)) for h in (acm, flat, ramp, tilt)]
    return pd.concat(
        [
            made_up(dict(zip(MADE, [(0.4, h[i]) for h in heights], strict=True)), seed=i, **setting).assign(family=name)
            for i, name in enumerate(names)
        ],
        ignore_index=True,
    )


def answered(records, tasks=TASKS):
    table, lead = rule.leads(records, tasks, ["frontier-0.5"], 0)
    attempts = pd.DataFrame(
        {
            "accuracy": [50.0, 60],
            "length": [30.0, 40],
            "above": [1.0, -2.0],
            "verdict": ["above", "below"],
            "bar": [-1.0, -2.0],
            "p_adjusted": [0.2, 0.01],
            "bar_verdict": ["no difference shown", "below"],
        },
        index=["a", "b"],
    )
    return table, lead, *rule.verdict(table, lead, attempts)


@pytest.mark.parametrize(
    "flat, outcome, head",
    [
        (0.03, "above", "One λ for all layers, the mean of ACM's, beats the paper's rule"),
        (-0.03, "below", "The paper's rule beats one λ"),
        (0.0, "no difference shown", "One λ for all layers, the mean of ACM's, is not shown to beat"),
    ],
)
def test_a_rule_that_leads_by_construction(flat, outcome, head):
    table, lead, text, numbers = answered(family_table(flat=flat, ramp=-0.1, noise=0.02))
    whole = table[table["family"] == "all"].set_index("rule")
    assert numbers["outcome"] == outcome and text.startswith(head) and lead["flat"].shape[0] == 3
    assert whole.loc["flat", "lead"] == pytest.approx(100 * flat, abs=0.6) and whole.loc[
        "ramp", "above"
    ] == pytest.approx(-10, abs=0.6)
    assert pd.isna(whole.loc["ACM", "lead"]) and len(table) == 4 * 5  # with the best single λ
    assert_in_order(
        text,
        "a ramp fixed in advance is shown to be shorter than ACM in none and less often right in all",
        "Over 3 fresh families",
        f"{whole.loc['flat', 'lead']:+.2f} [",
        "families: ACM -",
        f"ramp {whole.loc['ramp', 'above']:+.2f}",
        f"ramp {whole.loc['ramp', 'righter']:+.1f} [",
        "points, +0.0 [+0.0, +0.0] tokens (shorter in none, less often right in all, more often in none)",
        "Of 2 tilts",
        "1 lie above",
        "1 below",
        "lie none of these tilts and below the bar 1",
    )
    assert_plain(text)
    json.dumps(plain(numbers), allow_nan=False)


def test_families_that_disagree_widen_the_interval():
    table, _, text, _ = answered(family_table(flat=[0.1, -0.1, 0.0]))
    whole = table[table["family"] == "all"].set_index("rule").loc["flat"]
    assert whole["lead"] == pytest.approx(0, abs=1e-9) and whole["lead_high"] - whole["lead_low"] > 8
    assert table[table["rule"] == "flat"].set_index("family")["lead"].to_dict() == pytest.approx(
        {"one": 10, "two": -10, "three": 0, "all": 0}, abs=1e-9
    )
    assert text.startswith(rule.HEADS["no difference shown"])


def test_a_family_outside_its_frontier_leaves_the_rule_undecided():
    records = family_table()
    part = (records["family"] == "two") & (records["method"] == "flat")
    records.loc[part, "length"] = 5.0
    table, _, text, numbers = answered(records)
    assert numbers["outcome"] == "outside"
    assert (
        table[(table["rule"] == "flat") & table["family"].isin(["two", "all"])][
            ["above", "lead", "above_low", "lead_high"]
        ]
        .isna()
        .all(axis=None)
    )
    assert_in_order(
        text,
        rule.HEADS["outside"],
        "flat has no lead over ACM",
        "families: ACM +0.0",
        "flat outside the bar's range; ramp +0.0",
        "on the bar",
    )
    assert_plain(text)
    json.dumps(plain(numbers), allow_nan=False)


def test_one_family_is_a_family():
    _, _, text, _ = answered(family_table(names=["one"]))
    assert_in_order(text, "Over 1 fresh family flat")


def test_the_items_of_families_are_drawn_together():
    records = family_table(flat=0.01, names=["one", "two"])
    same = pd.concat([records[records["family"] == "one"], records[records["family"] == "one"].assign(family="two")])
    _, lead = rule.leads(same, TASKS, ["frontier-0.5"], 3)
    np.testing.assert_array_equal(lead["ramp"][0], lead["ramp"][1])


def test_each_rule_has_a_row_with_its_mean_and_a_mark_for_each_family():
    table, _ = rule.leads(family_table(flat=[0.01, 0.03, 0.05]), TASKS, ["frontier-0.5"], 0)
    figure = rule.draw(table)
    assert labelled(figure) == 3
    panel = figure.axes[1]
    whole = table[table["family"] == "all"].set_index("rule")["righter"]
    rules = [name for name in whole.index if name != "ACM"]
    assert [text.get_text().split()[0] for text in panel.get_yticklabels()] == [name.split()[0] for name in rules]
    drawn = {round(y, 2): xs for xs, (y, *_) in (line.get_data() for line in panel.lines if len(line.get_xdata()) == 3)}
    assert drawn[round(len(rules) - 1.28, 2)].tolist() == pytest.approx([1, 3, 5])  # the flat rule by family
    assert panel.containers[0].lines[0].get_xdata().tolist() == pytest.approx(whole[rules].tolist())
    assert panel.get_xlim() == figure.axes[0].get_xlim() != figure.axes[2].get_xlim()  # points alike, tokens not


def test_rules_and_tilts_stay_on_the_layers_and_in_range():
    assert rule.flat(LAMBDA) == pytest.approx(dict.fromkeys(LAYERS, np.mean([LAMBDA[str(i)] for i in range(6)])))
    ramp = variants.line(LAMBDA, *rule.RAMP)
    assert [ramp["embed"], ramp["3"], ramp["lm_head"]] == pytest.approx([0.1, 0.3, 0.5]) and set(
        variants.line(LAMBDA, -1, 2).values()
    ) <= {*np.clip(np.linspace(-1, 2, 9), 0, 1)}
    assert variants.parted(LAMBDA, 1.0, 0.2, 0.0) == dict.fromkeys(LAYERS, 1.0) | {
        "5": 0.2,
        "norm": 0.2,
        "lm_head": 0.0,
    }
    for name, found in tilts.tried(LAMBDA).items():
        assert list(found) == LAYERS and all(0 <= v <= 1 for v in found.values()), name


def test_tilts_against_the_frontier_are_numbers_with_a_verdict():
    found = tilts.against_frontier(
        sampled({"up": (0.4, 0.05), "down": (0.4, -0.05), "far": (1.5, 0.0)}), ["up", "down", "far"], FRONTIER
    )
    assert found["verdict"].tolist() == ["above", "below", "outside"] and found["above"].dtype == float
    assert (
        found.loc[["up", "down"], "above"].tolist() == pytest.approx([5, -5])
        and found.loc["far", ["above", "above_low"]].isna().all()
    )
    assert found["bar"].tolist()[:2] == pytest.approx([5, -5])
    assert found["bar_verdict"].tolist() == ["above", "below", "outside"]


def test_tilts_are_one_family_of_tests():
    names = [f"tilt {i}" for i in range(30)]
    sample = sampled(dict.fromkeys(names, (0.4, 0.0)) | {"high": (0.4, 0.05)}, noise=0.2, draws=2000)
    found = tilts.against_frontier(sample, [*names, "high"], FRONTIER)
    np.testing.assert_allclose(found["p_adjusted"], statistics.holm(found["p"].to_numpy()))
    alone = [statistics.verdict(statistics.above_bar(sample, name, FRONTIER)) for name in found.index]
    assert (found["bar_verdict"] != "no difference shown").sum() < sum(word != "no difference shown" for word in alone)
    one = tilts.against_frontier(sampled({"high": (0.4, 0.05)}, noise=0.02, draws=2000), ["high"], FRONTIER)
    assert one["p_adjusted"].tolist() == one["p"].tolist() and one["bar_verdict"].tolist() == ["above"]


def test_a_shorter_rule_that_loses_accuracy_in_some_families_is_counted_so():
    records = family_table(ramp=[0.0, -0.1, 0.1])
    records.loc[records["method"] == "ramp", "length"] -= 5
    table, _, text, numbers = answered(records)
    assert numbers["in_families"]["ramp"] == {"shorter": 3, "lost": 1, "gained": 1}
    assert_in_order(
        text, "a ramp fixed in advance is shown to be shorter than ACM in all and less often right in 1 of 3",
        "ramp +0.0 [", "-5.0 [-5.0, -5.0] tokens (shorter in all, less often right in 1 of 3, more often in 1 of 3)",
    )  # fmt: skip
    row = table[table["family"] == "all"].set_index("rule").loc["ramp"]
    assert row["righter_low"] < -20 and row["righter_high"] > 20  # families disagree
    assert table.loc[table["rule"] == "ACM", "righter"].isna().all()


def test_a_family_has_the_single_coefficient_that_the_other_half_chose_and_the_one_chosen_after_looking():
    records = made_up({"ACM": (0.9, 0.0), "frontier-0.4": (0.4, 0.2)})
    found = rule.with_plain(records, [*FRONTIER, "frontier-0.4"])
    right = found.groupby("method")[["correct", "length"]].mean()
    for name in (rule.SINGLE, rule.PLAIN):  # the second best is longer, the best not longer than ACM
        assert right.loc[name].tolist() == pytest.approx(right.loc["frontier-0.4"].tolist())
    assert len(found) == len(records) * 7 // 5
    without = rule.with_plain(records[records["method"] != "frontier-0.4"], FRONTIER)
    assert rule.SINGLE in set(without["method"]) and rule.PLAIN not in set(without["method"])


def test_a_familys_records_are_of_its_own_parents_and_calibration(quick, tmp_path, monkeypatch):
    for name in PARENTS:
        (tmp_path / "fresh" / name).mkdir(parents=True)
    seen, merges = {}, {}

    def calibrated(base, finetuned, texts, *_, **named):
        seen.update(base=base, finetuned=finetuned, texts=len(texts), **named)
        return information(len(texts), ("none",))

    def answers(method):
        records = made_up({"it": (0.5, 0)}, items=3, tasks=["abacus_easy"])
        return records[records["method"] == "it"].assign(method=method)

    def merged(recipe, profile, experiment, folder, name):
        merges[name] = recipe
        return answers(name)

    monkeypatch.setattr(rule, "calibrate", calibrated)
    monkeypatch.setattr(rule, "evaluate_model", lambda *given: answers(given[-1]))
    monkeypatch.setattr(rule, "evaluate_merge", merged)
    records = rule.family_records(quick, "fresh", tmp_path)
    assert seen == {
        "base": tmp_path / "fresh" / PARENTS[0],
        "finetuned": {PARENTS[1]: tmp_path / "fresh" / PARENTS[1]},
        "texts": 4,
        "controls": ("none",),
        "estimators": ("plug-in",),
        "seed": quick.profile.seed,
        "dtype": "float32",
        "device": "cpu",
        "max_tokens": None,
    }
    assert list(records) == [*SLIM, "family"] and set(records["method"]) == {*FRONTIER, *MADE}
    lam = {name: recipe["coefficients"][PARENTS[1]] for name, recipe in merges.items()}
    assert (
        set(lam["frontier-0.5"].values()) == {0.5}
        and lam["flat"] == rule.flat(lam["ACM"])
        and lam["ramp"]["lm_head"] == 0.5
        and lam[rule.TILT] == dict.fromkeys(LAYERS, 1.0) | dict.fromkeys(["5", "norm", "lm_head"], 0.5)
    )
    assert all(recipe["base_model"] == str(tmp_path / "fresh" / PARENTS[0]) for recipe in merges.values())


def test_a_family_that_is_not_trained_names_the_remedy(quick, tmp_path):
    with pytest.raises(UserError, match="make families"):
        rule.family_records(quick, "seed-9", tmp_path)
    with pytest.raises(UserError, match="make families"):
        rule.trained(tmp_path)
