"""Question 2 on fresh items: which models answer them, and the contrasts on records with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from questions.made_up import FRONTIER, LAMBDA, assert_in_order, assert_plain, labelled, made_up, sampled

from acm.profiles.standard import Method
from acm.questions import coefficients, fresh
from acm.questions.coefficients_answer import verdict
from acm.questions.study import SLIM, Study, plain
from acm.reporting import statistics


def placed(acm=0.0, uniform=0.0, null=0.0, plainly=0.0, draws=3):
    """Merges at places on the line: each draw has its own, and Task Arithmetic another."""
    heights = {"acm": acm, "uniform": uniform, "null": null}
    found = {f"{kind} {i}": (0.3 + 0.05 * i, height) for i in range(draws) for kind, height in heights.items()}
    return found | {"TA": (0.6, plainly)}


def test_contrasts_pair_the_draws_and_hold_all_against_task_arithmetic():
    sample = sampled(placed(acm=0.03, null=0.02, plainly=0.01))
    table = fresh.contrasts(sample, FRONTIER).set_index(["ours", "theirs"])
    assert table["lead"].to_dict() == pytest.approx(
        {("acm", "uniform"): 3, ("acm", "null"): 1, ("acm", "TA"): 2, ("null", "TA"): 1}, abs=1e-6
    )
    length = {name: statistics.average(sample, name, "length")[0] for name in sample.methods}
    ours = np.mean([length[f"acm {i}"] for i in range(3)])
    assert table.loc[("acm", "TA"), "longer"] == pytest.approx(ours - length["TA"]) and ours < length["TA"]
    assert table.loc[("acm", "uniform"), "longer"] == pytest.approx(0, abs=1e-9)
    assert (table["n"] == 120).all() and (table["draws"] == 3).all() and (table["verdict"] == "above").all()
    figure = fresh.draw(table.reset_index())
    assert labelled(figure) == 3
    assert next(t.get_text() for t in figure.axes[0].get_yticklabels()) == "ACM less uniform λ"
    assert figure.get_label() == "On 120 fresh items ACM's λ lead uniform λ, λ of noise and Task Arithmetic"


def test_contrasts_are_adjusted_as_one_family_of_their_own():
    table = fresh.contrasts(sampled(placed(acm=0.004), noise=0.02), FRONTIER)
    np.testing.assert_allclose(table["p_adjusted"], statistics.holm(table["p"].to_numpy()))
    alone = fresh.contrasts(sampled({k: v for k, v in placed(0.004).items() if k != "TA"}, noise=0.02), FRONTIER)
    assert list(zip(alone["ours"], alone["theirs"], strict=True)) == [("acm", "uniform"), ("acm", "null")]
    assert (alone["p_adjusted"] <= 2 * alone["p"]).all()


@pytest.mark.parametrize(
    "acm, head", [(0.05, "ACM's λ by layer beat one λ"), (0.0, "ACM's λ by layer are not shown to beat")]
)
def test_the_answer_leans_on_the_fresh_items(acm, head):
    table = coefficients.comparison(sampled(placed(), noise=0.02), FRONTIER)
    contrasts = fresh.contrasts(sampled(placed(acm=acm), noise=0.02, seed=1), FRONTIER)
    text, numbers = verdict(table, 35.0, contrasts)
    assert_plain(text)
    row = contrasts.iloc[0]
    told = f"ACM over uniform λ {row['lead']:+.2f} [{row['lead_low']:+.2f}, {row['lead_high']:+.2f}] ("
    assert_in_order(
        text, head, "Leads on 120 fresh items", told, f"{row['detectable']:.1f}), 3 sets;",
        "λ of noise over Task Arithmetic", "4 leads tested on fresh items", "On the benchmark's items",
    )  # fmt: skip
    assert text.startswith(head) and len(numbers["fresh"]) == 4
    json.dumps(plain(numbers), allow_nan=False)
    assert "fresh" not in verdict(table, 35.0)[0] and "fresh" not in verdict(table, 35.0)[1]


def test_a_contrast_outside_the_frontier_has_no_lead():
    contrasts = fresh.contrasts(sampled(placed() | {"TA": (1.4, 0.0)}), FRONTIER)
    assert contrasts["verdict"].tolist()[2:] == ["outside"] * 2 and contrasts["lead"].isna().tolist()[2:] == [True] * 2
    table = coefficients.comparison(sampled(placed()), FRONTIER)
    assert_in_order(
        verdict(table, 35.0, contrasts)[0], "ACM over Task Arithmetic outside the bar's range, 3 sets; λ of noise over"
    )
    assert labelled(fresh.draw(contrasts)) == 3


def test_fresh_items_are_asked_of_parents_frontier_task_arithmetic_and_the_contrasted_merges(quick, monkeypatch):
    seen = {}

    def answers(model, profile, experiment, folder, name, tasks=None):
        seen[name] = model, tasks
        return made_up({}, items=3, tasks=tasks).query("method == 'abacus-fast'").assign(method=name, response="")

    monkeypatch.setattr(fresh, "evaluate_model", answers)
    monkeypatch.setattr("acm.questions.study.evaluate_merge", answers)
    quick.setting.methods["TA"] = Method(merge_method="task_arithmetic", parameters={"weight": 0.7})
    given = {name: {"coefficients": {"abacus-slow": LAMBDA}} for name in ("acm 0", "uniform 0", "null 0", "permuted 0")}
    records = fresh.evaluate(quick, given)
    assert set(seen) == {"abacus-fast", "abacus-slow", "frontier-0.5", "TA", "acm 0", "uniform 0", "null 0"}
    assert {tuple(tasks) for _, tasks in seen.values()} == {("abacus_easy_fresh",)}
    recipes = {name: model for name, (model, _) in seen.items() if isinstance(model, dict)}
    assert {name: recipes[name]["parameters"]["weight"] for name in ("frontier-0.5", "TA")} == {
        "frontier-0.5": 0.5, "TA": 0.7,
    }  # fmt: skip
    assert recipes["acm 0"]["coefficients"] == {"abacus-slow": LAMBDA}
    stored = pd.read_parquet(quick.folder / "fresh.parquet")
    assert list(stored) == SLIM and len(stored) == len(records) == 7 * 3


def test_experiments_without_generated_tasks_have_no_fresh_items(quick, folder):
    assert fresh.tasks_of(quick) == ["abacus_easy_fresh"]
    assert fresh.tasks_of(Study(str(folder / "mini.yaml"), "general", "none")) == []


def test_other_tasks_are_asked_with_all_their_items_and_the_profiles_settings(quick, monkeypatch):
    from acm.questions import study

    calls = []
    monkeypatch.setattr(study, "evaluate", lambda *given, **named: calls.append((given, named)) or pd.DataFrame())
    for tasks in (None, ["abacus_easy_fresh"]):
        study.evaluate_model(quick.models[0], quick.profile, quick.experiment, quick.folder, "x", tasks)
    (usual, known), (other, asked) = calls
    assert usual[1] == ["abacus_easy"] and other[1] == ["abacus_easy_fresh"]
    assert (known.pop("items"), asked.pop("items")) == (3, None) and known == asked
    assert asked["max_tokens"] == 16 and asked["keep"] == quick.folder / "batches"


def test_coefficients_of_the_papers_size_are_contrasted_with_their_mean_and_have_one_set():
    found = fresh.contrasts(sampled(placed() | {"sized 0": (0.5, 0.02), "uniform-sized 0": (0.5, 0.0)}), FRONTIER)
    row = found.set_index("ours").loc["sized"]
    assert row["theirs"] == "uniform-sized" and row["draws"] == 1 and row["righter"] == pytest.approx(2, abs=1e-6)
    text = verdict(coefficients.comparison(sampled(placed()), FRONTIER), 35.0, found)[0]
    assert_in_order(text, "ACM at the paper's size over its mean", ", 1 set.")
