"""Runs a decoder model layer by layer: all texts go through one layer before the next layer is loaded.

    ids       (1, tokens)      one text
    hidden    (1, tokens, d)   residual stream of one text
    call                       what a model's own forward pass hands a block beside ``hidden``: masks, positions
    layers                     ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``

The model's own code computes everything. First its forward pass runs with a recorder in place of each block. A recorder
notes the arguments that its block is called with. Then each block is loaded and called with these arguments. Logits
pass through whatever the model applies after its head (soft caps, scales).

Memory holds one block, the rows of the embedding that occur in the texts, the hidden states, and masks and positions
for some lengths of texts. A weight whose stored dtype is the dtype of the computation stays mapped from its file. A GPU
also holds the next layer, and the whole head where it is the layer.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from acm.adapted import AdaptedTensor
from acm.architectures import EMBEDDING, HEAD
from acm.calibration.recorders import Passage, Recorder, alike, empty_model
from acm.checkpoints import Checkpoint
from acm.errors import UserError

BASE = "base"  # the base model's key; the others' are ``finetuned/<name>`` and ``unrelated/<name>``
SHORT, LENGTHS = 512, 128  # masks and positions are kept for texts of so many tokens, and for so many lengths
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
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # what is copied ahead
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
        self.head: Tensor | None = None  # on a GPU, while the head is loaded
        self.calls: dict[int, list[dict[str, object]]] = {}  # tokens → what each block is called with

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
        first, second = (self.tried(value, shapes[EMBEDDING][1]) for value in (1.0, -2.0))
        self.fixed = alike(first, second)

    @torch.no_grad()
    def tried(self, value: float, width: int) -> list[dict[str, object]]:
        """What the blocks are called with for two tokens, embedded as a ramp. ValueError for an unusual order."""
        start = (value * torch.linspace(0.5, 1.5, width, device=self.device)).to(self.dtype).expand(1, 2, width)
        end = self.decoder(inputs_embeds=start, use_cache=False).last_hidden_state
        if any(recorder.seen is not end or recorder.count != 1 for recorder in self.decoder.layers):
            raise ValueError("its blocks are not run once each, one after another")
        calls = [recorder.call for recorder in self.decoder.layers]
        self.forget()
        return calls

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

    def weights(self, layer: str) -> dict[str, Tensor]:
        """The weights of a block, the norm or the head on the device, by name.

        They travel to a GPU beside what it computes. On the CPU the head has none here: it is read in slices of rows.
        """
        if layer == "lm_head" and self.device.type == "cpu":
            return {}
        names = {HEAD: HEAD} if layer == "lm_head" else {
            name: f"{self.prefix[layer]}.{name}" for name, _ in self.modules[layer].named_parameters()
        }  # fmt: skip
        with beside(self.stream):
            found = {name: self.weight(stored) for name, stored in names.items()}
        if self.stream:
            for weight in found.values():  # freed memory may be used anew only once the GPU is done with the layer
                weight.record_stream(torch.cuda.default_stream(self.device))
        return found

    @contextlib.contextmanager
    def loaded(self, layer: str, gradients: bool = False, weights: dict[str, Tensor] | None = None) -> Iterator[Any]:
        """A block or the norm with its weights, and without them afterwards. The head is held, and has no module.

        weights: what :meth:`weights` gave for the layer; None: it is asked.
        """
        weights = self.weights(layer) if weights is None else weights
        self.head, module = weights.pop(HEAD, None), self.modules.get(layer)
        empty = dict(module.named_parameters()) if module else {}
        try:
            for name in empty:
                place(self.modules[layer], name, nn.Parameter(weights.pop(name), requires_grad=gradients))
            yield module
        finally:
            self.head = None
            for name, value in empty.items():
                place(self.modules[layer], name, value)

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
        found = self.modules[layer](hidden, **self.recorded(hidden.detach())[int(layer)])
        return found[0] if isinstance(found, tuple) else found

    @torch.no_grad()
    def recorded(self, hidden: Tensor) -> list[dict[str, object]]:
        """What each block is called with. It depends on the number of tokens, and is kept for many short texts."""
        tokens = hidden.shape[1]
        if tokens in self.calls:
            return self.calls[tokens]
        self.decoder(inputs_embeds=hidden, use_cache=False)
        found = [recorder.call for recorder in self.decoder.layers]
        self.forget()
        if tokens <= SHORT and len(self.calls) < LENGTHS and self.fixed:
            self.calls[tokens] = found
        return found

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
        normed, found = normed.to(self.device), []
        for rows in torch.arange(width).split(HEAD_ROWS):
            weight = self.weight(HEAD, rows) if self.head is None else self.head[rows[0] : rows[-1] + 1]
            found.append(to_bf16(self.finish(normed @ weight.T)))
        return torch.cat(found, dim=1)


def place(module: nn.Module, name: str, value: nn.Parameter) -> None:
    """Put a parameter, whatever its shape, where ``name`` leads to."""
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, value)


@contextlib.contextmanager
def beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """What is copied to a GPU within the block does not wait for what the GPU computes. At the end it is there."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def to_bf16(values: Tensor) -> Tensor:
    """Rounded to bf16, as activations of the paper's bf16 models are."""
    return values.detach().to(torch.bfloat16)


@contextlib.contextmanager
def watch(module: nn.Module) -> Iterator[list[Tensor]]:
    """The module's outputs (tokens, d) while it runs, one for each text."""
    found: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: found.append(to_bf16(output[0])))
    try:
        yield found
    finally:
        hook.remove()
