"""Methods that choose entries: closed forms by hand, properties, exact ranks, and oracles in numpy."""

import numpy as np
import pytest
import torch
from helpers import recipe, same
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_cases import BASE, FIRST, SECOND, assert_close, merge, randn

import acm
from acm.errors import UserError
from acm.merging import plain, primitives
from acm.merging.methods import merge_tensor
from acm.merging.methods.selective import importance, values_at
from acm.merging.settings import Settings

RAM = {"epsilon": 1e-5}
PLUS = {"r": 0.1, "alpha": 0.2, "epsilon": 1e-5}
SCE = {"select_topk": 1.0, "weights_only": False}
FLOATS = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45])


def chosen(method, deltas, coefficients=None, base=BASE, **numbers):
    """The method's change of the base."""
    numbers = {"ram": RAM, "ramplus_tl": PLUS, "sce": SCE}.get(method, {}) | numbers
    return merge(method, deltas, coefficients or [1.0] * len(deltas), base, numbers=numbers) - base


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40), st.integers(1, 7), st.data())
def test_values_at_ranks_are_those_of_a_sort(values, step, data):
    scores = torch.tensor(values, dtype=torch.float32)
    ranks = sorted(data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=4)))
    found = values_at(lambda: scores.split(step), ranks)
    assert found.dtype == np.float32 and np.array_equal(found, np.sort(scores.numpy())[ranks])


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0, 9.0])
def test_nearswap_clips_each_entry(t):
    assert_close(chosen("nearswap", [FIRST], t=t), FIRST.clamp(-t, t))


def test_nearswap_clips_what_coefficients_have_scaled():
    assert_close(chosen("nearswap", [FIRST], [0.3], t=0.5), (0.3 * FIRST).clamp(-0.5, 0.5))


def test_nearswap_of_the_smallest_changes():
    delta = torch.tensor([5e-7, -2e-6, 1e-7, 0.0])
    expected = torch.tensor([0.05 * 5e-7, -5e-8, 0.05 * 1e-7, 0.0])  # t / 1e-6 is 0.05
    found = merge("nearswap", [delta], [1.0], torch.zeros(4), numbers={"t": 5e-8})
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def by_fence(base, model):
    """In numpy, float64: the importance of each entry and the fence."""
    base, model = (np.asarray(x, np.float64) for x in (base, model))
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) + 1e-8 for x in (model, base))
    scores = np.abs(model - base) * (p * np.log(p / q)).sum(-1, keepdims=True)
    ranked = np.sort(scores.ravel())
    first, median, third = (ranked[int(q * (ranked.size - 1))] for q in (0.25, 0.5, 0.75))
    return scores, median + 1.5 * (third - first)


@pytest.mark.parametrize("shape", [(40, 16), (3, 5, 8), (200,)])
def test_arcee_fusion_keeps_what_reaches_the_fence(shape):
    base, delta = randn(*shape), 0.3 * randn(*shape, seed=1)
    scores, fence = by_fence(base, base + delta)
    change = merge("arcee_fusion", [delta], [1.0], base) - base
    clear = np.abs(scores / fence - 1) > 1e-4  # elsewhere float32 decides
    assert clear.mean() > 0.98 and 0.02 < (change != 0).double().mean() < 0.4
    expected = torch.where(torch.from_numpy(scores >= fence), delta, 0.0)
    torch.testing.assert_close(change[clear], expected[clear], rtol=1e-4, atol=1e-6)


def test_arcee_fusion_scales_the_task_vector_first():
    base, delta = randn(40, 16), 0.3 * randn(40, 16, seed=1)
    found = merge("arcee_fusion", [delta], [0.5], base)
    assert_close(found, merge("arcee_fusion", [0.5 * delta], [1.0], base))


def test_arcee_fusion_leaves_rows_that_moved_little():
    sizes = torch.tensor([1.0, 1.1, 1.2, 90.0, 1.3, 1.4, 1.5, 1.6])
    delta = 0.01 * sizes[:, None] * torch.tensor([1.0, -1.0, 1.0, -1.0])
    change = merge("arcee_fusion", [delta], [1.0], torch.zeros(8, 4))
    assert torch.equal(change, delta * (sizes == 90)[:, None])


@pytest.mark.parametrize("base, delta", [(randn(9, 1), randn(9, 1, seed=1)), (randn(3, 4), torch.zeros(3, 4))])
def test_arcee_fusion_takes_all_where_nothing_is_important(base, delta):
    assert_close(merge("arcee_fusion", [delta], [1.0], base), base + delta)


def test_the_divergence_of_short_changes_is_rounding_in_float32():
    base = 0.03 * randn(64, 1536)
    signs = {}
    for size in (3e-3, 1e-4):
        scores = importance(base, size * randn(64, 1536, seed=1))
        signs[size] = (scores < 0).any(dim=-1).double().mean().item()
    assert signs[3e-3] == 0 and signs[1e-4] > 0.1  # a divergence is never negative


def test_ram_takes_what_one_changed_and_averages_what_several_changed():
    deltas = [torch.tensor([3.0, 0.0, 2.0, 0.5]), torch.tensor([-1.0, 4.0, 0.0, 0.25])]
    assert_close(chosen("ram", deltas), [1.0, 4.0, 2.0, 0.375])
    assert_close(chosen("ram", deltas, epsilon=0.4), [1.0, 4.0, 2.0, 0.5])
    assert_close(chosen("ram", deltas, [0.5, 1.0], epsilon=0.4), [0.25, 4.0, 1.0, 0.0])  # λ first, then the bound


def test_ramplus_boosts_what_one_changed_by_how_much_it_shares():
    deltas = [torch.tensor([3.0, 0.0, 2.0, 0.5]), torch.tensor([-1.0, 4.0, 0.0, 0.0])]
    # shared: entry 0; alone: 2 of the first, 1 of the second; the ratios 0.5 and 1 stop at alpha
    assert_close(chosen("ramplus_tl", deltas), [1.0, 4.0 * 1.02, 2.0 * 1.02, 0.5 * 1.02])
    assert_close(chosen("ramplus_tl", deltas, r=1.0, alpha=0.75), [1.0, 4.0 * 1.75, 2.0 * 1.5, 0.5 * 1.5])
    assert_close(chosen("ramplus_tl", deltas, alpha=0.0), chosen("ram", deltas))


def test_ramplus_where_all_is_shared_or_nothing_is_changed():
    assert_close(chosen("ramplus_tl", [FIRST, SECOND], epsilon=0.0), (FIRST + SECOND) / 2)
    assert not chosen("ramplus_tl", [FIRST, SECOND], epsilon=9.0).any()


@pytest.mark.parametrize("method", ["ram", "ramplus_tl"])
def test_one_models_changes_are_taken_but_for_the_smallest(method):
    delta = torch.tensor([3.0, -9e-6, 1.1e-5, 0.0])
    found = merge(method, [delta], [1.0], torch.zeros(4), numbers=PLUS)
    assert found.tolist() == [delta[0], 0.0, delta[2], 0.0]


def by_selection(deltas, top, weights_only):
    """In numpy, float64: select, calculate, erase."""
    deltas = np.stack([np.asarray(delta, np.float64) for delta in deltas])
    spread = ((deltas - deltas.mean(0)) ** 2).mean(0)
    ranked = np.sort(spread[spread > 0])[::-1]
    count = int(len(ranked) * top)
    mask = spread >= ranked[count - 1] if count else np.zeros(spread.shape, bool)
    mask = np.ones_like(mask) if top == 1 else mask
    weights = ((deltas * mask) ** 2).reshape(len(deltas), -1).mean(1)
    weights = np.ones(len(deltas)) if weights.sum() < (1e-300 if weights_only else 1e-6) else weights
    weights = (weights / weights.sum()).reshape(-1, *[1] * mask.ndim)
    taken = deltas if weights_only else deltas * mask
    agrees = np.where(taken.sum(0) >= 0, taken > 0, taken < 0)
    mass = (weights * agrees).sum(0)
    return (weights * agrees * taken).sum(0) / np.where(mass == 0, 1, mass)


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("top", [1.0, 0.7, 0.3, 0.04, 0.0])
@pytest.mark.parametrize("count, scale", [(1, 1.0), (2, 1.0), (3, 1.0), (3, 1e-4)])
def test_sce_selects_calculates_and_erases(weights_only, top, count, scale):
    deltas = [(i + 1) * scale * randn(6, 5, seed=60 + i) for i in range(count)]
    found = merge(
        "sce", deltas, [1.0] * count, torch.zeros(6, 5), numbers={"select_topk": top, "weights_only": weights_only}
    )
    torch.testing.assert_close(
        found.double(), torch.from_numpy(by_selection(deltas, top, weights_only)), rtol=1e-5, atol=1e-8
    )


def test_sce_by_hand():
    deltas = [torch.tensor([2.0, 1.0, 0.0, 3.0]), torch.tensor([2.0, -3.0, 1.0, 1.0])]
    # variances 0, 4, 1/4, 1; mean squares 14/4 and 15/4; signs +, −, +, +
    full = [2.0, -3.0, 1.0, (14 * 3 + 15 * 1) / 29]
    assert_close(chosen("sce", deltas), full)
    # the two of three largest variances: entries 1 and 3, with mean squares 10/4 and 10/4
    assert_close(chosen("sce", deltas, select_topk=0.7), [0.0, -3.0, 0.0, 2.0])
    assert_close(chosen("sce", deltas, select_topk=0.7, weights_only=True), [2.0, -3.0, 1.0, 2.0])


def test_sce_of_one_model():
    assert_close(chosen("sce", [FIRST]), FIRST)
    assert_close(chosen("sce", [FIRST], [0.3]), 0.3 * FIRST)
    assert not chosen("sce", [FIRST], select_topk=0.9).any()  # nothing varies
    assert_close(chosen("sce", [FIRST], select_topk=0.9, weights_only=True), FIRST)


def test_sce_of_equal_models_is_the_model():
    assert_close(chosen("sce", [FIRST] * 3), FIRST)


def test_sce_weighs_short_task_vectors_alike_unless_by_the_authors_code():
    deltas = [torch.full((4,), 1e-4), torch.full((4,), 3e-4)]
    alike = merge("sce", deltas, [1.0, 1.0], torch.zeros(4), numbers=SCE)
    weighed = merge("sce", deltas, [1.0, 1.0], torch.zeros(4), numbers=SCE | {"weights_only": True})
    torch.testing.assert_close(alike, torch.full((4,), 2e-4))
    torch.testing.assert_close(weighed, torch.full((4,), (1 * 1e-4 + 9 * 3e-4) / 10))


def test_sce_selects_all_entries_tied_with_the_last():
    deltas = [torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.zeros(4)]
    assert_close(chosen("sce", deltas, select_topk=0.5), [1.0, 1.0, 1.0, 5.0])


def test_sce_rounds_the_number_of_entries_in_float32():
    deltas = [torch.arange(1.0, 101.0), torch.zeros(100)]
    found = chosen("sce", deltas, select_topk=0.29, base=torch.zeros(100))
    assert int((found != 0).sum()) == 29  # 0.29 · 100 is 28.999… in float64


@pytest.mark.parametrize("method", ["nearswap", "arcee_fusion", "ram", "ramplus_tl", "sce"])
def test_nan_raises_nothing(method):
    broken, numbers = torch.tensor([1.0, float("nan"), float("inf"), -float("nan")]), PLUS | SCE | {"t": 0.1}
    for extra in ({}, {"select_topk": 0.5}):
        merge(method, [broken], [1.0], numbers=numbers | extra)
        if method in ("ram", "ramplus_tl", "sce"):
            merge(method, [FIRST, broken], [1.0, 1.0], numbers=numbers | extra)


@pytest.mark.parametrize("method, parameters", [
    ("arcee_fusion", {}), ("nuslerp", {"weight": 0.5, "nuslerp_flatten": False}),
    ("nuslerp", {"weight": 0.5, "nuslerp_flatten": False, "nuslerp_row_wise": True}),
    ("della", {"weight": 0.5, "density": 0.5}),
])  # fmt: skip
def test_a_vector_is_one_row_however_long(f32, merged, monkeypatch, method, parameters):
    content = recipe(method, *(f32[:2] if method == "arcee_fusion" else f32), parameters=parameters)
    expected = merged(content)
    monkeypatch.setattr(primitives, "SUMMED", 8)
    if method == "nuslerp":
        expected = merged(content)
    monkeypatch.setattr(plain, "CHUNK", 8)  # vectors have 16 entries and more
    assert same(merged(content), expected)


def test_a_vector_longer_than_a_chunk_has_one_softmax():
    size = plain.CHUNK + 5
    base, delta = randn(size), 0.3 * randn(size, seed=1)
    scores, fence = by_fence(base, base + delta)
    change = merge_tensor("arcee_fusion", base, [base + delta], Settings([1.0])) - base
    assert abs((change != 0).double().mean().item() - (scores >= fence).mean()) < 1e-3


@pytest.mark.parametrize("method, parameters, words", [
    ("nearswap", {}, "nearswap needs `t`"),
    ("nearswap", {"t": -0.1}, "t is the most that an entry moves, at least 0, not -0.1"),
    ("ram", {"epsilon": -1}, "epsilon is the change that counts as none, at least 0, not -1"),
    ("ramplus_tl", {"alpha": -1}, "alpha is the largest ratio that counts, at least 0, not -1"),
    ("ramplus_tl", {"r": "much"}, "r must be a number"),
    ("sce", {"select_topk": 1.5}, r"select_topk is in \[0, 1\], not 1.5"),
    ("sce", {"weights_only": 2}, "weights_only must be true or false"),
    ("arcee_fusion", {"tukey_fence": 1.5}, "unknown key of arcee_fusion 'tukey_fence'"),
])  # fmt: skip
def test_what_is_refused(f32, tmp_path, method, parameters, words):
    with pytest.raises(UserError, match=words):
        acm.merge(recipe(method, *f32[:2], parameters=parameters), tmp_path / "out")


@pytest.mark.parametrize("method", ["nearswap", "arcee_fusion"])
def test_methods_of_one_model_refuse_two(f32, tmp_path, method):
    with pytest.raises(UserError, match=f"{method} takes exactly 1 model besides the base, not 2"):
        acm.merge(recipe(method, *f32, parameters={"t": 0.1} if method == "nearswap" else {}), tmp_path / "out")
