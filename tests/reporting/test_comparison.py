"""Paired comparisons against enumeration, simulation and hand-counted frames; sources that do not fit."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from helpers import run
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from acm.errors import UserError
from acm.paths import ROOT
from acm.records import RECORD_COLUMNS
from acm.reporting import statistics
from acm.reporting.comparison import as_json, as_text, compare
from acm.reporting.comparison_sources import Reading, read_sources
from acm.reporting.pages import filled

RNG = np.random.default_rng


def flips(differences):
    """The p of all sign flips, one by one."""
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=len(differences))]
    return np.mean(np.array(sums) >= abs(sum(differences)) - 1e-9)


@given(st.lists(st.integers(-20, 20), max_size=9))
def test_sign_flip_is_the_enumeration_of_all_flips(differences):
    assert statistics.sign_flip(np.array(differences, float)) == pytest.approx(flips(differences) if differences else 1)


def test_sign_flip_of_many_items_is_near_to_drawn_flips():
    for seed in range(5):
        differences = RNG(seed).exponential(size=60) - 0.75
        drawn = RNG(9).choice([-1, 1], size=(40_000, 60)) @ differences
        assert statistics.sign_flip(differences) == pytest.approx(
            np.mean(abs(drawn) >= abs(differences.sum())), abs=0.01
        )


def test_sign_flip_of_grades_is_mcnemar():
    from math import comb

    lost, gained = 4, 13
    tail = sum(comb(17, k) for k in range(lost + 1)) / 2**17
    assert statistics.sign_flip(np.r_[-np.ones(lost), np.ones(gained), np.zeros(50)]) == pytest.approx(2 * tail)


@pytest.mark.parametrize(("both", "gained", "lost"), [(0.5, 0.1, 0.1), (0.9, 0.03, 0.02), (0.3, 0.4, 0.1)])
def test_the_interval_of_paired_shares_covers_the_truth(both, gained, lost):
    rng, inside = RNG(0), 0
    for _ in range(1000):
        kinds = rng.choice(4, size=60, p=[both, gained, lost, 1 - both - gained - lost])
        ours, theirs = np.isin(kinds, [0, 2]).astype(float), np.isin(kinds, [0, 1]).astype(float)
        found, error = statistics.paired_shares([(ours, theirs)])
        assert found["value"] == pytest.approx(100 * (theirs.mean() - ours.mean())) and error > 0
        inside += found["low"] <= 100 * (gained - lost) <= found["high"]
    assert 930 <= inside <= 1000


def test_the_interval_of_a_mean_of_paired_differences_covers_the_truth():
    rng, inside = RNG(1), 0
    chances = [(0.9, 0.03, 0.02), (0.97, 0.01, 0.01), (0.5, 0.2, 0.1)]  # right by both, by the second alone, the first
    truth = 100 * np.mean([gained - lost for _, gained, lost in chances])
    for _ in range(1000):
        pairs = []
        for both, gained, lost in chances:
            kinds = rng.choice(4, size=80, p=[both, gained, lost, 1 - both - gained - lost])
            pairs.append((np.isin(kinds, [0, 2]).astype(float), np.isin(kinds, [0, 1]).astype(float)))
        found, _ = statistics.paired_shares(pairs)
        inside += found["low"] <= truth <= found["high"]
    assert 935 <= inside <= 985


def test_no_paired_difference_of_shares_has_an_interval_without_width():
    frames = [records(m, np.ones(9), np.full(9, 5), task) for m in "AB" for task in ("one", "two")]
    rows = compare(pd.concat(frames), "A", ["B"]).query("measure == 'accuracy'")
    assert len(rows) == 3 and (rows["difference_low"] < -5).all() and (rows["difference_high"] > 5).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_steps_down_one_test_at_a_time(values):
    values = np.array(values)
    found = statistics.holm(values)
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for k, i in enumerate(np.argsort(values, kind="stable")):
            if values[i] > alpha / (len(values) - k) * (1 + 1e-12):
                break
            rejected.add(i)
        assert {i for i in range(len(values)) if found[i] <= alpha * (1 + 1e-9)} == rejected


def test_a_true_difference_of_the_least_detectable_size_is_found_in_four_of_five_cases():
    for tests in (1, 6):
        size = statistics.least_detectable(2.0, tests)
        p = 2 * norm.sf(abs(RNG(1).normal(size, 2.0, 20_000)) / 2)
        assert np.mean(p < 0.05 / tests) == pytest.approx(0.8, abs=0.01)


def test_where_no_item_differs_nothing_is_known_of_what_could_be_detected():
    same = pd.concat([records("A", [1, 0], [5, 6]), records("B", [1, 0], [5, 6])])
    table = compare(same, "A", ["B"]).set_index("measure")
    assert np.isnan(table.loc["length", "detectable"]) and table.loc["accuracy", "detectable"] > 0
    assert (table.loc[["accuracy", "length"], "p"] == 1).all()


def records(method, correct, length, task="sums", **extra):
    n = len(correct)
    frame = pd.DataFrame({
        "profile": "p", "experiment": "e", "model": method, "method": method, "task": task, "item": range(n),
        "repeat": 0, "correct": np.array(correct, float), "answer": "", "gold": [str(i) for i in range(n)],
        "response": "", "length": length, "truncated": False, "thinking_closed": None, "reflections": 0,
        "setting": json.dumps({"max_tokens": 9}),
    })  # fmt: skip
    assert set(RECORD_COLUMNS) <= set(frame)
    return frame.assign(**extra)


def test_a_table_of_hand_counted_items():
    ours = records("A", [1, 1, 0, 0, 1, 0, 1, 1], [10] * 8)
    theirs = records("B", [1, 1, 1, 1, 0, 1, 1, 1], [9, 8, 7, 6, 5, 4, 3, 2], truncated=[True] + [False] * 7)
    table = compare(pd.concat([ours, theirs]), "A", ["B"]).set_index("measure")
    accuracy, length = table.loc["accuracy"], table.loc["length"]
    assert (accuracy["only_first"], accuracy["only_second"], accuracy["n"]) == (1, 3, 8)
    assert accuracy["p"] == pytest.approx(0.625) and accuracy["difference"] == pytest.approx(25)
    assert length["difference"] == pytest.approx(-4.5) and length["p"] == pytest.approx(2 / 256)
    assert length["p_adjusted"] == pytest.approx(4 / 256)  # Holm: twice the smaller of two
    assert table.loc["truncated", "second"] == pytest.approx(12.5) and np.isnan(table.loc["truncated", "p"])
    assert "open thinking" not in table.index


def test_the_mean_over_tasks_weighs_tasks_alike():
    rng, frames = RNG(0), []
    for method in "AB":
        for task, n in (("short", 10), ("long", 90)):
            frames.append(records(method, rng.random(n) < 0.5, rng.integers(1, 99, n), task))
    table = compare(pd.concat(frames), "A", ["B"])
    for _, part in table.groupby("measure"):
        single = part[part["task"] != "average"]["difference"]
        assert part[part["task"] == "average"]["difference"].item() == pytest.approx(single.mean())


def test_open_thinking_counts_where_some_response_thinks():
    closed = pd.Series([True, False, None, False], dtype=object)
    pair = pd.concat([records("A", [1] * 4, [5] * 4, thinking_closed=closed), records("B", [1] * 4, [5] * 4)])
    row = compare(pair, "A", ["B"]).set_index("measure").loc["open thinking"]
    assert row["first"] == pytest.approx(50) and row["second"] == 0


def stored(folder, *frames):
    path = folder / "records.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).to_parquet(path)
    return str(path)


def sample(i, **changes):
    return {
        "doc_id": i, "doc": {}, "target": str(i), "arguments": {"gen_args_0": {"arg_0": f"q{i}", "arg_1": {}}},
        "resps": [["x"]], "filtered_resps": ["x"], "filter": "none", "metrics": ["acc"], "acc": float(i % 2),
    } | changes  # fmt: skip


def log(folder, samples, task="sums"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_2026-01-01T00-00-00.000000.jsonl"
    path.write_text("".join(json.dumps(s) + "\n" for s in samples))
    return str(path)


def test_logs_of_any_task_are_compared_by_accuracy_alone(tmp_path):
    first = log(tmp_path / "one", [sample(i) for i in range(6)])
    second = log(tmp_path / "two", [sample(i, acc=1.0) for i in range(6)])
    found, labels, notes = read_sources([first, second], Reading())
    assert labels == ["one", "two"] and notes == []
    table = compare(found, *labels[:1], labels[1:])
    assert list(table["measure"]) == ["accuracy"] and table["only_second"].item() == 3
    assert "no difference of accuracy shown" in as_text(table, labels, notes)
    json.dumps(as_json(table, labels, notes), allow_nan=False)


def test_several_methods_metrics_and_filters_are_asked_for(tmp_path):
    both = stored(tmp_path / "b", records("A", [1, 0], [3, 4]), records("B", [1, 1], [3, 4]))
    with pytest.raises(UserError, match=r"holds 2 methods; name one, such as .*records.parquet#A"):
        read_sources([both, both], Reading())
    with pytest.raises(UserError, match=r"unknown method in .*records.parquet"):
        read_sources([f"{both}#A", f"{both}#b"], Reading())
    two = [sample(0, metrics=["acc", "f1"], f1=0.5)]
    with pytest.raises(UserError, match="the metrics acc, f1; choose the one that counts by --metric"):
        read_sources([log(tmp_path / "m", two)] * 2, Reading())
    filters = [sample(0, filter="strict"), sample(0, filter="flexible", acc=1.0)]
    with pytest.raises(UserError, match="the filters strict, flexible; choose the one that counts by --filter"):
        read_sources([log(tmp_path / "f", filters)] * 2, Reading())
    found, _, _ = read_sources([log(tmp_path / "f", filters)] * 2, Reading(filters=("flexible",)))
    assert set(found["correct"]) == {1.0}


@pytest.mark.parametrize(("change", "reason"), [
    (lambda f: f.iloc[:-1], "1 responses to items or tasks that another source lacks. --common"),
    (lambda f: f.assign(task="others"), "They share none"),
    (lambda f: f.assign(gold="7"), "has the gold answer '0' in .* and '7' in"),
    (lambda f: pd.concat([f, f]), "has item 0 of sums twice"),
    (lambda f: f.assign(correct=2.0), "a grade that is not from 0 to 1"),
    (lambda f: f.assign(length=np.nan), "length of item 0 of sums is nan, not a whole number"),
    (lambda f: f.drop(columns="gold"), "lacks the columns gold"),
    (lambda f: f.iloc[:0], "holds no record"),
])  # fmt: skip
def test_sources_that_do_not_fit_are_refused_by_name(tmp_path, change, reason):
    good = records("A", [1, 0, 1], [3, 4, 5])
    with pytest.raises(UserError, match=reason):
        read_sources([stored(tmp_path / "1", good), stored(tmp_path / "2", change(good))], Reading())


@pytest.mark.parametrize("line", [
    b"\xff\xfe", b"[1]", b"{", b"[" * 100_000, json.dumps(sample(0, doc_id="x")).encode(),
    json.dumps(sample(0, metrics=[])).encode(), json.dumps(sample(0, acc="high")).encode(),
    json.dumps(sample(0, acc=float("nan"))).encode(), json.dumps(sample(0, acc=True, metrics=[["a"]])).encode(), b"",
])  # fmt: skip
def test_a_log_that_is_none_ends_in_a_sentence(tmp_path, line):
    good = log(tmp_path / "good", [sample(0)])
    bad = tmp_path / "bad" / "samples_sums_2026-01-01T00-00-00.000000.jsonl"
    bad.parent.mkdir()
    bad.write_bytes(line + b"\n")
    with pytest.raises(UserError, match="samples_sums"):
        read_sources([good, str(bad)], Reading())


def test_what_differs_is_said(tmp_path):
    ours = records("A", [1, 0, 1], [3, 4, 5], question=["a", "b", "c"])
    theirs = records("A", [1, 0], [3, 4], question=["a", "x"], setting=json.dumps({"max_tokens": 10}))
    one, two = stored(tmp_path / "1", ours), stored(tmp_path / "2", theirs)
    found, labels, notes = read_sources([one, two], Reading(), common=True)
    assert labels == [f"A ({one})", f"A ({two})"] and len(found) == 4
    assert [note.split(" ")[0] for note in notes] == ["max_tokens", f"{one}:", "1"]


def test_the_command_writes_what_it_would_print(tmp_path):
    both = stored(tmp_path, records("A", [1, 0, 1], [3, 4, 5]), records("B", [1, 1, 1], [2, 2, 2]))
    status, stdout, _ = run("-m", "acm", "compare", f"{both}#A", f"{both}#B", cwd=tmp_path)
    assert status == 0 and stdout.startswith("B against A:")
    out = tmp_path / "out.json"
    run("-m", "acm", "compare", f"{both}#A", f"{both}#B", "--format", "json", "--out", str(out), cwd=tmp_path)
    assert json.loads(out.read_text())["rows"][0]["n"] == 3


def test_the_page_shows_what_the_committed_records_say():
    page = ROOT / "docs" / "compare.md"
    text = page.read_text(encoding="utf-8")
    assert filled(text, page.parent) == text and "ACM-TA against TA" in text
