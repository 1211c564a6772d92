"""The methods on singular values and directions: Iso-C, Iso-CTS, TSV-Merge, CART and WUDI, against SVDs by numpy."""

import itertools
import math

import numpy as np
import pytest
import torch
from tensor_cases import FIRST, SECOND, assert_close, merge, randn

import acm
from acm.errors import UserError
from acm.merging import primitives
from acm.merging.methods import merge_tensor
from acm.merging.methods.spectral import centred, isotropic, polar, separated, triples, undisturbed
from acm.merging.registry import METHODS
from acm.merging.settings import Settings

NAMES = ("iso_c", "iso_cts", "tsvm", "cart", "wudi")
SHAPES = [(9, 5), (5, 9), (6, 6), (4, 30), (1, 5), (5, 1)]
ROOMY = [(shape, count) for shape in SHAPES for count in (1, 2, 3) if count <= min(shape)]


def defaults(method, **changed):
    """The method's numbers, as a recipe gives them."""
    return {p.name: p.default for p in METHODS[method].takes if not p.setting} | changed


def by_method(method, deltas, weights=None, base=None, scaling=1.0, **numbers):
    """What the method adds to a base of zeros, or the result with a base."""
    base = torch.zeros_like(deltas[0]) if base is None else base
    weights = [1.0] * len(deltas) if weights is None else weights
    return merge(method, deltas, weights, base, scaling=scaling, numbers=defaults(method, **numbers))


def drawn(shape, count, seed=1):
    """Task vectors, seeded."""
    return [randn(*shape, seed=seed + i) for i in range(count)]


def low_rank(shape, rank, seed=0):
    """A matrix of this rank, float32 with entries that are exact in it."""
    left, right = (torch.randint(-3, 4, size, generator=torch.Generator().manual_seed(seed + i)).float()
                   for i, size in enumerate(((shape[0], rank), (rank, shape[1]))))  # fmt: skip
    return left @ right


def svd(matrix):
    return np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)


def polar_of(matrix):
    """By the SVD; singular values of 0 stay 0."""
    u, values, v = svd(matrix)
    return u[:, values > 1e-6] @ v[values > 1e-6]


def iso_cts_of(deltas, fraction):
    """Iso-CTS in numpy, by the rule of its paper."""
    deltas = [np.asarray(delta, np.float64) for delta in deltas]
    rank, models = min(deltas[0].shape), len(deltas)
    own = round((rank - int(fraction * rank)) / models)
    common = rank - models * own
    u, values, v = svd(sum(deltas))
    lefts, found, rights = [u[:, :common]], [values[:common]], [v[:common]]
    outside = np.eye(len(u)) - lefts[0] @ lefts[0].T
    for delta in deltas:
        u, values, v = svd(outside @ delta)
        lefts.append(u[:, :own])
        found.append(values[:own])
        rights.append(v[:own])
    return np.concatenate(found).mean() * polar_of(np.hstack(lefts)) @ polar_of(np.hstack([v.T for v in rights])).T


def tsvm_of(deltas, lossless=False):
    """TSV-Merge in numpy, by the rule of its paper."""
    rank = min(deltas[0].shape)
    kept = rank if lossless else int(rank / len(deltas))
    parts = [svd(delta) for delta in deltas]
    left, values, right = (
        np.hstack([u[:, :kept] for u, _, _ in parts]),
        np.concatenate([values[:kept] for _, values, _ in parts]),
        np.hstack([v[:kept].T for _, _, v in parts]),
    )
    return polar_of(left) @ np.diag(values) @ polar_of(right).T


def cart_of(deltas, fraction, amplification):
    """CART in numpy, by the rule of its paper."""
    deltas = [np.asarray(delta, np.float64) for delta in deltas]
    mean, found = np.mean(deltas, axis=0), np.mean(deltas, axis=0)
    for delta in deltas:
        u, values, v = svd(delta - mean)
        kept = math.ceil(fraction * len(values))
        found = found + amplification * (u[:, :kept] * values[:kept]) @ v[:kept]
    return found


def wudi_of(deltas, time, ratio, from_mean):
    """The closed form of WUDI in numpy: C as it is, all inputs by all inputs."""
    deltas = [np.asarray(delta, np.float64) for delta in deltas]
    grams = [delta.T @ delta / np.square(delta).sum() for delta in deltas]
    values, vectors = np.linalg.eigh(sum(grams))
    kept = math.ceil(ratio * len(values))
    mu, v = np.maximum(values[::-1][:kept], 1e-8), vectors[:, ::-1][:, :kept]
    h = np.diag(1 - np.exp(-mu * time))
    start = sum(deltas) / (len(deltas) if from_mean else 1)
    targets = sum(delta @ gram for delta, gram in zip(deltas, grams, strict=True))
    return start - start @ v @ h @ v.T + targets @ v @ h @ np.diag(1 / mu) @ v.T


def flattened(delta):
    """All singular values at their mean."""
    u, values, v = svd(delta)
    return values.mean() * u @ v


# ---------------------------------------------------------------- against the rules


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_iso_c_flattens_the_spectrum_of_the_sum(shape, count):
    base, deltas, weights = randn(*shape), drawn(shape, count), [0.5, 2.0, -0.7][:count]
    expected = flattened(sum(w * d.double() for w, d in zip(weights, deltas, strict=True)))
    assert_close(by_method("iso_c", deltas, weights, base, 0.7), base + 0.7 * torch.as_tensor(expected), 1e-5)
    assert np.allclose(svd(expected)[1], svd(expected)[1].mean())


@pytest.mark.parametrize("shape, count", ROOMY)
@pytest.mark.parametrize("fraction", [0.5, 0.8, 1.0])
def test_iso_cts_by_its_rule(shape, count, fraction):
    base, deltas, weights = randn(*shape), drawn(shape, count), [0.5, 2.0, 0.7][:count]
    expected = iso_cts_of([w * d.double() for w, d in zip(weights, deltas, strict=True)], fraction)
    found = by_method("iso_cts", deltas, weights, base, 0.7, common=fraction)
    assert_close(found, base + 0.7 * torch.as_tensor(expected), 1e-5)


@pytest.mark.parametrize("shape, count", [((6, 9), 2), ((9, 6), 3), ((6, 6), 6), ((7, 5), 1)])
def test_iso_cts_without_common_directions_by_its_rule(shape, count):
    deltas = drawn(shape, count)
    assert_close(by_method("iso_cts", deltas, common=0.0), iso_cts_of(deltas, 0.0), 1e-5)


@pytest.mark.parametrize("shape", SHAPES[:4])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_iso_cts_with_all_directions_common_is_iso_c(shape, count):
    deltas = drawn(shape, count)
    assert_close(by_method("iso_cts", deltas, common=1.0), by_method("iso_c", deltas), 1e-6)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.8])
def test_one_task_vector_is_the_same_in_iso_cts_as_in_iso_c(fraction):
    (delta,) = drawn((7, 5), 1)
    found = by_method("iso_cts", [delta], common=fraction)
    assert_close(found, by_method("iso_c", [delta]), 1e-5)
    assert_close(found, flattened(delta), 1e-5)


@pytest.mark.parametrize("shape", [(1, 5), (3, 9), (9, 3)])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("count", [2, 4, 5])
def test_iso_cts_of_matrices_with_little_room(shape, fraction, count):
    found = by_method("iso_cts", drawn(shape, count), common=fraction)
    assert found.isfinite().all()
    values = svd(found)[1]
    assert values.min() == pytest.approx(values.max(), rel=1e-4)


@pytest.mark.parametrize("shape, count, lossless", [
    *[(shape, count, False) for shape, count in ROOMY], *[(shape, count, True) for shape in SHAPES for count in (1, 3)],
])  # fmt: skip
def test_tsvm_by_its_rule(shape, count, lossless):
    base, deltas, weights = randn(*shape), drawn(shape, count), [0.5, 2.0, -0.7][:count]
    expected = tsvm_of([w * d.double() for w, d in zip(weights, deltas, strict=True)], lossless)
    found = by_method("tsvm", deltas, weights, base, 0.7, lossless=lossless)
    assert_close(found, base + 0.7 * torch.as_tensor(expected), 1e-5)


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("fraction, amplification", [(0.04, 0.1), (0.5, 1.0), (0.41, 0.3)])
def test_cart_by_its_rule(count, fraction, amplification):
    for shape in SHAPES:
        base, deltas, weights = randn(*shape), drawn(shape, count), [0.5, 2.0, 0.7, 1.0, 0.3, 1.1, 0.9][:count]
        expected = cart_of([w * d for w, d in zip(weights, deltas, strict=True)], fraction, amplification)
        found = by_method("cart", deltas, weights, base, 0.7, rank=fraction, amplification=amplification)
        assert_close(found, base + 0.7 * torch.as_tensor(expected), 1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_task_vectors_give_their_mean_by_the_rule_of_cart(count):
    deltas = drawn((8, 6), count)
    mean = sum(deltas) / count
    assert_close(by_method("cart", deltas), mean)
    assert cart_of(deltas, 0.3, 1.0) == pytest.approx(np.asarray(mean, float), abs=1e-6)
    assert_close(centred(deltas, 0.3, 1.0), mean)  # without the short cut


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("time, ratio, from_mean", [(300.0, 0.65, False), (3.0, 1.0, True), (1300.0, 0.2, True)])
def test_wudi_by_its_rule(shape, count, time, ratio, from_mean):
    base, deltas, weights = randn(*shape), drawn(shape, count), [0.5, 2.0, 0.7][:count]
    expected = wudi_of([w * d for w, d in zip(weights, deltas, strict=True)], time, ratio, from_mean)
    found = by_method("wudi", deltas, weights, base, 0.7, time=time, ratio=ratio, from_mean=from_mean)
    assert_close(found, base + 0.7 * torch.as_tensor(expected), 2e-5)


# ---------------------------------------------------------------- closed forms by hand


def test_iso_c_by_hand():
    deltas = [torch.diag(torch.tensor([3.0, 0.0])), torch.diag(torch.tensor([1.0, -2.0]))]
    assert_close(by_method("iso_c", deltas), torch.diag(torch.tensor([3.0, -3.0])))  # mean of 4 and 2


def test_iso_c_of_low_rank_keeps_the_mean_over_all_singular_values():
    delta = torch.zeros(3, 5)
    delta[0, 1] = 6.0
    expected = delta / 3  # the mean of 6, 0, 0; the authors' code adds two arbitrary directions of this size
    assert_close(by_method("iso_c", [delta]), expected)
    assert_close(by_method("iso_cts", [delta]), expected)
    for seed, shape in enumerate([(12, 7), (7, 12), (10, 10)]):
        delta = low_rank(shape, 3, seed)
        u, values, v = svd(delta)
        assert_close(by_method("iso_c", [delta]), values.mean() * u[:, :3] @ v[:3], 1e-5)


def test_singular_values_above_the_tolerance_get_full_weight_and_those_below_none():
    u, v = (np.linalg.qr(randn(6, 6, seed=seed).double().numpy())[0] for seed in (1, 2))
    for least, rank in ((1e-4, 6), (1e-7, 5)):
        values = np.array([1.0, 0.5, 0.3, 0.2, 0.1, least])
        found = isotropic([torch.from_numpy(u * values @ v)], 1.0)
        expected = values[:rank].sum() / 6 * u[:, :rank] @ v[:rank]
        assert np.abs(found.numpy() - expected).max() < 1e-7


def test_iso_cts_by_hand():
    first, second = torch.zeros(5, 5), torch.zeros(5, 5)
    first[0, 0], first[1, 1], first[2, 2], first[4, 4] = 5.0, 4.0, 2.0, 1.0
    second[0, 0], second[1, 1], second[3, 3] = 1.0, 3.0, 0.5
    # int(0.6 · 5) = 3 of 5 directions would be common; the rest is shared evenly, so each brings one of its own.
    # Common: 7 at (1, 1), 6 at (0, 0) and 2 at (2, 2). Own: 1 at (4, 4) and 0.5 at (3, 3).
    expected = (7 + 6 + 2 + 1 + 0.5) / 5 * torch.eye(5)
    assert_close(by_method("iso_cts", [first, second], common=0.6), expected)


def test_tsvm_of_task_vectors_that_share_no_direction_is_their_sum():
    first, second = torch.zeros(4, 6), torch.zeros(4, 6)
    first[0, 0], first[1, 1] = 3.0, -2.0
    second[2, 2], second[3, 5] = 1.0, 4.0
    assert_close(by_method("tsvm", [first, second]), first + second)


def test_tsvm_moves_two_directions_apart_by_equal_angles():
    angle = 0.6  # both left vectors and both right vectors lie at ± this angle
    c, s = math.cos(angle), math.sin(angle)
    plus, minus = torch.tensor([c, s]), torch.tensor([c, -s])
    found = by_method("tsvm", [3 * torch.outer(plus, plus), 2 * torch.outer(minus, minus)])
    even = torch.tensor([1.0, 1.0]) / math.sqrt(2), torch.tensor([1.0, -1.0]) / math.sqrt(2)
    assert_close(found, 3 * torch.outer(even[0], even[0]) + 2 * torch.outer(even[1], even[1]), 1e-6)


def test_equal_task_vectors_in_tsvm():
    (delta,) = drawn((8, 6), 1)
    u, values, v = svd(delta)
    # Each of the three directions stands twice in the bases; the polar factors give half to each copy.
    assert_close(by_method("tsvm", [delta, delta]), (u[:, :3] * values[:3]) @ v[:3], 1e-5)
    assert_close(by_method("tsvm", [delta, delta], lossless=True), delta, 1e-5)


@pytest.mark.parametrize("method", ["iso_c", "cart", "wudi"])
def test_equal_task_vectors_in_the_others(method):
    (delta,) = drawn((8, 6), 1)
    expected = {"iso_c": 3 * torch.as_tensor(flattened(delta)), "cart": delta}
    # in WUDI all three C_i are one, and a long time leads from the sum to δ on the directions that take part
    expected["wudi"] = delta
    changed = {"ratio": 1.0, "time": 1e6} if method == "wudi" else {}
    assert_close(by_method(method, [delta] * 3, **changed), expected[method], 1e-4)


@pytest.mark.parametrize("method", ["tsvm", "cart", "wudi"])
@pytest.mark.parametrize("shape", [*SHAPES, (7,)])
def test_one_task_vector_stays(method, shape):
    base, (delta,) = randn(*shape), drawn(shape, 1)
    assert_close(by_method(method, [delta], [0.6], base, 0.5), base + 0.3 * delta)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_task_vector_stays_by_the_rules_too(shape):
    (delta,) = drawn(shape, 1)
    for found in (
        separated([delta]), separated([delta], True), undisturbed([delta], 300.0, 0.65), undisturbed([delta], 5.0, 1.0),
    ):  # fmt: skip
        assert_close(found.float(), delta, 1e-5)
    assert tsvm_of([delta]) == pytest.approx(np.asarray(delta, float), abs=1e-6)
    assert wudi_of([delta], 300.0, 0.65, False) == pytest.approx(np.asarray(delta, float), abs=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_lossless_tsvm_of_square_matrices_is_their_mean(count):
    deltas = drawn((6, 6), count)
    assert_close(by_method("tsvm", deltas, lossless=True), sum(deltas) / count, 1e-5)
    narrow = drawn((6, 4), count)
    assert (by_method("tsvm", narrow, lossless=True) - sum(narrow) / count).norm() > 0.1


def test_lossless_tsvm_of_low_rank_adds_what_does_not_overlap():
    first, second = torch.zeros(6, 6), torch.zeros(6, 6)
    first[:3, :3], second[3:, 3:] = randn(3, 3, seed=1), randn(3, 3, seed=2)
    assert_close(by_method("tsvm", [first, second], lossless=True), first + second, 1e-5)


def test_tsvm_of_fewer_rows_than_models_keeps_one_triple_of_each():
    deltas = [torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])]
    expected = (deltas[0] + deltas[1]) / math.sqrt(2)  # each shares the one row
    assert_close(by_method("tsvm", deltas), expected)


def test_wudi_reaches_each_task_vector_on_the_inputs_that_it_alone_uses():
    first, second = torch.zeros(4, 6), torch.zeros(4, 6)
    first[:, :3], second[:, 3:] = randn(4, 3, seed=1), randn(4, 3, seed=2)
    assert_close(by_method("wudi", [first, second], time=1e6, ratio=1.0), first + second, 1e-5)


def test_wudi_without_time_is_where_it_starts_and_with_all_of_it_the_least_squares_solution():
    deltas = drawn((8, 5), 3)
    for from_mean, start in ((False, sum(deltas)), (True, sum(deltas) / 3)):
        assert_close(by_method("wudi", deltas, time=1e-9, from_mean=from_mean), start, 1e-6)
        grams = [delta.double().T @ delta.double() / delta.double().square().sum() for delta in deltas]
        targets = sum(delta.double() @ gram for delta, gram in zip(deltas, grams, strict=True))
        expected = torch.linalg.solve(sum(grams), targets.T).T
        assert_close(by_method("wudi", deltas, time=1e6, ratio=1.0, from_mean=from_mean), expected, 1e-5)


def test_wudi_is_gradient_descent_stopped():
    deltas, steps, rate = [delta.double() for delta in drawn((6, 4), 3)], 4000, 5e-3
    found = sum(deltas)
    for _ in range(steps):
        found = found - rate * sum((found - delta) @ delta.T @ delta / delta.square().sum() for delta in deltas)
    assert_close(undisturbed(deltas, steps * rate, 1.0).float(), found, 3e-3)


# ---------------------------------------------------------------- properties of all


@pytest.mark.parametrize("method", NAMES)
def test_vectors_and_embeddings_are_averaged(method):
    deltas, expected = [FIRST, SECOND], 0.7 * (0.5 * FIRST + 2.0 * SECOND) / 2
    assert_close(by_method(method, deltas, [0.5, 2.0], scaling=0.7), expected)
    matrices = [delta.view(2, 2) for delta in deltas]
    for layer, embeddings in itertools.product(("embed", "lm_head"), (False, True)):
        settings = Settings([0.5, 2.0], scaling=0.7, layer=layer, numbers=defaults(method, embeddings=embeddings))
        found = merge_tensor(method, torch.zeros(2, 2), matrices, settings)
        whole = by_method(method, matrices, [0.5, 2.0], scaling=0.7)
        assert_close(found, whole if embeddings else expected.view(2, 2))


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 5), (5, 1), (1, 1), (3,)])
def test_zero_task_vectors_change_nothing(method, shape):
    base = randn(*shape)
    for count in (1, 2, 3):
        assert torch.equal(by_method(method, [torch.zeros(*shape)] * count, base=base), base)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("zeros", [1, 2])
def test_some_zero_task_vectors_give_finite_numbers(method, zeros):
    deltas = [*drawn((6, 8), 1), *[torch.zeros(6, 8)] * zeros]
    found = by_method(method, deltas)
    assert found.isfinite().all() and found.norm() > 0.1
    assert_close(found, by_method(method, deltas[::-1]), 1e-5)


@pytest.mark.parametrize("method", NAMES)
def test_task_vectors_that_cancel_give_finite_numbers(method):
    (delta,) = drawn((6, 8), 1)
    assert by_method(method, [delta, -delta]).isfinite().all()


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (8, 8)])
@pytest.mark.parametrize("rank", [1, 3])
def test_results_of_low_rank_task_vectors_stay_in_their_span(method, shape, rank):
    deltas = [low_rank(shape, rank, seed) for seed in (1, 5, 9)]
    found = by_method(method, deltas).double()
    for stacked, outside in ((torch.cat(deltas, 1), found.T), (torch.cat(deltas).T, found)):
        span = polar_of(stacked.double())
        span = torch.from_numpy(span @ np.linalg.pinv(span))
        torch.testing.assert_close(outside @ span, outside, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
def test_scale_goes_through(method, shape):
    deltas = drawn(shape, 3)
    expected = by_method(method, deltas)
    for factor in (1e-4, 64.0):
        assert_close(by_method(method, [factor * delta for delta in deltas]) / factor, expected, 1e-5)


@pytest.mark.parametrize("method", NAMES)
def test_models_in_any_order_and_turned_matrices_give_the_same(method):
    deltas = drawn((8, 6), 3)
    expected = by_method(method, deltas)
    for order in itertools.permutations(deltas):
        assert_close(by_method(method, list(order)), expected, 1e-6)
    left, right = (torch.linalg.qr(randn(n, n, seed=n).double())[0].float() for n in (8, 6))
    turned = by_method(method, [left @ delta @ right for delta in deltas])
    assert_close(left.T @ turned @ right.T, expected, 1e-4)


@pytest.mark.parametrize("method", ["iso_c", "iso_cts", "tsvm", "cart"])
def test_transposed_matrices_give_the_transposed_result(method):
    deltas, numbers = drawn((8, 6), 3), {"common": 1.0} if method == "iso_cts" else {}
    transposed = by_method(method, [delta.T.contiguous() for delta in deltas], **numbers)
    assert_close(transposed.T, by_method(method, deltas, **numbers), 1e-5)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_nan_and_infinity_raise_nothing(method, odd):
    for count, shape in itertools.product((1, 2, 3), ((4, 6), (5,))):
        deltas = drawn(shape, count)
        deltas[-1].view(-1)[1] = odd
        assert not by_method(method, deltas).isfinite().all()


@pytest.mark.parametrize("shape", [(5000, 3), (3, 5000)])
def test_rows_in_blocks_give_the_triples_of_the_whole(shape):
    matrix = randn(*shape)
    assert max(shape) > primitives.ROWS
    left, sigma, right = triples(matrix, 2, 0.0)
    u, values, v = svd(matrix)
    assert sigma.numpy() == pytest.approx(values[:2])
    assert (left * sigma @ right.T).numpy() == pytest.approx((u[:, :2] * values[:2]) @ v[:2], abs=1e-9)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_polar_factors(shape):
    matrix = torch.nn.functional.normalize(randn(*shape).double(), dim=0)
    found = polar(matrix)
    assert found.numpy() == pytest.approx(polar_of(matrix), abs=1e-9)
    one = found.T @ found if shape[0] > shape[1] else found @ found.T
    assert one.numpy() == pytest.approx(np.eye(min(shape)), abs=1e-9)
    assert not polar(matrix[:, :0]).numel()


# ---------------------------------------------------------------- recipes


@pytest.mark.parametrize("method, key, value, words", [
    ("iso_cts", "common", 1.1, "common is in .0, 1., not 1.1"),
    ("iso_cts", "common", -0.1, "common"),
    ("tsvm", "lossless", 2, "lossless must be true or false"),
    ("cart", "rank", 0, "rank is the fraction of singular values kept, in .0, 1., not 0"),
    ("cart", "amplification", -1, "amplification is at least 0, not -1"),
    ("wudi", "time", 0, "time is above 0, not 0"),
    ("wudi", "time", math.inf, "time must be a finite number"),
    ("wudi", "ratio", 0, "ratio is the fraction of eigenvalues used, in .0, 1., not 0"),
    ("wudi", "ratio", 2, "ratio"),
    ("wudi", "from_mean", "perhaps", "from_mean must be true or false"),
    ("wudi", "t", 0.5, "unknown key of wudi 't'"),
])  # fmt: skip
def test_parameters_out_of_range_are_refused(f32, tmp_path, method, key, value, words):
    content = {
        "merge_method": method,
        "base_model": str(f32[0]),
        "models": [{"model": str(f32[1])}],
        "parameters": {key: value},
    }
    with pytest.raises(UserError, match=words):
        acm.merge(content, tmp_path / "out")
