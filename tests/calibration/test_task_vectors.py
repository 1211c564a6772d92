"""Lengths and effective ranks of task vectors against numpy."""

import numpy as np
import pytest
import torch
from helpers_calibration import LAYERS, length, rank_by_svd, task_vectors_of

from acm.calibration import task_vectors
from acm.calibration.layer_rules import rule_coefficients
from acm.calibration.task_vectors import effective_rank, effective_ranks, energies, sizes
from acm.checkpoints import Checkpoint


@pytest.mark.parametrize("values, expected", [
    ([3.0], 1.0), ([1.0] * 7, 7.0), ([1.0, 1.0, 0.0], 2.0), ([0.0, 0.0], 0.0),
    ([3.0, 1.0], np.exp(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)))),
])  # fmt: skip
def test_effective_rank_of_a_diagonal_matrix(values, expected):
    assert effective_rank(np.array(values) ** 2) == pytest.approx(expected, rel=1e-14)
    assert rank_by_svd(np.diag(values)) == pytest.approx(expected, rel=1e-12)


def test_a_change_of_one_direction_has_effective_rank_one_and_a_large_coefficient(f32, tmp_path, variant, tensors):
    base = tensors(f32[0])
    down = [name for name in base if name.startswith("model.layers.1.") and base[name].ndim == 2]
    one = variant(f32[0], "one", weights=lambda held: held.update(
        {n: held[n] + torch.outer(torch.arange(1.0, 1 + len(held[n])), torch.ones(held[n].shape[1])) for n in down}
    ))  # fmt: skip
    ranks = effective_ranks(Checkpoint(f32[0]), Checkpoint(one))
    vectors = sum(t.numel() for name, t in base.items() if ".layers.1." in name and name not in down)
    matrices = sum(base[name].numel() for name in down)
    assert ranks["1"][1] == pytest.approx(matrices / (matrices + vectors), rel=1e-6)
    found = rule_coefficients("effective_rank", base=f32[0], finetuned=[one])["coefficients"]["one"]
    assert found.pop("1") > 1.5 and set(found.values()) == {0.0}


@pytest.mark.parametrize("chunk", [1, 7, 16, 100])
def test_the_number_of_entries_that_are_held_changes_rounding_alone(chunk, f32, monkeypatch):
    base, left = (Checkpoint(folder) for folder in f32[:2])
    expected, ranks = sizes(base, left), effective_ranks(base, left)
    real, held = task_vectors.parts, []

    def parts(one, other, entries=chunk):
        for x, d in real(one, other, entries):
            held.append(x.size)
            yield x, d

    monkeypatch.setattr(task_vectors, "parts", parts)
    monkeypatch.setattr(task_vectors, "CHUNK", chunk)
    found = sizes(base, left)
    assert max(held) <= max(chunk, 48)  # a row at least
    assert all(found[layer] == pytest.approx(expected[layer], rel=1e-12) for layer in LAYERS)
    found = effective_ranks(base, left)
    assert all(found[layer] == pytest.approx(ranks[layer], rel=1e-9) for layer in LAYERS)


def test_energies_are_the_squared_singular_values_of_wide_and_tall_matrices(f32, tensors):
    base, left = tensors(f32[0]), tensors(f32[1])
    of_base, of_left = Checkpoint(f32[0]).tensors, Checkpoint(f32[1]).tensors
    for name, x in base.items():
        x, d = np.atleast_2d(x.double().numpy()), np.atleast_2d(left[name].double().numpy() - x.double().numpy())
        for found, matrix in zip(energies(of_base[name], of_left[name]), (x, d), strict=True):
            assert found[::-1] == pytest.approx(np.linalg.svd(matrix, compute_uv=False) ** 2, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("kind", ["bf16", "f32"])
def test_sizes_of_both_dtypes(kind, request, tensors):
    base, left, _ = request.getfixturevalue(kind)
    found = sizes(Checkpoint(base), Checkpoint(left))
    for layer, pairs in task_vectors_of(tensors(base), tensors(left)).items():
        inner = sum((x * d).sum() for x, d in pairs)
        expected = (length(d for _, d in pairs) ** 2, length(x for x, _ in pairs) ** 2, inner)
        assert found[layer] == pytest.approx(expected, rel=1e-10)
