"""Stands in for the blocks of a model, to see what the model's own forward pass hands them."""

from __future__ import annotations

import inspect

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from acm.checkpoints import Checkpoint


class Recorder(nn.Module):
    """Stands for a block: notes what it is called with, and passes the hidden state on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.seen: Tensor | None = None
        self.call: dict[str, object] = {}
        self.count = 0
        self.names = list(inspect.signature(block.forward).parameters)[1:]
        for name in ("attention_type", "layer_type", "layer_idx", "is_sliding"):  # what models ask of their blocks
            if hasattr(block, name):
                setattr(self, name, getattr(block, name))

    def forward(self, hidden: Tensor, *arguments: object, **named: object) -> Tensor:
        self.seen = hidden
        self.call = dict(zip(self.names, arguments, strict=False)) | named
        self.count += 1
        return hidden


class Passage(nn.Module):
    """Stands for a decoder: its output is its input."""

    def forward(self, inputs_embeds: Tensor, **_: object) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=inputs_embeds)


def empty_model(model: Checkpoint, dtype: torch.dtype) -> PreTrainedModel:
    """The model without weights, by transformers' own code. Which attention kernel runs is not up to the config."""
    own = {key: model.config[key] for key in ("vocab_size", "tie_word_embeddings") if key in model.config}
    config = AutoConfig.from_pretrained(model.home, trust_remote_code=False, **own)
    with init_empty_weights(include_buffers=False):
        empty = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False, attn_implementation=None)
    return empty.eval()


def alike(one: object, other: object) -> bool:
    """Whether two calls hand over the same. What cannot be compared counts as another."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return one is other or (isinstance(one, (bool, int, float, str)) and one == other)
