"""Models and programs for the comparison with mergekit."""

import json

import pytest
import torch
import yaml
from helpers import EMBEDDING, HEAD
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import acm
from abacus.training import new_model


@pytest.fixture(scope="session")
def run_mergekit():
    """Merges the text of a recipe with mergekit into a folder. seed: of its random masks. cache: of merged adapters."""
    from mergekit.config import MergeConfiguration  # here, so that the other tests run without mergekit
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    def merge(text, out, seed=None, cache=None):
        options = MergeOptions(quiet=True, random_seed=seed, lora_merge_cache=cache and str(cache))
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(out), options)
        return out

    return merge


@pytest.fixture
def both(tmp_path, tensors, run_mergekit):
    """Writes one recipe file, runs it through acm and mergekit, and returns what each made."""

    def run(text):
        (tmp_path / "recipe.yml").write_text(text)
        ours = acm.merge(tmp_path / "recipe.yml", tmp_path / "ours")
        return tensors(ours), tensors(run_mergekit(text, tmp_path / "theirs"))

    return run


@pytest.fixture(scope="session")
def deep(tokenizer, tmp_path_factory):
    """Folders of a base and two fine-tuned models of five layers, float32; read only."""
    folder, generator, folders, base = tmp_path_factory.mktemp("deep"), torch.Generator().manual_seed(0), [], None
    for name in ("base", "left", "right"):
        model = new_model(tokenizer, hidden=16, layers=5)
        noise = {n: torch.randn(t.shape, generator=generator) for n, t in model.state_dict().items()}
        state = {n: base[n] + 0.02 * t if base else 0.2 * t + 0.1 for n, t in noise.items()}
        base = base or state
        model.load_state_dict(state)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        folders.append(folder / name)
    return folders


def add_tokens(folder, added, rows, seed):
    """Appends special tokens to a model's tokenizer, and random rows to its embedding and head."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.save_pretrained(folder)
    weights, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(seed)
    for name in (EMBEDDING, HEAD):
        more = 0.2 * torch.randn(rows - len(weights[name]), 16, generator=generator)
        weights[name] = torch.cat([weights[name], more])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))


@pytest.fixture(scope="session")
def worded(make_model, f32, tmp_path_factory):
    """Models with tokens of their own: base, left and right with other added tokens, all padded but the first."""
    folder = tmp_path_factory.mktemp("worded")
    models = [make_model(folder / name, seed, f32[0]) for seed, name in enumerate(("base", "left", "right"), 5)]
    add_tokens(models[1], ["<|think|>", "<|answer|>"], 440, 1)
    add_tokens(models[2], ["<|tool|>", "<|answer|>"], 436, 2)
    return models
