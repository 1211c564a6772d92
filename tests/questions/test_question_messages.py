"""What the titles of the questions' figures say, for each outcome."""

import pytest

from acm.questions import messages

SAME, ABOVE, BELOW = "no difference shown", "above", "below"


def test_leads_and_numbers_of_texts():
    same = ["no difference shown"] * 2
    assert messages.on_leads(same) == "ACM's λ is shown to lead none of 2 other kinds of λ"
    assert messages.on_leads([*same, "above"]) == "ACM's λ leads 1 of 3 other kinds of λ"
    assert messages.on_leads([*same, "above", "below"]) == "ACM's λ leads 1 of 4 other kinds of λ, and trails 1"
    assert messages.on_leads([]) == "No kind of λ could be compared with ACM's"
    told = "0.50 with 1 to 0.55 with 100"
    assert messages.on_sizes((1, 0.5), (100, 0.55), 0.01, 0.05) == f"The number of texts moves λ, of noise too: {told}"
    assert messages.on_sizes((1, 0.5), (100, 0.55), 0.01, 0.0) == f"The number of texts moves λ: {told}"
    assert messages.on_sizes((1, 0.5), (100, 0.55), 0.1) == f"The number of texts hardly moves λ: {told}"


def test_what_length_explains():
    told = "Text length explains 95.0 % of the variance of plug-in MI"
    assert messages.on_lengths("plug-in", 0.95, 0.9) == f"{told}, and 90.0 % for noise"
    assert messages.on_lengths("plug-in", 0.95, float("nan")) == told
    assert messages.on_lengths("plug-in", float("nan"), 0.5) == "The plug-in MI of texts against their length"


def test_estimators_and_chance():
    told = "Plug-in follows the size of the data (98 % of its variance), {} the truth ({} %)"
    assert messages.on_estimators("plug-in", 0.4, 98) == told.format("not", 0)
    assert messages.on_estimators("plug-in", 30, 98) == told.format("more than", 30)
    assert messages.on_estimators("plug-in", 60, 40) == (
        "Plug-in follows the truth (60 % of its variance) more than the size of the data (40 %)"
    )
    told = "In texts of the paper's size chance alone makes {} % of plug-in MI"
    assert messages.on_chance([71.4, 88]) == told.format("71 to 88") and messages.on_chance([71.4]) == told.format(71)


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ({"a": SAME, "b": SAME, "c": SAME}, "are not shown to lead a, b or c"),
        ({"a": SAME, "b": "outside"}, "are not shown to lead a"),
        ({"a": "outside"}, "lie outside the frontier"),
        ({"a": ABOVE, "b": SAME}, "lead a"),
        ({"a": ABOVE, "b": BELOW, "c": BELOW}, "lead a and trail b and c"),
    ],
)
def test_contrasts(verdicts, text):
    assert messages.on_contrasts(verdicts, 2001) == f"On 2,001 fresh items ACM's λ {text}"


def test_settings_and_shifts():
    told = "λ moves most with the shift: by 0.58. It moves least with the dtype: by 0.00"
    assert messages.on_settings({"t": 0.1, "the shift": 0.58, "the dtype": 0.001}) == told
    assert messages.on_settings({"t": 0.1}) == "λ moves by 0.10 with t"
    told = "On average λ of the pair and of noise differ by 0.01 with shift layer and 0.06 with shift global"
    assert messages.on_shifts({"layer": 0.01, "global": 0.06}) == told


def test_effects_of_layers():
    head, both = ["the head"], ["the head", "block 5"]
    told = messages.on_effects({"length": (head, head), "accuracy": (["the embedding"], both)}, 0.05)
    assert told == (
        "Length changes most with the head; accuracy changes most with the embedding left out and the head or block 5 "
        "alone; λ hardly differs"
    )
    assert messages.on_effects({"accuracy": ([], head)}, 0.2) == "Accuracy changes most with the head alone; λ differs"
    assert messages.on_effects({"accuracy": ([], [])}, 0.2) == "No layer is shown to change accuracy; λ differs"
    many = messages.on_effects({"length": (list("abcd"), [])}, 0)
    assert many == "Length changes most with several layers left out; λ hardly differs"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-1, 1, "On 5 fresh families no difference is shown between ACM's λ and their mean everywhere"),
        (1, 2, "On 5 fresh families the mean of ACM's λ everywhere leads ACM's λ"),
        (-2, -1, "On 5 fresh families ACM's λ lead their mean everywhere"),
    ],
)
def test_the_mean_everywhere(low, high, text):
    assert messages.on_flat({"value": (low + high) / 2, "low": low, "high": high}, 5) == text


def test_the_mean_everywhere_outside_the_frontier():
    unknown = messages.on_flat(dict.fromkeys(("value", "low", "high"), float("nan")), 1)
    assert unknown == "On 1 fresh family the mean of ACM's λ everywhere cannot be compared with ACM's λ"


@pytest.mark.parametrize(
    ("above", "below", "text"),
    [
        ([], 0, "no merge is shown to beat the line, of 9 tried"),
        ([], 1, "no merge is shown to beat the line, and 1 of 9 falls below it"),
        (["TIES"], 2, "TIES beats the line, and 2 of 9 fall below it"),
        (["TIES", "DARE"], 0, "TIES and DARE beat the line, of 9 tried"),
        ([*"abcd"], 2, "4 beat the line, and 2 of 9 fall below it"),
    ],
)
def test_rivals(above, below, text):
    assert messages.on_rivals(above, below, 9, "merge is shown", "the line") == f"At equal norm {text}"


def test_searches():
    assert (
        messages.on_front(12, 12, "below") == "All 12 λ by layer from a search lie above one λ; those of ACM below it"
    )
    assert messages.on_front(1, 2, "above") == "1 of 2 λ by layer from a search lies above one λ; those of ACM too"
    assert messages.on_front(0, 2, "") == "None of 2 λ by layer from a search lie above one λ"
    told = "λ from a search beat one λ in"
    assert messages.on_searches({"a at 75 %": "above", "b": "no difference shown"}) == f"{told} 1 of 2 tests, not in b"
    assert messages.on_searches({"a": "above"}) == f"{told} 1 of 1 tests"
    assert messages.on_searches(dict.fromkeys("abcd", "below")) == f"{told} 0 of 4 tests"
    assert messages.on_nulls(0, 12).startswith("None of 12 null merges is shown to lose")
    assert messages.on_nulls(1, 12).startswith("1 of 12 null merges loses")
    assert messages.on_nulls(2, 12).startswith("2 of 12 null merges lose ")
    assert "3.1 points lower than" in messages.on_fresh(3.14) and "1.0 points higher" in messages.on_fresh(-1)


def test_the_layers_whose_coefficients_count():
    lost = {"4": (7.0, 6.0, 8.0), "5": (15.0, 13.0, 16.0), "head": (14.0, 11.0, 16.0)}
    rows = {layer: dict(zip(("lost", "lost_low", "lost_high"), row, strict=True)) for layer, row in lost.items()}
    told = messages.on_back(rows)
    assert told == "The λ of layers 5 and head count most: the mean there costs up to 15 points"
    del rows["head"]
    assert messages.on_back(rows) == "The λ of layer 5 counts most: the mean there costs 15 points"
    rows["5"]["lost_low"] = -1.0
    assert messages.on_back(rows) == messages.on_back({}) == "No λ is shown to lose by going back to the mean of all"


def test_what_scores_are_worth():
    assert messages.on_worth([], 23) == "None of 23 tests shows a score that goes with its outcome"
    assert messages.on_worth(["a"], 23) == "1 of 23 tests shows a score that goes with its outcome: a"
    assert messages.on_worth(["a", "b"], 3) == "2 of 3 tests show a score that goes with its outcome: a and b"
    assert messages.on_worth([*"abcd"], 9) == "4 of 9 tests show a score that goes with its outcome"
