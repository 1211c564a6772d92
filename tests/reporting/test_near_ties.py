"""The gap of two logits where responses part, against the logits of the whole sequence."""

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abacus import CHECKPOINTS
from acm.calibration.registry import COEFFICIENT_SETS
from acm.files import write_json
from acm.paths import REPORTS
from acm.profiles import load_profile
from acm.records import coefficients_name, read_coefficients
from acm.reporting.near_ties import explain, gap

COEFFICIENTS = REPORTS / "tiny" / "long-to-short"


@pytest.fixture(scope="module")
def fast():
    folder = CHECKPOINTS / "abacus-fast"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def records():
    return pd.read_parquet(COEFFICIENTS / "records.parquet").query("item < 3 and task == 'abacus_hard'")


def test_the_gap_is_that_of_the_two_tokens(fast):
    model, tokenizer = fast
    question, one, other = "question: max has 39 shells.", " 39-30=9.", " 39-31=8."
    ids = tokenizer(question + one)["input_ids"]
    place = next(
        i for i, (a, b) in enumerate(zip(ids, tokenizer(question + other)["input_ids"], strict=False)) if a != b
    )
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, place - 1].double()
    expected = (logits[ids[place]] - logits[tokenizer(question + other)["input_ids"][place]]).abs().item()
    assert gap(model, tokenizer, question, one, other) == pytest.approx(expected, abs=1e-4)


def test_a_response_that_ends_earlier_parts_at_its_end_token(fast):
    assert 0 < gap(*fast, "question: 1+1?", " 2.", " 2. the") < float("inf")


def test_responses_that_do_not_part_have_no_gap(fast):
    assert gap(*fast, "question: 1+1?", " 2.", " 2.") == float("inf")


@pytest.fixture
def shifted(tmp_path):
    """Makes a folder with the committed coefficients, those of the real pair moved by a number."""

    def make(by):
        for control in COEFFICIENT_SETS:
            found = read_coefficients(COEFFICIENTS / coefficients_name(control))
            moved = {m: {k: v + by * (control == "none") for k, v in own.items()} for m, own in found.items()}
            write_json(tmp_path / coefficients_name(control), {"coefficients": moved})
        return tmp_path

    return make


def changed(records, *methods):
    own = records[records["method"].isin(methods)].rename(columns={"response": "response_old"})
    return own.assign(response_new=" the answer is 0.")


def test_another_answer_of_the_same_weights_is_no_near_tie(records, shifted):
    rows = changed(records, "abacus-fast", "ACM-TA")
    said = explain(load_profile("tiny"), "long-to-short", rows, COEFFICIENTS, shifted(0.0))
    assert "6 of 6 with equal λ part where" in said and "more than rounding" in said


@pytest.mark.parametrize(
    "by, cause", [(2e-4, "another processor rounds some activations"), (0.1, "more than rounding")]
)
def test_other_coefficients_explain_the_methods_that_take_them(records, shifted, by, cause):
    rows = changed(records, "ACM-TA", "ACM-TIES")
    said = explain(load_profile("tiny"), "long-to-short", rows, COEFFICIENTS, shifted(by))
    assert said.startswith(f"6 of them are of ACM-TA, ACM-TIES, whose λ differ by up to {by:.0e}: ") and cause in said


def test_noises_coefficients_are_compared_with_noises(records, shifted):
    rows = changed(records, "Null-TA", "ACM-TA")
    said = explain(load_profile("tiny"), "long-to-short", rows, COEFFICIENTS, shifted(2e-4))
    assert said.startswith("3 of them are of ACM-TA, ") and "3 of 3 with equal λ part" in said


def test_coefficients_that_the_old_run_lacks_are_no_rounding(records, tmp_path):
    said = explain(load_profile("tiny"), "long-to-short", changed(records, "ACM-TA"), COEFFICIENTS, tmp_path)
    assert "differ by up to inf" in said and "more than rounding" in said
