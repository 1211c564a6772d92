"""Where a merge runs, what is sent to a GPU and how often, and the same results there (where torch sees one)."""

import math

import pytest
import torch
from helpers import example, write_files

import acm
from acm.merging import place, plain
from acm.merging.engine import Runner
from acm.merging.place import place_of
from acm.merging.registry import METHODS
from acm.merging.tensors import Memory, planned

GPU = torch.device("cuda")
RANDOM = [name for name, method in METHODS.items() if method.random]


@pytest.fixture
def with_gpu(monkeypatch):
    """A machine on which a driver and one GPU are found."""
    monkeypatch.setattr(place, "has_gpu_driver", lambda: True)
    monkeypatch.setattr("acm.devices.has_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize("name", METHODS)
def test_auto_takes_the_gpu_where_there_is_no_fused_loop(name, caplog):
    method = METHODS[name]
    with caplog.at_level("INFO", "acm"):
        assert place_of("auto", method) == ("cpu" if method.kernel else "auto")
    assert (f"{name} is merged on the CPU" in caplog.text) is bool(method.kernel)
    assert place_of("cuda", method) == "cuda" and place_of("cpu", method) == "cpu"


@pytest.mark.usefixtures("with_gpu")
def test_a_default_merge_sends_nothing_to_the_gpu(f32, tmp_path, monkeypatch, tensors):
    expected = tensors(acm.merge(example("ties", f32), tmp_path / "cpu", device="cpu"))

    def widen(raw, device="cpu"):
        raise AssertionError("plain torch was asked")

    monkeypatch.setattr(plain, "widen", widen)
    found = tensors(acm.merge(example("ties", f32), tmp_path / "auto"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_large_chunks_are_sent_to_a_gpu_as_they_are_stored(f32, monkeypatch):
    """The GPU is a stand-in: what is sent to it is counted, and stays on the CPU."""
    sent = []

    def widen(raw, device="cpu"):
        sent.append((raw.nbytes, raw.size, device))
        return torch.from_numpy(raw.copy()).float()

    plan, memory = planned(example("task_arithmetic", f32)), Memory()
    runner = Runner(plan, memory, "cpu", 1, kernels=False, allow_nan=False)
    runner.plain.device = GPU
    monkeypatch.setattr(plain, "widen", widen)
    monkeypatch.setattr(plain, "GPU_CHUNK", 1000)
    for job in plan.jobs:
        memory.held = bytearray(job.bytes)
        runner.merge_one(job)
    every = [(job.size, len(job.sources)) for job in plan.jobs]
    assert len(sent) == sum(models * math.ceil(size / 1000) for size, models in every)
    assert sum(size for _, size, _ in sent) == sum(size * models for size, models in every)
    assert all(device == GPU and nbytes == 4 * size for nbytes, size, device in sent)  # float32 as stored


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_gives_the_same_merge_to_rounding(name, f32, tmp_path, tensors):
    write_files(tmp_path, tensors, *f32)
    recipe = example(name, f32, tmp_path)
    found, expected = (tensors(acm.merge(recipe, tmp_path / device, device=device)) for device in ("cuda", "cpu"))
    for key, value in expected.items():
        off = (found[key] - value).abs() > 1e-4 * value.abs().max()
        assert off.float().mean() <= (1e-3 if name in RANDOM else 0), key
