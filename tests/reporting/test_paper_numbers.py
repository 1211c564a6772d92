"""The paper's own numbers: which of them agree with each other, and that their figures draw."""

from functools import partial
from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Annotation, Text

from acm.reporting import paper_numbers
from acm.reporting.plotting import use_theme

matplotlib.use("Agg")
SIZES = ["1.5b", "7b", "14b", "32b"]


@pytest.fixture(autouse=True)
def closed_figures():
    with plt.rc_context():
        use_theme()
        yield
        plt.close("all")


@pytest.fixture(scope="module")
def table():
    return paper_numbers.recompute_averages()


def labels(axes):
    return [text for text in axes.texts if isinstance(text, Annotation)]


def test_load_returns_numbers():
    scores = paper_numbers.load("published_scores")
    assert scores["accuracy"].between(0, 100).all() and (scores["length"].dropna() > 0).all()


def test_unknown_table_names_the_nearest():
    with pytest.raises(ValueError, match="published_scores"):
        paper_numbers.load("published_score")


def test_half_unit_of_the_last_digit():
    assert paper_numbers.half_unit(pd.Series(["-75.5", "1.92", "30"])).tolist() == pytest.approx([0.05, 0.005, 0.5])


def test_every_printed_row_is_recomputed(table):
    assert len(table) == len(paper_numbers.load("published_averages")) == table["recomputed_average"].notna().sum()


def test_a_change_agrees_or_not_exactly_where_one_is_printed(table):
    assert (table["change_agrees"].notna() == table["printed_change"].notna()).all()
    assert table["average_agrees"].notna().all()
    assert table.query("source == 'evo-l2s-replication' or size == 'llama2-7b'")["recomputed_change"].isna().all()


def test_recomputed_by_hand(table):
    row = table.query("size == '32b' and method == 'TIES'").iloc[0]
    assert row["recomputed_average"] == pytest.approx((95.4 + 87.8 + 43.3) / 3)
    ratios = 516.9 / 822.6 + 1898.7 / 2621.8 + 5823.3 / 7194.2
    assert row["recomputed_change"] == pytest.approx(100 * (ratios / 3 - 1))


def test_every_average_agrees_but_one_by_its_last_digit(table):
    wrong = table[~table["average_agrees"]]
    assert wrong[["size", "method"]].to_numpy().tolist() == [["llama2-7b", "ACM-TA"]]
    assert (wrong["printed_average"] - wrong["recomputed_average"]).item() == pytest.approx(0.0133, abs=1e-4)


def test_the_length_changes_that_do_not_agree(table):
    wrong = table[~table["change_agrees"].fillna(True)]
    assert set(wrong[["source", "size", "method"]].itertuples(index=False, name=None)) == {
        ("acm-v1", "1.5b", "TIES"), ("acm-v1", "1.5b", "ACM-TIES"), ("acm-v1", "1.5b", "Sens-Merging"),
        ("acm-v1", "1.5b", "Average"), ("acm-v1", "7b", "DARE-TIES"), ("acm-v1", "14b", "TIES"),
        ("acm-v1", "14b", "Sens-Merging"), ("l2s-sister", "7b", "LoRE")}  # fmt: skip


def test_only_one_disagreement_is_more_than_a_last_digit():
    found = paper_numbers.disagreements()
    assert len(found) == 9
    first = found.iloc[0]
    assert (first["size"], first["method"], first["printed"]) == ("1.5b", "TIES", -75.5)
    assert first["recomputed"] == pytest.approx(-77.43, abs=0.01)
    assert found["difference"][1:].abs().max() < 0.11


def test_a_wrong_digit_is_found(monkeypatch):
    load = paper_numbers.load

    def misprinted(name, **options):
        found = load(name, **options)
        if name == "published_averages":
            row = found["method"].eq("ACM-TIES") & found["source"].eq("acm-v1") & found["size"].eq("7b")
            found.loc[row, "average_accuracy"] = "55.7" if options else 55.7
            found.loc[row, "length_change_percent"] = "-55.5" if options else -55.5
        return found

    assert paper_numbers.recompute_averages().query("size == '7b' and method == 'ACM-TIES'")["change_agrees"].iloc[0]
    monkeypatch.setattr(paper_numbers, "load", misprinted)
    row = (
        paper_numbers.recompute_averages().query("source == 'acm-v1' and size == '7b' and method == 'ACM-TIES'").iloc[0]
    )
    assert not row["change_agrees"]
    assert row["average_agrees"]  # 55.7 for 55.8: six inputs rounded to 0.1 can just explain it


def test_reflection_count_above_the_number_of_items():
    found = paper_numbers.impossible_reflection_counts()
    assert found.to_numpy().tolist() == [["14b", "TA", "math500", 572, 500]]


def test_accuracies_between_two_items():
    found = paper_numbers.impossible_accuracies()
    assert set(found[["size", "method", "task"]].itertuples(index=False, name=None)) == {
        ("1.5b", "Sens-Merging", "minerva_math"), ("1.5b", "ACM-TA", "minerva_math"),
        ("14b", "ACM-Average", "humaneval_pro"), ("llama2-7b", "MAmmoTH-7B", "gsm8k"),
        ("llama2-7b", "ACM-TA", "gsm8k")}  # fmt: skip


@pytest.mark.parametrize(("other", "label"), [("l2s-sister", "sister"), ("evo-l2s-replication", "replication")])
def test_shared_averages_are_those_of_plain_loops(other, label):
    cells = {
        (r.source, r.size, r.method, r.task): r.accuracy for r in paper_numbers.load("published_scores").itertuples()
    }
    expected = {}
    for source, size, method, task in cells:
        if source == "acm-v1" and (other, size, method, task) in cells:
            expected.setdefault((size, method), []).append([cells[s, size, method, task] for s in ("acm-v1", other)])
    found = paper_numbers.shared_averages(other)
    assert found.columns.tolist() == ["paper", label, "tasks"] and set(found.index) == set(expected)
    for key, pairs in expected.items():
        paper, beside = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        assert found.loc[key].tolist() == pytest.approx([paper, beside, len(pairs)])


def test_shared_averages_by_hand():
    found = paper_numbers.shared_averages("evo-l2s-replication").round(1)
    assert found.loc[("14b", "ACM-TA")].tolist() == [76.2, 62.9, 3]
    assert found.loc[("14b", "Qwen2.5-14B")].tolist() == [47.1, 47.1, 3]
    assert (found.xs("7b")["tasks"] == 6).all()
    found = paper_numbers.shared_averages("l2s-sister").round(1)
    assert found.loc[("1.5b", "Sens-Merging")].tolist() == [49.5, 55.9, 3]


def test_shared_averages_with_an_unknown_source_names_the_nearest():
    with pytest.raises(ValueError, match="l2s-sister"):
        paper_numbers.shared_averages("sister")


def test_benchmarks_of_each_source():
    found = paper_numbers.benchmarks("14b")
    assert found["acm-v1"] == "gsm8k 1319, math500 500, aime24 30, humaneval_pro 164"
    assert found["l2s-sister"] == "gsm8k 1319, math500 500, aime24 30" and found["evo-l2s-replication"].count(",") == 5
    assert set(paper_numbers.benchmarks("32b")) == {"acm-v1", "l2s-sister"}
    assert paper_numbers.benchmarks("llama2-7b")["acm-v1"].startswith(
        "gsm8k 1319, "
    )  # of the other two the number is not known


def test_runs_of_equal_cells():
    found = paper_numbers.equal_cells().set_index(["size", "method", "other_method"])
    maths = {"minerva_math", "olympiadbench", "college_math"}
    assert found.index.tolist() == [
        ("7b", "TA", "Sens-Merging"),
        ("1.5b", "Qwen2.5-Math-1.5B", "AIM"),
        ("32b", "TIES", "TIES"),
    ]
    assert [set(tasks.split(", ")) for tasks in found["accuracies"]] == [maths, maths, {"gsm8k", "math500", "aime24"}]
    assert found["lengths"].tolist() == ["", "", "gsm8k, math500"] and found["shared"].tolist() == [6, 6, 3]
    assert found["other_source"].tolist() == ["l2s-sister", "acm-v1", "l2s-sister"]


def test_equal_cells_need_every_printed_digit_and_no_missing_length(monkeypatch):
    rows = [
        ("a", "t", "7b", method, task, accuracy, None)
        for method, accuracy in (("x", "5.0"), ("y", "5.00"), ("z", "5.0"))
        for task in "pqr"
    ]
    scores = pd.DataFrame(rows, columns=[*paper_numbers.KEYS, "task", "accuracy", "length"])
    monkeypatch.setattr(paper_numbers, "load", lambda name, **options: scores)
    assert paper_numbers.equal_cells()[["method", "other_method", "accuracies"]].to_numpy().tolist() == [
        ["x", "z", "p, q, r"]
    ]
    assert paper_numbers.equal_cells(4).empty


def test_one_row_prints_the_same_length_for_two_benchmarks():
    found = paper_numbers.equal_lengths()
    assert found[["size", "method", "length", "tasks"]].to_numpy().tolist() == [
        ["1.5b", "Qwen2.5-Math-1.5B", 864.9, "college_math, aime24"]
    ]


def test_figure_2_and_table_4_print_other_numbers_for_the_same_setting():
    found = paper_numbers.figures_against_tables().set_index(["figure", "run", "quantity"])
    assert found.loc[("Figure 2", "TA 0.7, 14B", "AIME24 accuracy, %")].tolist() == [46.7, 33.3]
    assert found.loc[("Figure 5", "TA, 1.5B", "length reduction, %")].tolist() == pytest.approx([41, 68.72], abs=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_accuracy_against_length_draws_every_method(size):
    figure = paper_numbers.accuracy_against_length(size)
    rows = paper_numbers.load("published_averages").query("size == @size and not method.str.startswith('Qwen')")
    expected = [rows["source"].eq("acm-v1").sum()]
    if size != "32b":
        named = rows["source"].eq("evo-l2s-replication") & rows["method"].ne("Evo-L2S")
        expected.append(named.sum() + 1)  # and the name of plain interpolation
        assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
        frontier = [line for line in figure.axes[1].lines if not line.get_gid()]
        assert len(frontier[0].get_xdata()) == paper_numbers.load("uniform_coefficient_frontier")["size"].eq(size).sum()
    assert [len(labels(axes)) for axes in figure.axes] == expected
    assert [sum(bool(line.get_gid()) for line in axes.lines) for axes in figure.axes] == expected


DRAWINGS = [*(partial(paper_numbers.accuracy_against_length, size) for size in SIZES), paper_numbers.figure5]


@pytest.mark.parametrize("draw", DRAWINGS, ids=[*SIZES, "figure5"])
def test_no_labels_overlap_and_none_leaves_its_panel(draw):
    figure = draw()
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(label) for label in labels(axes)]
        assert len(boxes) >= 4
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        frame = axes.get_window_extent()
        assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)


def test_no_figure_where_no_lengths_are_printed():
    with pytest.raises(ValueError, match="llama2-7b"):
        paper_numbers.accuracy_against_length("llama2-7b")


def test_figure2_has_two_points_for_each_scaling_and_no_second_axis():
    figure = paper_numbers.figure2()
    upper, lower = (axes.lines[0] for axes in figure.axes)
    assert list(upper.get_ydata()) == [20.0, 23.3, 26.7, 33.3, 46.7, 40.0, 46.7]
    assert list(upper.get_xdata()) == list(lower.get_xdata()) and lower.get_ydata()[0] == 3295
    assert figure.get_label() == "From λ = 0.3 to 0.9: 2.4 times as long, 8 of 30 more right"


def test_figure4_has_every_layer_in_order():
    axes = paper_numbers.figure4().axes[0]
    names = dict(zip(axes.get_xticks(), (tick.get_text() for tick in axes.get_xticklabels()), strict=True))
    assert names == {0: "embed", 6: "5", 11: "10", 16: "15", 21: "20", 26: "25", 30: "lm_head"}
    assert axes.get_ylim() == (0, 1)
    assert [len(line.get_xdata()) for line in axes.lines] == [31, 31, 31]
    assert axes.lines[1].get_ydata()[[0, 1, 29, 30]].tolist() == [0.676, 0.695, 0.700, 0.634]  # t = 0.7


def test_figure5_has_every_method():
    axes = paper_numbers.figure5().axes[0]
    assert sorted(label.get_text() for label in labels(axes)) == ["ACM-TA", "L1-Max", "R1-1.5B", "TA", "ThinkPrune"]
