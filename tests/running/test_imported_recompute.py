"""What records state and their text decides is computed anew: refused where it differs, or replaced on request."""

import fcntl
import json
import os

import pandas as pd
import pytest
from helpers_imported import CAP, LONG, MATHS, TASKS, N, answered, items_of

from acm.errors import UserError
from acm.records import RECORD_COLUMNS
from acm.running.imported import import_records
from acm.running.imported_given import Given
from acm.running.imported_recompute import recounted

REPLACE = Given(recompute=True)


@pytest.fixture
def bring(maths, tmp_path):
    """Imports the records of these columns, and returns what was stored and said."""
    profile, make = maths

    def run(given=Given(), **columns):
        path = tmp_path / "TA.parquet"
        make(**columns).to_parquet(path)
        said = import_records(profile, LONG, [path], given=given)
        return pd.read_parquet(profile.folder / LONG / "records" / "TA.parquet"), said

    return run


ALL = N * len(MATHS)
WRONG = [
    ({"correct": [1.0, 1.0, 0.0] * 2}, "correct", 2),
    ({"correct": 0.0}, "correct", 2),
    ({"answer": "3"}, "answer", ALL),
    ({"correct_string": 1.0}, "correct_string", 4),
    ({"answer_from": "sentence"}, "answer_from", ALL),
    ({"length": 15}, "length", ALL),
    ({"length": 99}, "length", ALL),
    ({"truncated": [True] + [False] * 5}, "truncated", 1),
    ({"thinking_closed": False}, "thinking_closed", ALL),
    ({"thinking_closed": None}, "thinking_closed", ALL),
    ({"reflections": 0}, "reflections", ALL),
]


@pytest.mark.parametrize("columns, column, number", WRONG)
def test_what_differs_is_refused_or_replaced_and_noted(maths, bring, stored, columns, column, number):
    with pytest.raises(UserError, match=rf"{column} of {number} responses \(first item \d of acm_gsm8k, repeat 0: .*"
                                        r"\); .*`acm import --recompute` replaces these\.$") as error:  # fmt: skip
        bring(**columns)
    assert stored() == [] and "\n" not in str(error.value)
    found, said = bring(REPLACE, **columns)
    right = maths[1]()
    if column == "length":  # as many as the text has
        assert found["length"].tolist() == right["length"].tolist()
    assert found[column].tolist() == right[column].tolist()
    assert f"TA: replaced {column} of {number} responses" in said
    assert json.loads(found["setting"].iloc[0])["recomputed"] == {column: number}
    assert "1 already here" in bring(REPLACE, **columns)[1]  # the same again is the same


def test_right_records_come_in_unchanged(maths, bring):
    found, said = bring()
    assert "replaced" not in said and set(RECORD_COLUMNS) <= set(found)
    pd.testing.assert_frame_equal(found, maths[1](), check_dtype=False)


def test_an_end_of_the_response_that_tokenizes_otherwise_is_no_difference(maths, bring):
    length = maths[1]()["length"].iloc[0]
    assert (bring(length=length + 5)[0]["length"] == length + 5).all()


@pytest.mark.parametrize("signs, apart, good", [(0, 5, True), (1, 40, False), (20, 40, True), (20, 80, False)])
def test_a_sign_of_broken_bytes_frees_three_tokens_and_no_more(signs, apart, good):
    record = {"response": "a" * 90 + "\ufffd" * signs, "length": 100 - apart, "truncated": False}
    assert recounted(record, 100, 200) == (100 - apart if good else 100)


def test_lost_special_tokens_at_the_cap_are_no_difference(bring):
    long = "the answer is 2." + "1" * 60
    columns = {"response": long, "thinking_closed": None, "reflections": 0, "correct_string": 0.0,
               "answer_from": "none", "answer": "", "correct": 0.0}  # fmt: skip
    found, _ = bring(REPLACE, **columns, length=100, truncated=True)
    assert (found["length"] == 100).all() and found["truncated"].all()


def test_thinking_that_the_prompt_opened_is_seen(bring):
    open_ = {"question": [f"What is {i}+2?<think>" for i in range(N)] * 2, "response": "Wait. Answer: \\boxed{2}.",
             "length": 31}  # fmt: skip
    with pytest.raises(UserError, match=r"correct of 2 responses .* 1\.0, recomputed 0\.0.*thinking_closed of 6"):
        bring(**open_)
    found, _ = bring(REPLACE, **open_)
    assert not found["correct"].any() and (found["thinking_closed"] == False).all()  # noqa: E712


def test_lengths_need_a_tokenizer(maths, bring, f32, tmp_path, monkeypatch):
    monkeypatch.setattr("acm.profiles.experiment.Experiment.parents", {"base": tmp_path / "absent"})
    with pytest.raises(UserError, match=r"the lengths of TA cannot be counted again.*give --tokenizer"):
        bring()
    with pytest.raises(UserError, match=r"tokenizer folder .* does not exist"):
        import_records(maths[0], LONG, [tmp_path / "TA.parquet"], tokenizer=tmp_path / "absent")
    assert "1 imported" in import_records(maths[0], LONG, [tmp_path / "TA.parquet"], tokenizer=f32[1])


@pytest.mark.parametrize("column, value", [
    ("item", "0"), ("item", 0.5), ("item", -1), ("repeat", None), ("length", "31"), ("length", float("inf")),
    ("length", True), ("reflections", [1]), ("correct", "1"), ("correct", float("nan")), ("truncated", 1),
    ("truncated", "no"), ("thinking_closed", "yes"), ("gold", 4), ("answer", None), ("response", b"\xff"),
    ("setting", {"max_tokens": 100}), ("task", 1), ("steps", "two"), ("question", 3), ("correct_string", "x"),
])  # fmt: skip
def test_columns_of_another_type_are_refused(bring, stored, column, value):
    with pytest.raises(UserError, match=rf"TA\.parquet: {column} of item .* is .*, not (a|true)") as error:
        bring(**{column: [value] * ALL})
    assert stored() == [] and "\n" not in str(error.value)


@pytest.mark.parametrize("lacking", ["max_tokens", "dtype", "seed", "batch_size", "device"])
def test_a_setting_that_records_lack_is_not_the_profiles(maths, bring, lacking):
    facts = json.loads(maths[1]()["setting"].iloc[0])
    del facts[lacking]
    with pytest.raises(UserError, match=f"records of TA do not state their {lacking}"):
        bring(setting=json.dumps(facts))


@pytest.mark.parametrize("columns, words", [
    ({"gold": "other", "correct": 0.0}, "reference answer of item 0 of abacus_easy is 'other', and the task's own"),
    ({"question": "question: what? answer:"}, "the question of item 0 of abacus_easy is 'question: what"),
])  # fmt: skip
def test_records_are_of_the_items_that_are_here(profile, stored, tokenizer, tmp_path, columns, words):
    rows = [{
        "task": task, "item": i, "repeat": 0, "correct": float(i == 0), "answer": item["gold"] if i == 0 else "no idea",
        "gold": item["gold"], "response": answered(item, i), "length": len(tokenizer(answered(item, i))["input_ids"]),
        "truncated": False, "thinking_closed": None, "reflections": 0, "question": item["question"],
    } for task in TASKS for i, item in enumerate(items_of(task))]  # fmt: skip
    facts = {"dtype": "float32", "device": "cpu", "batch_size": 64, "max_tokens": CAP, "seed": 0, "model": "0"}
    labels = {"profile": "mine", "experiment": LONG, "model": "TA", "method": "TA", "setting": json.dumps(facts)}
    path = tmp_path / "TA.parquet"
    pd.DataFrame(rows).assign(**labels).assign(**columns).to_parquet(path)
    with pytest.raises(UserError, match=words):
        import_records(profile, LONG, [path])
    assert stored() == []
    pd.DataFrame(rows).assign(**labels).to_parquet(path)
    assert "1 imported" in import_records(profile, LONG, [path])


def test_two_writers_refuse_each_other(maths, bring, stored, tmp_path, monkeypatch):
    folder = maths[0].folder / LONG / "records"
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match=r"another import is writing .*records right now; wait for it"):
        bring()
    os.close(handle)
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    monkeypatch.setattr("acm.running.imported.ROOT", tmp_path)
    (locks / "0.output.lock").write_text(f"{folder.relative_to(tmp_path)}/frontier-0.5.parquet\n")
    with pytest.raises(UserError, match=r"a run is writing .*records right now .*--unlock` releases it"):
        bring()
    assert stored() == []
    (locks / "0.output.lock").write_text("runs/other/x/records/TA.parquet\n")
    assert "1 imported" in bring()[1]
