"""The tensors of a merge in memory are those of its files, in the order of the layers."""

import pytest
import torch
from helpers import recipe
from safetensors.torch import load_file

import acm
from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging.tensors import merged_tensors, planned

METHODS = {
    "task_arithmetic": {"weight": 0.3}, "ties": {"weight": 1.0, "density": 0.4},
    "dare_ties": {"weight": 1.0, "density": 0.5},
    "pcb": {}, "twin": {"weight": 1.0, "rank": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_tensors_are_those_of_the_files(bf16, tmp_path, method):
    content = recipe(method, *bf16, parameters=METHODS[method])
    files = load_file(acm.merge(content, tmp_path / "merged") / "model.safetensors")
    found = {tensor.name: tensor for tensor in merged_tensors(planned(content))}
    assert found.keys() == files.keys()
    for name, tensor in found.items():
        assert tensor.shape == tuple(files[name].shape) and tensor.dtype == "bfloat16"
        assert torch.equal(tensor.values(), files[name].float())


def test_trimming_over_all_tensors_is_that_of_the_files(f32, tmp_path):
    content = recipe("ties", *f32, parameters={"weight": 1.0, "density": 0.4}, scope="global")
    files = load_file(acm.merge(content, tmp_path / "merged") / "model.safetensors")
    assert all(torch.equal(tensor.values(), files[tensor.name]) for tensor in merged_tensors(planned(content)))


def test_layers_come_in_order_and_equal_merges_have_equal_digests(f32):
    content = recipe("task_arithmetic", *f32, parameters={"weight": 0.3})
    names = [tensor.name for tensor in merged_tensors(planned(content))]
    layers = [layer_of(name) for name in names]
    assert list(dict.fromkeys(layers)) == ["embed", "0", "1", "norm", "lm_head"]
    assert len(names) == len(set(names)) == len(planned(content).jobs)
    digests = [[t.digest for t in merged_tensors(planned(content))] for _ in range(2)]
    other = [t.digest for t in merged_tensors(planned(content | {"parameters": {"weight": 0.4}}))]
    assert digests[0] == digests[1] and set(digests[0]).isdisjoint(other)


def test_a_tensor_is_merged_when_it_is_asked_for(f32, poisoned):
    """The poisoned head is the last tensor: all others come before the error."""
    content = recipe("task_arithmetic", f32[0], poisoned, parameters={"weight": 0.3})
    found = []
    with pytest.raises(UserError, match=r"lm_head.weight holds 3 values"):
        found += [tensor.name for tensor in merged_tensors(planned(content))]
    stream = merged_tensors(planned(content))
    assert not found and len([next(stream) for _ in range(3)]) == 3
