"""Question 1: what plug-in MI measures, on tables with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers_questions import assert_in_order, information, labelled
from questions.made_up import assert_plain

from acm.calibration.registry import ESTIMATORS
from acm.questions import estimate, estimate_answer
from acm.questions.sizes import UNPAIRED, paper_size
from acm.questions.study import plain

LABEL_ESTIMATORS = ("plug-in", "miller-madow", "shuffle-corrected")


def exact(shares=None, samples=20, estimators=LABEL_ESTIMATORS, slope=1.0):
    """An MI table in which a control keeps this share of the real pair's MI, which is exactly linear in log tokens."""
    shares = shares or {"shuffled": 0.97, "other-sample": 0.96, "unrelated": 0.95, "gaussian": 0.94}
    table = information(samples, ("none", *shares), estimators)
    return table.assign(value=(1 + slope * np.log(table["tokens"])) * table["control"].map({"none": 1.0, **shares}))


NULL = pd.DataFrame(
    {
        "null": [0.55, 0.6],
        "null_low": [0.5, 0.52],
        "null_high": [0.58, 0.65],
        "correlation": [0.99] * 2,
        "null_span": [0.002] * 2,
        "paper": [0.57, 0.64],
        "paper_span": [0.02, 0.03],
        "texts": [100] * 2,
    },
    index=[0.5, 0.7],
).rename_axis("t")
LARGE = {"real": 2.0, "chance": 1.5, "marginals": 0.02, "pairing": 0.48, "explained": 0.96, "correlation": 0.9}
LARGE |= {"from_noise": -0.04, "from_noise_low": -0.05, "from_noise_high": -0.03}
CLOSE, OTHER = LARGE | {"pairing": 0.9, "correlation": 0.99}, LARGE | {"pairing": 0.0, "marginals": 1.0}
SIZES = {
    name: pd.DataFrame([row], index=[paper_size()]) for name, row in {"a": LARGE, "b": CLOSE, UNPAIRED: OTHER}.items()
}
BLOCKS = {"correlation": [0.9, 0.8, 0.7, 0.6], "coefficient": [0.6, 0.61, 0.62, 0.63]}
BLOCKS |= {"shuffled": [0.70, 0.71, 0.70, 0.70], "own": [0.5, 0.52, 0.5, 0.52]}
LAYERS = pd.concat(
    {draw: pd.DataFrame(BLOCKS, index=["0", "1", "2", "3"]) for draw in range(2)}, names=["draw", "layer"]
)


def answered(table, null=NULL):
    """The answer to question 1 from an MI table, with the other tables as above."""
    shares, explained = estimate.kept_by_control(table), estimate.explained_by_length(table)
    return estimate_answer.verdict(shares, explained, null, SIZES, LAYERS)


def test_controls_keep_what_they_keep_by_construction():
    found = estimate.kept_by_control(exact())
    assert len(found) == 3 * 4
    for control, share in {"shuffled": 0.97, "gaussian": 0.94}.items():
        assert found.loc[("plug-in", control), ["share", "low", "high"]].tolist() == pytest.approx([share] * 3)


def test_shares_are_of_blocks_and_their_interval_that_of_a_ratio_over_texts():
    rng = np.random.default_rng(0)
    table = exact(samples=80)
    noisy = table.assign(
        value=table["value"] * np.where(table["control"] == "none", 1, 1 + 0.2 * rng.normal(size=len(table)))
    )
    noisy.loc[~noisy["layer"].str.isdigit(), "value"] = 1e6
    row = estimate.kept_by_control(noisy).loc[("plug-in", "shuffled")]
    blocks = (
        noisy[noisy["layer"].str.isdigit() & (noisy["estimator"] == "plug-in")]
        .groupby(["control", "sample"])["value"]
        .mean()
        .unstack("control")
    )
    ratio = blocks["shuffled"].sum() / blocks["none"].sum()
    error = (blocks["shuffled"] - ratio * blocks["none"]).std() / blocks["none"].mean() / 80**0.5
    assert row["share"] == pytest.approx(ratio)
    assert (row["high"] - row["low"]) / (2 * 1.96 * error) == pytest.approx(1, abs=0.15)


def test_a_nan_of_an_estimator_counts_for_neither_side():
    table = exact(estimators=("plug-in", "cka"))
    hit = (table["estimator"] == "cka") & (table["sample"] == 3) & (table["control"] == "shuffled")
    found = estimate.kept_by_control(table.assign(value=table["value"].mask(hit)))
    assert found.notna().all(axis=None)
    assert found.loc[("cka", "shuffled"), ["share", "low", "high"]].tolist() == pytest.approx([0.97] * 3)
    noise = (table["estimator"] == "cka") & (table["control"] == "gaussian")
    gone = estimate.kept_by_control(table.assign(value=table["value"].mask(hit | noise)))
    assert gone.loc[("cka", "gaussian")].isna().all() and gone.loc[("plug-in", "gaussian")].notna().all()
    explained = estimate.explained_by_length(table.assign(value=table["value"].mask(hit)))
    assert explained.loc[("cka", "abacus-slow")].tolist() == pytest.approx([1.0] * 5)


def test_log_length_explains_what_it_explains():
    table = exact()
    assert estimate.explained_by_length(table).to_numpy() == pytest.approx(np.ones((3, 5)))
    flat = table.assign(value=1.0)
    assert estimate.explained_by_length(flat).isna().all(axis=None)
    assert estimate.explained_by_length(table.assign(tokens=7)).isna().all(axis=None)
    assert estimate.explained_by_length(table[table["sample"] < 2]).isna().all(axis=None)  # a line fits any two texts
    noise = table.assign(value=np.random.default_rng(0).normal(size=len(table)))
    assert estimate.explained_by_length(noise).max(axis=None) < 0.2


def test_several_models_are_told_apart_by_what_length_explains():
    table = information(20, ("none", "shuffled"), finetuned=("left", "right"))
    assert list(estimate.explained_by_length(table).index) == [("plug-in", "left"), ("plug-in", "right")]


@pytest.mark.parametrize("share, head", [
    (0.97, "Plug-in MI measures almost only its own bias on the calibration texts, and with that bias the length"),
    (0.7, "Plug-in MI measures mostly its own bias on the calibration texts, and with that"),
    (0.2, "Plug-in MI owes less than half of its value to its own bias on"),
    (0.5, "Plug-in MI is not shown to measure mostly its own bias on"),
])  # fmt: skip
def test_the_answer_on_bias_is_no_stronger_than_the_shares(share, head):
    table = exact(dict.fromkeys(("shuffled", "other-sample", "unrelated", "gaussian"), share))
    rng = np.random.default_rng(0)
    table["value"] *= 1 + 0.02 * rng.normal(size=len(table)) * (table["control"] != "none")
    text, numbers = answered(table)
    assert text.startswith(head)
    assert_plain(text)
    assert_in_order(
        text,
        "keeps: shuffled tokens ",
        "Log length alone explains 100 %",
        "a (outputs correlate at 0.900) 24 % of MI, λ -0.040 [-0.050, -0.030]; b (outputs correlate at 0.990) 45 %",
        "What channels share at any token makes at most 1 % of MI",
        "λ of 4 blocks differ by up to 0.030, and with tokens shuffled by up to 0.010.",
        "is -1.00 in the median of 2 draws of lengths (-1.00 to -1.00).",
        "below 5 % in 0 of these draws.",
        "(with 95 % of draws of 100 texts)",
        "0.550 [0.500, 0.580] of noise and 0.570 of the paper for t = 0.5; 0.600",
        "So noise would explain the level of the paper's λ.",
        "of 28 layers of one noise",
        "0.002 of noise and 0.020 of the paper for t = 0.5; 0.002",
        "So the same noise",
        "the blocks here with tokens shuffled, differ by up to 0.010",
    )
    assert numbers["beyond_shuffled"] == pytest.approx(1 - share, abs=0.02)
    assert numbers["by_size"]["a"]["pairing"] == 0.48 and UNPAIRED not in numbers["by_size"]
    assert "lowers plug-in MI by 24 to 45 %, and by more where two layers are more alike." in text
    json.dumps(plain(numbers), allow_nan=False)


def test_length_is_left_out_of_the_answer_where_it_explains_nothing():
    table = exact(samples=40)
    by_text = dict(enumerate(np.random.default_rng(0).uniform(1, 2, 40)))
    table["value"] = table["sample"].map(by_text) * table["control"].map({"none": 1.0}).fillna(0.97)
    assert "measures almost only its own bias on the calibration texts. On" in answered(table)[0]
    explained = estimate.explained_by_length(table.assign(value=1.0))
    text, _ = estimate_answer.verdict(estimate.kept_by_control(table), explained, NULL, SIZES, LAYERS)
    assert_in_order(text, "How much of MI the length explains cannot be told.")


def test_a_temperature_that_the_paper_lacks_is_left_out_of_the_sentence():
    table = exact()
    row = {"null": 0.7, "null_low": 0.6, "null_high": 0.8, "correlation": 0.9, "paper": np.nan, "texts": 100}
    null = pd.concat([NULL, pd.DataFrame([row], index=[1.5])])
    text, numbers = answered(table, null)
    assert len(numbers["null"]) == 3
    told = "0.600 [0.520, 0.650] of noise and 0.640 of the paper for t = 0.7. So noise"
    assert_in_order(text, told)
    below, alike = NULL.assign(paper=0.4), NULL.assign(paper_span=NULL["null_span"])
    assert "would explain" not in answered(table, below)[0] and "would not explain" not in answered(table, alike)[0]


def test_more_alike_is_said_only_where_it_holds_and_too_few_blocks_are_named():
    shares, explained = estimate.kept_by_control(exact()), estimate.explained_by_length(exact())
    turned = SIZES | {"b": SIZES["b"].assign(correlation=0.5)}
    assert "more alike" not in estimate_answer.verdict(shares, explained, NULL, turned, LAYERS)[0]
    text, numbers = estimate_answer.verdict(shares, explained, NULL, SIZES, LAYERS.query("layer in ['0', '1']"))
    assert "cannot be told, because the blocks are too few." in text and "nan" not in text
    json.dumps(plain(numbers), allow_nan=False)


def test_estimates_of_known_gaussians_have_the_truth_beside_them():
    found = estimate.known_gaussians((40,), (4,), 2)
    assert len(found) == len(ESTIMATORS) * 4 * 2
    truth = {rho: -0.5 * np.log(1 - rho**2) for rho in (0.0, 0.5, 0.8, 0.95)}
    assert found["truth"].tolist() == pytest.approx(found["rho"].map(truth).tolist())
    near = found[found["estimator"].isin(["gaussian", "kraskov"])]
    means = near.groupby(["estimator", "rho"])["estimate"].mean().unstack()
    assert (means.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    assert found[(found["estimator"] == "plug-in") & (found["rho"] == 0)]["estimate"].min() > 1  # of a truth of 0
    figure = estimate.draw_known(found)
    assert labelled(figure) == 1
    assert {text.get_text() for text in figure.axes[0].get_yticklabels()} == set(ESTIMATORS)


def test_what_an_estimate_follows_is_a_share_of_its_variance():
    table = estimate.known_gaussians((30, 60), (4, 8), 2).query("estimator in ['plug-in', 'cosine', 'cka']")
    size = table["tokens"] * table["channels"]
    by_truth = {"plug-in": size * 1.0, "cosine": table["truth"], "cka": table["truth"] / table["truth"].max()}
    made = pd.concat([part.assign(estimate=by_truth[name]) for name, part in table.groupby("estimator")])
    mixed = made["estimator"] == "cka"
    made.loc[mixed, "estimate"] += 2 * made["tokens"] / 30
    found = estimate.followed(made)
    assert found.sum(axis=1).tolist() == pytest.approx([1] * 3)
    assert found.loc["plug-in"].tolist() == pytest.approx([0, 1, 0], abs=1e-9)
    assert found.loc["cosine"].tolist() == pytest.approx([1, 0, 0], abs=1e-9)
    truth = (made["truth"] / made["truth"].max())[mixed].var(ddof=0)
    assert found.loc["cka", "truth"] == pytest.approx(truth / (truth + 1)) and found.loc["cka", "rest"] < 1e-9
    figure = estimate.draw_known(made)
    rows = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert rows == ["plug-in", "cka", "cosine"]  # the lowest first
    assert figure.get_label().startswith("Plug-in MI follows the size of the data (100 %")


def test_gaussian_estimate_is_per_channel():
    found = estimate.known_gaussians((2000,), (4,), 1)
    rows = found[(found["estimator"] == "gaussian") & (found["rho"] > 0)]
    np.testing.assert_allclose(rows["estimate"], rows["truth"], rtol=0.12)


def test_the_papers_null_is_the_rule_on_noise(monkeypatch):
    monkeypatch.setattr(estimate, "WIDTH", 256)
    found = estimate.paper_null((0.5, 1.5))
    assert (found["texts"] == 100).all()
    assert (found["null_low"] < found["null"]).all() and (found["null"] < found["null_high"]).all()
    assert (found["correlation"] < -0.9).all() and 0.5 < found.loc[0.5, "null"] < found.loc[1.5, "null"] < 1
    assert (found["null_span"] < 0.02).all()  # layers of noise differ less on the same texts than draws of texts do
    assert pd.isna(found.loc[1.5, "paper"])
    printed = pd.DataFrame(
        {"t": [0.5, 0.5, 0.5, 0.7], "layer": ["0", "1", "norm", "0"], "coefficient": [0.6, 0.8, 9.0, 0.5]}
    )
    blocks = estimate.paper_blocks(printed)
    assert blocks["paper"].to_dict() == {0.5: pytest.approx(0.7), 0.7: 0.5}
    assert blocks["paper_span"].to_dict() == {0.5: pytest.approx(0.2), 0.7: 0.0}


def test_lengths_are_drawn_by_estimator_and_control():
    table = exact()
    assert labelled(estimate.draw_lengths(table, "3")) == 1  # all three have the same values
    other = table["estimator"] == "shuffle-corrected"
    noise = np.random.default_rng(0).normal(size=len(table))
    figure = estimate.draw_lengths(table.assign(value=table["value"].mask(other, noise)), "3")
    assert labelled(figure) == 2 and figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["plug-in (miller-madow moves alike)", "shuffle-corrected"]
