"""The paper beside ours: cells from made-up records, and nothing that was not run looks like a result."""

import json

import numpy as np
import pandas as pd
import pytest

from acm.errors import UserError
from acm.paths import ROOT
from acm.reporting import paper_comparison, paper_numbers
from acm.running.notebooks import run_notebook

NOTEBOOKS = sorted((ROOT / "notebooks" / "paper").glob("*.ipynb"))


@pytest.fixture
def records():
    """Ten items of MATH500 for ACM-TA: six right, 100 to 109 tokens, one cut."""
    return pd.DataFrame(
        {
            "method": "ACM-TA",
            "task": "math500",
            "item": range(10),
            "repeat": 0,
            "correct": [1.0] * 6 + [0.0] * 4,
            "length": range(100, 110),
            "truncated": [True] + [False] * 9,
            "reflections": [2, 1] + [0] * 8,
            "setting": json.dumps({"max_tokens": 512}),
        }
    )


@pytest.mark.parametrize("number", paper_comparison.TABLES)
def test_without_records_every_cell_of_ours_says_not_run(number):
    found = paper_comparison.table(number)
    text = paper_comparison.shown(found)
    assert found["paper"].notna().all() and found["ours"].isna().all()
    assert (text["ours %"] == paper_comparison.NOT_RUN).all() and (text["n"] == paper_comparison.NOT_RUN).all()
    assert "None of the" in paper_comparison.conclusion(found)


def test_printed_numbers_are_the_papers():
    found = paper_comparison.table("1").set_index(["method", "task"])
    assert found.loc[("Qwen2.5-Math-7B", "gsm8k"), ["paper", "paper_length"]].tolist() == [88.9, 130.2]
    assert len(found) == len(paper_numbers.load("published_scores").query("source == 'acm-v1' and table == 'table1'"))


def test_our_cell_is_the_records(records):
    row = paper_comparison.table("1", records).set_index(["method", "task"]).loc[("ACM-TA", "math500")]
    assert row["ours"] == pytest.approx(60) and row["ours_low"] < 60 < row["ours_high"]
    assert (
        row["ours_length"] == pytest.approx(104.5)
        and row["truncated"] == pytest.approx(10)
        and row["n"] == 10
        and row["cap"] == 512
    )
    assert row["difference"] == pytest.approx(60 - row["paper"])


def test_one_cell_run_leaves_the_others_not_run(records):
    text = paper_comparison.shown(paper_comparison.table("1", records))
    assert (text["ours %"] != paper_comparison.NOT_RUN).sum() == 1
    assert text.loc[("ACM-TA", "math500"), "ours %"].startswith("60.0 [")


def test_reflections_are_counted_and_bounded(records):
    found = paper_comparison.reflections("6", records.assign(method="ACM-TA"))
    assert found.loc[("ACM-TA", "math500"), ["ours", "ours of"]].tolist() == [2, 10]
    assert (found["ours"] == paper_comparison.NOT_RUN).sum() == len(found) - 1
    assert found.loc[("ACM-TA", "gsm8k"), "items"] == 1319


def test_parents_carry_the_papers_names():
    assert paper_comparison.paper_name("DeepSeek-R1-Distill-Qwen-7B") == "DeepSeek-R1-7B"
    assert paper_comparison.paper_name("Qwen2.5-Math-7B") == "Qwen2.5-Math-7B"


def test_unknown_tables_are_refused():
    for call in (paper_comparison.table, paper_comparison.reflections):
        with pytest.raises(UserError, match="unknown table"):
            call("9")


def test_repeats_are_averaged(records):
    twice = pd.concat([records, records.assign(repeat=1, reflections=0)])
    assert paper_comparison.reflections("6", twice).loc[("ACM-TA", "math500"), ["ours", "ours of"]].tolist() == [1, 10]


def test_an_accuracy_of_no_item_has_an_interval(records):
    row = (
        paper_comparison.table("1", records.assign(correct=0.0))
        .set_index(["method", "task"])
        .loc[("ACM-TA", "math500")]
    )
    assert row["ours"] == row["ours_low"] == 0 and row["ours_high"] == pytest.approx(27.75, abs=0.01)  # Wilson, 0 of 10


def test_other_sources_stand_where_they_print_something_and_digits_are_the_papers():
    text = paper_comparison.shown(paper_comparison.table("2"))
    assert {"sister %", "sister tokens", "replication %"} <= set(text) and "replication tokens" not in text
    assert text.loc[("TA", "gsm8k"), "sister %"] == paper_comparison.NOT_PRINTED
    llama = paper_comparison.shown(paper_comparison.table("3"))
    assert llama.loc[("TA", "mbpp_pro"), "paper %"] == "6.61" and "sister %" not in llama
    frame = paper_comparison.printed(pd.DataFrame({"acm-v1": [1.04, np.nan], "l2s-sister": [2.0, 3.0]}))
    assert frame.to_dict("list") == {"paper": ["1.0", paper_comparison.NOT_PRINTED], "sister": ["2.0", "3.0"]}


def test_the_frontier_lies_under_our_points(records):
    half = paper_comparison.trade_off("7b", records).axes[-1]
    assert "ACM-TA (ours)" not in {line.get_gid() for line in half.lines}  # one task of six
    tasks = (
        paper_numbers.load("published_scores")
        .query("source == 'evo-l2s-replication' and size == '7b'")["task"]
        .unique()
    )
    records = pd.concat([records.assign(task=task) for task in [*tasks, "another"]])
    figure = paper_comparison.trade_off("7b", records)
    ours = {line.get_gid(): line for line in figure.axes[-1].lines}["ACM-TA (ours)"]
    r1 = paper_numbers.load("published_averages").query("size == '7b' and source == 'evo-l2s-replication'")
    r1 = r1.set_index("method").loc["DeepSeek-R1-7B", "mean_length"]
    assert [*ours.get_xdata(), *ours.get_ydata()] == pytest.approx([100 * (1 - 104.5 / r1), 60])
    with pytest.raises(UserError, match="size 32b has no published frontier in tokens"):
        paper_comparison.trade_off("32b", records)
    swept = paper_numbers.load("uniform_coefficient_frontier").query("size == '7b'")
    assert any(len(line.get_xdata()) == len(swept) for line in figure.axes[-1].lines)


def test_a_figure_without_any_number_says_so():
    with pytest.raises(UserError, match="not run here, and the paper's figure prints no numbers"):
        paper_comparison.bars(None, "livecodebench")


def test_every_table_and_figure_has_its_notebook():
    assert {p.stem for p in NOTEBOOKS} >= {*(f"table-{n}" for n in range(1, 8)), *(f"figure-{n}" for n in range(2, 7))}


@pytest.mark.pipeline
@pytest.mark.parametrize("name", ["table-1", "figure-5"])
def test_notebooks_run_on_published_numbers_alone(name, tmp_path):
    done = run_notebook(ROOT / "notebooks" / "paper" / f"{name}.ipynb", tmp_path / "out.ipynb", {"profile": "absent"})
    assert done.is_file()


def test_differences_are_nan_where_ours_is():
    assert np.isnan(paper_comparison.table("2")["difference"]).all()
