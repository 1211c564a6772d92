"""Question 8: its numbers against hand-made ones, and its trials against the tensors of their merges."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import recipe
from questions.made_up import assert_plain

import acm
from abacus import CHECKPOINTS
from acm.calibration.layer_rules import by_ranks
from acm.errors import UserError
from acm.files import digest
from acm.merging.tensors import merged_tensors, planned
from acm.questions import search, search_answer, search_figures, search_nulls, search_points
from acm.questions.search_layers import fitted
from acm.questions.search_trials import Trials, with_part
from acm.searching.points import best_points, layers_of, mean_layers
from acm.searching.run import Items, Search

FAST, SLOW = CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow"
TASKS = ("easy", "hard")
ITEMS = 200
NONE = pd.DataFrame()
GENES = ["embed", "0", "1", "lm_head"]


def records(points, seed):
    """Fresh records of points → (accuracy, tokens), on two tasks."""
    rng = np.random.default_rng(seed)
    rows = [
        {"point": point, "task": task, "item": item, "correct": int(rng.random() < accuracy), "length": int(tokens),
         "truncated": False}
        for point, (accuracy, tokens) in points.items() for task in TASKS for item in range(ITEMS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write(folder, found, seed=0, backs=()):
    """A finished search in a folder. found: arm's best point → (accuracy, tokens) on fresh items."""
    folder.mkdir(parents=True)
    plain = {f"one-{i}": (0.4 + 0.05 * i, 20 + 10 * i) for i in range(11)}
    every = plain | found
    fresh = records(every, seed)
    fresh.to_parquet(folder / "fresh.parquet")
    means = fresh.groupby(["point", "task"])[["correct", "length"]].mean().groupby("point").mean()
    rows = []
    for i, (point, (accuracy, tokens)) in enumerate(every.items()):
        arm, _, candidate = point.rpartition("-")
        rows.append({
            "arm": arm, "candidate": int(candidate), "role": "front" if arm == "one" else "best", "asked": 60,
            "accuracy": 100 * accuracy + 3 * (arm != "one"), "tokens": tokens, "stopped": False, "seconds": 1.0,
            "value": 100 * accuracy + i / 1000, "fresh_accuracy": 100 * means["correct"][point],
            "fresh_tokens": means["length"][point],
            **({"λ": i / 10} if arm == "one" else dict(zip(GENES, [0.5, -0.2 - i / 100, 0.1, 0.9], strict=True))),
        })  # fmt: skip
    front = pd.DataFrame(rows)
    front.to_csv(folder / "front.csv", index=False)
    extra = front.iloc[[10]].assign(candidate=11, tokens=130)  # of one λ, judged among the trials
    pd.concat([front, extra]).drop(columns="role").to_parquet(folder / "candidates.parquet")
    (folder / "search.json").write_text(json.dumps({"settings": {"price": 0.6}}))
    if backs:
        tried = records(dict(backs), seed)
        tried.rename(columns={"point": "trial"}).to_parquet(folder / "trials.parquet")
        known = {" back": "back", "one-": "one", ": ": "control"}
        kinds = [next((kind for word, kind in known.items() if word in name), "moved") for name, _ in backs]
        facts = pd.DataFrame({"trial": [name for name, _ in backs], "kind": kinds})
        facts["target"] = ["75" if kind == "back" else "" for kind in kinds]
        facts["of"] = [name.partition(": ")[0] if ": " in name else "" for name, _ in backs]
        facts["null"] = [name.partition(": ")[2].rstrip(" 012") for name, _ in backs]
        facts["front"] = digest(folder / "front.csv")
        facts.to_csv(folder / "trials.csv", index=False)


@pytest.fixture
def searches(tmp_path, monkeypatch):
    """A search with four seeds, and three families with one."""
    monkeypatch.setattr(search_points, "RUNS", tmp_path)
    root = tmp_path / "p" / "searches"
    both = {f"cmaes-75-{k}": (0.9, 60) for k in ("0-7", "1-3", "2-5", "3-1")} | {"random-75-0-2": (0.6, 60)}
    backs = [
        ("0 back at 75", (0.6, 60)),
        ("embed back at 75", (0.9, 60)),
        ("moved λ", (0.6, 55)),
        ("one-11", (0.9, 130)),
        ("moved λ: blocks alike", (0.4, 55)),
        ("moved λ: blocks dealt 0", (0.5, 55)),
        ("moved λ: blocks dealt 1", (0.6, 95)),
    ]
    write(root / "first", both, 1, backs)
    for i, name in enumerate(("left", "middle", "right")):
        write(root / name, {"cmaes-75-0-1": (0.85, 58), "random-75-0-2": (0.6, 60)}, i + 2, backs[2:])
    return [search.Judged(search_points.home_of("p", name)) for name in ("first", "left", "middle", "right")]


def by_hand(judged, point):
    """Points above the line through the points of one λ, which rise."""
    means = judged.sample
    at = {m: (means.length[i, :, 0].mean(), means.accuracy[i, :, 0].mean()) for i, m in enumerate(means.methods)}
    kept, best = [], -1.0
    for length, accuracy in sorted(at[m] for m in judged.bar):
        if accuracy > best:
            kept.append((length, accuracy))
            best = accuracy
    length, accuracy = at[point]
    return 100 * (accuracy - np.interp(length, *zip(*kept, strict=True)))


def test_leads_are_points_above_the_line_of_one_coefficient(searches):
    first = searches[0]
    best = first.best().set_index("point")
    for point in best.index:
        assert best.loc[point, "lead"] == pytest.approx(by_hand(first, point))
        assert best.loc[point, "lead_low"] < best.loc[point, "lead"] < best.loc[point, "lead_high"]
    assert best.loc["cmaes-75-0-7", "lead"] > 20 > abs(best.loc["random-75-0-2", "lead"])
    row = first.front.set_index("point").loc["cmaes-75-0-7"]
    assert best.loc["cmaes-75-0-7", "optimism"] == pytest.approx(row["accuracy"] - row["fresh_accuracy"])


def test_one_coefficient_at_a_target_is_what_the_same_items_chose(searches):
    first = searches[0]
    target = first.targets["75"]  # 75 % of the best, 90 %, lies at 67.5 %: between the points of 65 and 70 %
    assert target == pytest.approx(75)
    values = {f"one-{i}": 40 + 5 * i - 0.6 * max(0, 20 + 10 * i - target) for i in range(11)}
    assert first.plain("75") == max(values, key=values.get)
    assert first.bar == [f"one-{i}" for i in range(12)]  # the last one was judged beside the search


def test_all_others_are_the_mean_over_families_and_the_tests_are_adjusted_together(searches):
    table = search.summary(searches)
    others = table[(table["search"] == "all others") & (table["sampler"] == "cmaes")].iloc[0]
    own = [by_hand(judged, "cmaes-75-0-1") for judged in searches[1:]]
    assert others["lead"] == pytest.approx(np.mean(own)) and others["n"] == 3
    first = table[(table["search"] == "first") & (table["sampler"] == "cmaes")].iloc[0]
    assert first["lead"] == pytest.approx(
        np.mean([by_hand(searches[0], f"cmaes-75-{k}") for k in ("0-7", "1-3", "2-5", "3-1")])
    )
    tested = table[table["p_adjusted"].notna()]
    assert len(tested) == 2 and "random" not in set(tested["sampler"])
    assert sorted(tested["p_adjusted"]) == pytest.approx(sorted(np.minimum(1, [2 * tested["p"].min()] * 2)), abs=0.05)


def test_a_layer_is_worth_what_its_return_to_the_mean_loses(searches):
    first = searches[0]
    flat = search.flatness(first).set_index("what")
    lost = by_hand(first, "cmaes-75-3-1") - by_hand(first, "0 back at 75")
    assert flat.loc["0", "lost"] == pytest.approx(lost) and lost > 20
    assert abs(flat.loc["embed", "lost"]) < 10


def test_the_answer_follows_from_the_tests(searches):
    table, rules = search.summary(searches), search_answer.tested_rules(searches[1:])
    assert rules["trial"].to_list() == ["moved λ"] and rules["searches"].to_list() == [3]
    nulls = search_nulls.null_table(searches[1:])
    head = "λ by layer from a search beat one λ for all in"
    assert search_answer.answer(table, rules) == f"{head} 2 of 2 tests; no λ without a new search is shown to."
    assert search_answer.answer(table, NONE) == f"{head} 2 of 2 tests."
    first, second = search_answer.leads(table, rules, nulls, NONE)
    assert first.startswith("On fresh items of first and the fresh families, λ from a search lie ")
    assert second == "Without a new search, no λ are shown to lead on the fresh families."
    won = rules.assign(lead=9.0, p_adjusted=0.01)
    assert search_answer.answer(table, won) == f"{head} 2 of 2 tests, and some λ without a new search do too."
    for p, words in ((0.9, "None of these λ are shown"), (0.01, "Of these λ, moved λ are shown to beat both")):
        _, lead, beyond = search_answer.leads(table, won, nulls.assign(less=5.0, p_adjusted=p), NONE)
        assert lead == "Without a new search, moved λ lead on the fresh families." and beyond.startswith(words)
    half = nulls.assign(less=5.0, p_adjusted=[0.01 if null == "blocks alike" else 0.9 for null in nulls["null"]])
    assert search_answer.leads(table, won, half, NONE)[-1].startswith("None of these λ are shown")
    finer = pd.DataFrame({"few": 4, "target": ["75", "95"], "less": 5.0, "p_adjusted": [0.01, 0.9]})
    told = "λ for every layer are not shown to beat 4 λ that blocks share, except at the length where one λ has 75 % of"
    assert search_answer.leads(table, rules, nulls, finer)[1].startswith(told)
    ranks = ["ranks of MI", "ranks of norm", "best λ, moved", "mean λ, moved", "ACM"]
    words = "λ moved from the shipped family and λ by the ranks of MI and of norm and ACM"
    assert search_answer.named(ranks) == words
    for given, end in ((rules, ", with or without"), (won, ", but some λ without a new search are."), (NONE, ".")):
        lost = search_answer.answer(table.assign(p_adjusted=0.9), given)
        assert "not shown to beat one λ for all" + end in lost and len(lost.split()) <= 25
    some = table.assign(p_adjusted=table["p_adjusted"].where(table["search"] == "first", 0.9))
    some.loc[some["sampler"] == "random", "p_adjusted"] = np.nan
    assert search_answer.answer(some, won).startswith(f"{head} 1 of 2 tests, and")
    assert search_answer.leads(some, rules, nulls, NONE)[1].startswith("On fresh items of the fresh families, no lead")


def test_the_verdict_has_a_sentence_for_each_table(searches):
    ranks = pd.DataFrame({"first": [0.9, 0.5], "p": 0.2, "others": 0.1, "p_adjusted": 0.4}, index=["depth", "MI"])
    tables = {
        "summary": search.summary(searches), "coefficients": search.coefficients(searches), "ranks": ranks,
        "flatness": search.flatness(searches[0]), "rules": search_answer.tested_rules(searches[1:]),
        "elsewhere": search_answer.tested_rules([]), "nulls": search_nulls.null_table(searches[1:]),
        "finer": search_nulls.finer_table(searches[0], [searches[1]]), "at_home": NONE,
    }  # fmt: skip
    text, numbers = search_answer.verdict_of(tables, searches[0])
    assert "λ is below 0 in block 0." in text and "above the mean of all λ in the embedding, the head." in text
    assert "MI goes most with the found λ over the layers (rank correlation +0.50" in text
    assert "points where all blocks share their mean λ" in text and "λ for every layer minus the best of left" in text
    assert_plain(text)
    assert set(numbers) == set(tables) and len(numbers["summary"]) == len(tables["summary"])


def test_nulls_are_compared_by_the_value_that_the_search_looks_for(searches):
    table = search_nulls.null_table(searches[1:]).set_index("null")
    assert [*table.index] == ["blocks alike", "blocks dealt"]
    found = {}
    for judged in searches[1:]:
        for name in ("moved λ", *(f"moved λ: blocks {null}" for null in ("alike", "dealt 0", "dealt 1"))):
            means, i = judged.sample, judged.sample.row(name)
            accuracy, length = 100 * means.accuracy[i, :, 0].mean(), means.length[i, :, 0].mean()
            found.setdefault(name, []).append(accuracy - 0.6 * max(0, length - judged.targets["75"]))
    own, alike, *dealt = (np.mean(values) for values in found.values())
    for null, other in (("blocks alike", alike), ("blocks dealt", np.mean(dealt))):
        row = table.loc[null]
        assert row[["value", "null_value", "less"]].to_list() == pytest.approx([own, other, own - other])
        assert row["less_low"] < row["less"] < row["less_high"]
    assert found["moved λ: blocks dealt 1"][0] < 100 * searches[1].sample.accuracy.max() - 6  # it is longer: priced
    assert table["merges"].to_list() == [3, 6]


def test_fewer_coefficients_are_compared_at_the_same_target(searches):
    row = search_nulls.finer_table(searches[0], [searches[1]]).iloc[0]
    means = []
    for judged, points in ((searches[0], ("0-7", "1-3", "2-5", "3-1")), (searches[1], ("0-1",))):
        own = [judged.sample.row(f"cmaes-75-{k}") for k in points]
        accuracy, length = (part[own, :, 0].mean(axis=1) for part in (judged.sample.accuracy, judged.sample.length))
        means.append(np.mean(100 * accuracy - 0.6 * np.maximum(0, length - judged.targets["75"])))
    assert row["target"] == "75" and row[["value", "coarse_value"]].to_list() == pytest.approx(means)
    assert row["less"] == pytest.approx(means[0] - means[1])


def test_null_merges_take_away_the_place_of_a_coefficient():
    layers = {"embed": 0.3, "0": 0.1, "1": 0.5, "2": 0.9, "norm": 0.2, "lm_head": 1.0}
    found = search_nulls.null_layers(layers, "here")
    assert [null for null, _ in found] == ["blocks alike", "head alone", *["blocks dealt"] * 3]
    assert found[0][1] == pytest.approx(layers | dict.fromkeys("012", 0.5))
    assert found[1][1] == pytest.approx(dict.fromkeys(layers, 0.4) | {"lm_head": 1.0})
    deals = [null for _, null in found[2:]]
    for dealt in deals:
        assert dealt != layers and sorted(dealt.values()) == sorted(layers.values()) and [*dealt] == [*layers]
        assert all(dealt[layer] == layers[layer] for layer in ("embed", "norm", "lm_head"))
    assert len({tuple(dealt.values()) for dealt in deals}) == 3
    assert deals != [null for _, null in search_nulls.null_layers(layers, "there")[2:]]
    two = search_nulls.null_layers({"embed": 0.1, "0": 0.2, "1": 0.4}, "here")  # tied: the embedding is the head
    assert [null for null, _ in two] == ["blocks alike", "head alone", "blocks dealt"]
    assert two[1][1] == pytest.approx({"embed": 0.1, "0": 0.3, "1": 0.3})
    assert search_nulls.null_layers({"embed": 0.1, "0": 0.2}, "here") == []  # they would be the same


def test_the_fit_gives_back_the_line_over_ranks_that_made_the_coefficients():
    values = pd.Series({"embed": 3.0, "0": -1.0, "1": 7.0, "norm": 4.0, "lm_head": 100.0, "unknown": np.nan})
    assert fitted(values, by_ranks(dict(values.dropna()), 0.4, 0.3)) == pytest.approx((0.4, 0.3))


def test_a_group_of_blocks_stands_for_each_of_them():
    row = pd.Series({"arm": "cmaes-85-0", "accuracy": 50.0, "0–2": 0.3, "3": 0.7, "embed": np.nan, "λ": 0.5})
    assert layers_of(row) == {"0": 0.3, "1": 0.3, "2": 0.3, "3": 0.7}
    assert mean_layers([row, row.replace(0.3, 0.5)]) == pytest.approx({"0": 0.4, "1": 0.4, "2": 0.4, "3": 0.7})


def settings():
    content = recipe("task_arithmetic", FAST, SLOW, parameters={"weight": 1.0}, out_dtype="float32")
    engine = acm.Engine(dtype="float32", device="cpu", batch_size=8)
    tasks = ("abacus_easy",)
    return Search(content, Items(tasks, 0, 2), Items(tasks, 2, 4), engine=engine, max_tokens=16)


def test_a_trial_changes_the_tensors_that_it_says(tmp_path):
    trials = Trials(settings(), tmp_path)
    point = {gene: 0.1 * i for i, gene in enumerate(trials.space.genes)}
    trials.add_back("75", point)
    mean = np.mean([*point.values()])
    assert len(trials.found) == len(point) + 2
    tensors = {m: dict(weights(trials.search.recipe | {"parameters": {"weight": m}})) for m in (0.0, 1.0)}
    for trial in (trials.found[0], trials.found[-2]):
        for name, value in weights(trial.recipe):
            layer = name.split(".")[2] if ".layers." in name else {"lm_head.weight": "lm_head"}.get(name, "")
            layer = layer or ("embed" if "embed" in name else "norm")
            changed = trial.name.startswith(layer) or (trial.name.startswith("attention") and "self_attn" in name)
            factor = mean if changed else point[layer]
            expected = tensors[0.0][name] + factor * (tensors[1.0][name] - tensors[0.0][name])
            assert torch.allclose(value, expected, atol=1e-6), (trial.name, name)


def weights(content):
    return [(tensor.name, tensor.values()) for tensor in merged_tensors(planned(content))]


def test_trials_are_judged_on_the_fresh_items(tmp_path):
    trials = Trials(settings(), tmp_path)
    trials.add("one λ", "rule", dict.fromkeys(trials.space.genes, 0.5))
    trials.add("too large", "ranks", trials.within(dict.fromkeys(trials.space.genes, 9.0)))
    (tmp_path / "front.csv").write_text("arm\n")
    table = trials.run()
    assert set(pd.read_parquet(tmp_path / "trials.parquet")["item"]) == {2, 3}
    assert table["embed"].to_list() == [0.5, 1.5]  # cut at the bound
    assert with_part(trials.found[0].recipe, "mlp", 0.2) != trials.found[0].recipe


def test_a_search_that_was_not_run_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(search_points, "RUNS", tmp_path)
    with pytest.raises(UserError, match="make search PROFILE=none"):
        search_points.home_of("none", "abacus")


def test_the_figure_of_layers_names_those_that_count(searches):
    first, found = searches[0], search.coefficients(searches[:1])
    figure = search_figures.draw_layers(found, pd.Series(0.5, GENES), first)
    lost = search.flatness(first).set_index("what").loc["0", "lost"]
    assert figure.get_label() == f"The λ of layer 0 counts most: the mean there costs {lost:.0f} points"
    top, low = figure.axes
    assert [text.get_text() for text in top.texts] == ["■ ACM", "◆ found, a line for each seed, at 75 %"]
    assert [label.get_text() for label in low.get_xticklabels()] == GENES


def test_figures_show_every_arm(searches):
    best_points(searches[0].front)
    for figure in (
        search_figures.draw_fronts(searches[0], [searches[1]]),
        search_figures.draw_leads(search.summary(searches)),
        search_figures.draw_front_pairs(searches[0]),
        search_figures.draw_nulls(search_nulls.null_table(searches[1:])),
    ):  # fmt: skip
        assert figure.get_label()
        assert sum(text.get_gid() == "key" for text in figure.axes[0].texts) >= 2
