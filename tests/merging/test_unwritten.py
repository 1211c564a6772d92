"""A merge that is not written has the identity and the tensors of the folder that it would be, and takes no disk."""

import os

import pytest
import torch
from helpers import recipe

import acm
from acm import identity as module
from acm.identity import identity
from acm.merging.tensors import planned
from acm.merging.unwritten import Unwritten


def sources(folders, words):
    """Recipes whose results differ in everything that an identity counts: shards, dtype, vocabulary, coefficients."""
    bf16, large = folders
    yield recipe("task_arithmetic", *bf16[:2], parameters={"weight": 0.3})
    yield recipe("ties", *large[:3], parameters={"weight": 1.0, "density": 0.4})
    yield recipe("linear", *words, parameters={"weight": 1.0}, tokenizer_source="union")


@pytest.mark.parametrize("whole", [1 << 26, 1000])  # without and with files that are hashed by themselves
def test_it_is_known_by_the_identity_of_its_folder(bf16, large, worded, tmp_path, tensors, monkeypatch, whole):
    monkeypatch.setattr(module, "WHOLE", whole)
    for number, content in enumerate(sources((bf16, large), worded)):
        merged = acm.merge(content, tmp_path / f"merged-{number}")
        source = Unwritten(planned(content), tmp_path / str(number) / merged.name)
        stream = source.tensors()
        first = next(stream)
        assert not source.identity
        found = {tensor.name: tensor.values() for tensor in (first, *stream)}
        assert source.identity == identity(merged) != identity(source.folder)
        files = tensors(merged)
        assert found.keys() == files.keys() == source.shapes.keys()
        assert all(torch.equal(found[name], files[name].float()) for name in files)


def test_its_folder_has_all_but_the_numbers(large, tmp_path, tensors):
    content = recipe("task_arithmetic", *large[:2], parameters={"weight": 0.3})
    merged, source = acm.merge(content, tmp_path / "m"), Unwritten(planned(content), tmp_path / "other" / "m")
    assert {path.name for path in source.folder.iterdir()} == {path.name for path in merged.iterdir()}
    shards = sorted(source.folder.glob("*.safetensors"))
    assert len(shards) > 1 and [p.stat().st_size for p in shards] == [(merged / p.name).stat().st_size for p in shards]
    assert sum(path.stat().st_blocks for path in shards) * 512 < source.plan.bytes / 10
    assert not any(found.any() for found in tensors(source.folder).values())
    assert "task_arithmetic" in source.card


def test_no_room_on_the_disk_is_no_reason_to_refuse(bf16, tmp_path, monkeypatch):
    content = recipe("task_arithmetic", *bf16[:2], parameters={"weight": 0.3})
    full = os.statvfs_result((4096, 4096, 10, 0, 0, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(acm.errors.UserError, match="no space left"):
        acm.merge(content, tmp_path / "merged")
    assert planned(content).jobs
