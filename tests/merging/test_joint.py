"""Methods that decompose task vectors together: KnOTS, DRM and OPCM, against numpy and by hand."""

import numpy as np
import pytest
import torch
from helpers import EMBEDDING, HEAD, recipe
from tensor_cases import BASE, FIRST, SECOND, assert_close, merge, randn

import acm
from acm.errors import UserError
from acm.merging import primitives
from acm.merging.methods import joint, merge_tensor
from acm.merging.settings import Settings

SHAPES = [(6, 5), (5, 6), (20, 4), (4, 20), (6, 6), (1, 5), (5, 1)]
DRM = {"drop_rate": 0.6, "vertical": True}
NUMBERS = {"knots": {}, "drm": DRM, "opcm": {"share": 0.5}}
METHODS = list(NUMBERS)
TURNED = [("knots", {}), ("drm", DRM | {"vertical": False}), ("drm", DRM), ("opcm", {"share": 0.5})]


def several(count, shape, seed=0):
    """Seeded task vectors."""
    return [randn(*shape, seed=10 * seed + i + 1) for i in range(count)]


def joined(method, deltas, weights=None, base=None, **extra):
    """The merged task vector. extra: further fields of Settings, and `density`."""
    base = torch.zeros_like(deltas[0]) if base is None else base
    extra = {"numbers": NUMBERS[method]} | extra
    return merge(method, deltas, weights or [1.0] * len(deltas), base, **extra) - base


def agreeing(parts):
    """TIES' election and mean in numpy, entry by entry."""
    found = np.zeros(parts[0].shape)
    for place in np.ndindex(found.shape):
        values = [part[place] for part in parts]
        agree = [v for v in values if v * sum(values) > 0]
        found[place] = np.mean(agree) if agree else 0
    return found


def largest(values, kept):
    """Zeros but for this many largest magnitudes."""
    least = np.sort(np.abs(values), axis=None)[-kept]
    return np.where(np.abs(values) >= least, values, 0)


def by_knots(deltas, density):
    """KnOTS in numpy: one singular value decomposition of the matrices side by side."""
    u, values, vt = np.linalg.svd(np.hstack(deltas).astype(float), full_matrices=False)
    kept = values > 1e-5 * values[0]
    parts = np.hsplit(vt[kept], len(deltas))
    return u[:, kept] * values[kept] @ agreeing([largest(p, max(1, int(density * p.size))) for p in parts])


def by_drm(deltas, drop, vertical):
    """DRM in numpy, the two directions each by itself."""
    stacked = np.vstack(deltas) if vertical else np.hstack(deltas)
    u, values, vt = np.linalg.svd(stacked.astype(float), full_matrices=False)
    kept = values > 0.01 * values[0]
    u, values, vt = u[:, kept], values[kept], vt[kept]
    parts = np.stack(np.vsplit(u, len(deltas)) if vertical else np.hsplit(vt, len(deltas)))
    lengths = np.linalg.norm(parts, axis=1 if vertical else 2, keepdims=True)
    parts = largest(parts / lengths, max(1, round((1 - drop) * parts.size)))
    parts = parts * lengths * (values[None, None] if vertical else values[None, :, None])
    return agreeing(parts) @ vt if vertical else u @ agreeing(parts)


def cleaned(delta, merged, share):
    """OPCM's projection in numpy, with the square bases of both sides."""
    u, values, vt = np.linalg.svd(merged)
    k = len(values) if share == 1 else int(np.argmax(np.cumsum(values) / values.sum() > share))
    turned = u.T @ delta @ vt.T
    np.fill_diagonal(turned, 0)
    turned[:k, :k] = 0
    return u @ turned @ vt


def by_opcm(models, matrices, share):
    """OPCM in numpy, with the scaling of its code after each model. models: {tensor: δ_i} of each."""

    def norm(model):
        return np.sqrt(sum(np.square(delta).sum() for delta in model.values()))

    merged, factor, norms = dict(models[0]), 1.0, [norm(models[0])]
    for model in models[1:]:
        norms.append(norm(model))
        own = {n: cleaned(d, merged[n], share) if n in matrices else d for n, d in model.items()}
        merged = {n: factor * merged[n] + own[n] for n in model}
        factor = norm(merged) / np.mean(norms)
        merged = {n: d / factor for n, d in merged.items()}
    return merged


@pytest.fixture(params=[primitives.ROWS, 2])
def blocks(request, monkeypatch):
    """Matrices at once, and two rows or columns at a time."""
    monkeypatch.setattr(primitives, "ROWS", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count, density", [(1, 0.4), (2, 1.0), (2, 0.4), (3, 0.7)])
def test_knots(shape, count, density):
    deltas, weights = several(count, shape), [0.7, -0.4, 1.3][:count]
    expected = 0.6 * by_knots([w * d.numpy() for w, d in zip(weights, deltas, strict=True)], density)
    found = joined("knots", deltas, weights, randn(*shape), density=density, scaling=0.6)
    assert_close(found, expected, 1e-5)


def test_knots_trims_each_model_to_its_own_density():
    deltas = several(2, (6, 5))
    found = merge_tensor("knots", torch.zeros(6, 5), deltas, Settings([1.0, 1.0], density=[1.0, 0.1]))
    u, values, vt = np.linalg.svd(np.hstack(deltas).astype(float), full_matrices=False)
    first, second = np.hsplit(vt, 2)
    assert_close(found, u * values @ agreeing([first, largest(second, 3)]), 1e-5)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("vertical", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count, drop", [(1, 0.6), (2, 0.0), (2, 0.8), (3, 0.3)])
def test_drm(shape, count, drop, vertical):
    deltas, weights = several(count, shape), [0.7, -0.4, 1.3][:count]
    expected = 0.6 * by_drm([w * d.numpy() for w, d in zip(weights, deltas, strict=True)], drop, vertical)
    numbers = {"drop_rate": drop, "vertical": vertical}
    assert_close(joined("drm", deltas, weights, randn(*shape), scaling=0.6, numbers=numbers), expected, 1e-5)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count, share", [(1, 0.5), (2, 0.0), (2, 0.5), (2, 1.0), (3, 0.5), (3, 1.0), (4, 0.8)])
def test_opcm_needs_neither_square_bases_nor_the_scaling_between_models(shape, count, share):
    deltas, weights = several(count, shape), [0.7, -0.4, 1.3, 0.5][:count]
    models = [{"": w * d.double().numpy()} for w, d in zip(weights, deltas, strict=True)]
    found = joined("opcm", deltas, weights, randn(*shape), scaling=0.6, numbers={"share": share})
    assert_close(found, 0.6 * by_opcm(models, [""], share)[""], 1e-5)


# Side by side, δ_1 = (3, 0) and δ_2 = (−1, 2) have U = 1, σ = √14, V_1 = (3, 0) / √14, V_2 = (−1, 2) / √14.
# Both sums are +, so V = (3, 2) / √14. Of unit length the rows are (1, 0) and (−1, 2) / √5, and lengths 3 and √5.
def test_knots_and_drm_by_hand():
    deltas = [torch.tensor([[3.0, 0.0]]), torch.tensor([[-1.0, 2.0]])]
    assert_close(joined("knots", deltas), [[3.0, 2.0]])
    for drop, expected in ((0.0, [3.0, 2.0]), (0.5, [3.0, 2.0]), (0.75, [3.0, 0.0])):
        assert_close(joined("drm", deltas, numbers={"drop_rate": drop, "vertical": False}), [expected])


# Stacked, the same two have σ = √(7 ± √13), and a column of U_i is a single number, 1 at unit length. All these tie, so
# none is dropped, and each direction elects between two numbers.
def test_drm_of_two_rows_stacked_drops_none_of_numbers_that_tie():
    deltas = [torch.tensor([[3.0, 0.0]]), torch.tensor([[-1.0, 2.0]])]
    values, vectors = np.linalg.eigh(np.array([[10.0, -2.0], [-2.0, 4.0]]))
    assert values == pytest.approx([7 - 13**0.5, 7 + 13**0.5])
    parts = [delta.numpy() @ vectors for delta in deltas]
    for drop in (0.0, 0.5, 0.9):
        assert_close(joined("drm", deltas, numbers=DRM | {"drop_rate": drop}), agreeing(parts) @ vectors.T, 1e-5)


# S = diag(3, 1): its directions are the axes, with shares 0.75 and 1. Below 0.75 no direction is kept free whole, and δ
# loses its diagonal alone; from 0.75 the first is; at 1 both are.
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_opcm_by_hand(share):
    first, second = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[5.0, 2.0], [-1.0, 7.0]])
    expected = np.array([[3, 2], [-1, 1]] if share < 1 else [[3, 0], [0, 1]])
    expected = expected * (10**0.5 + 79**0.5) / 2 / np.linalg.norm(expected)
    assert_close(joined("opcm", [first, second], numbers={"share": share}), expected)


def test_models_in_spaces_of_their_own_are_added_up():
    deltas = [torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])]
    for method in ("knots", "drm"):
        assert_close(joined(method, deltas), sum(deltas))
    assert_close(joined("opcm", deltas), sum(deltas) * 2.5 / 13**0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_each_becomes_with_one_task_vector(shape):
    base, delta = randn(*shape), randn(*shape, seed=1)
    for method, numbers in (("knots", {}), ("opcm", {"share": 0.5})):
        assert_close(joined(method, [delta], [0.7], base, scaling=0.5, numbers=numbers), 0.35 * delta, 1e-5)
    for numbers in ({"drop_rate": 0.0, "vertical": True}, {"drop_rate": 0.0, "vertical": False}):
        assert_close(joined("drm", [delta], numbers=numbers), delta, 1e-5)
    trimmed = joined("knots", [delta], density=0.2)
    assert_close(joined("drm", [delta], numbers={"drop_rate": 0.8, "vertical": False}), trimmed, 1e-5)
    u, values, vt = np.linalg.svd(delta.double().numpy(), full_matrices=False)
    assert_close(trimmed, u * values @ largest(vt, int(0.2 * vt.size)), 1e-5)


def test_a_trim_in_the_singular_basis_takes_about_a_fifth_of_the_norm():
    delta = randn(40, 40)
    for vertical in (True, False):
        found = joined("drm", [delta], numbers={"drop_rate": 0.8, "vertical": vertical})
        assert 0.7 < found.norm() / delta.norm() < 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_models_give_the_model(shape):
    delta = randn(*shape)
    for vertical in (True, False):
        assert_close(joined("drm", [delta] * 3, numbers={"drop_rate": 0.0, "vertical": vertical}), delta, 1e-5)
    assert_close(joined("knots", [delta] * 3), delta, 1e-5)


@pytest.mark.parametrize("method", ["knots", "drm"])
def test_opposite_models_give_the_base(method):
    delta = randn(6, 5)
    assert_close(joined(method, [delta, -delta]), torch.zeros(6, 5))


@pytest.mark.parametrize("method, numbers", TURNED)
@pytest.mark.parametrize("count", [2, 3])
def test_the_signs_of_a_decomposition_change_no_bit(monkeypatch, method, numbers, count):
    deltas, eigh = several(count, (6, 5)), torch.linalg.eigh
    expected = joined(method, deltas, density=0.5, numbers=numbers)

    def flipped(matrix):
        values, vectors = eigh(matrix)
        return values, vectors * torch.tensor([1.0, -1.0] * len(values))[: len(values)]

    monkeypatch.setattr(torch.linalg, "eigh", flipped)
    assert torch.equal(joined(method, deltas, density=0.5, numbers=numbers), expected)


def test_opcm_depends_on_the_order_of_the_models():
    deltas = several(2, (6, 5))
    found, flipped = joined("opcm", deltas), joined("opcm", deltas[::-1])
    assert (found - flipped).abs().max() > 0.1 and found.norm().item() == pytest.approx(flipped.norm().item())


def test_what_opcm_adds_is_orthogonal_to_the_sum_before():
    first, second = several(2, (6, 5))
    merged, delta = first.double(), second.double()
    for share in (0.0, 0.4, 0.9):
        added = joint.freed(delta, merged, share)
        assert abs((added * merged).sum()) < 1e-12 and added.norm() < delta.norm()
        assert_close((joint.freed(added, merged, share) - added).float(), torch.zeros(6, 5), 1e-12)


def test_opcm_at_a_share_of_one_leaves_only_what_is_new():
    first, second = several(2, (9, 4))
    u = np.linalg.qr(first.double().numpy())[0]
    expected = second.double().numpy() - u @ (u.T @ second.double().numpy())
    assert_close(joint.freed(second.double(), first.double(), 1.0).float(), expected, 1e-6)
    square = several(2, (5, 5))
    assert_close(joint.freed(square[1].double(), square[0].double(), 1.0).float(), torch.zeros(5, 5))


@pytest.mark.parametrize("method, numbers", TURNED)
def test_a_rotation_of_the_shared_side_rotates_the_result(method, numbers):
    deltas = several(3, (6, 6))
    turn = torch.linalg.qr(randn(6, 6, seed=9).double())[0]
    vertical = numbers.get("vertical", False)

    def turned(matrix):
        return (matrix.double() @ turn if vertical else turn @ matrix.double()).float()

    options = {"density": 0.5, "numbers": numbers}
    assert_close(joined(method, list(map(turned, deltas)), **options), turned(joined(method, deltas, **options)), 1e-5)


@pytest.mark.parametrize("method, numbers", TURNED)
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**10, 1e-30, 1e30])
def test_scaled_models_give_a_scaled_result(method, numbers, scale):
    deltas, options = several(2, (6, 5)), {"density": 0.5, "numbers": numbers}
    found = joined(method, [delta * scale for delta in deltas], **options)
    assert_close(found / scale, joined(method, deltas, **options), 1e-5)


@pytest.mark.parametrize("method, numbers", TURNED)
def test_zeros_and_matrices_of_low_rank(method, numbers):
    zero, thin = torch.zeros(6, 5), randn(6, 1) * randn(5, seed=1)
    assert torch.equal(joined(method, [zero, zero], numbers=numbers), zero)
    assert torch.equal(joined(method, [zero], numbers=numbers), zero)
    for deltas in ([thin, zero], [zero, thin], [thin, -thin], [thin, 2 * thin], [thin, randn(6, 5, seed=2)]):
        assert joined(method, deltas, density=0.5, numbers=numbers).isfinite().all()
    for deltas in ([thin], [thin, thin]):
        found = joined(method, deltas, numbers=numbers | ({"drop_rate": 0.0} if method == "drm" else {}))
        assert torch.linalg.matrix_rank(found, rtol=1e-4) == 1


def test_opcm_takes_nothing_where_no_model_came_before():
    delta = randn(6, 5)
    assert_close(
        joined("opcm", [torch.zeros(6, 5), delta]), delta / 2
    )  # the mean norm counts the model that is the base
    assert torch.equal(joint.freed(delta.double(), torch.zeros(6, 5).double(), 0.5), delta.double())


def test_drm_drops_singular_values_of_a_hundredth():
    numbers = {"drop_rate": 0.0, "vertical": True}
    assert_close(joined("drm", [torch.tensor([1.0, 0.009]).diag()], numbers=numbers), torch.tensor([1.0, 0.0]).diag())
    assert_close(joined("drm", [torch.tensor([1.0, 0.02]).diag()], numbers=numbers), torch.tensor([1.0, 0.02]).diag())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method, numbers", TURNED)
def test_what_is_not_finite_makes_the_matrix_nan(method, numbers, value):
    deltas = several(2, (6, 5))
    deltas[1][2, 3] = value
    assert joined(method, deltas, numbers=numbers).isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_in_a_vector_makes_that_entry_nan(method):
    first = FIRST.clone()
    first[2] = float("nan")
    found = joined(method, [first, SECOND], [0.5, 2.0], BASE)
    assert found.isnan().tolist() == [False, False, True, False]


# Weighted by (0.5, 2): (1.5, −0.5, 1, 0.25) and (−4, −8, 2, −0.5).
@pytest.mark.parametrize("method, expected", [
    ("knots", [-1.25, -4.25, 1.5, -0.125]),
    ("drm", [-4.0, -4.25, 1.5, -0.5]),
    ("opcm", None),
])  # fmt: skip
def test_vectors(method, expected):
    found = joined(method, [FIRST, SECOND], [0.5, 2.0], BASE, scaling=0.4)
    if method == "opcm":
        added = 0.5 * FIRST + 2 * SECOND
        expected = added * ((0.5 * FIRST).norm() + (2 * SECOND).norm()) / 2 / added.norm()
    assert_close(found, 0.4 * torch.as_tensor(expected))


def of_models(tensors, folders):
    """Task vectors of each model in numpy: {tensor: δ_i}."""
    base, *models = ({n: t.double().numpy() for n, t in tensors(folder).items()} for folder in folders)
    return base, [{n: model[n] - base[n] for n in base} for model in models]


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_models(f32, merged, tensors, method, embeddings):
    base, (left, right) = of_models(tensors, f32)
    given = {"density": 0.5} if method == "knots" else NUMBERS[method]
    found = merged(recipe(method, *f32, parameters=given | {"embeddings": embeddings}))
    matrices = {n for n, d in left.items() if d.ndim == 2 and (embeddings or n not in (EMBEDDING, HEAD))}
    assert 10 < len(matrices) < len(base)
    by_model = by_opcm([left, right], matrices, 0.5) if method == "opcm" else {}
    for name, tensor in found.items():
        pair = [left[name], right[name]]
        if method == "opcm":
            expected = by_model[name]
        elif name not in matrices:
            expected = np.mean(pair, axis=0) if method == "knots" else agreeing(pair)
        else:
            expected = by_knots(pair, 0.5) if method == "knots" else by_drm(pair, DRM["drop_rate"], DRM["vertical"])
        np.testing.assert_allclose(tensor.double().numpy() - base[name], expected, atol=2e-6, rtol=0)


def test_opcm_gives_the_whole_model_the_mean_norm(f32, merged, tensors):
    base, models = of_models(tensors, f32)
    found = merged(recipe("opcm", *f32))
    norms = [np.sqrt(sum((d**2).sum() for d in model.values())) for model in models]
    change = sum(((t.double().numpy() - base[n]) ** 2).sum() for n, t in found.items())
    assert np.sqrt(change) == pytest.approx(np.mean(norms), rel=1e-5)


def test_opcm_leaves_a_tensor_with_nan_out_of_the_norm(f32, poisoned, merged, tensors, tmp_path):
    out = acm.merge(recipe("opcm", f32[0], poisoned), tmp_path / "out", allow_nan=True)
    found, model = tensors(out), tensors(poisoned)
    assert not found.pop(HEAD).isfinite().all()
    assert all(torch.allclose(tensor, model[name], atol=1e-6) for name, tensor in found.items())


@pytest.mark.parametrize("method, key, value, words", [
    ("knots", "density", 0, "density is the fraction kept, in (0, 1], not 0"),
    ("drm", "drop_rate", 1, "drop_rate is the fraction dropped, in [0, 1), not 1"),
    ("drm", "vertical", 0.5, "vertical must be true or false"),
    ("opcm", "share", 1.5, "share is in [0, 1], not 1.5"),
])  # fmt: skip
def test_parameters_out_of_range(f32, tmp_path, method, key, value, words):
    with pytest.raises(UserError) as error:
        acm.merge(recipe(method, *f32, parameters={key: value}), tmp_path / "out")
    assert words in str(error.value)
