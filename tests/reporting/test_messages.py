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
