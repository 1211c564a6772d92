"""Controls of coefficients, and their mean, by hand."""

import pytest

from acm.calibration.nulls import controlled, with_mean
from acm.errors import UserError

LAMBDA = {"a": {"embed": 0.1, "0": 0.2, "1": 0.3, "2": 0.5, "norm": 0.6, "lm_head": 0.7}}


def test_controls_by_hand():
    assert controlled(LAMBDA, "none") == LAMBDA
    assert controlled(LAMBDA, "uniform")["a"] == pytest.approx(dict.fromkeys(LAMBDA["a"], 0.4))
    assert controlled(LAMBDA, "reversed") == {"a": LAMBDA["a"] | {"0": 0.5, "1": 0.3, "2": 0.2}}
    dealt = controlled(LAMBDA, "permuted", 3)["a"]
    assert list(dealt) == list(LAMBDA["a"]) and sorted(dealt.values()) == sorted(LAMBDA["a"].values())
    assert controlled(LAMBDA, "permuted", 3) == {"a": dealt}
    draws = [controlled(LAMBDA, "permuted", seed)["a"] for seed in range(40)]
    assert all(len({draw[layer] for draw in draws}) == 6 for layer in LAMBDA["a"])  # embedding, norm and head too
    with pytest.raises(UserError, match=r"unknown control 'permutd'\. Did you mean 'permuted'"):
        controlled(LAMBDA, "permutd")


def test_blocks_are_reversed_by_number_not_by_name():
    layers = {"embed": 9.0} | {str(i): float(i) for i in range(12)} | {"norm": 8.0}
    found = controlled({"m": layers}, "reversed")["m"]
    assert found == layers | {str(i): 11.0 - i for i in range(12)}


def test_a_mean_scales_all_layers_alike():
    found = with_mean(LAMBDA, 0.7)["a"]
    assert found == pytest.approx({layer: value * 1.75 for layer, value in LAMBDA["a"].items()})
    for mean in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="above 0"):
            with_mean(LAMBDA, mean)
    with pytest.raises(UserError, match=r"no factor brings to 0\.7"):
        with_mean({"a": {"0": 0.0}}, 0.7)
