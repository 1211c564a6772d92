"""Small tensors for the tests of merge methods, and oracles that share no code with the methods."""

from dataclasses import replace

import torch

from acm.merging.methods import merge_tensor
from acm.merging.registry import METHODS
from acm.merging.settings import Settings, key_of

BASE = torch.tensor([1.0, -2.0, 0.5, 4.0])
FIRST = torch.tensor([3.0, -1.0, 2.0, 0.5])  # task vectors
SECOND = torch.tensor([-2.0, -4.0, 1.0, -0.25])
INPUTS = 5


def merge(method, deltas, coefficients, base=BASE, density=1.0, divisors=None, seed=0, **extra):
    """Merge base + δ_i. extra: further fields of Settings."""
    models, n = [base + delta for delta in deltas], len(deltas)
    lists = {"epsilon": [0.1] * n, "keys": [key_of(seed, "tensor", str(i)) for i in range(n)]}
    settings = Settings(coefficients, divisors or coefficients, density=[density] * n, **(lists | extra))
    return merge_tensor(method, base, models, settings)


def assert_close(found, expected, tolerance=1e-6):
    """float32, and within a relative or absolute tolerance."""
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float32), rtol=tolerance, atol=tolerance)


def randn(*shape, seed=0):
    """Seeded normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grams(seed, *models):
    """Inputs of each model, (samples, inputs), and their Gram matrices."""
    inputs = [randn(40, INPUTS, seed=seed + i) for i in models]
    return inputs, [x.T @ x for x in inputs]


def any_case(method, count):
    """Base, models and settings that exercise a method on a matrix; its own parameters as in its example."""
    row, base = METHODS[method], randn(6, INPUTS)
    numbers = {
        p.name: [value] * count if p.per_model else value
        for p in row.takes
        if not p.setting and not p.is_file and (value := row.example.get(p.name, p.default)) is not None
    }
    statistics = {
        "": [],
        "entries": [randn(6, INPUTS, seed=30 + i) ** 2 for i in range(count)],
        "gram": grams(40, *range(count))[1],
        "diagonal": [gram.diagonal() for gram in grams(40, *range(count))[1]],
        "inputs": [randn(INPUTS, seed=50 + i).abs() for i in range(1 if row.base_statistics else count)],
    }[row.statistics]
    if "base_statistics" in row.parameters:
        statistics = [f + 0.3 * randn(6, INPUTS, seed=60 + i) ** 2 for i, f in enumerate(statistics)] + statistics
    weights = [0.7, 0.4, 0.9][:count]
    settings = Settings(
        weights,
        weights,
        scaling=0.8,
        normalize=True,
        rescale=True,
        density=[0.6, 0.8, 0.5][:count],
        gamma=[0.1, 0.0, 0.2][:count] if "gamma" in row.parameters else [],
        epsilon=[0.1, 0.2, 0.05][:count],
        keys=[key_of(0, "tensor", str(i)) for i in range(count)],
        numbers=numbers,
        layers={p.name: [0.2, 0.7, 0.4][: count + 1] for p in row.takes if p.kind == "layers"},
        statistics=statistics,
    )
    return base, [base + 0.3 * randn(6, INPUTS, seed=20 + i) for i in range(count)], settings


def by_election(values, weights, divisors, normalize, election):
    """TIES' election and mean of one entry of each model, by the paper."""
    votes = [w * v if election == "weighted" else v for w, v in zip(weights, values, strict=True)]
    agreeing = [i for i, vote in enumerate(votes) if (vote > 0 if sum(votes) >= 0 else vote < 0)]
    mass = sum(divisors[i] for i in agreeing) if normalize else 1.0
    return sum(weights[i] * values[i] for i in agreeing) / (mass or 1.0)


def permuted(s, order):
    """The settings with the models in another order."""
    lists = ("coefficients", "divisors", "density", "gamma", "epsilon", "keys", "statistics")
    n, held = len(order), {name: getattr(s, name) for name in lists}
    twice = [*order, *(n + i for i in order)]  # statistics of the base for each model, then of each model
    orders = {n: order, 2 * n: twice}
    return replace(s, **{name: [v[i] for i in orders[len(v)]] for name, v in held.items() if len(v) in orders})
