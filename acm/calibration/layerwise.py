"""Runs a decoder model layer by layer: all texts go through one layer before the next layer is loaded.

    ids       (1, tokens)      one text
    hidden    (1, tokens, d)   residual stream of one text
    call                       what a model's own forward pass hands a block beside ``hidden``: masks, positions
    layers                     ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``

The model's own code computes everything. First its forward pass runs with a recorder in place of each block. A recorder
notes the arguments that its block is called with. Then each block is loaded and called with these arguments. Logits
pass through whatever the model applies after its head (soft caps, scales).

Memory holds one block, the rows of the embedding that occur in the texts, and the hidden states. A weight whose stored
dtype is the dtype of the computation stays mapped from its file.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from acm.adapted import AdaptedTensor
from acm.architectures import EMBEDDING, HEAD
from acm.checkpoints import Checkpoint
from acm.errors import UserError

BASE = "base"  # the base model's key; the others' are ``finetuned/<name>`` and ``unrelated/<name>``
HEAD_ROWS = 1 << 14  # how many rows of the head's matrix are multiplied at a time


class LayerwiseModel:
    """A causal language model without weights, whose layers are loaded from safetensors one at a time.

    dtype: of the computation. rewired: a seed, by which the channels of every tensor are permuted. The weights keep
    their values and norms, but the model no longer computes anything meaningful. None: the model as it is.

    Raises UserError for an architecture without the usual list of blocks, and for a checkpoint that lacks a tensor or
    has one in another shape than its config says.
    """

    def __init__(
        self, model: Checkpoint | Path, dtype: torch.dtype, device: torch.device, rewired: int | None = None
    ) -> None:
        self.checkpoint = model if isinstance(model, Checkpoint) else Checkpoint(model)
        self.dtype, self.device, self.rewired = dtype, device, rewired
        most_blocks = len(self.checkpoint.tensors)
        try:
            if not 0 < self.checkpoint.config.get("num_hidden_layers", 1) <= most_blocks:
                raise ValueError("num_hidden_layers is not the number of its blocks")
            self.causal = empty_model(self.checkpoint, dtype)
            self.decoder = self.causal.model
            blocks = {str(i): block for i, block in enumerate(self.decoder.layers)}
            self.modules = {"embed": self.decoder.embed_tokens, **blocks, "norm": self.decoder.norm}
            self.watched = {name: block.mlp.down_proj for name, block in blocks.items()}
            names = {module: name for name, module in self.causal.named_modules()}
            self.prefix = {layer: names[module] for layer, module in self.modules.items()}
            shapes = {name: tuple(value.shape) for name, value in self.causal.state_dict().items()}
            self.vocabulary, self.blocks, self.layers = shapes[HEAD][0], list(blocks), [*self.modules, "lm_head"]
            self.replace_modules(dict(self.causal.named_parameters()), shapes)
        except Exception as error:  # whatever transformers make of a foreign config
            raise UserError(
                f"{self.checkpoint.folder} is of an architecture that calibration does not know ({error}); it knows "
                "decoders with the usual list of blocks, each with mlp.down_proj, such as Qwen2, Qwen3, Llama, Mistral "
                "and Gemma."
            ) from None
        self.check_shapes(shapes)
        self.tied = self.checkpoint.tied

    def replace_modules(self, parameters: dict[str, nn.Parameter], shapes: dict[str, tuple[int, ...]]) -> None:
        """Put recorders in place of the blocks, and nothing in place of norm and head.

        Raises ValueError if the model has other parameters, or does more than walk through its blocks one after
        another.
        """
        homes, known = tuple(f"{prefix}." for prefix in self.prefix.values()), {*parameters, EMBEDDING}
        for name in shapes:
            if name != HEAD and not (name.startswith(homes) and name in known):
                raise ValueError(f"no place for {name}")
        for module in self.causal.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer.to(self.device), persistent=False)
        self.decoder.layers = nn.ModuleList(Recorder(block) for block in self.decoder.layers)
        self.decoder.norm = nn.Identity()
        self.causal.model, self.causal.lm_head = Passage(), nn.Identity()
        self.rotary = copy.deepcopy(getattr(self.decoder, "rotary_emb", None))
        start = torch.ones((1, 2, shapes[EMBEDDING][1]), dtype=self.dtype, device=self.device)
        with torch.no_grad():
            end = self.decoder(inputs_embeds=start, use_cache=False).last_hidden_state
        if any(recorder.seen is not end or recorder.count != 1 for recorder in self.decoder.layers):
            raise ValueError("its blocks are not run once each, one after another")
        self.forget()

    def check_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """UserError if the checkpoint lacks a tensor or has it in another shape. A tied head need not be stored."""
        folder, stored = self.checkpoint.folder, self.checkpoint.tensors
        tied = self.checkpoint.tied and not self.checkpoint.headless
        for name, shape in shapes.items():
            if name not in stored and not (name == HEAD and tied):
                raise UserError(f"{folder} lacks the tensor {name}; fetch the model again.")
            if name in stored and stored[name].shape != shape:
                found = f"has shape {stored[name].shape}, config.json says {shape}"
                raise UserError(f"{folder}: tensor {name} {found}; fetch the model again.")

    def weight(self, name: str, rows: Tensor | None = None) -> Tensor:
        """A weight as it is stored, mapped from its file where it can be. rows: of a matrix, these rows alone."""
        if name == HEAD and self.tied:
            name = EMBEDDING
        info = self.checkpoint.tensors[name]
        if isinstance(info, AdaptedTensor):
            value = torch.from_numpy(info.numbers()).view(info.shape)
        else:
            with safe_open(info.file, framework="pt") as shard:
                value = shard.get_tensor(info.key)
        if self.rewired is not None:
            order = self.permutation(name, 0, len(value))
            rows = order if rows is None else order[rows]
        value = value if rows is None else value[rows]
        if self.rewired is not None and value.ndim > 1:
            value = value[:, self.permutation(name, 1, value.shape[1])]
        return value.to(self.device, self.dtype)

    def permutation(self, name: str, axis: int, size: int) -> Tensor:
        """The order of a rewired tensor's rows (axis 0) or columns (axis 1). It follows from seed, name and axis."""
        key = hashlib.sha256(f"{self.rewired}/{name}/{axis}".encode()).digest()
        return torch.randperm(size, generator=torch.Generator().manual_seed(int.from_bytes(key[:7], "big")))

    @contextlib.contextmanager
    def loaded(self, layer: str, gradients: bool = False) -> Iterator[nn.Module]:
        """A block or the norm with its weights, and without them afterwards."""
        module = self.modules[layer]
        empty = dict(module.named_parameters())
        try:
            for name in empty:
                weight = self.weight(f"{self.prefix[layer]}.{name}")
                place(module, name, nn.Parameter(weight, requires_grad=gradients))
            yield module
        finally:
            for name, value in empty.items():
                place(module, name, value)

    @contextlib.contextmanager
    def front(self, weight: nn.Parameter) -> Iterator[None]:
        """While it lasts, :meth:`embed` takes these rows of the embedding."""
        embedding = self.modules["embed"]
        empty, padding = embedding.weight, embedding.padding_idx
        embedding.weight, embedding.padding_idx = weight, None
        try:
            yield
        finally:
            embedding.weight, embedding.padding_idx = empty, padding

    def start(self, texts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Of each text: activations of the embedding (tokens, d), and hidden state before the first block."""
        used = torch.unique(torch.cat([ids.flatten() for ids in texts]))
        last = int(used[-1])
        if last >= self.checkpoint.tensors[EMBEDDING].shape[0]:
            raise UserError(f"the texts hold token {last}, which {self.checkpoint.folder} has no embedding for.")
        rows = nn.Parameter(self.weight(EMBEDDING, used), requires_grad=False)
        with self.front(rows), watch(self.modules["embed"]) as activations:
            hidden = [self.embed(torch.searchsorted(used, ids)) for ids in texts]
        return activations, hidden

    def embed(self, ids: Tensor) -> Tensor:
        """Hidden state of one text before the first block. Call it within :meth:`front`."""
        hidden: Tensor = self.decoder(input_ids=ids.to(self.device), use_cache=False).last_hidden_state
        self.forget()
        return hidden

    def block(self, layer: str, hidden: Tensor) -> Tensor:
        """What the loaded block makes of one text's hidden state."""
        with torch.no_grad():
            self.decoder(inputs_embeds=hidden.detach(), use_cache=False)
        call = self.decoder.layers[int(layer)].call
        self.forget()
        found = self.modules[layer](hidden, **call)
        return found[0] if isinstance(found, tuple) else found

    def forget(self) -> None:
        """Free what the recorders hold.

        Undo also what a rotary embedding with dynamic scaling has learnt from a text's length.
        """
        if self.rotary is not None:
            self.decoder.rotary_emb = copy.deepcopy(self.rotary)
        for recorder in self.decoder.layers:
            recorder.seen, recorder.call, recorder.count = None, {}, 0

    def finish(self, products: Tensor) -> Tensor:
        """Logits from what the head's matrix gives (tokens, width): soft caps and scales, entry by entry."""
        logits: Tensor = self.causal(inputs_embeds=products[None], use_cache=False).logits[0]
        return logits

    def logits(self, normed: Tensor, width: int) -> Tensor:
        """The head's first ``width`` outputs for (tokens, d), as (tokens, width) bf16, multiplied in slices of rows."""
        normed, slices = normed.to(self.device), torch.arange(width).split(HEAD_ROWS)
        return torch.cat([to_bf16(self.finish(normed @ self.weight(HEAD, rows).T)) for rows in slices], dim=1)


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
