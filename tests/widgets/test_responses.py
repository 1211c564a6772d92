"""The response browser: questions on which models differ come first, and nothing that a model wrote runs."""

import pandas as pd
import pytest
from widgets.reading import HERE, HOSTILE, Reader

from acm.errors import UserError
from acm.paths import REPORTS
from acm.widgets import markup, responses
from acm.widgets.response_browser import ResponseBrowser


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


def test_response_browser_steps_searches_and_escapes(records):
    browser = ResponseBrowser(*HERE)
    first = browser.question.value
    assert Reader(browser.responses.value).tags.count("section") == len(browser.models.options)
    browser.next.click()
    assert browser.question.value != first
    browser.previous.click()
    assert browser.question.value == first
    browser.search.value = "zebra"
    assert "no question contains" in browser.message.value and browser.responses.value == ""
    browser.next.click()
    assert 'role="alert"' in browser.message.value
    browser.search.value = ""
    browser.models.value = ("TA", "TIES")
    assert Reader(browser.responses.value).tags.count("section") == 2
    text = HOSTILE.replace("\ud800", "")  # which no table of records can hold
    browser.records = records.rows.assign(response=text, question=text, answer=text, gold=text)
    browser.task.value = "abacus_hard"
    assert not {"script", "img", "style"} & set(Reader(browser.responses.value + browser.asked.value).tags)
