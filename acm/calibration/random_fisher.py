"""The Fisher information of a model on random tokens, summed over each layer; no text is read.

    symbol    shape           meaning
    ids       (1, tokens)     one sequence of random tokens
    hidden    (1, tokens, d)  residual stream of one sequence behind a layer
    F         as the tensor   mean over sequences of (∂L/∂θ)²

L is the mean negative log likelihood of the sequence's own next tokens. The walk is that of `importance.py`, layer by
layer, so any size fits: held are one block with its gradients, and the hidden states of all sequences behind every
layer (7B, 8 sequences of 64 tokens, float32: 0.2 GB). The gradients of embedding and head hold the vocabulary's matrix
four times.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from acm.architectures import EMBEDDING
from acm.calibration.importance import Backward
from acm.calibration.layerwise import LayerwiseModel
from acm.checkpoints import Checkpoint, check_weights, layer_of
from acm.errors import UserError


class Trace(NamedTuple):
    """Of a layer: the sum of F over its entries, and how many they are."""

    total: float
    entries: int

    @property
    def mean(self) -> float:
        return self.total / self.entries


def random_tokens(vocabulary: int, sequences: int, length: int, seed: int) -> list[Tensor]:
    """Sequences (1, length) of tokens, each drawn evenly from the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(vocabulary, (sequences, 1, length), generator=generator))


@torch.no_grad()
def forth(model: LayerwiseModel, ids: list[Tensor]) -> dict[str, list[Tensor]]:
    """The hidden states of all sequences behind each layer."""
    states = {"embed": model.start(ids)[1]}
    last = "embed"
    for block in model.blocks:
        with model.loaded(block):
            states[block] = [model.block(block, hidden.to(model.device)) for hidden in states[last]]
        last = block
    with model.loaded("norm") as norm:
        states["norm"] = [norm(hidden) for hidden in states[last]]
    return states


def fisher_by_layer(
    checkpoint: Checkpoint, ids: list[Tensor], dtype: torch.dtype, device: torch.device
) -> dict[str, Trace]:
    """The Fisher information of each layer. A head that is the embedding has the embedding's.

    UserError for an architecture that calibration does not know, and for gradients that are not finite.
    """
    model, found = LayerwiseModel(checkpoint, dtype, device), dict[str, Trace]()

    def take(_layer: str, squares: dict[str, Tensor]) -> None:
        for name, value in squares.items():
            total, entries = found.get(layer_of(name), Trace(0.0, 0))
            found[layer_of(name)] = Trace(total + float(value.sum(dtype=torch.float64)), entries + value.numel())

    Backward(model, ids, forth(model, ids).__getitem__, {"fisher": take}).run()
    if model.tied:
        found["lm_head"] = found["embed"]
    if odd := [layer for layer in model.layers if not torch.tensor(found[layer].total).isfinite()]:
        check_weights(checkpoint)
        raise UserError(f"the gradients of {checkpoint.folder} at layer {odd[0]} are not finite; take dtype float32.")
    return {layer: found[layer] for layer in model.layers}


def vocabulary_of(checkpoint: Checkpoint) -> int:
    """How many tokens the embedding has rows for."""
    return checkpoint.tensors[EMBEDDING].shape[0]
