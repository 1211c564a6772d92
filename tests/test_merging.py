"""Each merge method against its closed form on small tensors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acm.merging.methods import METHODS, drop, elect, trim

BASE = torch.tensor([1.0, -2.0, 0.5, 4.0])
FIRST = torch.tensor([3.0, -1.0, 2.0, 0.5])  # task vectors
SECOND = torch.tensor([-2.0, -4.0, 1.0, -0.25])


def run(method, deltas, coefficients, base=BASE, divisors=None, scaling=1.0, normalize=False, density=1.0, election="weighted", seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(deltas))]
    return METHODS[method].merge(
        base, [base + d for d in deltas], coefficients, divisors=divisors or coefficients, scaling=scaling, normalize=normalize,
        density=[density] * len(deltas), election=election, generators=generators,
    )  # fmt: skip


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-6)


def test_every_method_has_title_citation_and_function():
    assert set(METHODS) >= {"linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "interpolation"}
    for name, method in METHODS.items():
        assert method.name == name and method.title and callable(method.merge)
        assert method.paper.startswith("arXiv:") and method.paper[6:].replace(".", "").isdigit() and len(method.paper) == 16
        assert method.merge.__doc__


@pytest.mark.parametrize("normalize, divisor", [(True, 2.5), (False, 1.0)])
def test_linear(normalize, divisor):
    expected = (0.5 * (BASE + FIRST) + 2.0 * (BASE + SECOND)) / divisor
    assert_close(run("linear", [FIRST, SECOND], [0.5, 2.0], normalize=normalize), expected)


def test_linear_leaves_out_a_base_that_is_not_listed():
    models = [BASE + FIRST, BASE + SECOND]
    found = [METHODS["linear"].merge(base, models, [1.0, 3.0], normalize=True) for base in (BASE, BASE * 9)]
    assert torch.equal(*found)


def test_task_arithmetic():
    assert_close(run("task_arithmetic", [FIRST, SECOND], [0.5, 2.0], scaling=0.3), BASE + 0.3 * (0.5 * FIRST + 2.0 * SECOND))


@pytest.mark.parametrize("divisors, total", [([0.5, 2.0], 2.5), ([1.0, 1.0], 2.0)])
def test_task_arithmetic_normalized_by_weights_or_by_the_number_of_models(divisors, total):
    found = run("task_arithmetic", [FIRST, SECOND], [0.5, 2.0], divisors=divisors, scaling=0.3, normalize=True)
    assert_close(found, BASE + 0.3 * (0.5 * FIRST + 2.0 * SECOND) / total)


def test_task_arithmetic_with_opposite_weights_does_not_divide_by_zero():
    assert_close(run("task_arithmetic", [FIRST, SECOND], [1.0, -1.0], normalize=True), BASE + FIRST - SECOND)


@pytest.mark.parametrize("coefficient", [0.0, 0.3, 1.0, 1.5])
def test_interpolation(coefficient):
    assert_close(run("interpolation", [FIRST], [coefficient]), (1 - coefficient) * BASE + coefficient * (BASE + FIRST))


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
    found = run("ties", [FIRST, SECOND], [0.5, 1.0], divisors=divisors, normalize=normalize, density=0.5, election=election, scaling=0.4)
    assert_close(found, BASE + 0.4 * torch.tensor(expected))


def test_ties_averages_the_models_that_agree():
    # both are positive in entry 2; divisors of one make it the mean of λ_i δ_i, the 1/N of Eq. 3
    found = run("ties", [FIRST, SECOND], [0.6, 0.9], divisors=[1.0, 1.0], normalize=True, election="unweighted")
    assert_close(found[2], BASE[2] + (0.6 * 2.0 + 0.9 * 1.0) / 2)


def test_ties_of_one_model_is_magnitude_trimming():
    assert_close(run("ties", [FIRST], [1.0], normalize=True, density=0.5, scaling=0.7), BASE + 0.7 * torch.tensor([3.0, 0.0, 2.0, 0.0]))


def test_election_gives_ties_to_plus_and_never_agrees_with_zero():
    first, second = elect([torch.tensor([1.0, 0.0, -1.0, 2.0]), torch.tensor([-1.0, 0.0, -1.0, -3.0])], [1.0, 1.0])
    assert first.tolist() == [True, False, True, False] and second.tolist() == [False, False, True, True]


densities = st.floats(1e-3, 1.0)


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 60), density=densities, seed=st.integers(0, 10**6))
def test_trim_keeps_the_largest_without_ties(n, density, seed):
    generator = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, (n,), generator=generator) * 2 - 1
    delta = (torch.randperm(n, generator=generator) + 1.0) * sign
    kept = max(1, int(density * n))
    expected = [d if abs(d) > n - kept else 0.0 for d in delta.tolist()]
    assert trim(delta, density).tolist() == expected and sum(d != 0 for d in expected) == kept


@settings(max_examples=150, deadline=None)
@given(delta=st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=40), density=densities)
def test_trim_keeps_all_that_tie_with_the_last(delta, density):
    threshold = sorted(map(abs, delta), reverse=True)[max(1, int(density * len(delta))) - 1]
    assert trim(torch.tensor(delta), density).tolist() == [d if abs(d) >= threshold else 0.0 for d in delta]


def test_trim_counts_over_the_whole_tensor():
    delta = torch.arange(1.0, 13.0).reshape(3, 4)
    assert trim(delta, 0.25).nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]


@pytest.mark.parametrize("density", [0.3, 0.7])
def test_drop_rescales_what_it_keeps_exactly(density):
    delta = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    found = drop(delta, density, torch.Generator().manual_seed(1))
    kept = found != 0
    assert torch.equal(found[kept], delta[kept] / density)
    assert kept.float().mean() == pytest.approx(density, abs=4 * (density * (1 - density) / 5000) ** 0.5)


def test_drop_at_full_density_keeps_everything():
    assert torch.equal(drop(FIRST, 1.0, torch.Generator()), FIRST)


def test_dare_is_task_arithmetic_on_average():
    seeds, density = range(0, 4000, 2), 0.7
    mean = torch.stack([run("dare_linear", [FIRST, SECOND], [0.5, 0.9], density=density, seed=s) for s in seeds]).mean(0)
    plain = run("task_arithmetic", [FIRST, SECOND], [0.5, 0.9])
    error = (((1 - density) / density) * ((0.5 * FIRST) ** 2 + (0.9 * SECOND) ** 2) / len(seeds)).sqrt()
    assert ((mean - plain).abs() < 4 * error).all()


def test_dare_drops_entries_of_each_model_on_their_own():
    found = run("dare_linear", [torch.ones(1000), 10 * torch.ones(1000)], [1.0, 1.0], base=torch.zeros(1000), density=0.5)
    assert sorted(set(found.tolist())) == [0.0, 2.0, 20.0, 22.0]


@pytest.mark.parametrize("dare, plain", [("dare_linear", "task_arithmetic"), ("dare_ties", "ties")])
def test_dare_at_full_density_is_the_plain_method(dare, plain):
    assert torch.equal(*(run(m, [FIRST, SECOND], [0.5, 0.9], normalize=True, scaling=0.3) for m in (dare, plain)))


def test_dare_ties_elects_among_what_is_left():
    found = run("dare_ties", [torch.ones(1000), -3 * torch.ones(1000)], [1.0, 1.0], base=torch.zeros(1000), density=0.5)
    assert sorted(set(found.tolist())) == [-6.0, 0.0, 2.0]  # second kept; neither; only the first


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(method, dtype):
    base = (0.3 * BASE).to(dtype)
    models = [(base.float() + d).to(dtype) for d in ([FIRST] if method == "interpolation" else [FIRST, SECOND])]
    settings = {"divisors": [0.3] * 2, "scaling": 0.7, "normalize": True, "density": [1.0] * len(models), "election": "weighted"}
    found, expected = (
        METHODS[method].merge(b, m, [0.3] * len(m), generators=[torch.Generator().manual_seed(i) for i in (0, 1)][: len(m)], **settings)
        for b, m in ((base, models), (base.float(), [m.float() for m in models]))
    )
    assert found.dtype == torch.float32 and torch.equal(found, expected)
