"""Trimming: exact thresholds without sorting, and which entries stay."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_cases import assert_close, by_election, merge, randn

from acm.merging.magnitudes import magnitudes_at
from acm.merging.methods.elementwise import kept_magnitudes
from acm.merging.primitives import count_magnitudes, trim
from acm.merging.settings import Settings


def bounds(delta, density):
    """Least and largest magnitude that TIES keeps."""
    s = Settings([1.0], density=[density], shape=tuple(delta.shape))
    return kept_magnitudes(lambda: [(torch.zeros_like(delta), [delta])], s)[0].tolist()


densities = st.floats(1e-3, 1.0)
ODD = [0.0, -0.0, 2**-149, -(2**-149), 2**-130, 1.0, -1.0, 2.0**127]
numbers = st.floats(width=32, allow_nan=False) | st.sampled_from(ODD)
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
    found = merge("breadcrumbs", [delta], [1.0], torch.zeros(10), 0.3, gamma=[0.3])  # ranks 4 to 6: 2, 3, 3
    assert found.tolist() == [0, -2, 2, 3, -3, 3, 0, 0, 0, 0]


def test_breadcrumbs_with_election_trims_as_breadcrumbs_and_elects_as_ties():
    deltas, options = [randn(50, seed=1), randn(50, seed=2)], {"gamma": [0.1] * 2, "density": 0.5}
    parts = [merge("breadcrumbs", [d], [1.0], torch.zeros(50), gamma=[0.1], density=0.5).tolist() for d in deltas]
    expected = [by_election(entry, [0.5, 0.9], [0.5, 0.9], True, "weighted") for entry in zip(*parts, strict=True)]
    assert_close(merge("breadcrumbs_ties", deltas, [0.5, 0.9], torch.zeros(50), normalize=True, **options), expected)


def test_trimming_counts_over_the_whole_tensor():
    delta = torch.arange(1.0, 13.0).reshape(3, 4)
    assert merge("ties", [delta], [1.0], torch.zeros(3, 4), 0.25).nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]
