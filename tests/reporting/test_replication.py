"""A replication's merges against its own plain interpolation."""

import pandas as pd

from acm.reporting.replication import above_interpolation, bar_of, replicated


def test_reduction_is_against_the_replications_r1_and_the_search_is_left_out():
    rows, sweep = replicated("7b")
    found = rows.set_index("method")["reduction"]
    assert found["DeepSeek-R1-7B"] == 0 and round(found["ACM-TA"], 1) == 64.9  # 1 − 1595 / 4548
    assert "Evo-L2S" not in replicated("1.5b")[0]["method"].tolist() and not found.index.str.startswith("Qwen").any()
    assert sweep["mean_length"].is_monotonic_increasing and len(replicated("32b")[1]) == 0


def test_merges_are_counted_against_the_points_that_no_shorter_one_beats():
    sweep = pd.DataFrame({"mean_length": [10, 20, 30, 40], "average_accuracy": [50, 60, 40, 70]})
    assert bar_of(sweep)["mean_length"].tolist() == [10, 20, 40]
    rows = pd.DataFrame(
        [("ACM-TA", 30, 66), ("ACM-TIES", 30, 64), ("ACM-Average", 5, 99), ("TA", 30, 99), ("ACM-X", 50, 71)],
        columns=["method", "mean_length", "average_accuracy"],
    )
    assert above_interpolation(rows, sweep) == (2, 4)  # at 30 the line has 65; 5 lies outside; beyond 40 it stays at 70
