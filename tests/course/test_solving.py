"""The lessons' own evaluation gives the pipeline's records."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abacus import CHECKPOINTS
from acm.course.solving import items_of, responses
from acm.profiles import load_profile
from acm.reporting.results import Results


@pytest.fixture(scope="module")
def fast():
    place = CHECKPOINTS / "abacus-fast"
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32), AutoTokenizer.from_pretrained(place)


def test_responses_are_those_of_the_committed_records(fast):
    stored = Results(load_profile("tiny"), "long-to-short", "reports")
    asked = {task: items_of(task, 0, 10) for task in stored.experiment.tasks}
    found = responses(*fast, asked, method="abacus-fast")
    known = stored.records.query("method == 'abacus-fast' and item < 10")
    keys = ["method", "task", "item"]
    both = found.merge(known[[*keys, "correct", "length", "truncated"]], on=keys, suffixes=("", "_known"))
    assert len(both) == len(found) == 30 and 0 < found["correct"].mean() < 1
    for column in ("correct", "length", "truncated"):
        assert (both[column] == both[f"{column}_known"]).all(), column


def test_a_cap_cuts(fast):
    found = responses(*fast, {"abacus_easy": items_of("abacus_easy", 0, 3)}, cap=4)
    assert (found["length"] == 4).all() and found["truncated"].all() and not found["correct"].any()


def test_fresh_items_are_others():
    known, fresh = ({i["question"] for i in items_of("abacus_easy", 0, 500, fresh=made)} for made in (False, True))
    assert len(known) == len(fresh) == 500 and not known & fresh
