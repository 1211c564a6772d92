"""Parity with mergekit 0.1.5 in float32, of methods that turn tensors on spheres and of those that choose entries."""

import pytest
import torch
import yaml
from helpers import CLASSIC, FILTERS, assert_equal, same, write

import acm
from abacus import CHECKPOINTS
from acm.errors import UserError

ROWS, COLUMNS = {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}
WEIGHTS = [(1, {"weight": 0.3}), (2, {"weight": 0.9})]


@pytest.fixture
def near(deep, tensors, variant):
    """A copy of one of the deep models whose task vector is shorter."""
    base = tensors(deep[0])

    def make(folder, factor):
        def shrink(held):
            held.update({name: base[name] + factor * (tensor - base[name]) for name, tensor in held.items()})

        return variant(folder, f"{folder.name}-near", weights=shrink)

    return make


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("models, parameters", [
    (WEIGHTS, {}), (WEIGHTS, ROWS), (WEIGHTS, COLUMNS), (WEIGHTS, {"nuslerp_row_wise": True}),
    ([(1, {}), (2, {})], {"weight": 1.0}), ([(1, {}), (2, {})], {"weight": 0.0}),
    ([(1, {"weight": -0.3}), (2, {"weight": 0.9})], {}), ([(1, {"weight": 1.0}), (2, {"weight": -1.0})], {}),
    ([(1, {"weight": FILTERS}), (2, {"weight": [0.1, 0.8, 0.4]})], {"nuslerp_flatten": {"filter": "mlp", "value": 0}}),
])  # fmt: skip
def test_nuslerp(both, deep, tensors, base, models, parameters):
    assert_equal(*both(write("nuslerp", deep, models, parameters, base=base)), tensors(deep[0]))


def test_nuslerp_of_a_base_and_a_model_without_base_model(both, f32, tensors):
    models = [(0, {"weight": 0.6}), (1, {"weight": 0.4})]
    assert_equal(*both(write("nuslerp", f32, models, {}, base=False)), tensors(f32[0]))


@pytest.mark.parametrize("method, parameters", [("nuslerp", {"weight": 0.4}), ("multislerp", {"weight": [0.4, 0.9]})])
def test_a_base_that_is_listed_too(both, f32, tensors, method, parameters):
    assert_equal(*both(write(method, f32, [(0, {}), (1, {}), (2, {})], parameters)), tensors(f32[0]))


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("models, parameters", [
    (WEIGHTS, {}), (WEIGHTS, {"normalize_weights": False}), (WEIGHTS, {"eps": 1e-3}),
    ([(1, {"weight": 0.3})], {}), ([(1, {"weight": 0.3})], {"normalize_weights": False}),
    ([(1, {"weight": [0.2, 0.7]}), (2, {"weight": 0.5})], {"normalize_weights": False}),
])  # fmt: skip
def test_multislerp(both, deep, tensors, base, models, parameters):
    assert_equal(*both(write("multislerp", deep, models, parameters, base=base)), tensors(deep[0]))


@pytest.mark.parametrize(
    "method, parameters", [("multislerp", {"weight": 0.7}), ("karcher", {}), ("karcher", {"max_iter": 1})]
)
def test_three_models(both, deep, tensors, method, parameters):
    assert_equal(*both(write(method, deep, [(0, {}), (1, {}), (2, {})], parameters, base=False)), tensors(deep[0]))


@pytest.mark.parametrize("models, base, parameters", [
    ([1, 2], False, {}), ([1, 2], True, {}), ([0, 1], True, {}), ([1], True, {}), ([1], False, {}),
    ([1, 2], True, {"max_iter": 0}), ([1, 2], True, {"tol": 0.3}),
])  # fmt: skip
def test_karcher(both, deep, tensors, models, base, parameters):
    text = write("karcher", deep, [(i, {}) for i in models], parameters, base=base)
    assert_equal(*both(text), tensors(deep[0]))


def test_karcher_of_near_models_is_rounding_in_mergekit(both, deep, tensors, near):
    folders = [near(folder, 0.005) for folder in deep[1:]]
    ours, theirs = both(write("karcher", [deep[0], *folders], [(1, {}), (2, {})], {}))
    held = [tensors(folder) for folder in (deep[0], *folders)]
    means = {name: sum(own[name] for own in held) / 3 for name in ours}
    deviations = [max((made[n] - mean).abs().max() for n, mean in means.items()) for made in (ours, theirs)]
    assert deviations[0] < 1e-6 and deviations[1] > 1e-5


@pytest.mark.parametrize("t", [0.01, 1e-7, 3.0, [0.001, 0.02], CLASSIC], ids=str)
def test_nearswap(both, deep, tensors, t):
    made = both(write("nearswap", deep, [(1, {})], {"t": t}))
    if t == 1e-7:
        assert_equal(*made, made[1] | {n: u + 1 for n, u in made[1].items()})
    else:
        assert_equal(*made, tensors(deep[0]), everywhere=t is not CLASSIC)


@pytest.mark.parametrize("scale", [1.0, 1e-2])  # the divergences of the second are mostly rounding
def test_arcee_fusion_takes_the_same_entries(both, deep, tensors, near, scale):
    ours, theirs = both(write("arcee_fusion", [deep[0], near(deep[1], scale)], [(1, {})], {}))
    assert same(ours, theirs) and not same(ours, tensors(deep[0]))


def test_arcee_fusion_of_abacus(both, tensors):
    folders = [CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow"]
    assert_equal(*both(write("arcee_fusion", folders, [(1, {})], {})), tensors(folders[0]), everywhere=False)


@pytest.fixture
def sparse(deep, tensors, variant):
    """The deep models, whose fine-tuned ones changed half of the entries each."""
    base, generator, found = tensors(deep[0]), torch.Generator().manual_seed(4), [deep[0]]

    def some(held):
        for name, tensor in held.items():
            kept = torch.rand(tensor.shape, generator=generator) < 0.5
            held[name] = torch.where(kept, tensor, base[name])

    return [*found, *(variant(folder, folder.name, weights=some) for folder in deep[1:])]


@pytest.mark.parametrize("method, models, parameters", [
    ("ram", [1, 2], {}), ("ram", [1], {}), ("ram", [1, 2], {"epsilon": [0.01, 0.03]}), ("ram", [0, 1, 2], {}),
    ("ramplus_tl", [1, 2], {}), ("ramplus_tl", [1], {}), ("ramplus_tl", [1, 2], {"epsilon": 0.02}),
    ("ramplus_tl", [1, 2], {"r": 0.7, "alpha": 5.0}), ("ramplus_tl", [1, 2], {"r": CLASSIC, "alpha": 0.6}),
])  # fmt: skip
def test_ram(both, sparse, tensors, method, models, parameters):
    text = write(method, sparse, [(i, {}) for i in models], parameters)
    assert_equal(*both(text), tensors(sparse[0]), everywhere="epsilon" not in parameters)


@pytest.mark.parametrize("models", [[1, 2], [1], [0, 1, 2]])
@pytest.mark.parametrize("parameters", [
    {}, {"select_topk": 0.5}, {"select_topk": 0.1}, {"select_topk": 0.29}, {"select_topk": CLASSIC}, {"select_topk": 0},
    {"select_topk": 1, "int8_mask": True, "weight": 0.3},
], ids=str)  # fmt: skip
def test_sce(both, deep, tensors, models, parameters):
    ours, theirs = both(write("sce", deep, [(i, {}) for i in models], parameters))
    base = tensors(deep[0])
    if same(theirs, base):  # nothing is selected
        assert same(ours, base)
    else:
        assert_equal(ours, theirs, base, everywhere="select_topk" not in parameters)


@pytest.mark.parametrize("top", [1.0, 0.4])
def test_sce_of_short_task_vectors_weighs_them_alike(both, deep, tensors, near, tmp_path, top):
    folders = [deep[0], near(deep[1], 0.01), near(deep[2], 0.03)]
    ours, theirs = both(write("sce", folders, [(1, {}), (2, {})], {"select_topk": top}))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-7)
    text = write("sce", folders, [(1, {}), (2, {})], {"select_topk": top, "weights_only": True})
    authors = tensors(acm.merge(yaml.safe_load(text), tmp_path / "authors"))
    assert max((tensor - theirs[name]).abs().max() for name, tensor in authors.items()) > 1e-5


def test_slices_of_nuslerp(both, deep, tensors):
    parts = []
    for ends in ([0, 2], [2, 5]):
        models = [{"model": str(deep[i]), "parameters": {"weight": w}} for i, w in ((1, 0.2), (2, [0.7, 0.4]))]
        sources = [model | {"layer_range": ends} for model in models]
        parts.append({"sources": sources, "parameters": {"nuslerp_flatten": ends[0] == 0}})
    content = {"slices": parts, "merge_method": "nuslerp", "dtype": "float32"}
    assert_equal(*both(yaml.safe_dump(content)), tensors(deep[0]))


@pytest.mark.parametrize("method, models, parameters, key", [
    ("nearswap", [1], {}, "t"), ("nuslerp", [1, 2], {}, "weight"), ("multislerp", [1, 2], {}, "weight"),
])  # fmt: skip
def test_what_mergekit_requires_is_required(both, run_mergekit, deep, tmp_path, method, models, parameters, key):
    text = write(method, deep, [(i, {}) for i in models], parameters)
    with pytest.raises(UserError, match=f"needs `{key}`"):
        both(text)
    with pytest.raises(RuntimeError, match=f"Missing required parameter {key}"):
        run_mergekit(text, tmp_path / "theirs")
