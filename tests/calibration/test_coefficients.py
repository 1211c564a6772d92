"""Layer coefficients against Eq. 2 written out in numpy."""

import json

import numpy as np
import pandas as pd
import pytest

import acm
from acm.calibration.coefficients import coefficients_from_table, write_coefficients

MI = np.random.default_rng(0).uniform(0.5, 4.0, (5, 12))
LAYERS = ["embed", "0", "10", "2", "norm", "lm_head"]  # neither sorted as text nor as numbers


def by_hand(mi, t, shift):
    out = []
    for row in mi:
        top = {"layer": max(row), "global": max(map(max, mi)), "none": 0.0}[shift]
        out.append(1 - sum(1 / (1 + np.exp(-t * (value - top))) for value in row) / len(row))
    return out


def mi_table(control="none", scale=1.0, models=("slow", "math")):
    rng = np.random.default_rng(1)
    rows = [
        (m, layer, s, 30, "plug-in", control, scale * rng.uniform(1, 3))
        for m in models
        for s in range(4)
        for layer in LAYERS
    ]
    return pd.DataFrame(rows, columns=["finetuned", "layer", "sample", "tokens", "estimator", "control", "value"])


@pytest.mark.parametrize("shift", ["layer", "global", "none"])
@pytest.mark.parametrize("t", [-1.8, 0.0, 0.5, 0.7, 3.0])
def test_equals_the_closed_form(t, shift):
    assert acm.layer_coefficients(MI, t, shift) == pytest.approx(by_hand(MI, t, shift), abs=1e-14)


def test_defaults_are_the_released_code():
    assert acm.layer_coefficients(MI) == pytest.approx(by_hand(MI, 0.7, "layer"), abs=1e-14)


def test_equation_2_read_literally_at_the_typical_information():
    assert acm.layer_coefficients([[2.5]], 0.7, "none") == pytest.approx(1 / (1 + np.exp(1.75)))


@pytest.mark.parametrize("t", [0.01, 0.7, 100.0])
def test_positive_temperature_with_layer_shift_stays_in_half_to_one(t):
    found = acm.layer_coefficients(MI, t)
    assert found.shape == (5,) and (found >= 0.5).all() and (found < 1).all()


def test_negative_temperature_with_layer_shift_stays_in_zero_to_half():
    found = acm.layer_coefficients(MI, -1.8)
    assert (found > 0).all() and (found <= 0.5).all()


def test_opposite_temperatures_sum_to_one():
    for shift in ("layer", "global", "none"):
        assert acm.layer_coefficients(MI, 1.8, shift) + acm.layer_coefficients(MI, -1.8, shift) == pytest.approx(
            np.ones(5)
        )


def test_layer_shift_cancels_the_absolute_information():
    assert acm.layer_coefficients(MI + 7.0) == pytest.approx(acm.layer_coefficients(MI), abs=1e-12)


def test_high_information_gives_a_small_coefficient():
    found = acm.layer_coefficients([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], 0.7, "none")
    assert found[0] > found[1] > found[2]


def test_order_of_the_samples_changes_nothing():
    order = np.random.default_rng(2).permutation(MI.shape[1])
    for shift in ("layer", "global", "none"):
        assert acm.layer_coefficients(MI[:, order], 0.7, shift) == pytest.approx(
            acm.layer_coefficients(MI, 0.7, shift), abs=1e-15
        )


def test_extreme_information_does_not_overflow():
    with np.errstate(all="raise"):
        assert acm.layer_coefficients([[0.0, 1e6]], 0.7).tolist() == [0.75]


@pytest.mark.parametrize("mi", [[1.0, 2.0], [[]], [[[1.0]]], [[1.0, np.nan]], [[1.0, np.inf]]])
def test_wrong_or_infinite_information_is_refused(mi):
    with pytest.raises(ValueError, match="mi must be a finite"):
        acm.layer_coefficients(mi)


@pytest.mark.parametrize("t", [np.nan, np.inf, -np.inf])
def test_temperature_must_be_finite(t):
    with pytest.raises(ValueError, match="t must be a finite number"):
        acm.layer_coefficients(MI, t)


def test_unknown_shift_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'row'.*global, layer, none"):
        acm.layer_coefficients(MI, 0.7, "row")


def test_table_gives_the_coefficients_of_its_matrix():
    table = mi_table()
    found = coefficients_from_table(table.sample(frac=1, random_state=0), 0.9, "global")
    for model in ("slow", "math"):
        values = table[table["finetuned"] == model].set_index(["layer", "sample"])["value"]
        mi = [[values[layer, sample] for sample in range(4)] for layer in LAYERS]
        assert [found[model][layer] for layer in LAYERS] == pytest.approx(by_hand(mi, 0.9, "global"), abs=1e-14)


def test_layers_keep_the_order_of_the_table():
    found = coefficients_from_table(mi_table())
    assert list(found) == ["slow", "math"] and all(list(layers) == LAYERS for layers in found.values())


def test_only_rows_of_the_control_count():
    both = pd.concat([mi_table(), mi_table("gaussian", scale=0.1)])
    assert coefficients_from_table(both) == coefficients_from_table(mi_table())
    assert coefficients_from_table(both, control="gaussian") == coefficients_from_table(
        mi_table("gaussian", 0.1), control="gaussian"
    )


def test_uniform_is_the_mean_of_the_real_pairs_coefficients_in_every_layer():
    real, found = (coefficients_from_table(mi_table(), control=control) for control in ("none", "uniform"))
    for model, layers in real.items():
        assert list(found[model]) == list(layers)
        assert set(found[model].values()) == {float(np.mean(list(layers.values())))}
    with pytest.raises(ValueError, match="no rows with control 'none'"):
        coefficients_from_table(mi_table().assign(control="gaussian"), control="uniform")


def test_absent_control_is_refused():
    with pytest.raises(ValueError, match="gaussian"):
        coefficients_from_table(mi_table(), control="gaussian")


def test_missing_sample_is_refused():
    with pytest.raises(ValueError):
        coefficients_from_table(mi_table().iloc[1:])


def test_file_holds_what_design_promises(tmp_path):
    path = tmp_path / "new" / "coefficients.json"
    returned = write_coefficients(path, mi_table(), {"texts": "some.jsonl"}, t=0.5, shift="none")
    stored = json.loads(path.read_text())
    assert stored == returned
    assert (stored["t"], stored["shift"], stored["estimator"]) == (0.5, "none", "plug-in")
    assert stored["provenance"] == {"texts": "some.jsonl"}
    assert stored["coefficients"] == coefficients_from_table(mi_table(), 0.5, "none")


def test_what_the_table_knows_of_its_texts_stands_in_the_provenance(tmp_path):
    table = mi_table()
    table.attrs["texts_sha256"] = "ab"
    stored = write_coefficients(tmp_path / "coefficients.json", table, {"texts": "some.jsonl"})
    assert stored["provenance"] == {"texts": "some.jsonl", "texts_sha256": "ab"}
