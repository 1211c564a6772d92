"""Methods beside one of them: the numbers are the report's, on the chosen items."""

import numpy as np
import pandas as pd
import pytest
from widgets.reading import HERE, HOSTILE, Reader

from acm.errors import UserError
from acm.hypertext import table
from acm.reporting.comparison import compare_pairs, found_words, rows_of
from acm.reporting.dominance import dominance, wide_dominance
from acm.reporting.intervals import interval_in, interval_text
from acm.reporting.statistics import average
from acm.widgets import differences, printed, trade_off
from acm.widgets.trade_off_explorer import TradeOffExplorer

HEADINGS = ["accuracy less TA's, points", "length less TA's, tokens", "least detectable", "finding", "n"]


def rows(made):
    """The texts of a table in HTML, by row and column."""
    head, *body = [part.split("<tr>")[1:] for part in made.split("<tbody>")]
    names = [Reader(cell).text for cell in head[0].split("<th")[1:]]
    found = {}
    for row in body[0]:
        title, *cells = [f"<t{cell}" for cell in row.split("<t")[1:]]
        found[Reader(title).text] = dict(zip(names, (Reader(cell).text for cell in cells), strict=True))
    return {title: {name.split(">")[-1]: text for name, text in cells.items()} for title, cells in found.items()}


def test_differences_are_the_reports(results):
    """The rows of the report and these differ only in how many p-values are adjusted together."""
    found = differences.differences(results.records, ["ACM-TA", "TA", "Null-TA"], "TA")
    report = dominance(results)
    report = wide_dominance(report[report["against"] == "TA"]).loc[found.index]
    assert list(found) == HEADINGS and list(found.index) == ["ACM-TA", "Null-TA"]
    for column, text in zip(HEADINGS[:2], ("accuracy, points", "length, tokens"), strict=True):
        assert found[column].tolist() == report[text].tolist()


def test_chosen_tasks_cap_and_rows_are_what_is_compared(records):
    """Under a cap, on one task; p-values of the rows shown are adjusted together."""
    chosen = ["ACM-TA", "frontier-0.3", "TIES"]
    made = differences.differences_html(records, chosen, ["abacus_hard"], "Average", 150)
    cut = trade_off.capped(records.rows.query("task == 'abacus_hard'"), 150)
    expected = compare_pairs(cut, [("Average", "TIES"), ("Average", "ACM-TA")], means=True)
    found = rows(made)
    assert set(found) == {"TIES", "ACM-TA"}, "λ swept have no rows"
    for method, cells in found.items():
        measures = rows_of(expected, "Average", method).set_index("measure")
        for name, unit in differences.UNITS.items():
            text = interval_text(**interval_in(measures.loc[name], "difference"), signed=True)
            assert cells[f"{name} less Average's, {unit}"] == text
        assert cells["finding"] == found_words(expected, "Average", method) and cells["n"] == "250"


def test_a_choice_that_leaves_nothing_to_compare_is_told(records):
    tasks = records.tasks
    for methods, other in ((["TA"], "TA"), (["frontier-0.5"], "TA")):
        assert "Choose a method to compare" in differences.differences_html(records, methods, tasks, other)
    assert rows(differences.differences_html(records, ["TA"], tasks, "frontier-0.5"))
    for methods, chosen, other in ((["TB"], tasks, "TA"), (["TIES"], [], "TA"), (["TIES"], tasks, "TB")):
        with pytest.raises(UserError):
            differences.differences_html(records, methods, chosen, other)


def test_printed_numbers_are_not_compared():
    source = printed.printed()["printed / acm-v1 / 7b"]
    told = Reader(differences.differences_html(source, source.methods, source.tasks, "TA")).text
    assert "without the answers to each item" in told


def test_what_is_compared_with_at_first():
    assert differences.usual(["a", "TA"], "a") == "TA" and differences.usual(["a", "b"], "b") == "b"
    assert differences.usual(["a", "b"], None) == "a"


def test_no_interval_has_zero_width(results):
    twin = results.records.query("method == 'TA'").assign(method="twin")
    found = differences.differences(pd.concat([results.records, twin]), ["twin"], "TA").loc["twin"]
    low, high = found[HEADINGS[0]].split("[")[1].strip("]").split(", ")
    assert low != high and found[HEADINGS[0]].startswith("+0.0 [")
    assert found[HEADINGS[1]] == "+0.0 (all items alike)" and "no difference of length shown" in found["finding"]


def test_names_of_others_are_text_in_a_table():
    text = HOSTILE.replace("\ud800", "")  # pandas holds no half of a character
    frame = pd.DataFrame({text: [text], "b": ["x"]}, index=[text])
    made = table(frame)
    read = Reader(made)
    assert set(read.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "span"}
    assert set(read.attributes) <= {"class", "scope"} and read.text.count("<script>") == 3 and "U+202E" in read.text


def test_own_merges_are_compared_on_their_own_items(results):
    items = results.records.query("method == 'TA' and item < 34").head(100)
    twin = results.records.query("method == 'TA'").merge(items[["task", "item"]])
    records = differences.same_items(results.records, {"mine": twin}, [*results.frontier, "TA"], items)
    sample = differences.sampled(records)
    assert sum(sample.items.values()) == 100 and np.array_equal(average(sample, "mine"), average(sample, "TA"))
    found = differences.measured_merges(records, {"mine": "<b>"}, "frontier-0.2", results.frontier).loc["mine"]
    pair = compare_pairs(records, [("frontier-0.2", "mine")], means=True).set_index("measure")
    text = interval_text(**interval_in(pair.loc["accuracy"], "difference"), signed=True)
    assert found["accuracy less frontier-0.2's, points"] == text
    assert found["finding"] == found_words(pair.reset_index(), "frontier-0.2", "mine")
    assert found["against the bar"] in {"no difference shown", "outside", "above", "below"}
    alone = differences.measured_merges(records, {"mine": "x"}, "mine", results.frontier)
    assert not [name for name in alone if "less" in name]
    both = differences.same_items(results.records, {"mine": twin, "yours": twin}, results.frontier, items)
    shown = differences.measured_merges(both, {"mine": "x", "yours": "y"}, "mine", results.frontier)
    assert shown.loc["mine", "finding"] == "–" and "no difference" in shown.loc["yours", "finding"]


def test_the_trade_off_explorer_shows_them_and_follows_its_controls():
    explorer = TradeOffExplorer(*HERE)
    assert explorer.other.value == "TA" and explorer.table.value == ""
    explorer.methods.value = ["ACM-TA", "Null-TA"]
    explorer.compared.value = True
    assert explorer.worker.wait(60) and set(rows(explorer.table.value)) == {"ACM-TA", "Null-TA"}
    assert "less TA" in explorer.table.value and "adjusted together by Holm" in explorer.table.value
    explorer.other.value = "Null-TA"
    assert explorer.worker.wait(60) and list(rows(explorer.table.value)) == ["ACM-TA"]
    before = explorer.table.value
    explorer.cap.value = 60
    assert explorer.worker.wait(60) and rows(explorer.table.value) != rows(before)
    explorer.methods.value = []
    assert "at least one method" in explorer.message.value
    explorer.source.value = "printed / acm-v1 / 7b"
    assert explorer.worker.wait(60) and "a paper prints means" in explorer.table.value and explorer.other.disabled
    explorer.source.value = "tiny / general (committed)"
    assert explorer.worker.wait(60) and explorer.other.value == "TA" and "ACM-TA" in rows(explorer.table.value)
    assert not explorer.other.disabled and 'role="alert"' not in explorer.message.value
    explorer.compared.value = False
    assert explorer.table.value == ""
