"""Question 2, whether the coefficients matter, on records with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from questions.made_up import FRONTIER, TASKS, assert_in_order, assert_plain, information, labelled, made_up, sampled

from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.texts import read_texts, select_texts
from acm.errors import UserError
from acm.questions import coefficients, coefficients_answer
from acm.questions.coefficients_answer import verdict
from acm.questions.study import Study, inside, plain
from acm.reporting import statistics


def family_of(acm, uniform, kinds=("null", "permuted", "reversed", "magnitude"), draws=3):
    """Merges at place 0.4: ACM and uniform at these heights for each draw, the other kinds on the line."""
    placed = {f"acm {i}": (0.4, acm) for i in range(draws)} | {f"uniform {i}": (0.4, uniform) for i in range(draws)}
    placed |= {f"null {i}": (0.4, 0.0) for i in range(draws)} if "null" in kinds else {}
    return placed | {f"{kind} 0": (0.4, 0.0) for kind in kinds if kind != "null"}


@pytest.mark.parametrize(
    "acm, uniform, word, head",
    [
        (0.03, 0.0, "above", "ACM's λ by layer beat one λ"),
        (0.0, 0.03, "below", "One λ for all layers beats ACM's λ by layer with"),
        (
            0.0,
            0.0,
            "no difference shown",
            "ACM's λ by layer are not shown to beat one λ for all layers with the same mean, or λ of pure noise.",
        ),
    ],
)
def test_a_lead_by_construction_is_found_and_said(acm, uniform, word, head):
    table = coefficients.comparison(sampled(family_of(acm, uniform), noise=0.02), FRONTIER).set_index("kind")
    row = table.loc["uniform"]
    assert row["lead"] == pytest.approx(100 * (acm - uniform), abs=0.6) and row["verdict"] == word
    assert row["lead_low"] <= 100 * (acm - uniform) <= row["lead_high"]
    assert table.loc["acm", "above"] == pytest.approx(100 * acm, abs=0.6) and (table["outside"] == 0).all()
    text, numbers = verdict(table.reset_index(), 35.0)
    assert_plain(text)
    assert_in_order(
        text,
        head,
        f"{row['lead']:+.2f} [{row['lead_low']:+.2f}, {row['lead_high']:+.2f}] points over 3",
        f"{row['detectable']:.1f} points",
        "lead over other λ",
        "λ of Gaussian noise",
    )
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


def test_accuracy_and_length_on_the_same_items_stand_beside_the_lead():
    placed = {f"acm {i}": (0.5, 0.02) for i in range(2)} | {f"uniform {i}": (0.4, 0.0) for i in range(2)}
    sample = sampled(placed)
    row = coefficients.comparison(sample, FRONTIER).set_index("kind").loc["uniform"]
    ours, theirs = (
        {w: statistics.average(sample, m, w)[0] for w in ("accuracy", "length")} for m in ("acm 0", "uniform 0")
    )
    assert row["righter"] == pytest.approx(100 * (ours["accuracy"] - theirs["accuracy"]))
    assert row["longer"] == pytest.approx(ours["length"] - theirs["length"]) and row["longer_low"] > 0
    assert row["lead"] == pytest.approx(2, abs=1e-6)  # the bar is a line here


def test_verdicts_are_adjusted_for_the_number_of_leads_that_are_tested():
    table = pd.DataFrame({
        "kind": ["acm", "uniform", "null", "permuted"], "lead": [np.nan, 1.0, -1.0, 0.2],
        "p": [np.nan, 0.03, 0.001, np.nan], "error": [np.nan, 1.0, 1.0, np.nan],
    })  # fmt: skip
    compared = table["kind"] != "acm"
    found = coefficients.judged(table.copy(), compared).set_index("kind")
    assert found["p_adjusted"].tolist() == pytest.approx([np.nan, 0.03, 0.002, np.nan], nan_ok=True)
    assert found["verdict"].tolist()[1:] == ["above", "below", "no difference shown"]
    assert found.loc["null", "detectable"] == pytest.approx(statistics.least_detectable(1.0, 2))
    alone = coefficients.judged(table.assign(p=[np.nan, 0.03, 0.9, np.nan]), compared).set_index("kind")
    assert alone["verdict"].tolist()[1:] == ["no difference shown"] * 3


def test_a_lead_over_merges_that_get_the_same_items_right_is_not_tested():
    placed = {f"acm {i}": (0.5, 0.0) for i in range(2)} | {f"uniform {i}": (0.5, 0.0) for i in range(2)}
    records = made_up(placed)
    records.loc[records["method"].str.startswith("acm"), "length"] -= 0.5
    sample = statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=200)
    row = coefficients.comparison(sample, FRONTIER).set_index("kind").loc["uniform"]
    assert row["lead"] > 0 and np.isnan(row["p_adjusted"]) and row["verdict"] == "no difference shown"


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
    text, numbers = verdict(table, 35.0)
    assert_plain(text)
    assert_in_order(
        text,
        "are not shown to matter, because",
        f"{int(kind == 'uniform')} of the uniform merges and {int(kind == 'acm')} of ACM's",
    )
    json.dumps(plain(numbers), allow_nan=False)
    figure = coefficients.draw(table)
    assert labelled(figure) == 2 and "(3, 1 outside the frontier)" in " ".join(
        t.get_text().replace("\n", " ") for t in figure.axes[1].get_yticklabels()
    )


def test_another_kind_outside_is_said_and_does_not_touch_the_answer():
    table = coefficients.comparison(sampled(family_of(0.03, 0.0) | {"reversed 0": (-0.1, 0.0)}), FRONTIER)
    text, _ = verdict(table, 35.0)
    assert_in_order(text, "ACM's λ by layer beat one λ", "order of λ reversed outside the bar's range")


def test_a_few_bootstrap_draws_outside_are_passed_over_many_are_not():
    values = np.r_[0.02, np.random.default_rng(0).normal(0.02, 0.005, 400)]
    few, many = values.copy(), values.copy()
    few[1:9], many[1:40] = np.nan, np.nan
    assert np.array_equal(inside(few), few, equal_nan=True) and np.isnan(inside(many)).all()


def test_one_draw_and_no_other_kinds_make_a_whole_sentence():
    table = coefficients.comparison(sampled(family_of(0.03, 0.0, kinds=(), draws=1)), FRONTIER)
    text, _ = verdict(table, 35.0)
    assert "over 1 calibration draw." in text and "other λ" not in text and text.endswith(".")
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
        "sized",
        "ties",
    }
    figure = coefficients.draw(table)
    assert labelled(figure) == 2 and len(figure.axes[1].get_yticklabels()) == len(table)


def test_the_interval_of_a_skewed_bootstrap_can_be_drawn():
    table = coefficients.comparison(sampled(family_of(0.0, 0.0)), FRONTIER)
    table.loc[1, ["lead", "lead_low", "lead_high"]] = 3.0, 1.0, 2.9  # the percentile interval misses the estimate
    assert labelled(coefficients.draw(table)) == 2


def test_coefficients_of_draws_are_those_of_the_chosen_texts(quick):
    table, source = information(20), quick.setting.calibration
    texts = read_texts(source.source)[:20]
    first, second = coefficients.draw_coefficients(quick, table, [54, 1], "layer", "gaussian")
    chosen = [texts.index(text) for text in select_texts(texts, 2, 2, 54)]
    assert (
        first == coefficients_from_table(table[table["sample"].isin(chosen)], 0.7, "layer", "gaussian")
        and first != second
    )


LARGE = {"abacus-slow": {"embed": 0.6, "0": 0.7, "lm_head": 0.8}}


def test_merges_of_question_two(quick):
    found = coefficients.merges(quick, information(20), [54, 1], 3, LARGE)
    names = [name.rpartition(" ")[0] for name in found]
    assert {k: names.count(k) for k in names} == {
        "acm": 2,
        "uniform": 2,
        "null": 2,
        "permuted": 3,
        "reversed": 1,
        "magnitude": 1,
        "global": 1,
        "uniform-global": 1,
        "none": 1,
        "uniform-none": 1,
        "sized": 1,
        "uniform-sized": 1,
        "ties": 1,
        "uniform-ties": 1,
        "null-ties": 1,
    }
    assert set(names) <= set(coefficients.KINDS) and list(found) == list(
        coefficients.merges(quick, information(20), [54, 1], 3, LARGE)
    )
    lam = {name: variant["coefficients"]["abacus-slow"] for name, variant in found.items()}
    for name in ("permuted 0", "permuted 2", "reversed 0", "magnitude 0"):
        assert sorted(lam[name].values()) == sorted(lam["acm 0"].values())
    for i in range(2):
        assert list(lam[f"uniform {i}"].values()) == pytest.approx([np.mean(list(lam[f"acm {i}"].values()))] * 9)
    assert lam["sized 0"] == LARGE["abacus-slow"]
    assert list(lam["uniform-sized 0"].values()) == pytest.approx([0.7] * 3)
    assert lam["ties 0"] == lam["acm 0"] and lam["null-ties 0"] == lam["null 0"] != lam["acm 0"]
    assert {
        name: variant.get("merge_method") for name, variant in found.items() if "merge_method" in variant
    } == dict.fromkeys(["ties 0", "uniform-ties 0", "null-ties 0"], "ties")


def test_merges_of_two_models_with_another_shift_are_all_kinds_that_are_compared(folder):
    asked = Study(str(folder / "mini.yaml"), "general", "two")
    large = dict.fromkeys(("abacus-sums", "abacus-words"), LARGE["abacus-slow"])
    found = coefficients.merges(asked, information(20, finetuned=("abacus-sums", "abacus-words")), [54], 1, large)
    assert {"layer 0", "uniform-layer 0", "none 0"} <= set(found) and "global 0" not in found
    assert {name.rpartition(" ")[0] for name in found} <= set(coefficients.KINDS)
    assert all(set(variant["coefficients"]) == {"abacus-sums", "abacus-words"} for variant in found.values())


@pytest.mark.parametrize("verdicts, told", [
    (("no difference shown",) * 3, [coefficients_answer.NOR_NOISE, coefficients_answer.NOR_SIZED]),
    (("no difference shown", "no difference shown", "above"), [coefficients_answer.NOR_NOISE]),
    (("no difference shown", "above", "no difference shown"), [coefficients_answer.HEADS["no difference shown"]]),
    (("above", "above", "no difference shown"), [coefficients_answer.HEADS["above"]]),
])  # fmt: skip
def test_the_answer_names_what_no_difference_was_shown_from(verdicts, told):
    assert told == coefficients_answer.head(dict(zip(("uniform", "null", "uniform-sized"), verdicts, strict=True)))


def test_kinds_without_their_control_are_refused_before_any_work(quick):
    for kinds, said in (
        (["acm"], "lacks uniform"),
        (["acm", "uniform", "null-ties"], "lacks ties"),
        ("acm", "kind of"),
    ):
        with pytest.raises(UserError, match=said):
            coefficients.merges(quick, None, [54], 1, {}, kinds)
