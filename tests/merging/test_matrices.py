"""The methods that need whole matrices: RegMean, Twin-Merging and LoRE, against least squares and singular values."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensor_cases import BASE, FIRST, INPUTS, SECOND, assert_close, grams, merge, randn

from acm.merging import primitives
from acm.merging.methods import merge_tensor
from acm.merging.methods.matrices import filtered, thresholding
from acm.merging.settings import Settings


@pytest.fixture(params=[primitives.ROWS, 2])
def row_blocks(request, monkeypatch):
    """Matrices at once, and two rows at a time."""
    monkeypatch.setattr(primitives, "ROWS", request.param)


@pytest.mark.usefixtures("row_blocks")
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.4, 0.8]])
@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_regmean_is_the_least_squares_fit_to_all_models(weights, alpha):
    base, deltas = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)]
    inputs, statistics = grams(10, 0, 1)
    inputs = [torch.cat([alpha**0.5 * x, (1 - alpha) ** 0.5 * x.norm(dim=0).diag()]) for x in inputs]
    targets = [x @ (base + w * d).T for x, w, d in zip(inputs, weights, deltas, strict=True)]
    x, y = (torch.cat(listed).double().numpy() for listed in (inputs, targets))
    found = merge("regmean", deltas, weights, base, statistics=statistics, numbers={"alpha": alpha})
    assert_close(found, np.linalg.lstsq(x, y, rcond=None)[0].T, 1e-5)


def test_regmean_without_correlations_weighs_each_input_by_its_energy():
    base, deltas = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)]
    _, statistics = grams(10, 0, 1)
    energy = [gram.diagonal() for gram in statistics]
    expected = sum(e * (base + d) for e, d in zip(energy, deltas, strict=True)) / sum(energy)
    found = merge("regmean", deltas, [1.0, 1.0], base, statistics=statistics, numbers={"alpha": 0.0})
    assert_close(found, expected, 1e-5)


@pytest.mark.usefixtures("row_blocks")
def test_regmean_of_tensors_without_statistics_is_the_mean():
    found = merge("regmean", [FIRST, SECOND], [0.3, 0.9], statistics=[None, None], numbers={"alpha": 0.9})
    assert_close(found, BASE + (0.3 * FIRST + 0.9 * SECOND) / 2)


@pytest.mark.usefixtures("row_blocks")
@pytest.mark.parametrize("used", [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
def test_regmean_averages_the_weights_of_inputs_that_no_model_used(used):
    base, deltas, used = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)], torch.tensor(used)
    statistics = [gram * used * used[:, None] for gram in grams(10, 0, 1)[1]]
    found = merge("regmean", deltas, [1.0, 1.0], base, statistics=statistics, numbers={"alpha": 0.9})
    assert_close(found[:, used == 0], (base + (deltas[0] + deltas[1]) / 2)[:, used == 0], 1e-5)


SHAPES = [(9, 4), (4, 9), (6, 6), (1, 5), (7,)]


@pytest.mark.usefixtures("row_blocks")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [0.2, 0.5, 0.51, 1.0])
def test_twin_truncates_the_singular_values(shape, rank):
    base, deltas = randn(*shape), [randn(*shape, seed=i) for i in (1, 2)]

    def truncated(delta):
        if delta.dim() == 1:
            return delta
        u, values, v = torch.linalg.svd(delta.double(), full_matrices=False)
        kept = int(np.ceil(rank * len(values)))
        return u[:, :kept] * values[:kept] @ v[:kept]

    found = merge("twin", deltas, [0.5, 0.9], base, scaling=0.7, numbers={"rank": rank})
    assert_close(found, base + 0.7 * (0.5 * truncated(deltas[0]) + 0.9 * truncated(deltas[1])), 1e-5)


@pytest.mark.parametrize("shape", SHAPES[:-1])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 2.0, 100.0])
def test_thresholding_shrinks_the_singular_values(shape, threshold):
    matrix = randn(*shape)
    u, values, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    assert_close(filtered(matrix, thresholding(threshold)), u * (values - threshold).clamp(min=0) @ v, 1e-5)


def estimates(models, mu, iterations):
    """LoRE's base and task vectors: merged with no task vector, and with each alone."""
    s = Settings([0.0] * len(models), numbers={"mu": mu, "iterations": iterations})
    cases = [replace(s, coefficients=c) for c in ([0.0] * 3, *np.eye(3).tolist())]
    base, *found = (merge_tensor("lore", models[0], models, case) for case in cases)
    return base, [f - base for f in found]


def test_lore_lowers_its_objective_each_iteration_to_its_minimum():
    models, mu = [randn(8, 5) + randn(8, 5, seed=i) for i in (1, 2, 3)], 1.5

    def objective(base, deltas):
        pairs = zip(deltas, models, strict=True)
        return sum((base + d - m).square().sum() + mu * torch.linalg.matrix_norm(d, "nuc") for d, m in pairs)

    values = [objective(*estimates(models, mu, iterations)) for iterations in (1, 2, 3, 5, 10)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    base, deltas = estimates(models, mu, 60)
    least = objective(base, deltas)
    assert least < values[-1] + 1e-4 and sum(torch.linalg.matrix_rank(d, atol=1e-4) for d in deltas) < 15
    for step in (-0.02, 0.02):
        assert least < objective(base, [(1 + step) * d for d in deltas])
        assert least < objective(base + step * randn(8, 5, seed=9), deltas)


def test_lore_without_penalty_gives_back_the_models_and_with_a_large_one_their_mean():
    models = [randn(8, 5, seed=i) for i in (1, 2, 3)]
    mean = sum(models) / 3
    for mu, expected in ((0.0, models), (1e3, [mean] * 3)):
        base, deltas = estimates(models, mu, 4)
        assert_close(base, mean)
        for delta, model in zip(deltas, expected, strict=True):
            assert_close(base + delta, model, 1e-5)


def test_lore_merges_its_own_base_with_its_task_vectors():
    models = [randn(8, 5, seed=i) for i in (1, 2, 3)]
    base, deltas = estimates(models, 1.0, 4)
    s = Settings([0.5, 1.0, 2.0], [1.0] * 3, 0.6, True, numbers={"mu": 1.0, "iterations": 4})
    found = merge_tensor("lore", torch.zeros(8, 5), models, s)
    assert_close(found, base + 0.2 * (0.5 * deltas[0] + deltas[1] + 2 * deltas[2]), 1e-5)
