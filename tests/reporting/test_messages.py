"""Each title follows the numbers: every outcome has its words."""

import pytest

from acm.reporting import messages

LEVEL = "From λ = 0.5 on accuracy stays within 2 points of its best"
SAME, ABOVE, BELOW = "no difference shown", "above", "below"


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ({"ACM-TA": SAME, "ACM-TIES": "outside"}, "No ACM merge is shown to beat plain interpolation"),
        (
            {"ACM-TA": SAME, "ACM-TIES": BELOW},
            "No ACM merge is shown to beat plain interpolation, and ACM-TIES falls below it",
        ),
        ({"ACM-TA": BELOW, "ACM-TIES": BELOW}, "Every ACM merge falls below plain interpolation"),
        ({"ACM-TA": ABOVE, "ACM-TIES": SAME}, "ACM-TA beats plain interpolation"),
        ({"ACM-TA": ABOVE, "ACM-TIES": ABOVE}, "ACM-TA and ACM-TIES beat plain interpolation"),
        ({"ACM-TA": ABOVE, "ACM-TIES": BELOW}, "ACM-TA beats plain interpolation, and ACM-TIES falls below it"),
        ({"a": SAME, "b": BELOW, "c": BELOW},
         "No ACM merge is shown to beat plain interpolation, and b and c fall below it"),
        ({}, "No ACM merge is shown to beat plain interpolation"),
    ],
)  # fmt: skip
def test_the_trade_off(verdicts, text):
    assert messages.on_trade_off(verdicts, "ACM merge") == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1, 3, "ACM-TA beats the best single λ: 56 % right against 84 %"),
        (-3, -1, "A single λ = 1 beats the best ACM merge: 84 % right against 56 %"),
        (-1, 1, "No difference is shown between a single λ = 1 (84 % right) and ACM-TA (56 %)"),
    ],
)
def test_accuracy_alone(low, high, text):
    difference = {"value": (low + high) / 2, "low": low, "high": high}
    assert messages.on_accuracy(84.4, 55.6, difference, ("single λ = 1", "ACM-TA")) == text


def test_coefficients_and_layers():
    assert (
        messages.on_coefficients(0.02, "embed") == "Noise gives nearly ACM's λ: 2.0 % apart on average, most in embed"
    )
    assert messages.on_coefficients(0.2, "7") == "ACM's λ differ from those of noise by 20.0 % on average, most in 7"
    assert messages.on_layers(0.51, 0.55) == "λ hardly differs between layers: 0.51 to 0.55 of a possible 0 to 1"
    assert messages.on_layers(0.2, 0.8) == "λ differs between layers: 0.20 to 0.80 of a possible 0 to 1"


@pytest.mark.parametrize(
    ("accuracy", "length", "text"),
    [
        ([50, 89, 90], [50, 80, 100], f"{LEVEL}, but length still grows by 25 %"),
        ([50, 89, 90], [50, 100, 80], f"{LEVEL}, but length still falls by 20 %"),
        ([50, 89, 90], [50, 80, 80], f"{LEVEL}, and length within 2 %"),
        ([90, 50, 90], [50, 80, 80], "Accuracy is highest at λ = 0.1"),
        ([50, 60, 90], [50, 80, 80], "Accuracy is highest at λ = 0.9"),
        ([50, 90, 60], [50, 80, 80], "Accuracy is highest at λ = 0.5, and falls after it"),
    ],
)  # fmt: skip
def test_the_scaling_sweep(accuracy, length, text):
    assert messages.on_scaling(*(dict(zip((0.1, 0.5, 0.9), part, strict=True)) for part in (accuracy, length))) == text


def test_one_scaling_is_no_sweep():
    assert messages.on_scaling({0.5: 90.0}, {0.5: 80.0}) == "One λ alone was run: 0.5"


def test_steps_and_thinking():
    close, wide = {"a": 96.0, "b": 100.0}, {"a": 16.0, "b": 97.0}
    assert messages.on_steps(close, wide, (1, 6)) == (
        "Long problems tell the models apart: 16 to 97 % right at 6 steps, 96 to 100 % at 1"
    )
    assert messages.on_steps(wide, close, (1, 6)) == (
        "Long problems tell the models apart no better than short ones: 96 to 100 % right at 6 steps, 16 to 97 % at 1"
    )
    none, few, many = ({"value": n, "low": n, "high": n + 5.0} for n in (0.0, 4.0, 40.0))
    assert messages.on_thinking(none, none) == "Every response that thinks closes its thinking"
    told = "up to 40 % of responses, parents in 4 %"
    assert messages.on_thinking(many, few) == f"Merges never close their thinking in {told}"
    told = "in up to 4 % of responses, parents in 0 %"
    assert messages.on_thinking(few, none) == (
        f"No merge is shown to leave thinking open more often than its parents: {told}"
    )


@pytest.mark.parametrize(("above", "text"), [(0, "none of a replication's 3 ACM merges lies"), (3, "all of a"),
                                             (1, "1 of a replication's 3 ACM merges lies"), (2, "2 of a")])  # fmt: skip
def test_the_replication(above, text):
    assert messages.on_replication("7B", above, 3).startswith(f"7B, as printed: {text}")


def test_the_papers_own_numbers():
    assert messages.on_published("32B", 0, 3) == "32B, as printed: no merge of the paper is as often right as R1"
    assert messages.on_published("14B", 1, 3) == "14B, as printed: 1 of the paper's 3 merges is as often right as R1"
    assert messages.on_figure_2((0.3, 0.9), 2.4, 8) == "From λ = 0.3 to 0.9: 2.4 times as long, 8 of 30 more right"
    assert messages.on_figure_2((0.3, 0.9), 0.5, -2) == "From λ = 0.3 to 0.9: 0.5 times as long, 2 of 30 fewer right"
    told = "1.5B, as printed: ACM-TA is 52 % shorter than R1 and 1.1 % {} often right"
    assert messages.on_figure_5(52, 1.14) == told.format("more")
    assert messages.on_figure_5(52, -1.14) == told.format("less")


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


def test_inspections():
    assert messages.on_changes("slow", "down", "1", 0.278) == (
        "slow changed most in down, layer 1: by 28 % of the weights' norm"
    )
    assert messages.on_kin({"a and b": 0.75}) == "a and b are kin with cosine 0.75"
    assert messages.on_kin({"c": 0.1, "a and b": 0.75, "d": -0.2}) == (
        "a and b are kin with cosine 0.75, all others with 0.10 at most"
    )
    assert messages.on_conflicts(float("nan")) == "How often two task vectors have opposite signs"
    assert "within 0.02 of what the correlation alone gives" in messages.on_conflicts(0.013)
    assert messages.on_overlaps(2.5, 9.9) == "Singular directions overlap 2.5 to 9.9 times as much as random ones"
    assert messages.on_overlaps(2.5, 2.5) == "Singular directions overlap 2.5 times as much as random ones"
