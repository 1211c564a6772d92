"""Random masks: DARE and DELLA on average and by rank, and the words that the masks are drawn with."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tensor_cases import BASE, FIRST, INPUTS, SECOND, any_case, assert_close, by_election, merge, randn

from acm.merging.methods import FUNCTIONS, merge_tensor
from acm.merging.primitives import drop, random_words
from acm.merging.registry import METHODS
from acm.merging.settings import key_of


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
    zeros = torch.zeros(count // 5)
    found = [merge("dare_linear", deltas, [0.5, 0.9], zeros, density, seed=s, rescale=True) for s in range(20)]
    error = ((1 - density) / density * ((0.5 * FIRST) ** 2 + (0.9 * SECOND) ** 2) / count).sqrt()
    assert ((torch.cat(found).view(-1, 4).mean(0) - (0.5 * FIRST + 0.9 * SECOND)).abs() < 4 * error).all()


def test_dare_drops_entries_of_each_model_on_their_own():
    deltas = [torch.ones(1000), 10 * torch.ones(1000)]
    rescaled, plain = (
        merge("dare_linear", deltas, [1.0, 1.0], torch.zeros(1000), 0.5, rescale=rescale) for rescale in (True, False)
    )
    assert sorted(set(rescaled.tolist())) == [0.0, 2.0, 20.0, 22.0]
    assert torch.equal(plain, rescaled / 2)


@pytest.mark.parametrize("method, plain", [
    ("dare_linear", "task_arithmetic"), ("dare_ties", "ties"), ("della", "ties"), ("della_linear", "task_arithmetic"),
])  # fmt: skip
def test_at_full_density_a_random_method_is_the_plain_one(method, plain):
    options = {"normalize": True, "scaling": 0.3, "rescale": True}
    assert torch.equal(*(merge(name, [FIRST, SECOND], [0.5, 0.9], **options) for name in (method, plain)))


def test_dare_ties_elects_among_what_is_left():
    deltas = [torch.ones(1000), -3 * torch.ones(1000)]
    found = merge("dare_ties", deltas, [1.0, 1.0], torch.zeros(1000), 0.5, rescale=True)
    assert sorted(set(found.tolist())) == [-6.0, 0.0, 2.0]  # second kept; neither; only the first


def test_dare_ties_on_average_over_all_masks():
    count, density, weights = 40_000, 0.6, [0.5, 0.9]
    deltas, options = [d.repeat(count) for d in (FIRST, SECOND)], {"rescale": True, "normalize": True}
    found = merge("dare_ties", deltas, weights, torch.zeros(4 * count), density, **options)

    def elected(mask, values):
        kept = [m * v / density for m, v in zip(mask, values, strict=True)]
        return by_election(kept, weights, weights, True, "weighted")

    for entry, values in zip(found.view(count, 4).T, zip(FIRST.tolist(), SECOND.tolist(), strict=True), strict=True):
        masks = list(itertools.product([0, 1], repeat=2))
        chances = [density ** sum(mask) * (1 - density) ** (2 - sum(mask)) for mask in masks]
        results = [elected(mask, values) for mask in masks]
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
    found = [merge("della_linear", [FIRST, SECOND], [0.5, 0.9], density=0.6, seed=s, **options) for s in keys]
    error = ((0.6 / 0.4) * ((0.5 * FIRST) ** 2 + (0.9 * SECOND) ** 2) / len(keys)).sqrt()
    assert ((torch.stack(found).mean(0) - BASE - 0.5 * FIRST - 0.9 * SECOND).abs() < 4 * error).all()


def words(size, key=(0, 0), start=0):
    """Random words of a flat tensor."""
    return random_words(torch.Size([size]), key, start, torch.device("cpu")).numpy()


def assert_uniform(values, bins):
    """Whole numbers are spread evenly over the bins, by a χ² test."""
    counts, expected = np.bincount(values, minlength=bins), len(values) / bins
    assert len(counts) == bins
    assert 1e-4 < chi2.sf(((counts - expected) ** 2).sum() / expected, bins - 1) < 1 - 1e-4


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

    places = range(start, start + 5000)
    assert whole.tolist() == [mix((mix(place % 2**32 ^ key[0]) + key[1]) % 2**32) for place in places]


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.random])
def test_random_masks_do_not_depend_on_the_chunks(method):
    base, models, s = any_case(method, 2)
    chunks = [
        FUNCTIONS[method](base[a:b], [m[a:b] for m in models], replace(s, start=a * INPUTS))
        for a, b in ((0, 1), (1, 5), (5, 6))
    ]
    assert torch.equal(torch.cat(chunks), merge_tensor(method, base, models, s))
