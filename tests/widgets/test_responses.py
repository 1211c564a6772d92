"""The response browser: questions on which models differ come first, and nothing that a model wrote runs."""

import pandas as pd
import pytest
from widgets.reading import HERE, HOSTILE, Reader

from acm.errors import UserError
from acm.paths import REPORTS
from acm.widgets import markup, responses
from acm.widgets.response_browser import ResponseBrowser
from acm.widgets.trade_off_chart import INTERPOLATION


def test_reflections_are_marked_as_the_evaluation_counts_them(records):
    for task, rows in records.rows.groupby("task"):
        pattern = responses.pattern_of(task)
        rows = rows.drop_duplicates("response")
        assert (
            rows["response"].map(lambda text, p=pattern: markup.marked(text, p).count("<mark>")) == rows["reflections"]
        ).all()


def test_questions_on_which_models_differ_come_first(records):
    listed = responses.questions(records.rows)
    assert listed["answers"].is_monotonic_decreasing and len(listed) == 750
    first = listed.iloc[0]
    rows = records.rows.query("task == @first.task and item == @first['item']")
    assert first["answers"] == rows["answer"].nunique()
    shared = responses.ordered(rows)["answer"].map(rows["answer"].value_counts())
    assert shared.is_monotonic_increasing and len(shared) == len(rows)
    assert len(responses.matching(listed, "KITES", "abacus_easy")) == records.rows.query(
        "task == 'abacus_easy' and question.str.contains('kites') and method == 'TA'").shape[0]  # fmt: skip


def test_records_without_texts_are_refused(records):
    with pytest.raises(UserError, match="no column 'answer'"):
        responses.questions(pd.read_parquet(REPORTS / "tiny/questions/layers/records.parquet"))
    with pytest.raises(UserError, match="no response"):
        responses.page(records.rows, "abacus_easy", 10**6)


def test_filters_keep_the_questions_that_have_it(records):
    rows = records.rows.query("method in ['TIES', 'abacus-slow']")
    listed = responses.questions(rows)
    each = rows.groupby(["task", "item"])
    expected = {
        "differ": each["answer"].nunique().gt(1), "wrong": each["correct"].min().lt(1),
        "truncated": each["truncated"].any(),
    }  # fmt: skip
    for name, kept in expected.items():
        found = responses.matching(listed, only=[name])
        assert set(zip(found["task"], found["item"], strict=True)) == set(kept[kept].index)
    both = responses.matching(listed, only=["differ", "wrong"])
    assert 0 < len(both) == (expected["differ"] & expected["wrong"]).sum() < len(listed)


def test_responses_part_at_the_first_word_that_differs():
    for text, other, place in (
        ("a b c", "a b c", None), ("a b c", "a b d", 4), ("a bc", "a bd", 2), ("a", "a b", 0), ("", "x", 0),
        ("now 3+4=7. so", "now 3+4=8. so", 4), ("x\ny z", "x\nyy", 2),
    ):  # fmt: skip
        assert responses.parting(text, other) == place
    assert responses.unlike(["ask: one two", "ask: one three"]) == ["two", "three"]
    assert responses.unlike(["ask: one"]) == ["ask: one"] and responses.unlike([]) == []


def test_equal_responses_share_a_card_and_the_parting_is_marked():
    row = {"task": "abacus_easy", "item": 0, "answer": "7", "correct": 1.0, "length": 3, "truncated": False}
    texts = {"A": "first then <b>", "B": "first then <b>", "C": "first now <i>"}
    frame = pd.DataFrame([row | {"method": name, "response": text} for name, text in texts.items()])
    made = responses.page(frame, "abacus_easy", 0, beside="A")
    read = Reader(made)
    assert read.tags.count("section") == 2 and "A · B" in read.text and "3 responses, 2 different texts" in read.text
    assert '<span class="acm-shared">first </span><strong class="acm-parting">now</strong>' in made
    assert made.count("acm-parting") == 1 and "<i>" not in made
    assert "acm-parting" not in responses.page(frame, "abacus_easy", 0)


def test_response_browser_steps_searches_and_escapes(records):
    browser = ResponseBrowser(*HERE)
    first = browser.question.value
    assert browser.models.value == [name for name in records.methods if name in records.results.selected]
    assert "7 responses" in browser.responses.value
    browser.next.click()
    assert browser.question.value != first and "Question 2 of 750" in browser.message.value
    browser.previous.click()
    assert browser.question.value == first
    browser.only.value = ["wrong"]
    assert 'role="alert"' not in browser.message.value and "of 750" not in browser.message.value
    browser.only.value = []
    browser.search.value = "zebra"
    assert "no question is like that" in browser.message.value and browser.responses.value == ""
    browser.next.click()
    assert 'role="alert"' in browser.message.value
    browser.search.value = ""
    browser.models.value = ["TA", INTERPOLATION]
    assert f"{1 + len(records.swept)} responses" in browser.responses.value
    browser.models.value = []
    assert "at least one model" in browser.message.value
    browser.models.value = ["TA", "TIES"]
    text = HOSTILE.replace("\ud800", "")  # which no table of records can hold
    browser.records = records.rows.assign(response=text, question=text, answer=text, gold=text)
    browser.task.value = "abacus_hard"
    assert not {"script", "img", "style"} & set(Reader(browser.responses.value + browser.asked.value).tags)
