"""Keys and values of a batch in memory that grows by steps, so that a new token costs no copy of those before it.

transformers' own growing cache copies all keys and values for every token. The numbers are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

STEP = 256  # tokens by which the memory grows, at least
SHARE = 1 / 8  # and at least this share of the tokens that are held


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, tokens, channels): the front part of larger tensors."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in those of new tokens. Returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room: list[torch.Tensor] = [key_states[..., :0, :], value_states[..., :0, :]]
        held, new = self.get_seq_length(), key_states.shape[-2]
        if held + new > self.room[0].shape[-2]:
            size = held + new + max(STEP, int(SHARE * held))
            self.room = [self.enlarged(old, size, held) for old in self.room]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[..., held : held + new, :] = states
        self.keys, self.values = (room[..., : held + new, :] for room in self.room)
        return self.keys, self.values

    def enlarged(self, old: torch.Tensor, size: int, held: int) -> torch.Tensor:
        """Memory for ``size`` tokens that holds what the old one held."""
        new = old.new_empty((*old.shape[:-2], size, old.shape[-1]))
        new[..., :held, :] = old[..., :held, :]
        return new

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        if self.get_seq_length():
            held = self.get_seq_length()
            self.room = [room[indices] for room in self.room]
            self.keys, self.values = (room[..., :held, :] for room in self.room)


def let_grow(cache: Cache) -> None:
    """Let the layers of an empty cache grow by steps, where they would be copied for every token."""
    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and not layer.is_initialized:
            cache.layers[place] = GrowingLayer()
    if getattr(cache, "layer_class_to_replicate", None) is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
