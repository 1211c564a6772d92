"""`deterministic` switches on what an engine offers, says so in the records, and is refused where it comes too late."""

import json
import os
import sys
from types import ModuleType

import pytest
import torch
from helpers_evaluation import FAST

from acm import Engine, Server, evaluate
from acm.errors import UserError
from acm.evaluation.backends import RecordingLM
from acm.evaluation.determinism import CUBLAS, INVARIANT, SET, algorithms, prepare
from acm.evaluation.settings import chosen_engine

ON = Engine(deterministic=True, batch_size=4)
VLLM = {on: Engine("vllm", device="cuda", deterministic=on) for on in (False, True)}


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """Are as they were, after the test."""
    monkeypatch.setenv(CUBLAS, "")
    monkeypatch.setenv(INVARIANT, "0")
    SET.clear()


def test_generation_runs_with_deterministic_algorithms_and_the_records_say_so(local, monkeypatch):
    seen, generate = [], RecordingLM.generate_batch

    def spied(self, requests):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return generate(self, requests)

    monkeypatch.setattr(RecordingLM, "generate_batch", spied)
    found = evaluate(FAST, ["abacus_easy"], items=7, max_tokens=22, engine=ON)
    assert seen == [True, True] and not torch.are_deterministic_algorithms_enabled()
    assert json.loads(found["setting"][0])["deterministic"] is True
    assert "deterministic" not in json.loads(local["setting"][0])
    assert found.drop(columns="setting").equals(local.drop(columns="setting"))  # on a CPU nothing else changes


def test_an_operation_that_has_no_deterministic_form_is_one_sentence():
    with pytest.raises(UserError, match=r"no deterministic form .*cumsum_cuda_kernel.*leave top_p out"), algorithms(ON):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set …")
    with pytest.raises(RuntimeError, match="out of memory"), algorithms(ON):
        raise RuntimeError("out of memory")
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_comes_after_the_first_use_of_the_gpu_is_refused(monkeypatch):

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(UserError, match=f"used the GPU without {CUBLAS}=:4096:8"):
        prepare(ON)
    prepare(Engine())
    assert not os.environ[CUBLAS]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    prepare(ON)
    assert os.environ[CUBLAS] == ":4096:8"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    prepare(ON)  # it was set in time


def test_vllm_keeps_the_mode_with_which_it_was_imported(monkeypatch):

    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    prepare(VLLM[False])
    assert os.environ[INVARIANT] == "0"
    prepare(VLLM[True])
    assert os.environ[INVARIANT] == "1"
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    prepare(VLLM[True])
    with pytest.raises(UserError, match=f"started vLLM with deterministic: true.*{INVARIANT}=1.; restart the kernel"):
        prepare(VLLM[False])
    SET.clear()  # as where the user has set it
    with pytest.raises(UserError, match=f"{INVARIANT} is set: set `deterministic: true` too"):
        prepare(VLLM[False])
    monkeypatch.setenv(INVARIANT, "0")
    with pytest.raises(UserError, match=f"started vLLM without {INVARIANT}=1"):
        prepare(VLLM[True])


def test_a_server_cannot_promise_it():
    with pytest.raises(UserError, match="backend server: takes no deterministic"):
        chosen_engine("server", url="http://localhost", deterministic=True)
    assert Server("http://localhost").deterministic is False


def test_records_name_the_gpu(monkeypatch):
    from acm.evaluation import harness

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert harness.gpu_of(Engine(device="cuda:1")) == {"gpu": "GPU of cuda:1"}
    assert harness.gpu_of(Engine()) == {} == harness.gpu_of(Server("http://localhost"))
