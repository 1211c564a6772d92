"""The gap of two logits where responses part, against the logits of the whole sequence."""

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abacus import CHECKPOINTS
from acm.paths import REPORTS
from acm.profiles import load_profile
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


@pytest.mark.parametrize("method", ["abacus-fast", "ACM-TA"])
def test_another_answer_is_no_near_tie(records, method):
    own = records[records["method"] == method].rename(columns={"response": "response_old"})
    changed = own.assign(response_new=" the answer is 0.")
    said = explain(load_profile("tiny"), "long-to-short", changed, COEFFICIENTS)
    assert "of the 3 looked at part" in said and "more than rounding" in said
