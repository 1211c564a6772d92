"""What is found of all tensors before one is merged, and how many whole matrices are held at a time."""

import threading
import time

import numpy as np
import pytest
import torch
from helpers import recipe
from tensor_cases import BASE, FIRST, assert_close, merge

import acm
from acm.merging import engine, functions, registry
from acm.merging.functions import implements, surveys
from acm.merging.gate import Gate
from acm.merging.primitives import combine, task_vectors, total
from acm.merging.registry import WEIGHT, MergeMethod


@pytest.fixture(params=["flat", "rows", "whole"])
def unit(request, monkeypatch):
    """A method that divides by the norm of the whole task vector, registered for one test."""
    for names_of in (registry.METHODS, functions.FUNCTIONS, functions.SURVEY):
        monkeypatch.setitem(names_of, "unit", None)  # so that it is forgotten afterwards
    registry.METHODS["unit"] = MergeMethod(
        "unit", "Unit", "https://example.org", "θ_0 + Σ λ_i δ_i / ‖Σ δ_i‖", "δ / ‖δ‖", "2 passes", (WEIGHT,),
        chunks=request.param,
    )  # fmt: skip

    @surveys("unit")
    def norm(every, _):
        return np.sqrt(every(lambda chunks, _: sum(total(task_vectors(*chunk)).double().square().sum().numpy()
                                                   for chunk in chunks())))  # fmt: skip

    @implements("unit")
    def merge_unit(base, finetuned, s):
        """θ_0 + Σ λ_i δ_i / ‖Σ δ_i‖."""
        return combine(base, [delta / float(s.surveyed) for delta in task_vectors(base, finetuned)], s)


@pytest.mark.usefixtures("unit")
def test_a_survey_sees_all_tensors(f32, merged, tensors):
    found, base, *models = merged(recipe("unit", *f32, parameters={"weight": 1.0})), *map(tensors, f32)
    deltas = {name: sum(model[name] - base[name] for model in models) for name in base}
    norm = torch.cat([delta.double().flatten() for delta in deltas.values()]).norm()
    for name, delta in deltas.items():
        torch.testing.assert_close(found[name] - base[name], (delta / norm).float(), rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("unit")
def test_of_one_tensor_by_itself_the_survey_sees_that():
    assert_close(merge("unit", [FIRST], [1.0]), BASE + FIRST / FIRST.norm())


@pytest.mark.usefixtures("unit")
def test_a_survey_gives_the_same_bytes_by_any_number_of_threads(f32, tmp_path):
    content = recipe("unit", *f32, parameters={"weight": 1.0})
    first = acm.merge(content, tmp_path / "one", threads=1) / "model.safetensors"
    again = acm.merge(content, tmp_path / "five", threads=5) / "model.safetensors"
    assert first.read_bytes() == again.read_bytes()


def test_a_gate_lets_in_what_fits_and_what_is_larger_by_itself():
    gate, held, most = Gate(10), [], []

    def work(size):
        with gate.holding(size):
            held.append(size)
            most.append(list(held))
            time.sleep(0.002)
            held.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (4, 25, 6, 3, 25, 9, 1, 5) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 24 and not held and not gate.held
    assert all(sum(seen) <= 10 or len(seen) == 1 for seen in most)


def test_whole_matrices_of_one_job_wait_for_those_of_another(f32, tmp_path, monkeypatch):
    held = []
    holding = Gate.holding
    monkeypatch.setattr(Gate, "holding", lambda self, size: held.append(size) or holding(self, size))
    monkeypatch.setattr(engine, "WHOLE", 1)
    acm.merge(recipe("twin", *f32, parameters={"weight": 0.5, "rank": 0.5}), tmp_path / "twin")
    assert len(held) == 27 and all(held)  # bytes of every tensor
    held.clear()
    acm.merge(recipe("model_stock", *f32), tmp_path / "stock")
    assert len(held) == 27 and not any(held)
