"""Each merge method on small tensors, against its closed form or an oracle that shares no code with it."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from acm.merging import matrices
from acm.merging.matrices import thresholded
from acm.merging.methods import FUNCTIONS, PREPARE, kept_magnitudes, merge_tensor
from acm.merging.primitives import count_magnitudes, drop, magnitudes_at, random_words, trim
from acm.merging.registry import METHODS
from acm.merging.settings import Settings, key_of, sensitivity_pair

BASE = torch.tensor([1.0, -2.0, 0.5, 4.0])
FIRST = torch.tensor([3.0, -1.0, 2.0, 0.5])  # task vectors
SECOND = torch.tensor([-2.0, -4.0, 1.0, -0.25])
ORDERED = {"interpolation", "slerp", "sens"}  # methods of one model
INPUTS = 5


def merge(method, deltas, coefficients, base=BASE, density=1.0, divisors=None, seed=0, **extra):
    models, n = [base + d for d in deltas], len(deltas)
    lists = {"epsilon": [0.1] * n, "keys": [key_of(seed, "tensor", str(i)) for i in range(n)]}
    return merge_tensor(
        method, base, models, Settings(coefficients, divisors or coefficients, density=[density] * n, **(lists | extra))
    )


def assert_close(found, expected, tolerance=1e-6):
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float32), rtol=tolerance, atol=tolerance)


@pytest.fixture(params=[matrices.ROWS, 2])
def stretches(request, monkeypatch):
    """Matrices in one stretch, and two rows at a time."""
    monkeypatch.setattr(matrices, "ROWS", request.param)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grams(seed, *models):
    """Inputs of each model, (samples, inputs), and their Gram matrices."""
    inputs = [randn(40, INPUTS, seed=seed + i) for i in models]
    return inputs, [x.T @ x for x in inputs]


def any_case(method, count):
    """Base, models and settings that exercise a method on a matrix."""
    base = randn(6, INPUTS)
    numbers = {"rank": 0.5, "mu": 0.8, "iterations": 4, "alpha": 0.7, "omega": 0.4, "c_0": 1.2, "c_1": 0.8}
    statistics = {"fisher": [randn(6, INPUTS, seed=30 + i) ** 2 for i in range(count)], "regmean": grams(40, *range(count))[1],
                  "aim": [randn(INPUTS, seed=50).abs()]}  # fmt: skip
    weights, gamma = [0.7, 0.4, 0.9][:count], [0.1, 0.0, 0.2][:count] if "gamma" in METHODS[method].parameters else []
    return base, [base + 0.3 * randn(6, INPUTS, seed=20 + i) for i in range(count)], Settings(
        weights, weights, 0.8, True, True, "weighted", [0.6, 0.8, 0.5][:count], gamma, [0.1, 0.2, 0.05][:count],
        [key_of(0, "tensor", str(i)) for i in range(count)], numbers, statistics.get(method, []),
    )  # fmt: skip


def test_every_method_has_a_function_a_title_a_formula_and_a_citation():
    assert FUNCTIONS.keys() == METHODS.keys() >= PREPARE.keys()
    for name, method in METHODS.items():
        assert method.name == name and method.title and method.formula and FUNCTIONS[name].__doc__
        assert re.fullmatch(r"arXiv:\d{4}\.\d{5}|https://\S+", method.paper)


@pytest.mark.parametrize("normalize, divisor", [(True, 2.5), (False, 1.0)])
def test_linear(normalize, divisor):
    expected = (0.5 * (BASE + FIRST) + 2.0 * (BASE + SECOND)) / divisor
    assert_close(merge("linear", [FIRST, SECOND], [0.5, 2.0], normalize=normalize), expected)


def test_linear_leaves_out_a_base_that_is_not_listed():
    models = [BASE + FIRST, BASE + SECOND]
    assert torch.equal(
        *(merge_tensor("linear", base, models, Settings([1.0, 3.0], normalize=True)) for base in (BASE, BASE * 9))
    )


def test_task_arithmetic():
    assert_close(
        merge("task_arithmetic", [FIRST, SECOND], [0.5, 2.0], scaling=0.3), BASE + 0.3 * (0.5 * FIRST + 2.0 * SECOND)
    )


@pytest.mark.parametrize("divisors, total", [([0.5, 2.0], 2.5), ([1.0, 1.0], 2.0)])
def test_task_arithmetic_normalized_by_weights_or_by_the_number_of_models(divisors, total):
    found = merge("task_arithmetic", [FIRST, SECOND], [0.5, 2.0], divisors=divisors, scaling=0.3, normalize=True)
    assert_close(found, BASE + 0.3 * (0.5 * FIRST + 2.0 * SECOND) / total)


def test_task_arithmetic_with_opposite_weights_does_not_divide_by_zero():
    assert_close(merge("task_arithmetic", [FIRST, SECOND], [1.0, -1.0], normalize=True), BASE + FIRST - SECOND)


@pytest.mark.parametrize("coefficient", [0.0, 0.3, 1.0, 1.5])
def test_interpolation(coefficient):
    assert_close(
        merge("interpolation", [FIRST], [coefficient]), (1 - coefficient) * BASE + coefficient * (BASE + FIRST)
    )


def by_election(values, weights, divisors, normalize, election):
    """TIES' election and mean of one entry of each model, by the paper."""
    votes = [w * v if election == "weighted" else v for w, v in zip(weights, values, strict=True)]
    agreeing = [i for i, vote in enumerate(votes) if (vote > 0 if sum(votes) >= 0 else vote < 0)]
    mass = sum(divisors[i] for i in agreeing) if normalize else 1.0
    return sum(weights[i] * values[i] for i in agreeing) / (mass or 1.0)


# Trimmed to half: FIRST → [3, 0, 2, 0], SECOND → [−2, −4, 0, 0].
# Sums weighted by (0.5, 1): [−0.5, −4, 1, 0], so SECOND, SECOND, FIRST; unweighted: [1, −4, 2, 0], so FIRST, SECOND, FIRST.
@pytest.mark.parametrize("election, divisors, normalize, expected", [
    ("weighted", [0.5, 1.0], True, [-2.0, -4.0, 2.0, 0.0]),
    ("weighted", [1.0, 1.0], True, [-2.0, -4.0, 1.0, 0.0]),
    ("weighted", [0.5, 1.0], False, [-2.0, -4.0, 1.0, 0.0]),
    ("unweighted", [1.0, 1.0], True, [1.5, -4.0, 1.0, 0.0]),
    ("unweighted", [0.5, 1.0], True, [3.0, -4.0, 2.0, 0.0]),
])  # fmt: skip
def test_ties_by_hand(election, divisors, normalize, expected):
    found = merge(
        "ties",
        [FIRST, SECOND],
        [0.5, 1.0],
        divisors=divisors,
        normalize=normalize,
        density=0.5,
        election=election,
        scaling=0.4,
    )
    assert_close(found, BASE + 0.4 * torch.tensor(expected))


def test_election_gives_ties_to_plus_and_never_agrees_with_zero():
    deltas = [torch.tensor([1.0, 0.0, -1.0, 2.0, 0.0]), torch.tensor([-1.0, 0.0, -1.0, -3.0, -5.0])]
    assert merge("ties", deltas, [1.0, 1.0], base=torch.zeros(5), normalize=True).tolist() == [
        1.0,
        0.0,
        -1.0,
        -3.0,
        -5.0,
    ]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(
    st.lists(st.lists(st.integers(-3, 3).map(float), min_size=n, max_size=n), min_size=1, max_size=8),
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=n, max_size=n),
)), st.booleans(), st.booleans(), st.sampled_from(["weighted", "unweighted"]))  # fmt: skip
def test_election_entry_by_entry(case, by_weight, normalize, election):
    entries, weights = case
    divisors = weights if by_weight else [1.0] * len(weights)
    deltas = list(torch.tensor(entries).T)
    found = merge(
        "ties", deltas, weights, torch.zeros(len(entries)), divisors=divisors, normalize=normalize, election=election
    )
    assert_close(found, [by_election(entry, weights, divisors, normalize, election) for entry in entries])


def bounds(delta, density):
    s = Settings([1.0], density=[density], shape=tuple(delta.shape))
    return kept_magnitudes(lambda: [(torch.zeros_like(delta), [delta])], s)[0].tolist()


densities = st.floats(1e-3, 1.0)
numbers = st.floats(width=32, allow_nan=False) | st.sampled_from(
    [0.0, -0.0, 2**-149, -(2**-149), 2**-130, 1.0, -1.0, 2.0**127]
)
float32s = st.lists(numbers, min_size=1, max_size=50)


@settings(max_examples=100, deadline=None)
@given(st.lists(float32s, min_size=1, max_size=3), st.data())
def test_ranked_magnitudes_are_those_of_a_sort(models, data):
    size = min(map(len, models))
    deltas = [torch.tensor(values[:size]) for values in models]
    ranks = np.array([data.draw(st.tuples(*[st.integers(0, size - 1)] * 2)) for _ in models])
    pieces = [(torch.zeros(len(part[0])), list(part)) for part in zip(*(d.split(7) for d in deltas), strict=True)]
    found = magnitudes_at(ranks, lambda buckets: count_magnitudes(lambda: pieces, len(models), buckets))
    expected = [d.abs().sort().values[r] for d, r in zip(deltas, torch.from_numpy(ranks), strict=True)]
    assert found.tobytes() == torch.stack(expected).numpy().tobytes()


@pytest.mark.parametrize("scale", [1e-44, 1e-39, 1e-3, 1.0, 1e37])
def test_threshold_is_the_kth_magnitude(scale):
    delta = randn(30_000) * scale
    delta[::7], delta[1::7] = 0.0, delta[2]
    for density in (1e-5, 0.1, 0.5, 0.9, 0.99999):
        rank = len(delta) - max(1, int(density * len(delta)))
        assert bounds(delta, density)[0] == delta.abs().kthvalue(rank + 1).values.item()


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 60), density=densities, gamma=st.floats(0, 0.99), seed=st.integers(0, 10**6))
def test_trimming_by_rank_without_ties(n, density, gamma, seed):
    delta = (np.random.default_rng(seed).permutation(n) + 1.0) * np.random.default_rng(seed + 1).choice([-1, 1], n)
    for method, kept, top, own in (
        ("ties", max(1, int(density * n)), 0, {}),
        ("breadcrumbs", int(density * n), int(gamma * n), {"gamma": [gamma]}),
    ):
        lowest = max(0, n - kept - top)
        expected = np.zeros(n)
        chosen = np.argsort(abs(delta))[lowest : lowest + kept]
        expected[chosen] = delta[chosen]
        assert_close(merge(method, [torch.tensor(delta)], [1.0], torch.zeros(n), density, **own), expected)


@settings(max_examples=100, deadline=None)
@given(delta=float32s, density=densities)
def test_trimming_keeps_all_that_tie_with_the_last(delta, density):
    threshold = sorted(map(abs, delta), reverse=True)[max(1, int(density * len(delta))) - 1] if density < 1 else 0.0
    found = trim(torch.tensor(delta), *bounds(torch.tensor(delta), density))
    assert found.tolist() == [d if abs(d) >= threshold else 0.0 for d in delta]


def test_breadcrumbs_keep_all_that_tie_with_a_bound():
    delta = torch.tensor([1.0, -2.0, 2.0, 3.0, -3.0, 3.0, 4.0, 5.0, 0.0, 0.0])
    found = merge(
        "breadcrumbs", [delta], [1.0], base=torch.zeros(10), density=0.3, gamma=[0.3]
    )  # ranks 4 to 6: 2, 3, 3
    assert found.tolist() == [0, -2, 2, 3, -3, 3, 0, 0, 0, 0]


def test_breadcrumbs_with_election_trims_as_breadcrumbs_and_elects_as_ties():
    deltas, options = [randn(50, seed=1), randn(50, seed=2)], {"gamma": [0.1] * 2, "density": 0.5}
    parts = [merge("breadcrumbs", [d], [1.0], torch.zeros(50), gamma=[0.1], density=0.5).tolist() for d in deltas]
    expected = [by_election(entry, [0.5, 0.9], [0.5, 0.9], True, "weighted") for entry in zip(*parts, strict=True)]
    assert_close(merge("breadcrumbs_ties", deltas, [0.5, 0.9], torch.zeros(50), normalize=True, **options), expected)


def test_trimming_counts_over_the_whole_tensor():
    delta = torch.arange(1.0, 13.0).reshape(3, 4)
    assert merge("ties", [delta], [1.0], torch.zeros(3, 4), 0.25).nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]


@pytest.mark.parametrize("density", [0.3, 0.7])
@pytest.mark.parametrize("rescale", [True, False])
def test_drop_rescales_what_it_keeps_exactly(density, rescale):
    delta = randn(5000)
    found = drop(delta, density, (1, 2), rescale=rescale)
    kept = found != 0
    assert torch.equal(found[kept], delta[kept] / density if rescale else delta[kept])
    assert kept.float().mean() == pytest.approx(density, abs=4 * (density * (1 - density) / 5000) ** 0.5)


def test_dare_is_task_arithmetic_on_average():
    count, density = 100_000, 0.7
    deltas = [d.repeat(count // 20) for d in (FIRST, SECOND)]
    found = [
        merge("dare_linear", deltas, [0.5, 0.9], torch.zeros(count // 5), density, seed=s, rescale=True)
        for s in range(20)
    ]
    error = ((1 - density) / density * ((0.5 * FIRST) ** 2 + (0.9 * SECOND) ** 2) / count).sqrt()
    assert ((torch.cat(found).view(-1, 4).mean(0) - (0.5 * FIRST + 0.9 * SECOND)).abs() < 4 * error).all()


def test_dare_drops_entries_of_each_model_on_their_own():
    deltas = [torch.ones(1000), 10 * torch.ones(1000)]
    found = {
        rescale: merge("dare_linear", deltas, [1.0, 1.0], torch.zeros(1000), 0.5, rescale=rescale)
        for rescale in (True, False)
    }
    assert sorted(set(found[True].tolist())) == [0.0, 2.0, 20.0, 22.0]
    assert torch.equal(found[False], found[True] / 2)


@pytest.mark.parametrize("dare, plain", [("dare_linear", "task_arithmetic"), ("dare_ties", "ties")])
def test_dare_at_full_density_is_the_plain_method(dare, plain):
    assert torch.equal(
        *(merge(m, [FIRST, SECOND], [0.5, 0.9], normalize=True, scaling=0.3, rescale=True) for m in (dare, plain))
    )


def test_dare_ties_elects_among_what_is_left():
    found = merge(
        "dare_ties", [torch.ones(1000), -3 * torch.ones(1000)], [1.0, 1.0], torch.zeros(1000), 0.5, rescale=True
    )
    assert sorted(set(found.tolist())) == [-6.0, 0.0, 2.0]  # second kept; neither; only the first


def test_dare_ties_on_average_over_all_masks():
    count, density, weights = 40_000, 0.6, [0.5, 0.9]
    found = merge(
        "dare_ties",
        [d.repeat(count) for d in (FIRST, SECOND)],
        weights,
        torch.zeros(4 * count),
        density,
        rescale=True,
        normalize=True,
    )
    for entry, values in zip(found.view(count, 4).T, zip(FIRST.tolist(), SECOND.tolist(), strict=True), strict=True):
        masks = list(itertools.product([0, 1], repeat=2))
        chances = [density ** sum(mask) * (1 - density) ** (2 - sum(mask)) for mask in masks]
        results = [
            by_election(
                [m * v / density for m, v in zip(mask, values, strict=True)], weights, weights, True, "weighted"
            )
            for mask in masks
        ]
        mean = np.dot(chances, results)
        assert abs(entry.mean() - mean) < 4 * (np.dot(chances, np.square(results)) - mean**2) ** 0.5 / count**0.5


@pytest.mark.parametrize("method", ["della", "della_linear"])
@pytest.mark.parametrize("rescale", [True, False])
def test_della_keeps_by_rank_within_the_row(method, rescale):
    rows, columns, density, epsilon = 20_000, 6, 0.6, 0.3
    rank = torch.argsort(randn(rows, columns))
    delta = (rank + 1.0) * randn(rows, 1, seed=1).sign()
    found = merge(method, [delta], [1.0], torch.zeros(rows, columns), density, epsilon=[epsilon], rescale=rescale)
    for place in range(columns):
        chance = density - epsilon + 2 * epsilon * place / (columns - 1)
        values, kept = delta[rank == place], found[rank == place] != 0
        assert kept.float().mean() == pytest.approx(chance, abs=4 * (chance * (1 - chance) / rows) ** 0.5)
        assert_close(found[rank == place][kept], values[kept] / (chance if rescale else 1.0))


def test_della_is_task_arithmetic_on_average():
    keys, options = range(3000), {"epsilon": [0.2] * 2, "rescale": True}
    mean = torch.stack(
        [merge("della_linear", [FIRST, SECOND], [0.5, 0.9], density=0.6, seed=s, **options) for s in keys]
    ).mean(0)
    assert (
        (mean - BASE - 0.5 * FIRST - 0.9 * SECOND).abs()
        < 4 * ((0.6 / 0.4) * ((0.5 * FIRST) ** 2 + (0.9 * SECOND) ** 2) / len(keys)).sqrt()
    ).all()


@pytest.mark.parametrize("della, plain", [("della", "ties"), ("della_linear", "task_arithmetic")])
def test_della_at_full_density_is_the_plain_method(della, plain):
    assert torch.equal(
        *(merge(m, [FIRST, SECOND], [0.5, 0.9], normalize=True, scaling=0.3, rescale=True) for m in (della, plain))
    )


def orthonormal(size=24):
    return torch.linalg.qr(randn(size, 2, seed=3).double())[0].T


@pytest.mark.parametrize("angle", [0.1, 1.0, np.pi / 2, 3.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 1.4])
def test_slerp_turns_by_a_fraction_of_the_angle_and_keeps_the_norm(angle, t):
    u, v = orthonormal()
    base, model = (7 * u).float().view(4, 6), (7 * (np.cos(angle) * u + np.sin(angle) * v)).float().view(4, 6)
    found = merge_tensor("slerp", base, [model], Settings([t]))
    assert_close(found.flatten(), 7 * (np.cos(t * angle) * u + np.sin(t * angle) * v), 1e-5)
    assert found.norm().item() == pytest.approx(7, rel=1e-5)
    if t in (0.0, 1.0):
        assert_close(found, (base, model)[int(t)])


def test_slerp_of_unlike_norms():
    u, v = orthonormal()
    found = merge_tensor("slerp", (2 * u).float(), [(5 * (0.6 * u + 0.8 * v)).float()], Settings([0.25]))
    angle = np.arccos(0.6)
    assert_close(found, np.sin(0.75 * angle) / 0.8 * 2 * u + np.sin(0.25 * angle) / 0.8 * 5 * (0.6 * u + 0.8 * v), 1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_of_nearly_parallel_tensors_interpolates(sign):
    u, v = orthonormal()
    base, model = u.float(), (3 * sign * (u + 0.01 * v)).float()
    assert_close(merge_tensor("slerp", base, [model], Settings([0.3])), 0.7 * base + 0.3 * model)


def test_slerp_from_zero_is_a_right_angle():
    assert_close(merge_tensor("slerp", torch.zeros(4), [BASE], Settings([0.3])), np.sin(0.3 * np.pi / 2) * BASE)


@pytest.mark.parametrize("count", [2, 3])
def test_model_stock(count):
    base, deltas = randn(8, 5).numpy(), [randn(8, 5, seed=i).numpy() + 0.7 for i in range(1, 1 + count)]
    cosines = [(a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(deltas, 2)]
    t = count * np.mean(cosines) / (1 + (count - 1) * np.mean(cosines))
    expected = t * np.mean([base + d for d in deltas], axis=0) + (1 - t) * base
    assert_close(
        merge("model_stock", [*map(torch.from_numpy, deltas)], [1.0] * count, torch.from_numpy(base)), expected, 1e-5
    )


def test_model_stock_of_equal_models_is_the_model_and_of_orthogonal_ones_the_base():
    assert_close(merge("model_stock", [FIRST, FIRST], [1.0, 1.0]), BASE + FIRST)
    assert_close(merge("model_stock", [torch.eye(4)[0], torch.eye(4)[1]], [1.0, 1.0]), BASE)


def test_model_stock_weighs_task_vectors():
    expected = merge("model_stock", [FIRST, SECOND], [1.0, 1.0]) - BASE
    parts = [merge("model_stock", [FIRST, SECOND], weights) - BASE for weights in ([0.4, 0.0], [0.0, 1.5])]
    assert_close(parts[0] / 0.4 + parts[1] / 1.5, expected)


@pytest.mark.parametrize("count", [2, 3])
def test_model_stock_is_the_base_where_the_ratio_is_singular(count):
    turns = [2 * np.pi * i / count for i in range(count)]
    deltas = [torch.tensor([np.cos(a), np.sin(a), 0.0, 0.0], dtype=torch.float32) for a in turns]
    assert_close(merge("model_stock", deltas, [1.0] * count), BASE)


def test_fisher_is_the_mean_weighted_by_information():
    models, information = [BASE + FIRST, BASE + SECOND], [FIRST.square(), torch.tensor([1.0, 0.0, 5.0, 1e-12])]
    expected = sum(f * m for f, m in zip(information, models, strict=True)) / sum(information)
    assert_close(merge("fisher", [FIRST, SECOND], [1.0, 1.0], statistics=information), expected)
    assert_close(merge("fisher", [FIRST, SECOND], [1.0, 1.0], statistics=[f * 1e-9 for f in information]), expected)


def test_fisher_with_coefficients_and_with_weights():
    information = [FIRST.square(), SECOND.square()]
    total = 0.3 * information[0] * FIRST + 0.9 * information[1] * SECOND
    for divisors in ([1.0, 1.0], [0.3, 0.9]):
        expected = BASE + total / (divisors[0] * information[0] + divisors[1] * information[1])
        assert_close(merge("fisher", [FIRST, SECOND], [0.3, 0.9], divisors=divisors, statistics=information), expected)


@pytest.mark.parametrize("information", [None, torch.zeros(4)])
def test_fisher_without_information_is_the_mean(information):
    found = merge("fisher", [FIRST, SECOND], [0.3, 0.9], statistics=[information] * 2)
    assert_close(found, BASE + (0.3 * FIRST + 0.9 * SECOND) / 1.2)


@pytest.mark.usefixtures("stretches")
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.4, 0.8]])
@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_regmean_is_the_least_squares_fit_to_all_models(weights, alpha):
    base, deltas = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)]
    inputs, statistics = grams(10, 0, 1)
    inputs = [torch.cat([alpha**0.5 * x, (1 - alpha) ** 0.5 * x.norm(dim=0).diag()]) for x in inputs]
    targets = [x @ (base + w * d).T for x, w, d in zip(inputs, weights, deltas, strict=True)]
    expected = np.linalg.lstsq(torch.cat(inputs).double().numpy(), torch.cat(targets).double().numpy(), rcond=None)[0].T
    assert_close(
        merge("regmean", deltas, weights, base, statistics=statistics, numbers={"alpha": alpha}), expected, 1e-5
    )


def test_regmean_without_correlations_weighs_each_input_by_its_energy():
    base, deltas = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)]
    _, statistics = grams(10, 0, 1)
    energy = [gram.diagonal() for gram in statistics]
    expected = sum(e * (base + d) for e, d in zip(energy, deltas, strict=True)) / sum(energy)
    assert_close(
        merge("regmean", deltas, [1.0, 1.0], base, statistics=statistics, numbers={"alpha": 0.0}), expected, 1e-5
    )


@pytest.mark.usefixtures("stretches")
def test_regmean_of_tensors_without_statistics_is_the_mean():
    found = merge("regmean", [FIRST, SECOND], [0.3, 0.9], statistics=[None, None], numbers={"alpha": 0.9})
    assert_close(found, BASE + (0.3 * FIRST + 0.9 * SECOND) / 2)


@pytest.mark.usefixtures("stretches")
@pytest.mark.parametrize("used", [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
def test_regmean_averages_the_weights_of_inputs_that_no_model_used(used):
    base, deltas, used = randn(3, INPUTS), [randn(3, INPUTS, seed=i) for i in (1, 2)], torch.tensor(used)
    statistics = [gram * used * used[:, None] for gram in grams(10, 0, 1)[1]]
    found = merge("regmean", deltas, [1.0, 1.0], base, statistics=statistics, numbers={"alpha": 0.9})
    assert_close(found[:, used == 0], (base + (deltas[0] + deltas[1]) / 2)[:, used == 0], 1e-5)


SHAPES = [(9, 4), (4, 9), (6, 6), (1, 5), (7,)]


@pytest.mark.usefixtures("stretches")
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
    assert_close(thresholded(matrix, threshold), u * (values - threshold).clamp(min=0) @ v, 1e-5)


def estimates(models, mu, iterations):
    """LoRE's base and task vectors: merged with no task vector, and with each alone."""
    s = Settings([0.0] * len(models), numbers={"mu": mu, "iterations": iterations})
    base, *found = (
        merge_tensor("lore", models[0], models, replace(s, coefficients=c)) for c in ([0.0] * 3, *np.eye(3).tolist())
    )
    return base, [f - base for f in found]


def test_lore_lowers_its_objective_each_iteration_to_its_minimum():
    models, mu = [randn(8, 5) + randn(8, 5, seed=i) for i in (1, 2, 3)], 1.5

    def objective(base, deltas):
        return sum(
            (base + d - m).square().sum() + mu * torch.linalg.matrix_norm(d, "nuc")
            for d, m in zip(deltas, models, strict=True)
        )

    values = [objective(*estimates(models, mu, iterations)) for iterations in (1, 2, 3, 5, 10)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    base, deltas = estimates(models, mu, 60)
    least = objective(base, deltas)
    assert least < values[-1] + 1e-4 and sum(torch.linalg.matrix_rank(d, atol=1e-4) for d in deltas) < 15
    for step in (-0.02, 0.02):
        assert (
            objective(base, [(1 + step) * d for d in deltas])
            > least
            < objective(base + step * randn(8, 5, seed=9), deltas)
        )


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
    assert_close(
        merge_tensor("lore", torch.zeros(8, 5), models, s),
        base + 0.2 * (0.5 * deltas[0] + deltas[1] + 2 * deltas[2]),
        1e-5,
    )


def test_aim_relaxes_each_input_channel_by_its_importance():
    base, deltas, importance = randn(3, 4), [randn(3, 4, seed=i) for i in (1, 2)], torch.tensor([0.5, 2.0, 0.0, 1.0])
    expected = base.clone()
    for channel, share in enumerate([0.25, 1.0, 0.0, 0.5]):
        expected[:, channel] += (0.3 * deltas[0] + 0.9 * deltas[1])[:, channel] * (1 - share * 0.6)
    assert_close(merge("aim", deltas, [0.3, 0.9], base, statistics=[importance], numbers={"omega": 0.4}), expected)


@pytest.mark.parametrize("importance, omega", [(SECOND.abs(), 1.0), (None, 0.4), (torch.zeros(4), 0.4)])
def test_aim_without_importance_or_relaxed_fully_is_task_arithmetic(importance, omega):
    found = merge("aim", [FIRST, SECOND], [0.3, 0.9], statistics=[importance], numbers={"omega": omega})
    assert_close(found, BASE + 0.3 * FIRST + 0.9 * SECOND)


def test_sens_weighs_base_and_task_vector():
    found = merge("sens", [FIRST], [0.9], numbers={"c_0": 1.25, "c_1": 0.75, "alpha": 0.4})
    assert_close(found, 1.25 * BASE + 0.75 * 0.4 * 0.9 * FIRST)


def test_sensitivities_become_a_pair_that_sums_to_two():
    found = sensitivity_pair(3.0, 2.0, 0.4, 0.5)
    scores = torch.tensor([0.6 * 3.0, 0.4 * 2.0], dtype=torch.float64) / 0.5
    assert found == pytest.approx((2 * torch.softmax(scores, 0)).tolist())
    assert sum(found) == pytest.approx(2) and sensitivity_pair(1.0, 1.0, 0.5, 0.1) == pytest.approx((1, 1))
    assert sensitivity_pair(None, 2.0, 0.4, 0.5) == sensitivity_pair(3.0, None, 0.4, 0.5) == (1.0, 1.0)


@pytest.mark.filterwarnings("error")
def test_large_sensitivities_saturate():
    assert sensitivity_pair(1e4, 1.0, 0.5, 1.0) == pytest.approx((2, 0)) and sensitivity_pair(
        1.0, 1e4, 0.5, 1.0
    ) == pytest.approx((0, 2))


def permuted(s, order):
    lists = ("coefficients", "divisors", "density", "gamma", "epsilon", "keys", "statistics")
    return replace(
        s, **{name: [found[i] for i in order] for name in lists if len(found := getattr(s, name)) == len(order)}
    )


@pytest.mark.parametrize("method", sorted(METHODS.keys() - ORDERED))
@pytest.mark.parametrize("count, tolerance", [(2, 0), (3, 1e-6)])
def test_the_order_of_models_changes_nothing_but_the_last_bit_of_sums_of_three(method, count, tolerance):
    base, models, s = any_case(method, count)
    expected = merge_tensor(method, base, models, s)
    for order in itertools.permutations(range(count)):
        found = merge_tensor(method, base, [models[i] for i in order], permuted(s, order))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(method, dtype):
    base, models, s = any_case(method, 1 if method in ORDERED else 2)
    base, models = base.to(dtype), [model.to(dtype) for model in models]
    found, expected = (
        merge_tensor(method, base, models, s),
        merge_tensor(method, base.float(), [m.float() for m in models], s),
    )
    assert (
        found.dtype == torch.float32
        and torch.equal(found, expected)
        and not torch.equal(found, found.to(dtype).float())
    )


def words(size, key=(0, 0), start=0):
    return random_words(torch.Size([size]), key, start, torch.device("cpu")).numpy()


def assert_uniform(values, bins):
    counts = np.bincount(values, minlength=bins)
    assert (
        len(counts) == bins
        and 1e-4 < chi2.sf(((counts - len(values) / bins) ** 2).sum() * bins / len(values), bins - 1) < 1 - 1e-4
    )


@pytest.mark.parametrize("key", [(0, 0), (1, 0), (0, 1), key_of(0, "model.norm.weight", "left")])
def test_random_words_are_uniform_in_every_byte(key):
    found = words(1 << 18, key)
    assert found.min() >= 0 and found.max() < 1 << 32
    for shift in (0, 8, 16, 24):
        assert_uniform(found >> shift & 255, 256)


@pytest.mark.parametrize("lag", [1, 2, 64, 1024, 4096])
def test_random_words_of_neighbours_are_independent(lag):
    found = words((1 << 18) + lag, key_of(0, "tensor", "left")) >> 28
    assert_uniform(found[lag:] << 4 | found[:-lag], 256)


@pytest.mark.parametrize("key", [(1, 0), (0, 1), (1 << 31, 0), (0, 1 << 31), (1, 1)])
def test_random_words_of_similar_keys_are_independent(key):
    first, second = words(1 << 18), words(1 << 18, key)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / 512
    assert_uniform(first >> 28 << 4 | second >> 28, 256)


@pytest.mark.parametrize("start", [0, 1, 4095, (1 << 32) - 5])
def test_random_words_depend_on_the_place_alone(start):
    key = (0xDEADBEEF, 0xFEDCBA98)
    whole = words(5000, key, start)
    assert all(np.array_equal(words(n, key, start + i), whole[i : i + n]) for i, n in ((0, 5000), (3, 10), (4097, 100)))
    assert np.array_equal(random_words(torch.Size([50, 100]), key, start, torch.device("cpu")).numpy().ravel(), whole)

    def mix(word):
        word = (word ^ word >> 16) * 0x7FEB352D % 2**32
        word = (word ^ word >> 15) * 0x846CA68B % 2**32
        return word ^ word >> 16

    assert whole.tolist() == [
        mix((mix(place % 2**32 ^ key[0]) + key[1]) % 2**32) for place in range(start, start + 5000)
    ]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_random_masks_do_not_depend_on_the_chunks(method):
    base, models, s = any_case(method, 2)
    parts = [
        FUNCTIONS[method](base[a:b], [m[a:b] for m in models], replace(s, start=a * INPUTS))
        for a, b in ((0, 1), (1, 5), (5, 6))
    ]
    assert torch.equal(torch.cat(parts), merge_tensor(method, base, models, s))
