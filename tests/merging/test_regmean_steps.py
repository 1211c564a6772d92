"""RegMean by steps of conjugate gradients, against scipy's and against the exact solution."""

import itertools

import numpy as np
import pytest
import torch
from helpers import example, recipe, same, write_files
from scipy.sparse.linalg import LinearOperator, cg
from tensor_cases import BASE, FIRST, INPUTS, SECOND, assert_close, grams, merge, randn

import acm
from acm.errors import UserError

ALPHA = 0.9
WEIGHTS = [0.4, 0.8]
STATISTICS = grams(10, 0, 1)[1]


def stepped(iterations, statistics=STATISTICS, weights=WEIGHTS, alpha=ALPHA):
    """Three rows merged."""
    deltas = [randn(3, INPUTS, seed=i + 1) for i in range(len(weights))]
    numbers = {"alpha": alpha, "iterations": iterations}
    return merge("regmean", deltas, weights, randn(3, INPUTS), statistics=statistics, numbers=numbers)


def system(weights=WEIGHTS, alpha=ALPHA):
    """The sum of the Gram matrices, the right-hand side (inputs, rows), and the mean of the models, in numpy."""
    models = [(randn(3, INPUTS) + w * randn(3, INPUTS, seed=i + 1)).double().numpy() for i, w in enumerate(weights)]
    shrunk = [gram.double().numpy() * (alpha + (1 - alpha) * np.eye(INPUTS)) for gram in STATISTICS]
    target = sum(gram @ model.T for gram, model in zip(shrunk, models, strict=True))
    return sum(shrunk), target, np.mean(models, axis=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_steps_are_those_of_scipy_on_the_flat_weight_from_the_mean(steps):
    gram, target, mean = system()
    size = target.size
    operator = LinearOperator((size, size), matvec=lambda x: (gram @ x.reshape(target.shape)).ravel())
    found, _ = cg(operator, target.ravel(), x0=mean.T.ravel(), rtol=0, maxiter=steps)
    assert_close(stepped(steps), found.reshape(target.shape).T, 1e-5)


def test_many_steps_give_the_exact_solution():
    gram, target, _ = system()
    for steps in (INPUTS, 50, 999):
        assert_close(stepped(steps), stepped(0), 1e-5)
        assert_close(stepped(steps), np.linalg.solve(gram, target).T, 1e-5)


def test_each_step_comes_nearer_to_the_solution_and_goes_farther_from_the_mean():
    gram, target, mean = system()
    exact = np.linalg.solve(gram, target).T
    found = [mean, *(stepped(steps).double().numpy() for steps in (1, 2, 3, 4, 5))]
    errors = [np.trace((f - exact) @ gram @ (f - exact).T) for f in found]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    moved = [np.linalg.norm(f - mean) for f in found]
    assert all(later > earlier for earlier, later in itertools.pairwise(moved))


@pytest.mark.parametrize("steps", [1, 3, 999])
def test_one_task_vector_stays_as_it_is(steps):
    base, delta = randn(3, INPUTS), randn(3, INPUTS, seed=1)
    numbers = {"alpha": ALPHA, "iterations": steps}
    found = merge("regmean", [delta], [0.7], base, statistics=STATISTICS[:1], numbers=numbers)
    assert torch.equal(found, base + 0.7 * ((base + delta) - base))


@pytest.mark.parametrize("used", [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
@pytest.mark.parametrize("steps", [1, 999])
def test_inputs_that_no_model_used_keep_the_mean(used, steps):
    used = torch.tensor(used)
    found = stepped(steps, [gram * used * used[:, None] for gram in STATISTICS])
    assert found.isfinite().all()
    assert_close(found[:, used == 0], system()[2][:, used.numpy() == 0], 1e-5)


def test_tensors_without_statistics_are_averaged():
    numbers = {"alpha": ALPHA, "iterations": 3}
    found = merge("regmean", [FIRST, SECOND], [0.3, 0.9], statistics=[None, None], numbers=numbers)
    assert_close(found, BASE + (0.3 * FIRST + 0.9 * SECOND) / 2)


def test_nan_does_not_raise():
    base, deltas = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)]
    deltas[0][1, 1] = float("nan")
    numbers = {"alpha": ALPHA, "iterations": 3}
    assert merge("regmean", deltas, WEIGHTS, base, statistics=STATISTICS, numbers=numbers).isnan().any()


def test_a_recipe_gives_the_number_of_steps(f32, merged, tensors, tmp_path):
    write_files(tmp_path, tensors, *f32)
    exact = merged(example("regmean", f32, tmp_path))
    found = {}
    for steps in (0, 2, 400):
        content = example("regmean", f32, tmp_path)
        content["parameters"] = {"iterations": steps}
        found[steps] = merged(content)
    assert same(found[0], exact) and not same(found[2], exact)
    assert all(torch.allclose(tensor, exact[name], atol=1e-5) for name, tensor in found[400].items())


@pytest.mark.parametrize("value", [-1, 1.5, 1000, float("nan"), float("inf")])
def test_numbers_of_steps_out_of_range(f32, tmp_path, value):
    with pytest.raises(UserError, match="iterations"):
        acm.merge(recipe("regmean", *f32, parameters={"iterations": value}), tmp_path / "out")
