"""Repeats from the profile to the table: what is asked, what a gathered table holds, what a mean over repeats says.

No runner here.
"""

import dataclasses
import inspect
import json

import numpy as np
import pandas as pd
import pytest
import yaml

import acm
from acm.errors import UserError
from acm.paths import PROFILES, ROOT
from acm.profiles import load_profile
from acm.questions import study
from acm.records import combine, write_records
from acm.reporting import statistics
from acm.reporting.results import Results
from acm.reporting.statistics import bootstrap, interval
from acm.running.budget import call_sizes, cost, jobs, request
from acm.running.budget_text import describe
from acm.running.machine import Machine

LONG = "long-to-short"
PICO = yaml.safe_load((ROOT / "tests" / "data" / "pico.yaml").read_text())


@pytest.fixture
def write(tmp_path):
    """A pico profile; ``top`` changes the profile, keywords its first experiment."""

    def make(top=None, **changes):
        content = PICO | {"experiments": {LONG: PICO["experiments"][LONG] | changes}} | (top or {})
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_profile(str(path))

    return make


# --- the profile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, words", [
    ({"repeats": 0}, "repeats"), ({"repeats": 1.5}, "repeats"),
    ({"temperature": -0.1}, "temperature: is -0.1"), ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0, "temperature": 1}, "top_p: is 0"), ({"top_p": 1.1, "temperature": 1}, "top_p: is 1.1"),
    ({"top_p": 0.9}, "top_p: 0.9 has no effect at temperature 0"),
    ({"tasks": ["abacus_easy", "abacus_easy"]}, "'abacus_easy' names two tasks"),
    ({"temperature": float("inf")}, "temperature"), ({"temperature": float("nan")}, "temperature"),
])  # fmt: skip
def test_what_cannot_be_sampled_is_refused(write, change, words):
    with pytest.raises(UserError) as error:
        write(**change)
    assert words in str(error.value)


@pytest.mark.parametrize("key, value", [("jobs", "tasks"), ("backend", "server")])
def test_other_words_are_refused(write, key, value):
    with pytest.raises(UserError, match=key):
        write({key: value})


def test_defaults_are_not_shown_and_change_no_hash(write):
    plain = write()
    aloud = write({"jobs": "model", "backend": "transformers"}, repeats=1, temperature=0, top_p=1)
    shown = set(plain.model_dump_json().split('"'))
    assert plain.hash == aloud.hash and not {"repeats", "temperature", "top_p", "jobs", "backend"} & shown
    assert len({plain.hash, write(repeats=2).hash, write(temperature=0.5).hash, write({"jobs": "task"}).hash}) == 4


def test_the_hash_of_the_committed_results_stays():
    committed = json.loads((ROOT / "reports" / "tiny" / "manifest.json").read_text())
    assert load_profile("tiny").hash == committed["profile_hash"]


def test_settings_are_those_that_evaluate_takes(write):
    profile = write({"items": 7}, temperature=0.6, top_p=0.95, caps={"ACM-TA": 20}, prompts={"ACM-TA": "few-shot"})
    settings, own = profile.evaluation(LONG), profile.evaluation(LONG, "ACM-TA", repeat=2)
    assert set(settings) < set(inspect.signature(acm.evaluate).parameters)
    assert settings == {"items": 7, "max_tokens": 48, "prompt": None, "sampling": acm.Sampling(0.6, 0.95),
                        "engine": acm.Engine(dtype="float32", batch_size=12)}  # fmt: skip
    assert own == settings | {"max_tokens": 20, "prompt": "few-shot", "sampling": acm.Sampling(0.6, 0.95, repeat=2)}


def test_calls_of_a_model_and_of_a_part(write):
    setting = write(repeats=2).experiment(LONG)
    tasks = ["abacus_easy", "abacus_medium"]
    assert setting.calls() == [(tasks, 0), (tasks, 1)]
    assert list(setting.parts) == ["abacus_easy-0", "abacus_easy-1", "abacus_medium-0", "abacus_medium-1"]
    assert setting.calls("abacus_medium-1") == [(["abacus_medium"], 1)]
    with pytest.raises(UserError, match=r"unknown part 'abacus_medium-2'\. Did you mean"):
        setting.calls("abacus_medium-2")


def test_profiles_of_the_hub_have_a_job_for_each_task_and_the_sampled_variant_five_repeats():
    small = {"tiny": "several", "smol": "model"}
    for path in PROFILES.glob("*.yaml"):
        assert load_profile(path.stem).jobs == small.get(path.stem, "task")
    (setting,) = load_profile("qwen-7b+sampled").experiments.values()
    assert (setting.temperature, setting.top_p, setting.repeats) == (0.6, 0.95, 5)


def test_a_question_asks_for_all_repeats(write, monkeypatch, tmp_path):
    seen = []

    def evaluate(model, tasks, **named):
        sampling = named["sampling"]
        seen.append((tasks, sampling.repeat, sampling.temperature, named["labels"]))
        return pd.DataFrame({"method": ["m"], "repeat": [sampling.repeat]})

    monkeypatch.setattr(study, "evaluate", evaluate)
    monkeypatch.setattr(study, "merge", lambda recipe, out: out)
    found = study.evaluate_merge({}, write(repeats=3, temperature=0.5), LONG, tmp_path, "m")
    assert found["repeat"].tolist() == [0, 1, 2]
    assert seen == [(["abacus_easy", "abacus_medium"], repeat, 0.5, {"method": "m"}) for repeat in range(3)]


# --- the table of a method --------------------------------------------------------------------------------------------


def part(task, repeat, items=3, **columns):
    frame = pd.DataFrame({"task": task, "item": range(items), "repeat": repeat, "correct": 0.0, "length": 5})
    return frame.assign(**columns)


def test_parts_are_gathered_by_task_repeat_and_item_whatever_their_order():
    parts = [part("b", 1), part("a", 1), part("b", 0, only="x"), part("a", 0)]
    found = combine(parts, ["b", "a"])
    keys = [(t, r, i) for t in "ba" for r in (0, 1) for i in range(3)]
    assert found[["task", "repeat", "item"]].to_records(index=False).tolist() == keys
    assert list(found) == ["task", "item", "repeat", "correct", "length", "only"]
    assert list(found.index) == list(range(12))
    assert found["only"].notna().sum() == 3


def test_one_call_is_stored_to_the_byte_as_before(tmp_path):
    parts = [part("a", 0, steps=None, thinking_closed=None), part("b", 0, steps=2, thinking_closed=True)]
    texts = ("profile", "experiment", "model", "method", "answer", "gold", "response", "setting")
    frame = pd.concat(parts, ignore_index=True).assign(**dict.fromkeys(texts, "x"), truncated=False, reflections=0)
    write_records(frame, tmp_path / "before.parquet")
    write_records(combine([frame], ["a", "b"]), tmp_path / "after.parquet")
    assert (tmp_path / "before.parquet").read_bytes() == (tmp_path / "after.parquet").read_bytes()


# --- means and intervals ----------------------------------------------------------------------------------------------


def simulated(rng, items, repeats, methods=1):
    """Records of methods whose chance to solve an item is the item's own."""
    chance = rng.beta(0.5, 0.5, items)
    right = rng.random((methods, items, repeats)) < chance[None, :, None]
    index = np.indices(right.shape).reshape(3, -1)
    return pd.DataFrame({
        "method": [f"m{k}" for k in index[0]], "task": "t", "item": index[1], "repeat": index[2],
        "correct": right.ravel().astype(float), "length": rng.integers(5, 300, right.size),
    })  # fmt: skip


def test_accuracy_is_the_mean_of_the_items_means_and_n_their_number():
    records = simulated(np.random.default_rng(0), 40, 5, 2).sample(frac=1, random_state=0)
    sample = bootstrap(records, ["m0", "m1"], ["t"], draws=20)
    for i, method in enumerate(sample.methods):
        own = records[records["method"] == method]
        by_item = [own.loc[own["item"] == item, ["correct", "length"]].mean() for item in range(40)]
        assert sample.accuracy[i, 0, 0] == pytest.approx(np.mean([m["correct"] for m in by_item]))
        assert sample.length[i, 0, 0] == pytest.approx(np.mean([m["length"] for m in by_item]))
    assert sample.items == {"t": 40}


def test_a_draw_takes_an_item_with_all_its_repeats():
    records = simulated(np.random.default_rng(1), 25, 4)
    means = records.groupby("item")[["correct"]].mean().reset_index()
    means = means.assign(method="m0", task="t", repeat=0, length=1.0)
    whole, by_item = (bootstrap(frame, ["m0"], ["t"]).accuracy for frame in (records, means))
    np.testing.assert_allclose(whole, by_item, atol=1e-12)


@pytest.mark.parametrize("items, repeats, least", [(100, 1, 0.91), (100, 4, 0.91), (30, 16, 0.89)])
def test_the_interval_covers_the_truth_and_one_that_takes_repeats_for_items_does_not(items, repeats, least):
    rng, hits, naive = np.random.default_rng(2), [], []
    for seed in range(200):
        records = simulated(rng, items, repeats)
        low, high = interval(bootstrap(records, ["m0"], ["t"], draws=400, seed=seed).accuracy[0, 0])
        hits.append(low <= 0.5 <= high)
        share = records["correct"].mean()
        naive.append(abs(share - 0.5) <= 1.96 * (share * (1 - share) / len(records)) ** 0.5)
    assert least <= np.mean(hits) <= 0.99
    assert (np.mean(naive) < 0.8) == (repeats > 1)


@pytest.mark.parametrize("repeats", [1, 4, 16])
def test_the_spread_of_avg_at_k_is_that_of_the_variance_components(repeats):
    """Beta(1/2, 1/2): between items Var(p) = 1/8, between responses E[p (1 − p)] = 1/8; the interval holds both."""
    rng, items = np.random.default_rng(5), 400
    true = (1 / 8 + 1 / 8 / repeats) / items
    found, anew = [], []
    for seed in range(20):
        records = simulated(rng, items, repeats)
        sample = bootstrap(records, ["m0"], ["t"], draws=400, seed=seed)
        found.append(sample.accuracy[0, 0, 1:].var())
        means = rng.choice(sample.grades[0][0], size=(400, items))
        anew.append((rng.binomial(repeats, means) / repeats).mean(axis=1).var())  # the responses drawn once more
    assert np.mean(found) == pytest.approx(true, rel=0.06)
    twice = true + (1 / 8 / repeats) * (1 - 1 / repeats) / items
    assert np.mean(anew) == pytest.approx(twice, rel=0.06)


@pytest.mark.parametrize("repeats", [2, 4, 16])
@pytest.mark.parametrize("hard", [1, 2, 4])
def test_avg_at_k_of_30_problems_has_an_interval_that_covers(repeats, hard):
    """Also where most problems are hopeless: chances of Beta(0.3, 0.3 · hard)."""
    rng, hits, drawn = np.random.default_rng(repeats), [], []
    for _ in range(300):
        right = rng.binomial(repeats, rng.beta(0.3, 0.3 * hard, 30)) / repeats
        grades, accuracy = right[None], np.append(right.mean(), rng.choice(right, size=(300, 30)).mean(axis=1))
        sample = statistics.Sample(["m"], ["t"], {"t": 30}, accuracy[None, None], None, repeats, (grades,))
        found = statistics.share(sample, "m")
        hits.append(found["low"] <= 100 / (1 + hard) <= found["high"])
        low, high = interval(accuracy)
        drawn.append(low <= 1 / (1 + hard) <= high)
    assert 0.9 <= np.mean(hits) <= 0.99 and np.mean(hits) >= np.mean(drawn) - 0.01


@pytest.mark.parametrize("drop", [0, 7, [1, 5]])
def test_a_method_that_lacks_repeats_is_refused_by_name(drop):
    records = simulated(np.random.default_rng(3), 10, 2, 2)
    lacking = records.drop(index=20 + np.atleast_1d(drop))  # rows 20 on are m1's
    words = r"task t: 1 responses of m1 to item \d, elsewhere 2; every item needs every repeat"
    with pytest.raises(ValueError, match=words):
        bootstrap(lacking, ["m0", "m1"], ["t"])
    assert bootstrap(lacking, ["m0"], ["t"]).items == {"t": 10}  # nobody asked for m1
    one = records[(records["method"] == "m0") | (records["repeat"] == 0)]
    with pytest.raises(ValueError, match="every item needs every repeat"):
        bootstrap(one, ["m0", "m1"], ["t"])


@pytest.mark.parametrize("change, words", [
    ({}, "tokens, greedy."),
    ({"repeats": 2}, "tokens, greedy, mean of 2 responses an item."),
    ({"temperature": 0.6}, "tokens, temperature 0.6, top_p 1."),
    ({"prompt": "chat-template"}, "tokens, greedy; all: chat-template prompt."),
    ({"prompt": "chat-template", "prompts": {"abacus-fast": "few-shot"}},
     "tokens, greedy; abacus-fast: few-shot prompt; all others: chat-template prompt."),
    ({"temperature": 0.6, "top_p": 0.95, "repeats": 5},
     "tokens, temperature 0.6, top_p 0.95, mean of 5 responses an item."),
])  # fmt: skip
def test_captions_say_how_responses_came_about(write, monkeypatch, change, words):
    monkeypatch.setattr(Results, "sample", statistics.Sample(["m"], ["t"], {"t": 12}, None, None))
    caption = Results(write(**change), LONG).caption("Text.")
    assert caption.endswith(words) and "t n = 12" in caption


def test_provenance_names_the_data_of_all_tasks(write, monkeypatch):
    settings = [
        json.dumps({"model": "a", "seed": 0, "tasks": {task: task}} | ({"repeat": r} if r else {}))
        for task in "xy"
        for r in (0, 1)
    ]
    monkeypatch.setattr(Results, "records", pd.DataFrame({"setting": settings}))
    monkeypatch.setattr(Results, "sample", statistics.Sample(["m"], ["t"], {"t": 12}, None, None))
    assert Results(write(), LONG).provenance["evaluated_with"] == {"seed": 0, "tasks": {"x": "x", "y": "y"}}


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_hours_grow_with_repeats_and_one_job_a_task_costs_only_part_filled_batches(write):
    once, thrice = (cost(write(repeats=k), LONG, Machine()) for k in (1, 3))
    assert thrice.evaluate_hours == pytest.approx(3 * once.evaluate_hours)
    assert thrice.capped_hours == pytest.approx(3 * once.capped_hours)
    assert thrice.text == pytest.approx(3 * once.text) and thrice.gpu == once.gpu
    whole, split = (cost(write({"batch_size": 24, "jobs": how}), LONG, Machine()) for how in ("model", "task"))
    # 24 items in one batch, or 12 and 12; each step costs its launch.
    assert split.evaluate_hours == pytest.approx(2 * whole.evaluate_hours)
    plain, repeated = describe(write(), Machine()), describe(write(repeats=3), Machine())
    assert "an item" not in plain and "3 responses an item" in repeated


def test_jobs_by_task(write):
    profile = write({"jobs": "task"}, repeats=3)
    assert jobs(profile, LONG) == {
        "calibrate": 1, "coefficients": 1, "merge": 3, "evaluate": 5 * 2 * 3, "gather": 5, "tables": 1, "figures": 1,
    }  # fmt: skip
    assert call_sizes(profile, profile.experiment(LONG)) == [12] * 6
    assert call_sizes(profile, profile.experiment(LONG), "abacus_easy-1") == [12]


def test_what_a_cluster_is_asked_for_follows_the_profile():
    paper, sampled, small = (load_profile(name) for name in ("qwen-7b", "qwen-7b+sampled", "tiny"))
    college, aime = (request(paper, LONG, "evaluate", f"acm_{name}-0") for name in ("college_math", "aime24"))
    assert college["runtime"] > 20 * aime["runtime"] and college["mem_mb"] == aime["mem_mb"]
    assert request(sampled, LONG, "evaluate", "acm_aime24-4") == aime  # one repeat, whatever their number
    # In the time of a job every batch may run to the cap.
    minutes = sum(request(paper, LONG, "evaluate", part)["runtime"] for part in paper.experiment(LONG).parts)
    assert minutes / 60 > cost(paper, LONG, Machine()).capped_hours / 21
    assert request(sampled, LONG, "tables")["mem_mb"] > 3 * request(paper, LONG, "tables")["mem_mb"]
    for profile in (paper, small):
        rules = ("calibrate", "coefficients", "merge", "gather", "tables", "publish", "question")
        found = [request(profile, LONG, rule) for rule in rules]
        assert all(isinstance(value, int) and value > 0 for asked in found for value in asked.values())
        assert all(asked["mem_mb"] >= 1000 and asked["runtime"] >= 15 for asked in found)


def test_an_evaluation_on_the_cpu_asks_for_the_whole_model():
    big = load_profile("qwen-7b").model_copy(update={"device": "cpu"})
    needed, beside = 1000 * cost(big, LONG, Machine()).gpu, request(load_profile("qwen-7b"), LONG, "evaluate")["mem_mb"]
    assert request(big, LONG, "evaluate", "acm_aime24-0")["mem_mb"] > needed > beside


def test_a_model_or_task_of_unknown_size_gets_a_day(write):
    profile = write({"items": None, "device": "cuda", "jobs": "model"}, tasks=["gsm8k"])
    with pytest.raises(UserError):
        describe(profile, Machine())
    assert request(profile, LONG, "evaluate") == {"mem_mb": 16000, "runtime": 1440}


def test_a_cost_is_all_numbers():
    found = dataclasses.asdict(cost(load_profile("tiny"), LONG, Machine()))
    assert all(np.isfinite(value) and value > 0 for value in found.values() if not isinstance(value, dict))
