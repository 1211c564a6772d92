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
    assert messages.on_thinking({"a": 0.0, "b": 0.0}) == "Every response that thinks closes its thinking"
    told = "b leaves its thinking open most often: in 40 % of its responses"
    assert messages.on_thinking({"a": 0.0, "b": 40.0}) == told


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
