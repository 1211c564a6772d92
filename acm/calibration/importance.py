"""Statistics that merge methods read, gathered while calibration walks: what inputs look like, and what the loss feels.

    aim          a_c = mean |x_c|        (inputs,)            of the base, for each linear weight                arXiv 2502.02421
    regmean      G = mean x xᵀ           (inputs, inputs)     of each fine-tuned model, for each linear weight   arXiv 2212.09849
    fisher       F = mean (∂L/∂θ)²       as the tensor        of each fine-tuned model                           arXiv 2111.09832
    sensitivity  s_l = Σ |θ · ∂L/∂θ|     one number a block   of base and fine-tuned, L2-normalised over blocks  arXiv 2502.12420

x: input of the weight, means over all tokens of all texts. L: mean negative log likelihood of a text's next tokens, nats; texts of one
token have none and do not count. F is the empirical Fisher information (its labels are the text's), s_l takes the gradient of the mean
over texts; a tied head and embedding are one tensor, whose gradient is the sum of both. Files: one safetensors a layer in
``<folder>/aim``, ``<folder>/regmean/<model>``, ``<folder>/fisher/<model>``; ``<folder>/sensitivity.json``.

Memory: Gram matrices of a block take inputs² · 4 bytes for each of its weights (7B: 1.4 GB for down_proj). Gradients hold a block four
times in float32 (7B: 3.7 GB), and at embedding and head the vocabulary's matrix four times (7B: 8.7 GB).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from acm.calibration.journal import Journal
from acm.calibration.layerwise import LayerwiseModel
from acm.checkpoints import EMBEDDING, HEAD
from acm.errors import UserError, unknown
from acm.files import whole, write_json
from acm.records import provenance

KINDS = ("aim", "regmean", "fisher", "sensitivity")


def check_kinds(
    kinds: tuple[str, ...], folder: Path | None, base: str, finetuned: list[str], tokens: list[int]
) -> None:
    """UserError for unknown kinds, and for those that cannot be had; tokens: of each text."""
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("statistic", kind, KINDS)
    if kinds and folder is None:
        raise UserError(f"the statistics {', '.join(kinds)} need a folder to be written to.")
    if {"fisher", "sensitivity"} & set(kinds) and max(tokens) < 2:
        raise UserError(
            "fisher and sensitivity need a text of at least two tokens: the loss is that of the next token."
        )
    if "sensitivity" in kinds and base in finetuned:
        raise UserError(
            f"sensitivities are named after the models, and two are called '{base}'; rename the fine-tuned one."
        )


def write(folder: Path, layer: str, tensors: dict[str, Tensor]) -> Path:
    """One layer's file, whole or not at all."""
    path = folder / f"{layer}.safetensors"
    with whole(path) as part:
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, part)
    return path


class InputStatistics:
    """Sums over the inputs of a layer's linear weights, float32; hooks while it lasts. kind: aim or regmean."""

    def __init__(self, kind: str, key: str, model: LayerwiseModel, layer: str, part: nn.Module | None) -> None:
        self.kind, self.key, self.layer, self.sums, self.tokens = kind, key, layer, {}, {}
        linear = {n: m for n, m in part.named_modules() if isinstance(m, nn.Linear)} if part else {}
        self.modules = {f"{model.prefix[layer]}.{name}.weight": module for name, module in linear.items()}

    def __enter__(self) -> InputStatistics:
        self.hooks = [
            module.register_forward_pre_hook(lambda _module, inputs, name=name: self.see(name, inputs[0][0]))
            for name, module in self.modules.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def see(self, name: str, inputs: Tensor) -> None:
        x = inputs.float()
        found = x.abs().sum(0) if self.kind == "aim" else x.T @ x
        self.sums[name] = self.sums[name] + found if name in self.sums else found
        self.tokens[name] = self.tokens.get(name, 0) + len(x)

    def save(self, folder: Path) -> list[Path]:
        """Write the means; the file, if there is one: a norm has no linear weight."""
        target = folder / "aim" if self.kind == "aim" else folder / self.kind / self.key.partition("/")[2]
        means = {name: total / self.tokens[name] for name, total in self.sums.items()}
        return [write(target, self.layer, means)] if means else []


def gradients(
    models: dict[str, LayerwiseModel],
    ids: list[Tensor],
    journal: Journal,
    folder: Path,
    kinds: tuple[str, ...],
    base: str,
) -> None:
    """Fisher information and sensitivities, by a walk back through the layers from the hidden states that the walk forth has kept."""
    sensitivity = {}
    for key, model in models.items():
        name = base if key == "base" else key.partition("/")[2]
        fisher = folder / "fisher" / name if "fisher" in kinds and key.startswith("finetuned") else None
        if fisher or ("sensitivity" in kinds and not key.startswith("unrelated")):
            found = Backward(model, key, ids, journal, fisher).run()
            norm = sum(v * v for v in found.values()) ** 0.5 or 1.0
            sensitivity[name] = {layer: value / norm for layer, value in found.items()}
    if "sensitivity" in kinds:
        content = {
            "sensitivity": sensitivity,
            "provenance": provenance("calibration", n=sum(i.shape[1] > 1 for i in ids)),
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "sensitivity.json", content)


class Backward:
    """The gradients of one model, layer by layer from the head; each block is run again from its kept input."""

    def __init__(
        self, model: LayerwiseModel, key: str, ids: list[Tensor], journal: Journal, fisher: Path | None
    ) -> None:
        self.model, self.key, self.journal, self.fisher = model, key, journal, fisher
        self.ids = {s: part.to(model.device) for s, part in enumerate(ids) if part.shape[1] > 1}
        self.upstream: dict[int, Tensor] = {}  # text → ∂L/∂hidden

    @torch.enable_grad()
    def run(self) -> dict[str, float]:
        """Σ |θ · ∂L/∂θ| of each block; writes the Fisher information if it is wanted."""
        model, blocks = self.model, self.model.blocks
        self.head()
        found = {}
        for k in reversed(range(len(blocks))):
            with model.loaded(blocks[k], gradients=True) as part:
                sums = Sums({f"{model.prefix[blocks[k]]}.{n}": p for n, p in part.named_parameters()})
                for s, hidden in self.inputs("embed" if k == 0 else blocks[k - 1]):
                    model.block(blocks[k], hidden).backward(self.upstream[s])
                    self.upstream[s] = hidden.grad
                    sums.add()
                found[blocks[k]] = sums.finish(self.fisher, blocks[k])
        if self.fisher:
            self.embedding()
        return dict(reversed(found.items()))

    def inputs(self, layer: str) -> list[tuple[int, Tensor]]:
        states = self.journal.states(layer, self.key)[self.key]
        return [(s, states[s].to(self.model.device).requires_grad_()) for s in self.ids]

    def loss(self, head: Tensor, normed: Tensor, s: int) -> Tensor:
        """L of a text, from its hidden state (1, tokens, d) after the norm."""
        return cross_entropy(self.model.finish(normed[0, :-1] @ head.T).float(), self.ids[s][0, 1:])

    def head(self) -> None:
        """Norm and head. A tied head's gradient belongs to the embedding, see there."""
        model = self.model
        with model.loaded("norm", gradients=True) as norm:
            head = nn.Parameter(model.weight(HEAD), requires_grad=bool(self.fisher) and not model.tied)
            sums = Sums(
                {f"{model.prefix['norm']}.{n}": p for n, p in norm.named_parameters()}
                | ({HEAD: head} if head.requires_grad else {})
            )
            for s, hidden in self.inputs(model.blocks[-1]):
                self.loss(head, norm(hidden), s).backward()
                self.upstream[s] = hidden.grad
                sums.add()
            sums.finish(self.fisher, "norm")

    def embedding(self) -> None:
        """The embedding, which a tied head shares."""
        model = self.model
        weight = nn.Parameter(model.weight(EMBEDDING))
        sums = Sums({EMBEDDING: weight})
        last = dict(self.inputs("norm")) if model.tied else {}
        with model.front(weight):
            for s, ids in self.ids.items():
                total = (model.embed(ids) * self.upstream[s]).sum()
                if model.tied:
                    total = total + self.loss(weight, last[s].detach(), s)
                total.backward()
                sums.add()
        if model.tied and HEAD in model.checkpoint.tensors:  # stored twice: the same numbers for both
            sums.square[HEAD] = sums.square[EMBEDDING].clone()
        sums.finish(self.fisher, "embed")


class Sums:
    """Of parameters whose gradients come text by text: their mean, and the mean of their squares, float32."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters, self.count = parameters, 0
        self.mean = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
        self.square = {name: torch.zeros_like(value) for name, value in self.mean.items()}

    def add(self) -> None:
        self.count += 1
        for name, parameter in self.parameters.items():
            if parameter.grad is None:  # it has no part in this loss
                continue
            gradient = parameter.grad.float()
            self.mean[name] += gradient
            self.square[name] += gradient.square()
            parameter.grad = None

    def finish(self, fisher: Path | None, layer: str) -> float:
        """Σ |θ · mean gradient|; writes the mean squares if a folder is given."""
        if fisher:
            write(fisher, layer, {name: value / self.count for name, value in self.square.items()})
        return sum(
            float((p.detach().float() * self.mean[n]).abs().sum()) / self.count for n, p in self.parameters.items()
        )
