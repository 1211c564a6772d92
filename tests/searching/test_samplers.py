"""Samplers: the grid goes where its curve is steep, and CMA-ES finds what random search does not."""

import itertools

import optuna
import pytest

from acm.searching.samplers import EVEN, Numbered


class Space:
    """Nine λ."""

    genes = {f"{layer}": (-0.5, 1.5) for layer in range(9)}  # noqa: RUF012
    also: dict = {}  # noqa: RUF012


class One:
    genes = {"λ": (0.0, 1.0)}  # noqa: RUF012
    also: dict = {}  # noqa: RUF012


def propose(study, space):
    trial = study.ask()
    return trial, [trial.suggest_float(gene, *bounds) for gene, bounds in space.genes.items()]


def best_after(kind, count, space=Space):
    study = optuna.create_study(study_name="arm", direction="maximize", sampler=Numbered(kind, space, 0))
    for _ in range(count):
        trial, values = propose(study, space)
        study.tell(trial, -sum((value - i / 9) ** 2 for i, value in enumerate(values)))
    return study.best_value


def test_cmaes_comes_closer_than_random_search_of_the_same_budget():
    assert best_after("cmaes", 150) > -0.2 > -0.4 > best_after("random", 150)


@pytest.mark.parametrize("kind", ["cmaes", "tpe", "random"])
def test_genes_of_a_candidate_differ_and_a_seed_gives_the_same_again(kind):
    first, again, other = (second(study_of(kind, seed)) for seed in (0, 0, 1))
    assert len(set(first)) == 9 and first == again and first != other


def second(study):
    """The second candidate; the first of CMA-ES is its centre."""
    study.tell(propose(study, Space)[0], 0.0)
    return propose(study, Space)[1]


def study_of(kind, seed):
    return optuna.create_study(study_name="arm", direction="maximize", sampler=Numbered(kind, Space, seed))


def grid():
    return optuna.create_study(directions=["maximize", "minimize"], sampler=Numbered("grid", One, 0))


def test_the_grid_is_even_and_then_halves_the_steepest_step():
    study = grid()
    for _ in range(EVEN + 2):
        trial, (value,) = propose(study, One)
        study.tell(trial, (90.0 if value > 0.43 else 10.0, 10 + value))
    found = [trial.params["λ"] for trial in study.trials]
    assert found[:EVEN] == pytest.approx([k / 20 for k in range(EVEN)])
    assert found[EVEN:] == pytest.approx([0.425, 0.4375])


def test_processes_that_refine_the_grid_side_by_side_propose_unlike_values():
    study = grid()
    for _ in range(EVEN):
        trial, (value,) = propose(study, One)
        study.tell(trial, (100 * value, 10.0))
    side_by_side = [propose(study, One)[1][0] for _ in range(5)]
    assert all(one != other for one, other in itertools.combinations(side_by_side, 2))
