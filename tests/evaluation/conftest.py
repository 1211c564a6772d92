"""Models and records that several tests of the evaluation use."""

import pytest
import torch
from helpers_evaluation import FAST

from acm import Engine, evaluate
from acm.evaluation.backends import RecordingLM

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def hf():
    """The usual backend with abacus-fast."""
    return RecordingLM(pretrained=str(FAST), dtype="float32", device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def local():
    """Records of the usual backend, some cut by the cap, some not."""
    records = evaluate(FAST, ["abacus_easy"], items=7, max_tokens=22, engine=Engine(batch_size=4))
    assert 0 < records["truncated"].sum() < 7
    return records
