"""Decoder models run layer by layer: all texts go through one layer before the next is loaded.

    ids       (1, tokens)      one text
    hidden    (1, tokens, d)   residual stream of one text
    calls                      what a model's own forward pass hands each of its blocks beside ``hidden``: masks, positions
    layers                     ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``

The model's own code decides everything: it runs once over each text with its blocks replaced by recorders, and each block is then
called with what was recorded. Held at a time: one block, the rows of the embedding that occur, the hidden states. Weights that are
computed in the dtype they are stored in stay mapped from their file.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from acm.checkpoints import EMBEDDING, HEAD, Checkpoint
from acm.errors import UserError

HEAD_ROWS = 1 << 14  # of the head that are multiplied at a time


class LayerwiseModel:
    """A causal language model without weights, whose layers are loaded from safetensors one at a time.

    dtype: computed in. rewired: seed with which the channels of every tensor are permuted, which leaves the weights' values and
    norms but nothing of what they do; None: as it is. Raises UserError for an architecture without the usual list of blocks.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device, rewired: int | None = None) -> None:
        self.checkpoint, self.dtype, self.device, self.rewired = Checkpoint(folder), dtype, device, rewired
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            with init_empty_weights(include_buffers=False):
                model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False).eval()
            self.decoder = model.model
            blocks = {str(i): block for i, block in enumerate(self.decoder.layers)}
            self.parts = {"embed": self.decoder.embed_tokens, **blocks, "norm": self.decoder.norm}
            self.watched = {name: block.mlp.down_proj for name, block in blocks.items()}
            self.vocabulary = model.lm_head.out_features
            self.tied = config.tie_word_embeddings or HEAD not in self.checkpoint.tensors
        except (AttributeError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder} is of an architecture that calibration does not know ({error}); it knows decoders with the usual list of "
                "blocks, each with mlp.down_proj, such as Qwen2, Qwen3, Llama, Mistral and Gemma."
            ) from None
        self.blocks, self.layers = list(blocks), [*self.parts, "lm_head"]
        self.prefix = {layer: name for name, part in model.named_modules() for layer, known in self.parts.items() if part is known}
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module.register_buffer(name, buffer.to(device), persistent=False)

    def weight(self, name: str, rows: Tensor | None = None) -> Tensor:
        """A weight (of a matrix: these rows) as it is stored, mapped from its file where it can be."""
        if name == HEAD and self.tied:
            name = EMBEDDING
        with safe_open(self.checkpoint.tensors[name].file, framework="pt") as shard:
            value = shard.get_tensor(name)
        if self.rewired is not None:
            order = self.permutation(name, 0, len(value))
            rows = order if rows is None else order[rows]
        value = value if rows is None else value[rows]
        if self.rewired is not None and value.ndim > 1:
            value = value[:, self.permutation(name, 1, value.shape[1])]
        return value.to(self.device, self.dtype)

    def permutation(self, name: str, axis: int, size: int) -> Tensor:
        key = hashlib.sha256(f"{self.rewired}/{name}/{axis}".encode()).digest()
        return torch.randperm(size, generator=torch.Generator().manual_seed(int.from_bytes(key[:7], "big")))

    @contextlib.contextmanager
    def loaded(self, layer: str, gradients: bool = False) -> Iterator[nn.Module]:
        """A block or the norm with its weights, and without them afterwards."""
        part = self.parts[layer]
        empty = dict(part.named_parameters())
        if lacking := [n for n in empty if f"{self.prefix[layer]}.{n}" not in self.checkpoint.tensors]:
            raise UserError(f"{self.checkpoint.folder} lacks the tensor {self.prefix[layer]}.{lacking[0]}; fetch the model again.")
        for name in empty:
            place(part, name, nn.Parameter(self.weight(f"{self.prefix[layer]}.{name}"), requires_grad=gradients))
        try:
            yield part
        finally:
            for name, value in empty.items():
                place(part, name, value)

    @contextlib.contextmanager
    def front(self, weight: nn.Parameter) -> Iterator[list[Recorder]]:
        """While it lasts, the decoder stops before its first block, and embeds with these rows."""
        embedding, layers, norm = self.parts["embed"], self.decoder.layers, self.decoder.norm
        empty, padding, embedding.padding_idx = embedding.weight, embedding.padding_idx, None
        self.decoder.layers, self.decoder.norm = nn.ModuleList(Recorder(layer) for layer in layers), nn.Identity()
        embedding.weight = weight
        try:
            yield list(self.decoder.layers)
        finally:
            self.decoder.layers, self.decoder.norm = layers, norm
            embedding.weight, embedding.padding_idx = empty, padding

    def start(self, texts: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[tuple[dict, ...]]]:
        """Of each text: activations of the embedding, hidden state before the first block, and the calls of the blocks."""
        used = torch.unique(torch.cat([ids.flatten() for ids in texts]))
        if int(used[-1]) >= self.checkpoint.tensors[EMBEDDING].shape[0]:
            raise UserError(f"the texts hold token {int(used[-1])}, which {self.checkpoint.folder} has no embedding for.")
        rows = nn.Parameter(self.weight(EMBEDDING, used), requires_grad=False)
        with self.front(rows) as recorders, watch(self.parts["embed"]) as activations:
            hidden = [self.embed(torch.searchsorted(used, ids)) for ids in texts]
        return activations, hidden, list(zip(*(recorder.calls for recorder in recorders), strict=True))

    def embed(self, ids: Tensor) -> Tensor:
        """Hidden state before the first block; within :meth:`front`."""
        return self.decoder(input_ids=ids.to(self.device), use_cache=False).last_hidden_state

    def block(self, layer: str, hidden: Tensor, call: dict) -> Tensor:
        """What the loaded block makes of one text's hidden state."""
        found = self.parts[layer](hidden, **call)
        return found[0] if isinstance(found, tuple) else found

    def logits(self, normed: Tensor, width: int) -> Tensor:
        """The head's first ``width`` outputs for (tokens, d), as (tokens, width) bf16, multiplied in slices of rows."""
        rows = torch.arange(width).split(HEAD_ROWS)
        return torch.cat([to_bf16(normed.to(self.device) @ self.weight(HEAD, r).T) for r in rows], dim=1)


class Recorder(nn.Module):
    """Stands for a block: notes what it is called with and passes the hidden state on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.calls: list[dict] = []
        self.names = list(inspect.signature(block.forward).parameters)[1:]
        for name in ("attention_type", "layer_type", "layer_idx", "is_sliding"):  # what models ask of their blocks
            if hasattr(block, name):
                setattr(self, name, getattr(block, name))

    def forward(self, hidden: Tensor, *arguments: object, **named: object) -> Tensor:
        self.calls.append(dict(zip(self.names, arguments, strict=False)) | named)
        return hidden


def place(module: nn.Module, name: str, value: nn.Parameter) -> None:
    """Put a parameter, whatever its shape, where ``name`` leads to."""
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, value)


def to_bf16(values: Tensor) -> Tensor:
    """On the CPU and rounded to bf16, as activations of the paper's bf16 models are."""
    return values.detach().to(torch.bfloat16).cpu()


@contextlib.contextmanager
def watch(module: nn.Module) -> Iterator[list[Tensor]]:
    """The module's outputs (tokens, d) while it runs, one for each text."""
    found: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: found.append(to_bf16(output[0])))
    try:
        yield found
    finally:
        hook.remove()
