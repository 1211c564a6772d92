"""ACM beside other ways to the same end: pairs, differences and findings are those of the records."""

import numpy as np
import pandas as pd
import pytest

from acm.profiles import load_profile
from acm.reporting.dominance import chosen_elsewhere, dominance, in_words, wide_dominance
from acm.reporting.results import Results


@pytest.fixture(scope="module")
def results():
    return Results(load_profile("tiny"), "long-to-short", "reports")


def curve(correct, length, items=8):
    """Records of methods whose grades and lengths do not depend on the item, or are given for each."""
    rows = [
        {"method": m, "task": "t", "item": i, "repeat": 0, "correct": float(np.broadcast_to(correct[m], items)[i]),
         "length": length[m]}
        for m in correct for i in range(items)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_differences_are_those_of_the_records(results):
    table = dominance(results).set_index(["against", "method"])
    means = results.records.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
    for against, method in table.index:
        if against in means.index:
            row, apart = table.loc[(against, method)], means.loc[method] - means.loc[against]
            assert row["accuracy"] == pytest.approx(100 * apart["correct"])
            assert row["length"] == pytest.approx(apart["length"]) and row["detectable"] > 0


def test_the_papers_comparison_stands_beside_that_of_noise(results):
    pairs = list(dominance(results)[["against", "method"]].itertuples(index=False, name=None))
    assert {("TA", "ACM-TA"), ("TA", "Null-TA"), ("Null-TA", "ACM-TA"), ("best single λ for ACM-TA", "ACM-TA")} <= {
        *pairs
    }
    assert {("TA", "Uniform-TA"), ("Uniform-TA", "ACM-TA"), ("Uniform-TIES", "ACM-TIES")} <= {*pairs}
    assert len(pairs) == len({*pairs})
    shown = wide_dominance(dominance(results))
    assert len(shown) == len(pairs) and shown.notna().all(axis=None)


def test_of_several_models_no_single_coefficient_is_chosen():
    table = dominance(Results(load_profile("tiny"), "general", "reports"))
    assert len(table) and not table["against"].str.startswith("best").any()


def test_the_coefficient_is_chosen_on_the_other_half():
    even = np.arange(8) % 2 == 0
    records = curve({"x": even, "y": ~even, "m": 0.5}, {"x": 5, "y": 6, "m": 9})
    chosen = chosen_elsewhere(records, "m", ["x", "y"])
    assert sorted(chosen["item"]) == list(range(8)) and chosen["correct"].eq(0).all()  # right on the half that chose it
    assert chosen.loc[chosen["item"] % 2 == 0, "method"].eq("y").all()


def test_no_longer_point_is_chosen_and_the_shortest_where_all_are_longer():
    records = curve({"y": 0.5, "x": 0, "z": 1, "m": 1}, {"y": 9, "x": 5, "z": 10, "m": 9.5})
    assert set(chosen_elsewhere(records, "m", ["y", "x", "z"])["method"]) == {"y"}
    records["length"] += np.where(records["method"] == "m", -6, 0)
    assert set(chosen_elsewhere(records, "m", ["y", "x", "z"])["method"]) == {"x"}


def test_the_papers_comparison_in_words_has_acm_and_its_controls():
    row = {"against": "TA", "accuracy": 1.0, "accuracy_low": -1.0, "accuracy_high": 3.0, "length": -20.0}
    row |= {"length_low": -21.0, "length_high": -19.0}
    table = pd.DataFrame([row | {"method": method} for method in ("Uniform-TA", "Null-TA", "ACM-TA", "ACM-TIES")])
    shown = "+1.0 [-1.0, +3.0] points and -20.0 [-21.0, -19.0] tokens"
    told = "; ".join(f"{method} {shown}" for method in ("ACM-TA", "Null-TA", "Uniform-TA"))
    assert in_words(table) == f"Against TA on the same items: {told}."
    assert in_words(table[table["method"] == "Null-TA"]) == ""
