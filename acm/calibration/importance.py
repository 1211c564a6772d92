"""Gathers statistics that some merge methods need, during a calibration: of weights' inputs and of the loss' gradients.

    statistic    symbol               shape               of which models                         source
    aim          a_c = mean |x_c|     (inputs,)           base, for each linear weight            arXiv 2502.02421
    regmean      G = mean x xᵀ        (inputs, inputs)    each fine-tuned one, each linear weight arXiv 2212.09849
    fisher       F = mean (∂L/∂θ)²    as the tensor       each fine-tuned one, each tensor        arXiv 2111.09832
    led          |θ| · mean |∂L/∂θ|   as the tensor       base and fine-tuned ones, each tensor   arXiv 2502.16770
    sensitivity  s_l = Σ |θ · ∂L/∂θ|  a number a block    base and fine-tuned ones                arXiv 2502.12420

x: the input of a linear weight, a vector for each token. Means of x are over all tokens of all texts.
L: the loss of a text, the mean negative log likelihood of its next tokens, nats. A text of one token has no L and does
not count.
F: the empirical Fisher information, a mean over texts. "Empirical": the labels are the text's own tokens.
s_l: the sensitivity of block l. Its gradient is that of the mean of L over texts. The s_l of a model have L2 norm 1.
A tied head and embedding are one tensor. Its gradient is the sum of the head's and the embedding's.

Files: ``<folder>/aim``, ``<folder>/regmean/<model>``, ``<folder>/fisher/<model>`` and ``<folder>/led/<model>`` hold one
safetensors file for each layer. ``<folder>/sensitivity.json`` holds the sensitivities of all models.

Memory: the Gram matrix of a weight takes inputs² · 4 bytes (7B: 1.4 GB for down_proj), and all weights of a block are
held together. Gradients hold a block four times in float32 (7B: 3.7 GB). At embedding and head they hold the
vocabulary's matrix four times (7B: 8.7 GB).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from acm.architectures import EMBEDDING, HEAD
from acm.calibration.journal import Journal
from acm.calibration.layerwise import BASE, LayerwiseModel
from acm.calibration.registry import BY_GRADIENTS, STATISTICS
from acm.errors import UserError, listed, unknown
from acm.files import whole, write_json
from acm.records import provenance

States = Callable[[str], list[Tensor]]  # layer → hidden state of each text behind it, (1, tokens, d)
Take = Callable[[str, dict[str, Tensor]], object]  # is given a layer, and a statistic of its tensors


def check_kinds(kinds: Sequence[str], folder: Path | None, base: str, finetuned: list[str], tokens: list[int]) -> None:
    """UserError for unknown kinds of statistics, and for kinds that cannot be had. tokens: the length of each text."""
    for kind in kinds:
        if kind not in STATISTICS:
            raise unknown("statistic", kind, STATISTICS)
    if kinds and folder is None:
        raise UserError(f"the statistics {', '.join(kinds)} need a folder to be written to.")
    if {*BY_GRADIENTS} & {*kinds} and max(tokens) < 2:
        reason = "the loss is that of the next token"
        raise UserError(f"{listed(BY_GRADIENTS)} need a text of at least two tokens: {reason}.")
    if {"led", "sensitivity"} & {*kinds} and base in finetuned:
        raise UserError(
            f"led and sensitivities are named after the models, and two are called '{base}'; rename the fine-tuned one."
        )


def write(folder: Path, layer: str, tensors: dict[str, Tensor]) -> Path:
    """Write one layer's file, whole or not at all; its path."""
    path = folder / f"{layer}.safetensors"
    with whole(path) as unfinished:
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, unfinished)
    return path


class InputStatistics:
    """Sums over the inputs of a layer's linear weights, float32; it listens to the module's weights while it lasts.

    kind: aim or regmean. folder: where the layer's file goes.
    module: the loaded layer; None for the head, whose inputs come to :meth:`see`.
    """

    def __init__(self, kind: str, folder: Path, model: LayerwiseModel, layer: str, module: nn.Module | None) -> None:
        self.kind, self.folder, self.layer = kind, folder, layer
        self.sums: dict[str, Tensor] = {}
        self.tokens: dict[str, int] = {}
        named = module.named_modules() if module is not None else ()
        linear = {name: inner for name, inner in named if isinstance(inner, nn.Linear)}
        self.weights = {f"{model.prefix[layer]}.{name}.weight": inner for name, inner in linear.items()}

    def __enter__(self) -> InputStatistics:
        self.hooks = [
            module.register_forward_pre_hook(lambda _module, inputs, name=name: self.see(name, inputs[0][0]))
            for name, module in self.weights.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def see(self, name: str, inputs: Tensor) -> None:
        """Take in the inputs (tokens, channels) of a weight."""
        x = inputs.float()
        found = x.abs().sum(0) if self.kind == "aim" else x.T @ x
        self.sums[name] = self.sums[name] + found if name in self.sums else found
        self.tokens[name] = self.tokens.get(name, 0) + len(x)

    def save(self) -> list[Path]:
        """Write the means. Returns the file, or nothing where the layer has no linear weight, as a norm has none."""
        means = {name: total / self.tokens[name] for name, total in self.sums.items()}
        return [write(self.folder, self.layer, means)] if means else []


def gradients(
    models: dict[str, LayerwiseModel], ids: list[Tensor], journal: Journal, folder: Path, kinds: Sequence[str]
) -> None:
    """Write Fisher information and sensitivities, by a walk back through the layers of each model in turn.

    The walk starts from the hidden states that the walk forth has kept in the journal.
    """
    sensitivity = {}
    for key, model in models.items():
        role, _, given = key.partition("/")
        name = model.checkpoint.name if key == BASE else given
        of = {"fisher": role == "finetuned", "led": role != "unrelated"}
        takes = {kind: partial(write, folder / kind / name) for kind, wanted in of.items() if wanted and kind in kinds}
        if takes or ("sensitivity" in kinds and role != "unrelated"):
            found = Backward(model, ids, partial(kept_states, journal, key), takes).run()
            norm = sum(value * value for value in found.values()) ** 0.5 or 1.0
            sensitivity[name] = {layer: value / norm for layer, value in found.items()}
    if "sensitivity" in kinds:
        facts = provenance("calibration", n=sum(text.shape[1] > 1 for text in ids))
        write_json(folder / "sensitivity.json", {"sensitivity": sensitivity, "provenance": facts})


def kept_states(journal: Journal, key: str, layer: str) -> list[Tensor]:
    """The hidden states of a model's texts behind a layer, from the journal."""
    return journal.states(layer, key)[key]


class Backward:
    """The gradients of one model, layer by layer from the head; each block is run again from its kept input.

    ids: the texts. states: their hidden states behind each layer, of a walk forth.
    takes: ``fisher`` or ``led`` → what is given this statistic of each layer; empty where none is wanted.
    """

    def __init__(self, model: LayerwiseModel, ids: list[Tensor], states: States, takes: Mapping[str, Take]) -> None:
        self.model, self.states, self.takes = model, states, takes
        self.ids = {s: text.to(model.device) for s, text in enumerate(ids) if text.shape[1] > 1}
        self.upstream: dict[int, Tensor] = {}  # text → ∂L/∂hidden

    @torch.enable_grad()
    def run(self) -> dict[str, float]:
        """Σ |θ · ∂L/∂θ| of each block; passes on what is wanted."""
        model = self.model
        self.head()
        found = {}
        for before, block in reversed(list(pairwise(["embed", *model.blocks]))):
            with model.loaded(block, gradients=True) as module:
                named = {f"{model.prefix[block]}.{name}": p for name, p in module.named_parameters()}
                sums = Sums(named, self.takes)
                for s, hidden in self.inputs(before):
                    model.block(block, hidden).backward(self.upstream[s])
                    self.pass_on(s, hidden)
                    sums.add()
                found[block] = sums.finish(block)
        if self.takes:
            self.embedding()
        return dict(reversed(found.items()))

    def pass_on(self, s: int, hidden: Tensor) -> None:
        """Note the gradient of a text's hidden state for the layer before."""
        assert hidden.grad is not None
        self.upstream[s] = hidden.grad

    def inputs(self, layer: str) -> list[tuple[int, Tensor]]:
        """Each text and its hidden state behind a layer, ready for a gradient."""
        states = self.states(layer)
        return [(s, states[s].to(self.model.device).requires_grad_()) for s in self.ids]

    def loss(self, head: Tensor, normed: Tensor, s: int) -> Tensor:
        """L of a text, from its hidden state (1, tokens, d) after the norm."""
        return cross_entropy(self.model.finish(normed[0, :-1] @ head.T).float(), self.ids[s][0, 1:])

    def head(self) -> None:
        """Walk back through head and norm. The gradient of a tied head is left to :meth:`embedding`."""
        model = self.model
        with model.loaded("norm", gradients=True) as norm:
            head = nn.Parameter(model.weight(HEAD), requires_grad=bool(self.takes) and not model.tied)
            parameters = {f"{model.prefix['norm']}.{name}": p for name, p in norm.named_parameters()}
            sums = Sums(parameters | ({HEAD: head} if head.requires_grad else {}), self.takes)
            for s, hidden in self.inputs(model.blocks[-1]):
                self.loss(head, norm(hidden), s).backward()
                self.pass_on(s, hidden)
                sums.add()
            sums.finish("norm")

    def embedding(self) -> None:
        """Walk back through the embedding, which a tied head shares."""
        model = self.model
        weight = nn.Parameter(model.weight(EMBEDDING))
        twice = model.tied and HEAD in model.checkpoint.weights.tensors  # stored twice: the same numbers for both
        sums = Sums({EMBEDDING: weight}, self.takes, {HEAD: EMBEDDING} if twice else {})
        last = dict(self.inputs("norm")) if model.tied else {}
        with model.front(weight):
            for s, ids in self.ids.items():
                total = (model.embed(ids) * self.upstream[s]).sum()
                if model.tied:
                    total = total + self.loss(weight, last[s].detach(), s)
                total.backward()
                sums.add()
        sums.finish("embed")


class Sums:
    """Sums of gradients, their squares and magnitudes, float32, over texts; the gradients come text by text.

    takes: as of :class:`Backward`. copies: further tensor → the one whose numbers it has.
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], takes: Mapping[str, Take], copies: Mapping[str, str] | None = None
    ) -> None:
        self.parameters, self.takes, self.copies, self.texts = parameters, takes, copies or {}, 0
        self.total, self.square, self.magnitude = (
            {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items() if wanted}
            for wanted in (True, "fisher" in takes, "led" in takes)
        )

    def add(self) -> None:
        """Take in the gradients of one text, and clear them."""
        self.texts += 1
        for name, parameter in self.parameters.items():
            if parameter.grad is None:  # it has no share in this loss
                continue
            gradient = parameter.grad.float()
            self.total[name] += gradient
            if self.square:
                self.square[name] += gradient.square()
            if self.magnitude:
                self.magnitude[name] += gradient.abs()
            parameter.grad = None

    def finish(self, layer: str) -> float:
        """Σ |θ · mean gradient|; passes on what is wanted."""
        for kind, take in self.takes.items():
            found = {name: self.statistic(kind, name) for name in self.parameters}
            take(layer, found | {name: found[other].clone() for name, other in self.copies.items()})
        products = (p.detach().float() * self.total[name] for name, p in self.parameters.items())
        return sum(float(product.abs().sum()) / self.texts for product in products)

    def statistic(self, kind: str, name: str) -> Tensor:
        """The mean square of a tensor's gradients (fisher), or its own magnitude times their mean magnitude (led)."""
        if kind == "fisher":
            return self.square[name] / self.texts
        return self.parameters[name].detach().float().abs() * self.magnitude[name] / self.texts
