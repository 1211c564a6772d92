"""What methods that decompose hold at a time: the bytes of all torch tensors that live together, counted."""

import weakref
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensor_cases import randn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from acm.merging import primitives
from acm.merging.methods import measured
from acm.merging.plain import PlainMerger
from acm.merging.plan import Job
from acm.merging.primitives import narrow, widen
from acm.merging.registry import METHODS
from acm.merging.settings import Settings
from acm.merging.stream import Stream

MODELS = 2
NUMBERS = {"twin": {"rank": 0.2}, "lore": {"mu": 0.001, "iterations": 4}, "regmean": {"alpha": 0.9}}


class Tally(TorchDispatchMode):
    """Counts the bytes of the storages that operations give, as long as a tensor of theirs lives."""

    def __init__(self):
        super().__init__()
        self.held, self.sizes, self.peak = Counter(), {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_iter(found)):
            storage = tensor.untyped_storage()
            self.held[storage.data_ptr()] += 1
            self.sizes[storage.data_ptr()] = storage.nbytes()
            weakref.finalize(tensor, self.release, storage.data_ptr())
        self.peak = max(self.peak, sum(self.sizes.values()))
        return found

    def release(self, place):
        self.held[place] -= 1
        if not self.held[place]:
            self.sizes.pop(place)


def source(tensor, dtype="bfloat16"):
    """A tensor as a job reads it."""
    return SimpleNamespace(read=lambda: narrow(tensor.flatten(), dtype), shape=tuple(tensor.shape), dtype=dtype)


def peak(method, shape, numbers):
    """The most bytes that live together in the merge of a matrix, and the merged matrix."""
    base = randn(*shape)
    sources = [source(tensor) for tensor in (base, *(base + 0.1 * randn(*shape, seed=i + 1) for i in range(MODELS)))]
    grams = [randn(2 * shape[1], shape[1], seed=i) for i in range(MODELS)] if METHODS[method].statistics else []
    statistics = [source(x.T @ x, "float32") for x in grams]
    settings = Settings([0.5] * MODELS, [1.0] * MODELS, numbers=numbers, shape=shape)
    job = Job("w", shape, "bfloat16", "", sources, None, statistics, settings)
    merger = PlainMerger(METHODS[method], torch.device("cpu"), allow_nan=False)
    stream, found = Stream(job, merger.step(job), lambda: None), []
    with Tally() as tally:
        own = replace(settings, prepared=merger.prepare(stream, settings))
        for start, stored in stream.stored():
            bad = np.zeros(len(sources), np.int64)
            found.append(merger.merged(job, stored, replace(own, start=start), None, bad).copy())
    return tally.peak, widen(np.concatenate(found)).view(shape)


@pytest.fixture
def few_rows(monkeypatch):
    """So few rows at a time that what they take does not count."""
    monkeypatch.setattr(primitives, "ROWS", 32)
    monkeypatch.setattr(measured, "SHRUNK", 16)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("method", NUMBERS)
def test_a_tall_matrix_is_never_whole(method):
    entries = 4000 * 16
    found, merged = peak(method, (4000, 16), NUMBERS[method])
    assert merged.isfinite().all()
    assert found < 4 * entries / 4  # a quarter of a matrix in float32


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("method", ["twin", "lore"])
def test_a_wide_matrix_of_each_model_is_held_once_with_the_result(method):
    entries = 16 * 4000
    found, merged = peak(method, (16, 4000), NUMBERS[method])
    stored = 1.25  # the result in bfloat16 twice, and a mask
    assert merged.isfinite().all()
    assert found < 4 * entries * (1 + MODELS + 1 + stored) * 1.1


@pytest.mark.usefixtures("few_rows")
def test_regmean_holds_one_gram_matrix_in_float64():
    found, merged = peak("regmean", (8, 600), NUMBERS["regmean"])
    assert merged.isfinite().all()
    assert found < (8 + 4 * MODELS) * 600**2 * 1.2


@pytest.mark.parametrize("method", NUMBERS)
@pytest.mark.parametrize("shape", [(300, 16), (16, 300), (16, 16)])
def test_bands_change_no_more_than_rounding(method, shape, monkeypatch):
    _, whole = peak(method, shape, NUMBERS[method])
    monkeypatch.setattr(primitives, "ROWS", 32)
    monkeypatch.setattr(measured, "SHRUNK", 5)
    assert torch.allclose(peak(method, shape, NUMBERS[method])[1], whole, rtol=2**-7, atol=1e-6)
