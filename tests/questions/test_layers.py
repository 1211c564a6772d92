"""Question 4, which layers carry what, on records with known answers."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from questions.made_up import LAMBDA, LAYERS, PARENTS, TASKS, assert_in_order, assert_plain, labelled, made_up
from scipy.stats import spearmanr

from acm.questions import layers
from acm.questions.study import plain
from acm.reporting import statistics


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
        value, low, high = table.loc[("without", layer), ["accuracy", "accuracy_low", "accuracy_high"]]
        assert value == pytest.approx(-100 * points, abs=1e-9) and low + 2 < value < high - 2  # Bonett and Price's
        assert table.loc[("without", layer), "length"] == pytest.approx(-tokens) and table.loc[
            ("only", layer), "length"
        ] == pytest.approx(tokens)
        assert table.loc[("without", layer), "coefficient"] == LAMBDA[layer]
    figure = layers.draw(table.reset_index())
    assert labelled(figure) == 3 and figure.axes[2].get_xlim() == (0, 1)
    points = figure.axes[1].containers[0].lines[0].get_xdata()
    assert points.tolist() == pytest.approx([-change[layer][1] for layer in LAYERS])


def test_a_layer_is_said_to_change_most_only_where_its_interval_stands_apart():
    rows = [("without", "0", -9, -10, -8), ("without", "1", 5, 4, 6), ("only", "0", 9, 5, 13), ("only", "1", 6, 2, 10)]
    table = pd.DataFrame(rows, columns=["kind", "layer", "length", "length_low", "length_high"])
    assert layers.shown(table, "without", "length") == ["block 0"]
    assert layers.shown(table, "only", "length") == ["block 0", "block 1"]
    assert layers.shown(table.assign(length_low=-20, length_high=20), "only", "length") == []


def test_the_answer_names_the_layers_with_the_largest_changes_and_their_relation_to_lambda():
    order = sorted(LAYERS, key=LAMBDA.get)
    text, numbers = layers.verdict(
        effects_of({layer: (0.01 * order.index(layer), 2.0 * (layer == "5")) for layer in LAYERS})
    )
    assert numbers["largest"] == {"accuracy": "lm_head", "length": "5"}
    assert_plain(text)
    answer = "Length changed most with block 5, left out and alone; accuracy with the head, left out and alone."
    assert text.startswith(f"{answer} λ is shown to go with the size of these changes. ")
    assert_in_order(
        text,
        "length with block 5 (left out, -2 [-2, -2] tokens)",
        "accuracy with the head (left out, -8.0 [-10.9, -4.6] points)",
        "length with block 5 (alone, +2 [+2, +2] tokens)",
        "Over 9 layers",
        "accuracy left out +1.00 (p < 0.001)",
        "accuracy alone +1.00 (p < 0.001)",
        "Shown to differ from 0: accuracy left out and accuracy alone.",
    )
    assert (
        numbers["rank_correlation"]["accuracy"]["value"] == pytest.approx(1)
        and numbers["rank_correlation"]["length"]["p"] > 0.05
    )


def test_layers_that_matter_left_out_and_alone_are_both_in_the_answer():
    table = effects_of({layer: (0.01 * i, 1.0 * i) for i, layer in enumerate(LAYERS)}, dict.fromkeys(LAYERS, 0.5))
    chosen = (table["kind"] == "only") & (table["layer"] == "embed")
    table.loc[chosen, ["accuracy", "accuracy_low", "length", "length_low"]] = 50.0, 49.0, 90.0, 89.0
    assert_plain(layers.verdict(table)[0])
    assert layers.verdict(table)[0].startswith(
        "Length changed most with the head left out and the embedding alone; accuracy with the head left out "
        "and the embedding alone. λ is not shown to go with"
    )


def test_what_no_interval_shows_is_not_in_the_answer():
    table = effects_of({layer: (0.01 * i, 1.0 * i) for i, layer in enumerate(LAYERS)})
    for hidden, said in (
        (("accuracy", "without"), "; accuracy with the head alone (left out not shown)."),
        (("accuracy", "only"), "; no layer is shown to change accuracy most."),
        (("length", "without"), "Length changed most with the head alone (left out not shown); no layer is shown to"),
        (("length", "only"), f"{layers.NEITHER}."),
    ):
        what, kind = hidden
        table.loc[table["kind"] == kind, [f"{what}_low", f"{what}_high"]] = -200.0, 200.0
        text = layers.verdict(table)[0]
        assert said in text
        assert_plain(text)


def test_a_change_that_may_be_nothing_is_called_so():
    table = effects_of({layer: (0.0, float(i)) for i, layer in enumerate(LAYERS)})
    table.loc[3, ["accuracy", "accuracy_low", "accuracy_high"]] = 0.4, -0.8, 1.6
    assert_in_order(layers.verdict(table)[0], "(left out, +0.4 [-0.8, +1.6] points, not shown to differ from 0)")


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
        "cannot be compared" if len(names) < 3 else "No rank correlation is shown to differ from 0",
    )
    json.dumps(plain(numbers), allow_nan=False)


def test_what_could_not_have_been_found_is_said():
    lam = dict(zip(LAYERS, (1, 9, 2, 8, 3, 7, 4, 6, 5), strict=True))
    text, numbers = layers.verdict(effects_of({layer: (0.01 * i, 1.0 * i) for i, layer in enumerate(LAYERS)}, lam))
    assert numbers["rank_correlation"]["length"]["p"] > 0.5
    assert_in_order(
        text,
        "Over 9 layers",
        "Because 4 are tested over so few layers, only one beyond about ±0.78 would be.",
    )


def test_equal_coefficients_have_no_rank_correlation():
    text, _ = layers.verdict(
        effects_of({layer: (0.01 * i, 1.0 * i) for i, layer in enumerate(LAYERS)}, dict.fromkeys(LAYERS, 0.5))
    )
    assert_in_order(text, "λ cannot be compared", "because these are too few or all equal.")


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


def test_merges_of_question_four_change_one_layer():
    found = layers.merges(layers.groups(dict.fromkeys(LAYERS, 0.1)), {"abacus-slow": LAMBDA})
    assert len(found) == 18
    assert found["without 3"]["coefficients"]["abacus-slow"] == {layer: float(layer != "3") for layer in LAYERS}
    assert found["only lm_head"]["coefficients"]["abacus-slow"] == {
        layer: float(layer == "lm_head") for layer in LAYERS
    }


def test_blocks_in_a_row_can_count_as_one_layer():
    changed = {"embed": 0.2} | {str(i): 0.1 for i in range(7)} | {"norm": 0.0, "lm_head": 0.3}
    groups = layers.groups(changed, 3)
    assert groups == {
        "embed": ["embed"],
        "0–2": ["0", "1", "2"],
        "3–5": ["3", "4", "5"],
        "6": ["6"],
        "lm_head": ["lm_head"],
    }
    found = layers.merges(groups, {"slow": dict.fromkeys(changed, 0.5)})
    assert found["only 0–2"]["coefficients"]["slow"] == {layer: float(layer in ("0", "1", "2")) for layer in changed}
    assert layers.named("0–2") == "blocks 0–2"
    assert list(layers.groups(dict.fromkeys(("9", "10", "11"), 1.0), 5)) == ["9", "10–11"]


def test_an_answer_over_groups_of_blocks_says_so():
    effects = effects_of(dict.fromkeys(LAYERS[1:4], (0.01, 1.0)))
    text, _ = layers.verdict(effects.replace({"layer": {"0": "0–4", "1": "5–9", "2": "10–14"}}))
    assert "Over 3 groups of blocks, " in text and "blocks 0–4" in text
