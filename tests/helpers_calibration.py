"""What the tests of calibration share: pico decoders, plain forward passes, arrays of known likeness."""

import numpy as np
import pandas as pd
import torch
import transformers
from safetensors.torch import load_file, save_file
from sklearn.metrics import mutual_info_score
from transformers import AutoModelForCausalLM

from acm.calibration.controls import Sides, pairs
from acm.checkpoints import layer_of

TEXTS = [
    "question: nora has 17 shells. she finds 4 more. how many shells are left? answer:",
    "question: what is 17+5? answer:",
    "question: add 3, 4, 5. answer:",
]
LAYERS = ["embed", "0", "1", "norm", "lm_head"]  # of the pico models
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SIZES = {
    "vocab_size": 97, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
CAPPED = {"sliding_window": 5, "final_logit_softcapping": 2.0}
DECODERS = {
    "Qwen2": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "Qwen3": {},
    "Llama": {"attention_bias": True},
    "Mistral": {"sliding_window": 5},
    "Gemma": {},
    "Gemma2": CAPPED,
    "Gemma3Text": CAPPED,
    "Granite": {"logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "Cohere": {"logit_scale": 0.5},
    "Olmo2": {},
}


class Killed(Exception):
    """Ends a run in the middle."""


def make_decoder(folder, kind, **more):
    """A folder with a random model of this kind; some of its numbers are far from 0, so that scales and caps show."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(SIZES | DECODERS.get(kind, {}) | more))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + 0.05)
    model.save_pretrained(folder)
    return folder


def edit_tensors(folder, **tensors):
    """Change stored tensors; None removes one."""
    held = load_file(folder / "model.safetensors")
    held = {name: value for name, value in {**held, **tensors}.items() if value is not None}
    save_file(held, folder / "model.safetensors", {"format": "pt"})


def load_plain(folder, dtype=torch.float32):
    """transformers' own model."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.no_grad()
def activations(folder, text, tokenizer, weights=None):
    """Layer → bf16 activations of a plain forward pass of a pico model."""
    model = load_plain(folder)
    if weights:
        model.load_state_dict(weights)
    blocks = (block.mlp.down_proj for block in model.model.layers)
    found = {}
    for layer, module in zip(LAYERS, [model.model.embed_tokens, *blocks, model.model.norm, model.lm_head], strict=True):
        module.register_forward_hook(lambda _m, _i, output, layer=layer: found.__setitem__(layer, output[0].bfloat16()))
    model(tokenizer(text, return_tensors="pt")["input_ids"])
    return found


def oracle(x, y):
    """Plug-in MI by scikit-learn."""
    return mutual_info_score(*(np.unique(a.double().numpy().ravel(), return_inverse=True)[1].ravel() for a in (x, y)))


def pair(seed, shape, dtype, noise=0.3, decimals=2):
    """Two correlated arrays with repeated values, some of them +0 and −0."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator).round(decimals=decimals)
    y = (x + noise * torch.randn(shape, generator=generator)).round(decimals=decimals)
    x[torch.rand(shape, generator=generator) < 0.1] = 0.0
    x[torch.rand(shape, generator=generator) < 0.1] = -0.0
    return x.to(dtype), y.to(dtype)


def normal(seed, *shape, rho=0.0):
    """Two arrays of normal numbers whose entries correlate by rho, float64."""
    x, noise = np.random.default_rng(seed).standard_normal((2, *shape))
    return x, rho * x + np.sqrt(1 - rho**2) * noise


def whole_pair(control, x, y, key="key", entries=10**9):
    """The pair that a control compares, put together from its chunks."""
    return [torch.cat(side) for side in zip(*pairs(control, Sides(x, y), key, entries), strict=True)]


def assert_same(found, expected):
    """Equal tables, to the last bit."""
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def task_vectors_of(base, finetuned):
    """Layer → θ_0 and δ of its tensors, float64."""
    found = {layer: [] for layer in LAYERS}
    for name, x in base.items():
        x = x.double().numpy()
        found[layer_of(name)].append((x, finetuned[name].double().numpy() - x))
    return found


def length(arrays):
    return np.sqrt(sum((a**2).sum() for a in arrays))


def rank_by_svd(x):
    """exp of the entropy of the shares of the squared singular values."""
    shares = np.linalg.svd(np.atleast_2d(x), compute_uv=False) ** 2
    shares = shares[shares > 0] / shares.sum()
    return np.exp(-(shares * np.log(shares)).sum()) if len(shares) else 0.0
