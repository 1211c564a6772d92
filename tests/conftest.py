"""Pico models for the tests: random Qwen2 folders of hidden size 16 and two layers, made in milliseconds."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import acm
from abacus.tokenizer import build_tokenizer
from abacus.training import new_model

torch.set_num_threads(1)
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # of kernels and commands that tests start: two threads on shared cores are slower than one


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def tensors():
    """Reads all tensors of a model folder, sharded or not."""
    return lambda folder: {
        n: t for path in sorted(Path(folder).glob("*.safetensors")) for n, t in load_file(path).items()
    }


@pytest.fixture(scope="session")
def make_model(tokenizer, tensors):
    """Factory: a model folder of seeded normal numbers or, with ``parent``, the parent's weights plus small noise."""

    def make(folder, seed=0, parent=None, dtype=torch.float32, hidden=16, shard="5GB", edit=None):
        model = new_model(tokenizer, hidden=hidden, layers=2)
        generator = torch.Generator().manual_seed(seed)
        if parent:
            model.load_state_dict({name: t.float() for name, t in tensors(parent).items()})
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter + 0.02 * noise if parent else 0.2 * noise + 0.1)
            if edit:
                edit(model)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder)
        return Path(folder)

    return make


def trio(make_model, folder, **settings):
    base = make_model(folder / "base", 0, **settings)
    return base, *(make_model(folder / name, seed, base, **settings) for seed, name in ((1, "left"), (2, "right")))


@pytest.fixture(scope="session")
def f32(make_model, tmp_path_factory):
    """Folders of a base and two fine-tuned models, float32; read only."""
    return trio(make_model, tmp_path_factory.mktemp("f32"))


@pytest.fixture(scope="session")
def bf16(make_model, tmp_path_factory):
    """The same in bfloat16."""
    return trio(make_model, tmp_path_factory.mktemp("bf16"), dtype=torch.bfloat16)


def recipe(method, base, *models, parameters=None, **extra):
    return {"merge_method": method, "base_model": str(base), "models": [{"model": str(m)} for m in models],
            "parameters": parameters or {}, **extra}  # fmt: skip


def same(found, expected):
    """Same names, dtypes and bytes; −0 differs from +0."""
    return found.keys() == expected.keys() and all(
        found[n].dtype == expected[n].dtype and torch.equal(found[n].view(torch.uint8), expected[n].view(torch.uint8))
        for n in found
    )


@pytest.fixture
def merged(tmp_path, tensors):
    """Merges a recipe into a new folder and returns the tensors."""
    count = iter(range(100))
    return lambda content: tensors(acm.merge(content, tmp_path / f"merged-{next(count)}"))


@pytest.fixture
def alarm():
    """A test that blocks fails."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("blocked for a minute"))
    signal.alarm(60)
    yield
    signal.alarm(0)
