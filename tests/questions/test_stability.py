"""Question 3: stability of the coefficients, on tables with known answers."""

import json

import numpy as np
import pytest
from helpers_questions import LAYERS, assert_in_order, information, labelled
from questions.made_up import assert_plain
from scipy.special import expit

from acm.calibration.coefficients import draws_of, layer_coefficients, matrix
from acm.calibration.registry import SHIFTS
from acm.calibration.texts import read_texts
from acm.questions import stability
from acm.questions.study import plain


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("t", [0.7, -1.8])
def test_draws_are_the_coefficients_of_subsets(shift, t):
    names, mi = matrix(information())
    assert names == LAYERS and mi.shape == (9, 12)
    found = draws_of(mi, 5, 4, t, shift, seed=2)
    rng = np.random.default_rng([2, 5])
    for row in found:
        np.testing.assert_array_equal(row, layer_coefficients(mi[:, rng.choice(12, 5, replace=False)], t, shift))
    whole = draws_of(mi, 12, 3, t, shift)  # all texts in some order
    np.testing.assert_allclose(
        whole, np.broadcast_to(layer_coefficients(mi, t, shift), whole.shape), rtol=0, atol=1e-12
    )


def test_one_text_gives_one_half_with_the_shift_by_layer():
    found = stability.by_size(information(), (1, 12), 0.7, "layer", draws=20)
    assert (found.loc[found["texts"] == 1, ["mean", "low", "high"]] == 0.5).all(axis=None)
    assert (found.loc[found["texts"] == 12, "mean"] > 0.5).all()
    assert found.groupby(["control", "texts"]).size().to_dict() == {
        (c, n): 9 for c in ("none", "gaussian") for n in (1, 12)
    }


def test_one_text_gives_one_half_to_the_largest_layer_alone_with_a_global_shift():
    _, mi = matrix(information())
    found = draws_of(mi, 1, 30, 0.7, "global")
    assert (found.min(axis=1) == 0.5).all() and ((found > 0.5).sum(axis=1) == 8).all()


def test_the_matrix_is_of_the_first_model_and_keeps_the_order_of_layers():
    table = information(finetuned=("b", "a"))
    names, mi = matrix(table, "gaussian")
    rows = table[(table["finetuned"] == "b") & (table["control"] == "gaussian")]
    assert names == LAYERS
    np.testing.assert_array_equal(mi, rows["value"].to_numpy().reshape(9, 12))


def test_texts_that_rank_blocks_alike_agree_and_noise_does_not():
    table = information(60)
    ranks = stability.agreement(table, 10, 0.7, "layer")
    assert len(ranks) == 15 * stability.DEALS and (np.abs(ranks) <= 1).all() and abs(np.median(ranks)) < 0.5
    slanted = table.assign(
        value=np.log(table["tokens"]) * table["layer"].map({layer: 1 + i for i, layer in enumerate(LAYERS)})
    )
    assert stability.agreement(slanted, 10, 0.7, "layer") == pytest.approx(np.ones(15 * stability.DEALS))


@pytest.mark.parametrize("names, samples, size", [(["embed", "0", "norm"], 12, 3), (LAYERS, 12, 12), (LAYERS, 12, 1)])
def test_no_rank_correlation_is_said_to_be_none(names, samples, size):
    table = information(samples, names=names)
    ranks = {control: stability.agreement(table, size, 0.7, "layer", control) for control in ("none", "gaussian")}
    assert all(len(r) == 0 for r in ranks.values())
    sizes = stability.by_size(table, (1, size), 0.7, "layer", draws=10)
    text, numbers = stability.verdict(sizes, ranks, stability.with_interval("t", "0.7", table, 0.7, "layer"), size)
    assert_in_order(text, "The order of the blocks cannot be compared")
    json.dumps(plain(numbers), allow_nan=False)


def test_two_blocks_agree_or_not():
    ranks = stability.agreement(information(12, names=["embed", "0", "1"]), 3, 0.7, "layer")
    assert len(ranks) == 6 * stability.DEALS and set(np.round(ranks, 9)) <= {-1.0, 1.0}


def test_the_interval_of_a_setting_is_of_its_texts():
    table = information(30)
    found = stability.with_interval("t", "0.7", table, 0.7, "none", texts=10).set_index("layer")
    _, mi = matrix(table)
    np.testing.assert_allclose(found["coefficient"], layer_coefficients(mi[:, :10], 0.7, "none"))
    error = expit(0.7 * mi[:, :10]).std(axis=1) / 10**0.5
    np.testing.assert_allclose((found["high"] - found["low"]) / (2 * 1.96 * error), 1, atol=0.25)
    assert ((found["low"] < found["coefficient"]) & (found["coefficient"] < found["high"])).all()


@pytest.fixture
def settled(quick, monkeypatch):
    """Settings of question 3 with a made-up MI table for each, and the arguments that calibration was called with."""
    calls = []

    def fake(*given, **named):
        calls.append((given, named))
        return information(len(given[2]), named["controls"], seed=len(calls))

    monkeypatch.setattr(stability, "calibrate", fake)
    return stability.settings(quick, information(20), ["question", "question+short"], [8, 16], ["bfloat16"], 12), calls


def test_settings_change_one_thing_at_a_time(settled, quick):
    found, calls = settled
    tried = {"t": 5, "shift": len(SHIFTS), "field": 2, "max_tokens": 2, "dtype": 1}
    assert found.groupby("setting", sort=False)["value"].nunique().to_dict() == tried
    asked = [(None, "float32"), (None, "float32"), (8, "float32"), (16, "float32"), (None, "bfloat16")]
    assert [(named["max_tokens"], named["dtype"]) for _, named in calls] == asked
    texts = [given[2] for given, _ in calls]
    assert texts[0] != texts[1] and texts[0] == texts[2] == read_texts(quick.setting.calibration.source)[:12]
    same = found[
        ((found["setting"] == "t") & (found["value"] == "0.7"))
        | ((found["setting"] == "shift") & (found["value"] == "layer"))
    ]
    assert same.groupby("layer")["coefficient"].nunique().eq(1).all()
    figure = stability.draw_settings(found)
    assert [axes.get_title("left") for axes in figure.axes] == [stability.SETTINGS[name] for name in tried]
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 1)}
    moved = stability.moved_by(stability.block_means(found))
    assert set(moved) == set(tried) and f"most with the shift: by {moved['shift']:.2f}" in figure.get_label()
    rows = found[(found["setting"] == "t") & (found["value"] == "0.3") & found["layer"].str.isdigit()]
    assert figure.axes[0].containers[0].lines[0].get_xdata() == pytest.approx(rows["coefficient"].mean())
    assert figure.axes[0].texts[0].get_text() == f"{rows['coefficient'].mean():.2f}"


def test_the_answer_on_stability_is_true_to_its_numbers(settled):
    table = information(60)
    sizes = stability.by_size(table, (1, 5, 20), 0.7, "layer", draws=50)
    assert labelled(stability.draw_sizes(sizes)) == 2
    ranks = {control: stability.agreement(table, 20, 0.7, "layer", control) for control in ("none", "gaussian")}
    text, numbers = stability.verdict(sizes, ranks, settled[0], 20)
    blocks = sizes[(sizes["control"] == "none") & sizes["layer"].str.isdigit()]
    last = blocks[blocks["texts"] == 20]
    assert numbers["interval_width"] == pytest.approx((last["high"] - last["low"]).mean())
    assert numbers["mean_with_fewest"] == 0.5 and numbers["mean_coefficient"] == pytest.approx(last["mean"].mean())
    assert numbers["rank_correlation"]["none"]["pairs"] == 3 * stability.DEALS
    assert set(numbers["moved_by"]) == {"t", "shift", "field", "max_tokens", "dtype"}
    assert_in_order(
        text,
        "A block's λ varies",
        "Of the settings that were tried, the shift moves λ most. ",
        "draws of 20 texts",
        f"{np.median(ranks['none']):.2f}",
        "from 0.500 with 1 text to",
        "hidden parameter of the shift",
        "changed: t ",
        "; the dtype ",
    )
    assert_plain(text)


def test_without_a_shift_the_number_of_texts_is_no_hidden_parameter():
    table = information(60)
    sizes = stability.by_size(table, (2, 20), 0.7, "none", draws=100)
    ranks = {"none": stability.agreement(table, 20, 0.7, "none")}
    text, _ = stability.verdict(sizes, ranks, stability.with_interval("t", "0.7", table, 0.7, "none"), 20)
    assert "hidden" not in text
    assert_in_order(text, "with 2 texts to", "no more than draws differ")


def test_layers_are_drawn_for_each_shift_on_the_whole_range_beside_noise():
    table = information(40)
    figure = stability.draw_layers(table, 40, 0.9)
    assert labelled(figure) == len(SHIFTS) and {axes.get_ylim() for axes in figure.axes} == {(0, 1)}
    for axes, shift in zip(figure.axes, SHIFTS, strict=True):
        noise, pair = (layer_coefficients(matrix(table, c)[1], 0.9, shift) for c in ("gaussian", "none"))
        np.testing.assert_allclose([line.get_ydata() for line in axes.lines], [noise, pair])
        assert f"{np.abs(pair - noise).mean():.2f} with shift {shift}" in figure.get_label()


def test_an_interval_below_its_estimate_can_be_drawn():
    found = stability.with_interval("t", "0.7", information(), 0.7, "layer")
    figure = stability.draw_settings(found.assign(high=found["coefficient"] - 0.001))
    assert figure.get_label().startswith("λ moves by 0.00 with t")


def test_pool_passes_the_profiles_setting_on(quick, monkeypatch):
    seen = []
    monkeypatch.setattr(stability, "calibrate", lambda *given, **named: seen.append((given, named)))
    stability.pool(quick, 7, field="question+short", max_tokens=9)
    (base, finetuned, texts), named = seen[0]
    assert (base, finetuned) == quick.models
    assert texts == read_texts(quick.setting.calibration.source, "question+short")[:7] and len(texts) == 7
    expected = {"controls": ("none", "gaussian"), "estimators": ("plug-in",), "seed": 0, "dtype": "float32"}
    assert expected | {"device": "cpu", "max_tokens": 9} == {name: named[name] for name in named if name != "keep"}
