"""Questions 2, 4 and 5 and the study on records with known answers: numbers, figures, and whether sentences say them."""

import json
import shutil
from itertools import permutations

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from helpers_questions import LAYERS, assert_in_order, information, labelled
from matplotlib import pyplot as plt
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.texts import read_texts, select_texts
from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.questions import coefficients, layers, rule, variants
from acm.questions.study import SLIM, Study, counted, inside, plain
from acm.reporting import report, statistics
from acm.reporting.publish import publish_questions

LAMBDA = dict(zip(LAYERS, (0.51, 0.55, 0.544, 0.543, 0.542, 0.545, 0.546, 0.552, 0.583), strict=True))
TASKS = ["easy", "hard"]
PARENTS = ["abacus-fast", "abacus-slow"]
FRONTIER = [PARENTS[0], "frontier-0.5", PARENTS[1]]


def made_up(placed, items=60, noise=0.0, seed=0, tasks=TASKS):
    """Records on the line between two parents: {method: (place on it, accuracy above it)}, with noise of each item of each method."""
    rng, rows = np.random.default_rng(seed), []
    for task in tasks:
        fast, slow = (rng.random(items) < p for p in (0.4, 0.9))
        short, long = rng.uniform(10, 20, items), rng.uniform(80, 200, items)
        for method, (place, above) in {
            PARENTS[0]: (0, 0),
            "frontier-0.5": (0.5, 0),
            PARENTS[1]: (1, 0),
            **placed,
        }.items():
            correct = (
                (1 - place) * fast + place * slow + above + (noise * rng.normal(size=items) if method in placed else 0)
            )
            length = (1 - place) * short + place * long
            rows += [(method, task, i, 0, c, n, False) for i, (c, n) in enumerate(zip(correct, length, strict=True))]
    return pd.DataFrame(rows, columns=SLIM)


def sampled(placed, draws=300, **setting):
    records = made_up(placed, **setting)
    return statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=draws)


# --- variants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_variants_keep_layers_values_and_mean(seed):
    rng = np.random.default_rng(seed)
    given = dict(zip(LAYERS, rng.random(len(LAYERS)).tolist(), strict=True))
    found = variants.uniform(given)
    assert list(found) == LAYERS and list(found.values()) == pytest.approx([np.mean(list(given.values()))] * 9)
    for other in (
        variants.permuted(given, seed),
        variants.reversed_order(given),
        variants.ranked(given, dict(zip(LAYERS, rng.random(9), strict=True))),
    ):
        assert other.keys() == given.keys() and sorted(other.values()) == sorted(given.values())
        assert all(type(value) is float for value in other.values())


def test_permutations_follow_from_the_seed_alone():
    assert variants.permuted(LAMBDA, 3) == variants.permuted(LAMBDA, 3)
    assert len({tuple(variants.permuted(LAMBDA, seed).values()) for seed in range(20)}) == 20


def test_reversed_turns_every_rank_round_and_back():
    turned = variants.reversed_order(LAMBDA)
    assert spearmanr([LAMBDA[k] for k in LAYERS], [turned[k] for k in LAYERS]).statistic == pytest.approx(-1)
    assert variants.reversed_order(turned) == LAMBDA


def test_ranked_goes_with_the_score_and_is_the_identity_by_own_value():
    scores = {layer: -i for i, layer in enumerate(LAYERS)}
    dealt = variants.ranked(LAMBDA, scores)
    assert [dealt[layer] for layer in LAYERS] == sorted(LAMBDA.values(), reverse=True)
    assert variants.ranked(LAMBDA, LAMBDA) == LAMBDA


def test_single_sets_one_layer():
    assert variants.single(LAMBDA, "2", 0.0, 1.0) == {layer: float(layer != "2") for layer in LAYERS}


@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_magnitudes_are_the_norms_of_the_tensors(kind, request, tensors):
    base, left, _ = request.getfixturevalue(kind)
    ours, theirs = tensors(base), tensors(left)
    sums = {}
    for name, x in ours.items():
        d, n = sums.get(layer_of(name), (0.0, 0.0))
        x, y = x.double(), theirs[name].double()
        sums[layer_of(name)] = d + (y - x).square().sum().item(), n + x.square().sum().item()
    found = variants.magnitudes(base, left)
    assert found == pytest.approx({layer: (d / n) ** 0.5 for layer, (d, n) in sums.items()}, rel=1e-6)
    assert set(found) == {"embed", "0", "1", "norm", "lm_head"}
    assert set(variants.magnitudes(base, base).values()) == {0.0}


def test_magnitude_of_a_tied_head_is_the_embeddings_and_of_more_rows_that_of_the_shared(f32, tmp_path):
    base, left, _ = f32
    for i, source in enumerate((base, left)):
        shutil.copytree(source, tmp_path / str(i))
        parts = load_file(source / "model.safetensors")
        del parts["lm_head.weight"]
        if i:
            parts["model.embed_tokens.weight"] = torch.cat(
                [parts["model.embed_tokens.weight"], torch.full((3, 16), 99.0)]
            )
        save_file(parts, tmp_path / str(i) / "model.safetensors", {"format": "pt"})
    tied, plainly = variants.magnitudes(tmp_path / "0", tmp_path / "1"), variants.magnitudes(base, left)
    assert tied["lm_head"] == tied["embed"] == pytest.approx(plainly["embed"])
    assert set(variants.ranked(dict.fromkeys(plainly, 0.5), tied)) == set(plainly)


# --- question 2: coefficients -----------------------------------------------------------------------------------------


def family_of(acm, uniform, kinds=("null", "permuted", "reversed", "magnitude"), draws=3):
    """Merges at place 0.4: ACM and uniform at these heights for each draw, the other kinds on the line."""
    placed = {f"acm {i}": (0.4, acm) for i in range(draws)} | {f"uniform {i}": (0.4, uniform) for i in range(draws)}
    placed |= {f"null {i}": (0.4, 0.0) for i in range(draws)} if "null" in kinds else {}
    return placed | {f"{kind} 0": (0.4, 0.0) for kind in kinds if kind != "null"}


@pytest.mark.parametrize("acm, uniform, word, head", [
    (0.03, 0.0, "above", "Yes: "), (0.0, 0.03, "below", "Not for the better: one λ"), (0.0, 0.0, "no difference shown", "No difference shown"),
])  # fmt: skip
def test_a_lead_by_construction_is_found_and_said(acm, uniform, word, head):
    table = coefficients.comparison(sampled(family_of(acm, uniform), noise=0.02), FRONTIER).set_index("kind")
    row = table.loc["uniform"]
    assert row["lead"] == pytest.approx(100 * (acm - uniform), abs=0.6) and row["verdict"] == word
    assert row["lead_low"] <= 100 * (acm - uniform) <= row["lead_high"]
    assert table.loc["acm", "above"] == pytest.approx(100 * acm, abs=0.6) and (table["outside"] == 0).all()
    text, numbers = coefficients.verdict(table.reset_index())
    assert_in_order(text, head, f"{row['lead']:+.2f} [{row['lead_low']:+.2f}, {row['lead_high']:+.2f}] points over 3 calibration draws", f"{row['detectable']:.1f} points",
             "Lead over other λ", "λ of Gaussian noise")  # fmt: skip
    assert numbers["lead"]["uniform"]["lead"] == row["lead"] and text.startswith(head)
    json.dumps(plain(numbers), allow_nan=False)


def test_lengths_and_accuracies_of_the_comparison_are_the_means_over_draws():
    records = made_up({"acm 0": (0.3, 0.0), "acm 1": (0.5, 0.1), "uniform 0": (0.3, 0.0), "uniform 1": (0.5, 0.1)})
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=50)
    row = coefficients.comparison(sample, FRONTIER).set_index("kind").loc["acm"]
    ours = records[records["method"].isin(["acm 0", "acm 1"])]
    assert row["accuracy"] == pytest.approx(100 * ours["correct"].mean()) and row["length"] == pytest.approx(
        ours["length"].mean()
    )
    assert row["above"] == pytest.approx(5.0) and row["merges"] == 2


def test_uniform_and_null_are_paired_by_the_number_of_the_draw_not_by_place():
    heights = [0.0, 0.1, 0.2]
    placed = {f"acm {i}": (0.4, heights[i]) for i in range(3)} | {
        f"uniform {i}": (0.4, heights[i] - 0.01) for i in (2, 0, 1)
    }
    row = coefficients.comparison(sampled(placed), FRONTIER).set_index("kind").loc["uniform"]
    assert [row["lead"], row["lead_low"], row["lead_high"]] == pytest.approx([1.0] * 3) and row["verdict"] == "above"


def test_permutations_as_many_as_draws_are_still_compared_with_the_first():
    heights = [0.0, 0.1, 0.2]
    placed = {f"{kind} {i}": (0.4, heights[i]) for kind in ("acm", "uniform") for i in range(3)} | {
        f"permuted {i}": (0.4, heights[i]) for i in range(3)
    }
    table = coefficients.comparison(sampled(placed), FRONTIER).set_index("kind")
    assert table.loc["uniform", "lead"] == pytest.approx(0, abs=1e-9)
    assert table.loc["permuted", "lead"] == pytest.approx(-10) and table.loc["permuted", "lead_low"] < -13


def test_intervals_over_draws_are_wider_than_over_items_alone():
    heights = [-0.1, 0.0, 0.1]
    placed = {f"acm {i}": (0.4, heights[i]) for i in range(3)} | {f"uniform {i}": (0.4, 0.0) for i in range(3)}
    row = coefficients.comparison(sampled(placed), FRONTIER).set_index("kind").loc["uniform"]
    assert (
        row["lead"] == pytest.approx(0, abs=1e-9)
        and row["lead_high"] - row["lead_low"] > 8
        and row["verdict"] == "no difference shown"
    )
    widened = (3 / 2) ** 0.5 * 4.303 / 1.96  # standard error of three values, t of two degrees of freedom
    assert row["detectable"] == pytest.approx(2.8 * 100 * widened * np.std(heights) / 3**0.5, rel=0.15)


def test_kinds_are_told_apart_where_one_begins_with_another():
    sample = sampled(
        {"uniform 0": (0.4, 0), "uniform-ties 0": (0.4, 0), "uniform 10": (0.4, 0), "uniform-none 0": (0.4, 0)}, draws=5
    )
    assert coefficients.names_of(sample, "uniform") == ["uniform 0", "uniform 10"]
    assert coefficients.names_of(sample, "uniform-ties") == ["uniform-ties 0"] and not coefficients.names_of(
        sample, "absent"
    )


@pytest.mark.parametrize("which", ["uniform 1", "acm 1"])
def test_one_merge_outside_the_frontier_leaves_its_kind_undecided(which):
    placed = family_of(0.0, 0.0) | {which: (1.3, 0.0)}
    table = coefficients.comparison(sampled(placed), FRONTIER)
    row = table.set_index("kind").loc["uniform"]
    assert row["verdict"] == "outside" and row[["lead", "lead_low", "lead_high", "detectable"]].isna().all()
    kind = which.split()[0]
    assert table.set_index("kind")["outside"].to_dict() == {k: int(k == kind) for k in table["kind"]}
    assert table.set_index("kind").loc[kind, ["above", "above_low", "above_high"]].isna().all()
    text, numbers = coefficients.verdict(table)
    assert_in_order(
        text, "Undecided", f"{int(kind == 'uniform')} of the uniform merges and {int(kind == 'acm')} of ACM's"
    )
    json.dumps(plain(numbers), allow_nan=False)
    figure = coefficients.draw(table)
    assert labelled(figure) == 2 and "(3, 1 outside the frontier)" in " ".join(
        t.get_text() for t in figure.axes[0].get_yticklabels()
    )


def test_another_kind_outside_is_said_and_does_not_touch_the_answer():
    table = coefficients.comparison(sampled(family_of(0.03, 0.0) | {"reversed 0": (-0.1, 0.0)}), FRONTIER)
    text, _ = coefficients.verdict(table)
    assert_in_order(text, "Yes: ", "outside the frontier (order of λ reversed)")


def test_a_few_bootstrap_draws_outside_are_passed_over_many_are_not():
    values = np.r_[0.02, np.random.default_rng(0).normal(0.02, 0.005, 400)]
    few, many = values.copy(), values.copy()
    few[1:9], many[1:40] = np.nan, np.nan
    assert np.array_equal(inside(few), few, equal_nan=True) and np.isnan(inside(many)).all()


def test_one_draw_and_no_other_kinds_make_a_whole_sentence():
    table = coefficients.comparison(sampled(family_of(0.03, 0.0, kinds=(), draws=1)), FRONTIER)
    text, _ = coefficients.verdict(table)
    assert "over 1 calibration draw," in text and "other λ" not in text and text.endswith(".")
    labelled(coefficients.draw(table))


def test_a_frontier_without_records_is_an_error():
    with pytest.raises(ValueError, match="absent"):
        coefficients.comparison(sampled(family_of(0, 0)), [*FRONTIER, "absent"])


def test_every_kind_has_a_row_a_colour_and_a_control():
    placed = {f"{kind} 0": (0.4, 0.0) for kind in coefficients.KINDS}
    table = coefficients.comparison(sampled(placed), FRONTIER)
    assert list(table["kind"]) == list(coefficients.KINDS)
    assert {k for k in coefficients.KINDS if table.set_index("kind")["lead"].isna()[k]} == {
        "acm",
        "layer",
        "global",
        "none",
        "ties",
    }
    figure = coefficients.draw(table)
    assert labelled(figure) == 2 and len(figure.axes[0].get_yticklabels()) == len(table)


def test_the_interval_of_a_skewed_bootstrap_can_be_drawn():
    table = coefficients.comparison(sampled(family_of(0.0, 0.0)), FRONTIER)
    table.loc[1, ["lead", "lead_low", "lead_high"]] = 3.0, 1.0, 2.9  # the percentile interval misses the estimate
    assert labelled(coefficients.draw(table)) == 2


# --- question 4: layers -----------------------------------------------------------------------------------------------


def layer_records(change):
    """Merges of question 4 from {layer: (points lost, tokens lost)} without it."""
    records, rows = made_up({}), []
    for kind, parent, sign in (("without", PARENTS[1], 1), ("only", PARENTS[0], -1)):
        for layer, (points, tokens) in change.items():
            part = records[records["method"] == parent]
            rows.append(
                part.assign(
                    method=f"{kind} {layer}",
                    correct=part["correct"] - sign * points,
                    length=part["length"] - sign * tokens,
                )
            )
    return pd.concat([records, *rows], ignore_index=True)


def effects_of(change, lam=None):
    records = layer_records(change)
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=100)
    return layers.effects(sample, lam or {layer: LAMBDA[layer] for layer in change}, *PARENTS)


def test_effects_of_layers_are_the_changes_by_construction():
    change = {layer: (0.01 * i, 2.0 * i) for i, layer in enumerate(LAYERS)}
    table = effects_of(change).set_index(["kind", "layer"])
    for layer, (points, tokens) in change.items():
        assert table.loc[("without", layer), ["accuracy", "accuracy_low", "accuracy_high"]].tolist() == pytest.approx(
            [-100 * points] * 3, abs=1e-9
        )
        assert table.loc[("without", layer), "length"] == pytest.approx(-tokens) and table.loc[
            ("only", layer), "length"
        ] == pytest.approx(tokens)
        assert table.loc[("without", layer), "coefficient"] == LAMBDA[layer]
    assert labelled(layers.draw(table.reset_index())) == 5


def test_the_answer_names_the_layers_with_the_largest_changes_and_their_relation_to_lambda():
    order = sorted(LAYERS, key=LAMBDA.get)
    text, numbers = layers.verdict(
        effects_of({layer: (0.01 * order.index(layer), 2.0 * (layer == "5")) for layer in LAYERS})
    )
    assert numbers["largest"] == {"accuracy": "lm_head", "length": "5"}
    assert_in_order(text, "length comes with layer 5 (without its update -2 [-2, -2] tokens)", "accuracy with layer lm_head (-8.0 [-8.0, -8.0] points)", "Over 9 layers",
             "+1.00 (accuracy, p < 0.001)", "related for accuracy.")  # fmt: skip
    assert (
        numbers["rank_correlation"]["accuracy"]["value"] == pytest.approx(1)
        and numbers["rank_correlation"]["length"]["p"] > 0.05
    )


def test_a_change_that_may_be_nothing_is_called_so():
    table = effects_of({layer: (0.0, float(i)) for i, layer in enumerate(LAYERS)})
    table.loc[3, ["accuracy", "accuracy_low", "accuracy_high"]] = 0.4, -0.8, 1.6
    assert_in_order(layers.verdict(table)[0], "(+0.4 [-0.8, +1.6] points, not told from zero)")


@pytest.mark.parametrize("names", [["0"], ["0", "1"], ["0", "1", "2"]])
def test_few_layers_show_no_relation(names):
    text, numbers = layers.verdict(
        effects_of(
            {layer: (0.01 * i, 2.0 * i) for i, layer in enumerate(names)},
            dict(zip(names, (0.5, 0.6, 0.7), strict=False)),
        )
    )
    assert_in_order(
        text,
        "Over 1 layer," if len(names) == 1 else f"Over {len(names)} layers,",
        "cannot be compared" if len(names) < 3 else "no relation shown",
    )
    json.dumps(plain(numbers), allow_nan=False)


def test_what_could_not_have_been_found_is_said():
    lam = dict(zip(LAYERS, (1, 9, 2, 8, 3, 7, 4, 6, 5), strict=True))
    text, numbers = layers.verdict(effects_of({layer: (0.01 * i, 1.0 * i) for i, layer in enumerate(LAYERS)}, lam))
    assert numbers["rank_correlation"]["length"]["p"] > 0.5
    assert_in_order(
        text,
        "Over 9 layers",
        "no relation shown; over so many layers only a correlation beyond about ±0.73 would be, as two are looked at.",
    )


def test_equal_coefficients_have_no_rank_correlation():
    text, _ = layers.verdict(
        effects_of({layer: (0.01 * i, 1.0 * i) for i, layer in enumerate(LAYERS)}, dict.fromkeys(LAYERS, 0.5))
    )
    assert_in_order(text, "cannot be compared: there are too few, or all are equal.")


@pytest.mark.parametrize("n", [4, 6, 9, 12])
def test_rank_correlation_is_spearmans_and_its_p_that_of_permutations(n):
    rng = np.random.default_rng(n)
    x, y = rng.integers(0, n, n), rng.normal(size=n)  # with ties
    value, p = layers.rank_correlation(x, y)
    assert value == pytest.approx(spearmanr(x, y).statistic)
    if n <= 6:
        found = [spearmanr([x[i] for i in order], y).statistic for order in permutations(range(n))]
        assert p == pytest.approx(np.mean(np.abs(found) >= abs(value) - 1e-9))
    else:
        assert p == pytest.approx(spearmanr(x, y).pvalue, abs=0.03)


def test_the_p_of_rank_correlations_holds_its_level():
    rng = np.random.default_rng(0)
    assert np.mean([layers.rank_correlation(*rng.normal(size=(2, 6)))[1] <= 0.05 for _ in range(400)]) <= 0.075
    assert layers.rank_correlation(np.arange(3), np.arange(3)) == pytest.approx((1.0, 1 / 3))


# --- question 5: a rule -----------------------------------------------------------------------------------------------


def family_table(flat=0.0, ramp=0.0, acm=0.0, names=("one", "two", "three"), **setting):
    """Records of families; a float, or one for each."""
    heights = [np.broadcast_to(h, len(names)) for h in (acm, flat, ramp)]
    return pd.concat([
        made_up(dict(zip(rule.RULES, [(0.4, h[i]) for h in heights], strict=True)), seed=i, **setting).assign(family=name) for i, name in enumerate(names)
    ], ignore_index=True)  # fmt: skip


def answered(records, tasks=TASKS):
    table, lead = rule.leads(records, tasks, ["frontier-0.5"], 0)
    attempts = pd.DataFrame(
        {
            "accuracy": [50.0, 60],
            "length": [30.0, 40],
            "above": [1.0, -2.0],
            "verdict": ["above", "below"],
            "bar": [-1.0, -2.0],
            "bar_verdict": "below",
        },
        index=["a", "b"],
    )
    return table, lead, *rule.verdict(table, lead, attempts)


@pytest.mark.parametrize(
    "flat, outcome, head", [(0.03, "above", "Yes"), (-0.03, "below", "No:"), (0.0, "no difference shown", "None shown")]
)
def test_a_rule_that_leads_by_construction(flat, outcome, head):
    table, lead, text, numbers = answered(family_table(flat=flat, ramp=-0.1, noise=0.02))
    whole = table[table["family"] == "all"].set_index("rule")
    assert numbers["outcome"] == outcome and text.startswith(head) and lead["flat"].shape[0] == 3
    assert whole.loc["flat", "lead"] == pytest.approx(100 * flat, abs=0.6) and whole.loc[
        "ramp", "above"
    ] == pytest.approx(-10, abs=0.6)
    assert pd.isna(whole.loc["ACM", "lead"]) and len(table) == 3 * 3 + 3
    assert_in_order(
        text,
        "Over 3 fresh families",
        f"{whole.loc['flat', 'lead']:+.2f} [",
        "ACM is at",
        "a rising ramp at -10",
        "Of 2 tilts",
        "1 stood above",
        "1 below",
        "above the bar",
        "none.",
    )
    json.dumps(plain(numbers), allow_nan=False)


def test_families_that_disagree_widen_the_interval():
    table, _, text, _ = answered(family_table(flat=[0.1, -0.1, 0.0]))
    whole = table[table["family"] == "all"].set_index("rule").loc["flat"]
    assert whole["lead"] == pytest.approx(0, abs=1e-9) and whole["lead_high"] - whole["lead_low"] > 8
    assert table[table["rule"] == "flat"].set_index("family")["lead"].to_dict() == pytest.approx(
        {"one": 10, "two": -10, "three": 0, "all": 0}, abs=1e-9
    )
    assert text.startswith("None shown")


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
    assert_in_order(text, "Undecided", "has no value at equal length", "ACM is at +0.0", "ramp at +0.0")
    json.dumps(plain(numbers), allow_nan=False)


def test_one_family_is_a_family():
    _, _, text, _ = answered(family_table(names=["one"]))
    assert_in_order(text, "Over 1 fresh family the flat")


def test_the_items_of_families_are_drawn_together():
    records = family_table(flat=0.01, names=["one", "two"])
    same = pd.concat([records[records["family"] == "one"], records[records["family"] == "one"].assign(family="two")])
    _, lead = rule.leads(same, TASKS, ["frontier-0.5"], 3)
    np.testing.assert_array_equal(lead["ramp"][0], lead["ramp"][1])


def test_panels_of_families_show_means_over_tasks_along_their_frontier():
    records = family_table(names=["one", "two"])
    records = records[(records["task"] == "easy") | (records["item"] < 20)]  # tasks of other sizes
    figure = rule.draw(records, TASKS, ["frontier-0.5"])
    assert labelled(figure) == 2
    sample = statistics.bootstrap(records[records["family"] == "one"], FRONTIER, TASKS, draws=2)
    line = figure.axes[0].lines[0].get_xydata()
    assert line[:, 0].tolist() == sorted(line[:, 0])
    np.testing.assert_allclose(
        line, [[statistics.average(sample, m, "length")[0], 100 * statistics.average(sample, m)[0]] for m in FRONTIER]
    )


def test_rules_and_tilts_stay_on_the_layers_and_in_range():
    assert rule.flat(LAMBDA) == pytest.approx(dict.fromkeys(LAYERS, np.mean([LAMBDA[str(i)] for i in range(6)])))
    ramp = rule.line(LAMBDA, *rule.RAMP)
    assert [ramp["embed"], ramp["3"], ramp["lm_head"]] == pytest.approx([0.1, 0.3, 0.5]) and set(
        rule.line(LAMBDA, -1, 2).values()
    ) <= {*np.clip(np.linspace(-1, 2, 9), 0, 1)}
    assert rule.parted(LAMBDA, 1.0, 0.2, 0.0) == dict.fromkeys(LAYERS, 1.0) | {"5": 0.2, "norm": 0.2, "lm_head": 0.0}
    for name, found in rule.tried(LAMBDA).items():
        assert list(found) == LAYERS and all(0 <= v <= 1 for v in found.values()), name


def test_tilts_against_the_frontier_are_numbers_with_a_verdict():
    found = rule.against_frontier(
        sampled({"up": (0.4, 0.05), "down": (0.4, -0.05), "far": (1.5, 0.0)}), ["up", "down", "far"], FRONTIER
    )
    assert found["verdict"].tolist() == ["above", "below", "outside"] and found["above"].dtype == float
    assert (
        found.loc[["up", "down"], "above"].tolist() == pytest.approx([5, -5])
        and found.loc["far", ["above", "above_low"]].isna().all()
    )
    assert found["bar"].tolist()[:2] == pytest.approx([5, -5]) and found["bar_verdict"].tolist()[:2] == [
        "above",
        "below",
    ]


# --- the study: files and merges --------------------------------------------------------------------------------------


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


def test_coefficients_of_draws_are_those_of_the_chosen_texts(quick):
    table, source = information(20), quick.setting.calibration
    texts = read_texts(source.source)[:20]
    first, second = coefficients.draw_coefficients(quick, table, [54, 1], "layer", "gaussian")
    chosen = [texts.index(text) for text in select_texts(texts, 2, 2, 54)]
    assert (
        first == coefficients_from_table(table[table["sample"].isin(chosen)], 0.7, "layer", "gaussian")
        and first != second
    )


def test_merges_of_question_two(quick):
    found = coefficients.merges(quick, information(20), [54, 1], 3)
    names = [name.rpartition(" ")[0] for name in found]
    assert {k: names.count(k) for k in names} == {
        "acm": 2, "uniform": 2, "null": 2, "permuted": 3, "reversed": 1, "magnitude": 1, "global": 1, "uniform-global": 1, "none": 1, "uniform-none": 1,
        "ties": 1, "uniform-ties": 1, "null-ties": 1}  # fmt: skip
    assert set(names) <= set(coefficients.KINDS) and list(found) == list(
        coefficients.merges(quick, information(20), [54, 1], 3)
    )
    lam = {name: variant["coefficients"]["abacus-slow"] for name, variant in found.items()}
    for name in ("permuted 0", "permuted 2", "reversed 0", "magnitude 0"):
        assert sorted(lam[name].values()) == sorted(lam["acm 0"].values())
    for i in range(2):
        assert list(lam[f"uniform {i}"].values()) == pytest.approx([np.mean(list(lam[f"acm {i}"].values()))] * 9)
    assert lam["ties 0"] == lam["acm 0"] and lam["null-ties 0"] == lam["null 0"] != lam["acm 0"]
    assert {
        name: variant.get("merge_method") for name, variant in found.items() if "merge_method" in variant
    } == dict.fromkeys(["ties 0", "uniform-ties 0", "null-ties 0"], "ties")


def test_merges_of_two_models_with_another_shift_are_all_kinds_that_are_compared(folder):
    asked = Study(str(folder / "mini.yaml"), "general", "two")
    found = coefficients.merges(asked, information(20, finetuned=("abacus-sums", "abacus-words")), [54], 1)
    assert {"layer 0", "uniform-layer 0", "none 0"} <= set(found) and "global 0" not in found
    assert {name.rpartition(" ")[0] for name in found} <= set(coefficients.KINDS)
    assert all(set(variant["coefficients"]) == {"abacus-sums", "abacus-words"} for variant in found.values())


def test_merges_of_question_four_change_one_layer(quick):
    vars(quick.results)["coefficients"] = {"none": {"abacus-slow": LAMBDA}}
    found = layers.merges(quick)
    assert len(found) == 18
    assert found["without 3"]["coefficients"]["abacus-slow"] == {layer: float(layer != "3") for layer in LAYERS}
    assert found["only lm_head"]["coefficients"]["abacus-slow"] == {
        layer: float(layer == "lm_head") for layer in LAYERS
    }


def test_a_familys_records_are_of_its_own_parents_and_calibration(quick, tmp_path, monkeypatch):
    for name in PARENTS:
        (tmp_path / "fresh" / name).mkdir(parents=True)
    seen, merges = {}, {}

    def calibrated(base, finetuned, texts, **named):
        seen.update(base=base, finetuned=finetuned, texts=len(texts), **named)
        return information(len(texts), ("none",))

    def answers(method):
        return made_up({method: (0.5, 0)}, items=3, tasks=["abacus_easy"]).query("method == @method")

    def merged(recipe, profile, experiment, folder, name):
        merges[name] = recipe
        return answers(name)

    monkeypatch.setattr(rule, "calibrate", calibrated)
    monkeypatch.setattr(rule, "evaluate", lambda path, *_, **named: answers(path.name))
    monkeypatch.setattr(rule, "evaluate_merge", merged)
    records = rule.family_records(quick, "fresh", tmp_path)
    assert seen == {
        "base": tmp_path / "fresh" / PARENTS[0],
        "finetuned": {PARENTS[1]: tmp_path / "fresh" / PARENTS[1]},
        "texts": 4,
        "controls": ("none",),
        "estimators": ("plug-in",),
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "max_tokens": None,
    }
    assert list(records) == [*SLIM, "family"] and set(records["method"]) == {*FRONTIER, *rule.RULES}
    lam = {name: recipe["coefficients"][PARENTS[1]] for name, recipe in merges.items()}
    assert (
        set(lam["frontier-0.5"].values()) == {0.5}
        and lam["flat"] == rule.flat(lam["ACM"])
        and lam["ramp"]["lm_head"] == 0.5
    )
    assert all(recipe["base_model"] == str(tmp_path / "fresh" / PARENTS[0]) for recipe in merges.values())


def test_a_family_that_is_not_trained_names_the_remedy(quick, tmp_path):
    with pytest.raises(UserError, match="make families"):
        rule.family_records(quick, "seed-9", tmp_path)
    with pytest.raises(UserError, match="make families"):
        rule.trained(tmp_path)


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(quick, tmp_path, monkeypatch):
    """A made-up reports folder with two questions, of which one has figures."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    reports = tmp_path / "reports" / "mini"
    for name, number in (("layers", 4), ("estimate", 1)):
        (reports / "questions" / name).mkdir(parents=True)
        (reports / "questions" / name / "verdict.json").write_text(
            json.dumps({"question": f"Q{number}?", "verdict": f"V{number}.", "numbers": {}})
        )
        (reports / "questions" / name / f"{number}-{name}.ipynb").write_text("{}")
    (reports / "questions" / "unanswered").mkdir()
    figures = tmp_path / "figures" / "mini" / "questions" / "layers"
    figures.mkdir(parents=True)
    for name in ("b.svg", "a.svg", "a.png"):
        (figures / name).touch()
    return quick.profile, reports


def test_questions_are_read_in_their_order_with_notebook_and_figures(asked):
    found = report.questions(*asked)
    assert [(q["name"], q["notebook"], q["figures"]) for q in found] == [
        ("estimate", "1-estimate.ipynb", []),
        ("layers", "4-layers.ipynb", ["a.svg", "b.svg"]),
    ]


def test_the_summary_links_each_notebook(asked):
    assert report.summary(*asked) == (
        "1. **Q1?** V1. ([notebook](reports/mini/questions/estimate/1-estimate.ipynb))\n"
        "2. **Q4?** V4. ([notebook](reports/mini/questions/layers/4-layers.ipynb))\n"
    )


def test_publishing_replaces_what_was_asked_again_and_leaves_the_rest(quick, tmp_path):
    quick.save_verdict("Why?", "Because.", {})
    quick.save_figure(plt.figure(), "line", "A line.")
    (quick.profile.folder / "notebooks" / "questions").mkdir(parents=True, exist_ok=True)
    for name in ("9-quick.ipynb", "9-quick.failed.ipynb"):
        cell = nbformat.v4.new_code_cell(
            "1", outputs=[nbformat.v4.new_output("stream", name=n, text="said") for n in ("stdout", "stderr")]
        )
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), quick.profile.folder / "notebooks" / "questions" / name)
    for stale in ("quick/old.json", "other/verdict.json"):
        (tmp_path / stale).parent.mkdir()
        (tmp_path / stale).write_text("{}")
    publish_questions(quick.profile, tmp_path, tmp_path / "figures")
    outputs = nbformat.read(tmp_path / "quick" / "9-quick.ipynb", 4).cells[0].outputs
    assert [output.name for output in outputs] == ["stdout"]
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")} == {
        "quick/verdict.json", "quick/9-quick.ipynb", "other/verdict.json", *(f"figures/quick/line.{kind}" for kind in ("svg", "png", "json"))}  # fmt: skip


def test_a_report_without_questions_has_none(quick, tmp_path):
    assert report.questions(quick.profile, tmp_path) == []


def test_the_readme_changes_between_its_own_marks_alone(tmp_path):
    path = tmp_path / "README.md"
    other = "<!-- results: begin (generated by `make reproduce`) -->\nold results\n<!-- results: end -->\n"
    own = "<!-- findings: begin (generated by `make questions`) -->\nold findings\n<!-- findings: end -->"
    path.write_text(f"# Title\n{other}between\n{own}\nafter\n")
    for _ in range(2):  # a second time changes nothing more
        report.update_readme(path, "new\n", "findings", "questions")
        assert path.read_text() == f"# Title\n{other}between\n{own.replace('old findings', 'new')}\nafter\n"


@pytest.mark.parametrize(
    "content", ["no marks\n", "<!-- findings: begin (generated by `make questions`) -->\n", "<!-- findings: end -->\n"]
)
def test_a_readme_without_both_marks_stays(tmp_path, content):
    path = tmp_path / "README.md"
    path.write_text(content)
    report.update_readme(path, "new\n", "findings", "questions")
    assert path.read_text() == content
