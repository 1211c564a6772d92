"""How a merge is run changes no byte: threads, chunks, shards, order of the models, kernels; and what NaN does."""

import itertools

import pytest
import torch
from helpers import HEAD, contents, example, halfway, names, same, write_files

import acm
from acm.errors import UserError
from acm.merging import fused, plain, primitives
from acm.merging.registry import METHODS


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def layouts(request, make_model, tensors, tmp_path_factory):
    """The same models in one file and in several, and a folder with their statistics."""

    def trio(folder, shard):
        shared = {"dtype": getattr(torch, request.param), "shard": shard}
        base = make_model(folder / "base", 0, **shared)
        return base, *(make_model(folder / name, seed, base, **shared) for seed, name in ((1, "left"), (2, "right")))

    folder = tmp_path_factory.mktemp(request.param)
    one, many = trio(folder / "one", "5GB"), trio(folder / "many", "20KB")
    write_files(folder, tensors, *one)
    return one, many, folder


def stored(tensors, folder):
    """The bytes of each tensor."""
    return {name: tensor.view(torch.uint8).numpy().tobytes() for name, tensor in tensors(folder).items()}


@pytest.mark.parametrize("method", METHODS)
def test_how_a_merge_is_run_changes_no_byte(layouts, tensors, tmp_path, monkeypatch, method):
    one, many, files = layouts
    monkeypatch.setattr(primitives, "SUMMED", 32)
    count = itertools.count()

    def merged(folders=one, flipped=False, **settings):
        content = example(method, folders, files, seed=5)
        if "weight" in METHODS[method].parameters:
            last = content["models"][-1]
            last["parameters"] = last.get("parameters", {}) | {"weight": 0.9}
        content["models"] = content["models"][:: -1 if flipped else 1]
        return stored(tensors, acm.merge(content, tmp_path / str(next(count)), **settings))

    first = merged(threads=2)
    assert len(first) == 27 and all(first != stored(tensors, folder) for folder in one)
    assert all(merged(threads=threads) == first for threads in (1, 5))
    assert merged(kernels=False) == first
    assert METHODS[method].base_statistics or merged(flipped=True) == first  # those stand in the first entry
    assert merged(folders=many) == first
    for chunk, fused_chunk in ((3, 5), (7, 2)):
        monkeypatch.setattr(plain, "CHUNK", chunk * 32)
        monkeypatch.setattr(fused, "CHUNK", fused_chunk * 32)
        assert merged() == first
        assert merged(folders=many, kernels=False, threads=3) == first


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.kernel])
def test_kernels_change_no_byte_where_dtypes_are_mixed(f32, bf16, tmp_path, method):
    content = example(method, [f32[0], bf16[1], f32[2]])
    compiled, by_torch = (acm.merge(content, tmp_path / str(kernels), kernels=kernels) for kernels in (True, False))
    assert contents(compiled) == contents(by_torch)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    "method", [name for name, row in METHODS.items() if row.models[0] == 1 and not row.reads_files]
)
def test_nan_stops_a_merge(f32, poisoned, tmp_path, method, kernels):
    before = names(tmp_path)
    message = f"{poisoned / 'model.safetensors'}: tensor {HEAD} holds 3 values that are NaN .*--allow-nan"
    with pytest.raises(UserError, match=message):
        acm.merge(example(method, [f32[0], poisoned]), tmp_path / "out", kernels=kernels)
    assert names(tmp_path) == before


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_linear", "dare_ties"])
def test_allowed_nan_leaves_the_rest_right(f32, poisoned, tmp_path, tensors, method, kernels):
    clean = tensors(acm.merge(example(method, f32[:2]), tmp_path / "clean"))
    content = example(method, [f32[0], poisoned])
    found = tensors(acm.merge(content, tmp_path / "out", kernels=kernels, allow_nan=True))
    finite = torch.isfinite(found[HEAD].view(-1))
    odd = set(torch.where(~finite)[0].tolist())
    assert odd <= {3, 70, 71} if METHODS[method].random else odd == {3, 70, 71}  # a mask may drop them
    assert torch.equal(found.pop(HEAD).view(-1)[finite], clean.pop(HEAD).view(-1)[finite])
    assert same(found, clean)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_allowed_nan_has_the_same_bytes_without_kernels(f32, poisoned, tmp_path, dtype):
    content = halfway(f32[0], poisoned, out_dtype=dtype)
    compiled, by_torch = (
        acm.merge(content, tmp_path / f"out-{kernels}", kernels=kernels, allow_nan=True) for kernels in (True, False)
    )
    assert contents(compiled) == contents(by_torch)
