"""PCB-Merging, Consensus Merging and WIDEN, against oracles that sort whole models, and against closed forms."""

import itertools

import numpy as np
import pytest
import torch
from helpers import EMBEDDING, recipe, same
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_cases import BASE, FIRST, SECOND, assert_close, merge, randn

import acm
from acm.errors import UserError
from acm.merging import plain
from acm.merging.magnitudes import numbers_at
from acm.merging.primitives import count_numbers

PCB = {"ratio": 0.1, "clip": 0.0, "signed": False}
CONSENSUS = {"agreement": 2, "threshold": 0.4, "ties": False, "density": 0.2}
WIDEN = {"above_average": 1.0, "calibration": 1.0}
WEIGHTS = [0.7, 1.2]
ODD = [0.0, -0.0, 2**-149, -(2**-149), 2**-130, 1.0, -1.0, 2.0**127, -(2.0**127)]
numbers = st.floats(width=32, allow_nan=False) | st.sampled_from(ODD)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(numbers, min_size=1, max_size=50), min_size=1, max_size=3), st.data())
def test_numbers_at_ranks_are_those_of_a_sort(models, data):
    size = min(map(len, models))
    values = [torch.tensor(own[:size]) for own in models]
    ranks = np.array([data.draw(st.tuples(*[st.integers(0, size - 1)] * 2)) for _ in models])
    pieces = [list(part) for part in zip(*(v.split(7) for v in values), strict=True)]
    found = numbers_at(ranks, lambda buckets: count_numbers(pieces, len(models), buckets))
    assert np.array_equal(found, np.take_along_axis(np.sort(torch.stack(values).numpy(), axis=1), ranks, axis=1))


def flat(folders, tensors, weights):
    """The base and λ_i δ_i of whole models as flat vectors, float64, and where each tensor starts and ends in them."""
    base, *models = map(tensors, folders)
    names = sorted(base)
    ends = np.cumsum([base[name].numel() for name in names]).tolist()
    parts = {name: slice(a, b) for name, a, b in zip(names, [0, *ends], ends, strict=False)}

    def joined(held):
        return torch.cat([held[name].flatten() for name in names]).double().numpy()

    deltas = [joined({n: w * (model[n] - base[n]) for n in names}) for w, model in zip(weights, models, strict=True)]
    return joined(base), deltas, parts


def assert_whole(found, expected, parts, tolerance):
    """Every tensor is its part of a flat vector."""
    for name, part in parts.items():
        np.testing.assert_allclose(found[name].flatten().numpy(), expected[part], rtol=0, atol=tolerance)


def weighed(content, weights):
    """The recipe with a weight for each model."""
    for entry, weight in zip(content["models"], weights, strict=True):
        entry["parameters"] = {"weight": weight}
    return content


def competed(deltas, ratio, clip, signed):
    """PCB-Merging's sign(δ) a and w of flat task vectors, (models, entries), by sorting."""
    deltas = np.stack(deltas)
    n, size = deltas.shape
    ascending = np.sort(abs(deltas), axis=1)
    low, high = ascending[:, [int(clip * size)]], ascending[:, [int((1 - clip) * size - 1)]]
    clipped = np.clip(abs(deltas), low, high)
    unit = (clipped - low) / (high - low)
    rivals = (np.sign(deltas) * unit).sum(0) if signed else deltas.sum(0)
    balance = np.exp(n * unit**2) * np.tanh(deltas * rivals)
    least = np.sort(balance, axis=1)[:, [int((1 - ratio) * size)]]
    weights = np.maximum(balance, least) - least
    return np.sign(deltas) * clipped, weights / weights.max(axis=1, keepdims=True)


@pytest.mark.parametrize("ratio, clip, signed", [(0.1, 1e-4, False), (0.05, 0.01, True), (0.6, 0.2, False), (1, 0, 0)])
def test_pcb_ranks_the_whole_model(f32, merged, tensors, ratio, clip, signed):
    parameters = {"ratio": ratio, "clip": clip, "signed": bool(signed), "lambda": 0.8}
    found = merged(weighed(recipe("pcb", *f32, parameters=parameters), WEIGHTS))
    base, deltas, parts = flat(f32, tensors, [1.0, 1.0])
    clipped, weights = competed(deltas, ratio, clip, signed)
    mass = np.maximum(weights.sum(0), 1e-12)
    expected = base + 0.8 * (np.array(WEIGHTS)[:, None] * clipped * weights).sum(0) / mass
    assert_whole(found, expected, parts, 1e-6)
    changed = np.concatenate(
        [(found[name].flatten().numpy() != base[part].astype("f4")) for name, part in parts.items()]
    )
    assert abs(changed.sum() - (weights > 0).any(0).sum()) <= 2  # an entry at the bound may round to no weight


def test_pcb_of_one_model_trims_the_whole_model_and_clips_it(f32, merged, tensors):
    parameters = {"weight": 0.7, "ratio": 0.3, "clip": 0.01}
    found = merged(recipe("pcb", *f32[:2], parameters=parameters))
    base, (delta,), parts = flat(f32[:2], tensors, [1.0])
    ascending = np.sort(abs(delta))
    size = len(delta)
    top = ascending[int(0.99 * size - 1)]
    kept = abs(delta) > ascending[int(0.7 * size)]
    assert_whole(found, base + 0.7 * kept * np.sign(delta) * np.minimum(abs(delta), top), parts, 1e-7)


@pytest.mark.parametrize("signed", [True, False])
def test_pcb_of_equal_models_is_their_weighted_mean_and_of_opposite_ones_the_base(signed):
    delta, options = randn(200, seed=1), PCB | {"ratio": 0.3, "signed": signed}
    trimmed = torch.where(delta.abs() > delta.abs().sort().values[140], delta, 0.0)
    found = merge("pcb", [delta, delta], WEIGHTS, torch.zeros(200), numbers=options)
    assert_close(found, 0.95 * trimmed)
    opposite = merge("pcb", [delta, -delta], [1.0, 1.0], torch.zeros(200), numbers=options)
    assert torch.equal(opposite, torch.zeros(200))


def test_pcb_by_hand():
    """Clipped to [1, 3], â = (1, ½, 0, ½) and (0, 1, 0, 1)."""
    deltas = [torch.tensor([3.0, 2.0, 1.0, -2.0]), torch.tensor([1.0, 3.0, -1.0, 3.0])]
    balances = np.array([  # times e²
        [np.e**2 * np.tanh(12), np.e**0.5 * np.tanh(10), 0, np.e**0.5 * np.tanh(-2)],
        [np.tanh(4), np.e**2 * np.tanh(15), 0, np.e**2 * np.tanh(3)],
    ])  # fmt: skip
    least = np.sort(balances, axis=1)[:, [2]]  # half of four
    weights = np.maximum(balances - least, 0) / (balances.max(axis=1, keepdims=True) - least)
    assert (weights > 0).tolist() == [[True, False, False, False], [False, True, False, False]]
    found = merge("pcb", deltas, [1.0, 0.5], numbers=PCB | {"ratio": 0.5}, scaling=2.0)
    assert_close(found, BASE + 2 * torch.tensor([3.0, 1.5, 0.0, 0.0]))


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6])
def test_pcb_of_small_task_vectors_scales_with_them(scale):
    deltas, options = [0.01 * randn(500, seed=i) for i in (1, 2, 3)], {"numbers": PCB | {"ratio": 0.2}}
    expected = merge("pcb", deltas, [1.0] * 3, torch.zeros(500), **options)
    found = merge("pcb", [scale * d for d in deltas], [1.0] * 3, torch.zeros(500), **options)
    torch.testing.assert_close(found / scale, expected, rtol=1e-3, atol=1e-6)
    assert 80 < (expected != 0).sum() < 300


def test_pcb_of_many_models_overflows_nothing():
    deltas = [randn(100, seed=i) for i in range(120)]
    found = merge("pcb", deltas, [1.0] * 120, torch.zeros(100), numbers=PCB)
    assert found.isfinite().all() and found.abs().max() > 0.1


@pytest.mark.parametrize("delta", [torch.zeros(4), torch.ones(4), torch.tensor([5.0])])
def test_pcb_of_entries_that_are_all_equal_is_the_base(delta):
    base = torch.arange(len(delta), dtype=torch.float32)
    assert torch.equal(merge("pcb", [delta], [1.0], base, numbers=PCB), base)
    assert torch.equal(merge("pcb", [delta, delta], [1.0] * 2, base, numbers=PCB | {"signed": True}), base)


@pytest.mark.parametrize("method, options", [
    ("pcb", PCB), ("pcb", PCB | {"signed": True}), ("consensus", CONSENSUS), ("consensus", CONSENSUS | {"ties": True}),
    ("widen", WIDEN),
])  # fmt: skip
def test_nan_gives_nan_and_raises_nothing(method, options):
    deltas = [randn(6, 5, seed=i) for i in (1, 2)]
    deltas[0][2, 3] = float("nan")
    found = merge(method, deltas, [1.0, 1.0], randn(6, 5), numbers=options)
    assert found[2, 3].isnan() or (method == "consensus" and found[2, 3] == randn(6, 5)[2, 3])  # NaN is above nothing


def test_consensus_by_hand():
    """M = (1, −5, 3, ¼). FIRST: 3 > 0.8, 1 < 1.6, 2 > 0.4, ½ > 0.1. SECOND: 2 > 1.2, 4 > 0.4, 1 > 0.8, ¼ > 0.2."""
    for agreement, kept in ((0, [1, 1, 1, 1]), (1, [1, 1, 1, 1]), (2, [1, 0, 1, 1]), (3, [0, 0, 0, 0])):
        numbers = CONSENSUS | {"agreement": agreement}
        found = merge("consensus", [FIRST, SECOND], [1.0, 1.0], numbers=numbers, scaling=0.5)
        assert_close(found, BASE + 0.5 * torch.tensor(kept) * (FIRST + SECOND))


def test_consensus_asked_of_no_model_is_task_arithmetic(f32, merged):
    shared = {"lambda": 0.8}
    content, plainly = (
        weighed(recipe(method, *f32, parameters=shared | own), WEIGHTS)
        for method, own in (("consensus", {"agreement": 0}), ("task_arithmetic", {}))
    )
    assert same(merged(content), merged(plainly))


@pytest.mark.parametrize("ties", [False, True])
def test_consensus_of_one_model(ties):
    delta, base = randn(50, seed=1), randn(50)
    for agreement in (0, 1, 2):
        numbers = CONSENSUS | {"agreement": agreement, "ties": ties}
        found = merge("consensus", [delta], [0.7], base, numbers=numbers, scaling=0.5)
        kept = (delta.abs() >= delta.abs().sort().values[40]) if ties else torch.ones(50)
        assert_close(found, base + (agreement < 2) * 0.35 * delta * kept)
        assert agreement < 2 or torch.equal(found, base)


@pytest.mark.parametrize("ties, agreement, threshold", [(True, 1, 0.4), (True, 2, 0.9), (False, 2, 0.2), (True, 0, 5)])
def test_consensus_ranks_the_whole_model(f32, merged, tensors, ties, agreement, threshold):
    parameters = {"ties": ties, "agreement": agreement, "threshold": threshold, "density": 0.3, "lambda": 0.8}
    found = merged(weighed(recipe("consensus", *f32, parameters=parameters), WEIGHTS))
    base, deltas, parts = flat(f32, tensors, WEIGHTS)
    multitask = sum(deltas)
    if ties:
        least = [np.sort(abs(d))[len(d) - int(0.3 * len(d))] for d in deltas]
        trimmed = [np.where(abs(d) >= low, d, 0) for d, low in zip(deltas, least, strict=True)]
        sign = np.where(sum(trimmed) >= 0, 1, -1)
        multitask = sum(np.where(t * sign > 0, t, 0) for t in trimmed)
    votes = sum((abs(d) > threshold * abs(multitask - d)).astype(int) for d in deltas)
    expected = base + 0.8 * multitask * (votes >= agreement)
    assert_whole(found, expected, parts, 1e-6)
    assert 0 < (votes >= agreement).mean() <= 1


@pytest.mark.parametrize("method, own", [
    ("pcb", {"signed": True, "clip": 0.01}), ("consensus", {"ties": True, "agreement": 1}), ("widen", {}),
])  # fmt: skip
def test_chunks_and_threads_change_no_byte(f32, tmp_path, tensors, monkeypatch, method, own):
    count = itertools.count()

    def run(threads):
        content = weighed(recipe(method, *f32, parameters=own), WEIGHTS)
        return tensors(acm.merge(content, tmp_path / str(next(count)), threads=threads))

    expected = run(1)
    for chunk, threads in ((32, 3), (224, 1)):
        monkeypatch.setattr(plain, "CHUNK", chunk)
        assert same(run(threads), expected)


@pytest.mark.parametrize("method, key, value", [
    ("pcb", "ratio", [0.1, 0.2]), ("pcb", "ratio", [{"filter": "mlp", "value": 0.1}, {"value": 0.2}]),
    ("pcb", "ratio", {"value": 0.1}), ("pcb", "clip", [0.1]), ("pcb", "signed", [True, False]),
    ("consensus", "density", [0.1, 0.2]), ("consensus", "ties", [True, False]),
])  # fmt: skip
def test_what_ranks_the_whole_model_cannot_differ_between_layers(f32, tmp_path, method, key, value):
    with pytest.raises(UserError, match=f"{key} holds for the whole model; give it one value"):
        acm.merge(recipe(method, *f32, parameters={key: value}), tmp_path / "out")


@pytest.mark.parametrize("method, key, value, words", [
    ("pcb", "ratio", 0, "in \\(0, 1\\], not 0"), ("pcb", "clip", 0.5, "in \\[0, 0.5\\), not 0.5"),
    ("pcb", "clip", -0.1, "not -0.1"), ("pcb", "signed", 2, "true or false"),
    ("consensus", "agreement", 1.5, "agreement is a whole number"), ("consensus", "agreement", -1, "not -1"),
    ("consensus", "agreement", float("inf"), "whole number"), ("consensus", "agreement", float("nan"), "whole number"),
    ("consensus", "threshold", -0.1, "at least 0"), ("consensus", "density", 1.1, "in \\(0, 1\\]"),
    ("widen", "above_average", -1, "at least 0"), ("widen", "calibration", float("nan"), "at least 0"),
])  # fmt: skip
def test_parameters_out_of_range_are_refused(f32, tmp_path, method, key, value, words):
    with pytest.raises(UserError, match=f"{key}.*{words}|{words}"):
        acm.merge(recipe(method, *f32, parameters={key: value}), tmp_path / "out")


def ranks(values):
    """Rank over the number of columns, ascending, ties by position."""
    found = np.empty(len(values))
    found[np.argsort(values, kind="stable")] = np.arange(len(values)) / len(values)
    return found


def scored(significance, above_average, calibration):
    """WIDEN's scores of a significance, (models, columns or entries)."""
    powers = np.exp(significance)
    mean = significance.reshape(len(significance), -1).mean(1).reshape(-1, *[1] * (significance.ndim - 1))
    above = significance > above_average * mean + 1e-12  # the middle rank is the mean
    return np.where(above, calibration, powers / powers.sum(0))


def widened(base, deltas, above_average, calibration, embedding=False):
    """WIDEN of one tensor by norms and cosines of its columns, of an embedding's rows, float64."""
    if base.ndim == 1:
        return base + (scored(abs(np.stack(deltas)), above_average, calibration) * deltas).sum(0)
    if embedding:
        return widened(base.T, [d.T for d in deltas], above_average, calibration).T
    before, changes = np.linalg.norm(base, axis=0), []
    for delta in deltas:
        after = np.linalg.norm(base + delta, axis=0)
        cosine = (base / before * (base + delta) / after).sum(0)
        changes.append((ranks(abs(after - before)), ranks(1 - cosine)))
    scores = [scored(np.stack(kind), above_average, calibration) for kind in zip(*changes, strict=True)]
    return base + sum(score * delta for score, delta in zip(sum(scores) / 2, deltas, strict=True))


@pytest.mark.parametrize("options", [WIDEN, {"above_average": 1.3, "calibration": 0.4}])
def test_widen_scores_columns_tokens_and_entries(f32, merged, tensors, options):
    found = merged(weighed(recipe("widen", *f32, parameters=options), WEIGHTS))
    base, *models = map(tensors, f32)
    for name, tensor in found.items():
        start = base[name].double().numpy()
        deltas = [(w * (m[name] - base[name])).double().numpy() for w, m in zip(WEIGHTS, models, strict=True)]
        expected = widened(start, deltas, **options, embedding=name == EMBEDDING)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shape", [(6, 5), (1, 5), (5, 1), (7,), (2, 3, 4)])
@pytest.mark.parametrize("layer", ["", "embed"])
def test_widen_of_one_model_is_the_model(shape, layer):
    base, delta = randn(*shape), randn(*shape, seed=1)
    assert_close(merge("widen", [delta], [0.7], base, numbers=WIDEN, layer=layer), base + 0.7 * delta)


def test_widen_of_one_model_scales_its_most_changed_columns_by_the_calibration():
    """Norms change by 1, 0, 3; directions by 0, 1, 0 (ties by position): ranks 1, 0, 2 and 0, 2, 1; mean rank 1."""
    base = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    delta = torch.tensor([[1.0, -1.0, 3.0], [0.0, 1.0, 0.0]])
    found = merge("widen", [delta], [1.0], base, numbers=WIDEN | {"calibration": 0.4})
    assert_close(found, base + delta * torch.tensor([1.0, 0.7, 0.7]))
    both = merge("widen", [delta], [1.0], base, numbers={"above_average": 0.5, "calibration": 0.4})
    assert_close(both, base + delta * torch.tensor([0.7, 0.7, 0.4]))


def test_widen_of_equal_models_adds_up_what_is_important_and_averages_the_rest():
    base, delta = randn(40, 9), randn(40, 9, seed=1)
    found = (merge("widen", [delta, delta], [1.0, 1.0], base, numbers=WIDEN) - base) / delta
    assert set(found.mean(0).round(decimals=3).tolist()) <= {1.0, 1.5, 2.0} and found.var(0).max() < 1e-6
    assert torch.equal(merge("widen", [0 * delta] * 2, [1.0, 1.0], base, numbers=WIDEN), base)


def test_widen_tells_directions_that_float32_does_not():
    """Columns turn by angles of about 1e-5; 1 − cosine is about 1e-10."""
    base = torch.zeros(2, 6)
    base[0] = torch.arange(1.0, 7.0)
    delta = torch.zeros(2, 6)
    delta[1] = 1e-5 * torch.tensor([3.0, 1.0, 5.0, 2.0, 6.0, 4.0]) * base[0]
    found = merge("widen", [delta], [1.0], base, numbers={"above_average": 1.0, "calibration": 0.0})
    norms = torch.tensor([d**2 * n for d, n in zip([3, 1, 5, 2, 6, 4], range(1, 7), strict=True)]).argsort().argsort()
    turns = torch.tensor([2, 0, 4, 1, 5, 3])
    torch.testing.assert_close(found[1] / delta[1], 1 - 0.5 * (norms > 2.5).float() - 0.5 * (turns > 2.5).float())


def test_widen_of_columns_of_zeros_has_no_nan():
    base, deltas = randn(4, 5), [randn(4, 5, seed=i) for i in (1, 2)]
    base[:, 1], deltas[0][:, 1], base[:, 2], deltas[1][:, 3] = 0.0, 0.0, 0.0, -base[:, 3]
    for layer in ("", "embed"):
        assert merge("widen", deltas, [1.0, 1.0], base, numbers=WIDEN, layer=layer).isfinite().all()
    assert torch.equal(merge("widen", [torch.zeros(4, 5)] * 2, [1.0, 1.0], 0 * base, numbers=WIDEN), 0 * base)
