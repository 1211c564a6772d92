"""What is read off the smol models' responses: their checks, and what another device changes."""

import json
import lzma

import pandas as pd
import pytest

from smol import checks, devices
from smol.checks import Check

WAIT = "Wait, let me check:"


@pytest.mark.parametrize(
    ("step", "check", "expected"),
    [
        ("So she has 17 + 25 = 42 shells.", f"{WAIT} 42 - 25 = 17, yes.", Check(True, True, None)),
        ("So she has 17 + 25 = 43 shells.", f"{WAIT} 43 - 25 = 18, yes.", Check(False, True, None)),
        ("17 + 25 = 43.", f"{WAIT} 43 - 25 = 18, no. It is 17 + 25 = 42.", Check(False, False, True)),
        ("17 + 25 = 43.", f"{WAIT} 43 - 25 = 18, no. It is 17 + 25 = 41.", Check(False, False, False)),
        ("17 + 25 = 43.", f"{WAIT} 43 - 25 = 18, no. It is 18 + 25 = 43.", Check(False, False, False)),
        ("48 / 28 = 2.", f"{WAIT} 2 * 28 = 56, no. It is 48 / 28 = 2.", Check(False, False, False)),
        ("So it is 1/3 = 0.33 of $1,200 x 2 = $2,400.", f"{WAIT} 2400 / 2 = 1200, yes.", Check(True, True, None)),
        ("2 / 3 = 0.67.", f"{WAIT} 0.67 * 3 = 2.01, yes.", Check(True, True, None)),
        ("900.0 - 0.95 = 899.15.", f"{WAIT} 899.15 + 0.95 = 900.1, yes.", Check(False, True, None)),
        ("5 / 0 = 0.", f"{WAIT} 0 * 0 = 0, yes.", Check(False, True, None)),
        ("17 + 25 + 3 = 45.", f"{WAIT} 45 - 3 = 42, yes.", Check(True, True, None)),
        ("3 + 2 * 5 = 13, and 6 * 1/2 = 3.", f"{WAIT} 3 * 2 = 6, yes.", Check(True, True, None)),
        ("30 - 5 - 5 = 25.", f"{WAIT} 25 + 5 = 30, yes.", Check(False, True, None)),
    ],
)
def test_a_check_is_judged_by_the_step_above_it(step, check, expected):
    assert checks.checks(f"Let's go step by step.\n{step}\n{check}\nThat was the last step.") == [expected]


def test_what_checks_nothing_is_passed_over():
    assert checks.checks(f"She has shells.\n{WAIT} 42 - 25 = 17, yes.") == []
    assert checks.checks(f"{WAIT} 42 - 25 = 17, yes.") == []
    assert checks.checks("17 + 25 = 42.\nWait, let me check: 42 -") == []
    for line in ("(3 + 2) * 5 = 26.", "3 / 200 = 1.5%.", "14÷2/5=35 minutes."):
        assert checks.checks(f"{line}\n{WAIT} 26 / 5 = 5, yes.") == []


@pytest.mark.parametrize(
    ("response", "truncated", "reason"),
    [
        ("17 + 25 = 42.", True, 0),
        (f"17 + 25 = 43.\n{WAIT} 43 - 25 = 18, yes.", False, 1),
        (f"1 + 2 + 3 = 7.\n17 + 25 = 42.\n{WAIT} 42 - 25 = 17, yes.", False, 2),
        (f"17 + 25 = 42.\n{WAIT} 42 - 25 = 18, yes.", False, 3),
        ("The final answer is 7.", False, 3),
    ],
)
def test_a_wrong_answer_has_a_first_reason(response, truncated, reason):
    assert checks.why_wrong(response, truncated) == checks.WRONG[reason]


@pytest.mark.parametrize("chain", ["3+4*2", "8/4*2", "10-3-2", "1/3+2/3", "2*3*4/5-1"])
def test_chains_come_to_what_python_says(chain):
    assert checks.value(chain) == pytest.approx(eval(chain))


def test_the_table_of_checks_counts_by_hand():
    good = f"17 + 25 = 42.\n{WAIT} 42 - 25 = 17, yes."
    missed = f"17 + 25 = 43.\n{WAIT} 43 - 25 = 18, yes."
    mended = f"17 + 25 = 43.\n{WAIT} 43 - 25 = 18, no. It is 17 + 25 = 42."
    records = pd.DataFrame({"method": ["a", "a", "a", "b"], "response": [good, missed, f"{mended}\n{good}", good]})
    table = checks.table(records, ["a", "b"])
    counts = [
        "checks",
        "right steps, no",
        "wrong steps",
        "wrong steps, no",
        "mends",
        "right mends",
        "wrong steps mended",
    ]
    assert list(table.loc["a", counts]) == [4, 0, 2, 1, 1, 1, 1]
    assert list(table.loc["b", counts]) == [1, 0, 0, 0, 0, 0, 0]
    assert table.loc["a", "found"] == 50 and table.loc["a", "found_low"] == 0 and table.loc["a", "found_high"] == 100
    none = checks.found_share([[Check(False, True, None)]] * 7)
    assert none[:2] == (0, 0) and none[2] == pytest.approx(35.4, abs=0.1)  # Wilson's of 0 of 7
    assert table.loc["b", ["found", "found_low", "found_high"]].isna().all()


def records_of(responses, correct, length, **more):
    names = range(len(responses))
    return pd.DataFrame(
        {"task": "t", "item": names, "correct": correct, "length": length, "response": responses} | more
    )


def test_devices_are_compared_on_the_items_that_both_have():
    cpu = records_of(list("abcd"), [1.0, 0.0, 1.0, 0.0], [4.0, 4.0, 4.0, 4.0], method="m", truncated=False)
    other = records_of(
        list("abXYz"), [1.0, 0.0, 0.0, 0.0, 1.0], [4.0, 4.0, 6.0, 8.0, 90.0], method="m", truncated=False
    )
    alone = cpu.assign(method="only there")
    gpu = pd.concat([other, alone]).assign(dtype="bfloat16", batch_size=50, run=0)
    gpu = pd.concat([gpu, other.assign(dtype="bfloat16", batch_size=50, run=1)])
    table = devices.compare(devices.with_settings(gpu, cpu, 50), "CPU float32, 50")
    assert list(table["setting"]) == ["GPU bfloat16, 50", "GPU bfloat16, 50, run 2"]
    first = table.iloc[0]
    assert (first["n"], first["equal"], first["graded"]) == (4, 50.0, 25.0)
    assert first["righter"] == -25 and first["longer"] == 1.5 and first["longer_low"] < 1.5 < first["longer_high"]
    means = devices.summary(table)
    assert list(means["models"]) == [1, 1] and means.loc["GPU bfloat16, 50", "righter_most"] == 25


def test_responses_after_the_training_are_compared_by_item(tmp_path):
    right, wrong = "The final answer is $\\boxed{4}$.", "The final answer is $\\boxed{5}$."
    asked = {"0.5/seen": [["q", "4", right], ["r", "4", wrong]], "0.5/new": [["s", "1", "?"]]}
    (tmp_path / "responses.json.xz").write_bytes(lzma.compress(json.dumps(asked).encode()))
    there = devices.from_training(tmp_path / "responses.json.xz", {"0.5": "m"})
    assert list(there["correct"]) == [1.0, 0.0]
    here = records_of([right, right], [1.0, 1.0], [4, 4], method="m")
    assert devices.parted(there, here).loc["m"].to_dict() == {
        "n": 2, "equal": 1, "graded alike": 1, "right there": 1, "right here": 2
    }  # fmt: skip
