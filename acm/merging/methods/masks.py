"""Merge methods that mask or weigh entries by what all models together say of them.

    variable     symbol   shape                meaning
    deltas       δ_i      list of (…)          task vectors, float32
    sizes        a_i      list of (…)          |δ_i|, clipped at both ends (PCB-Merging)
    units        â_i      list of (…)          a_i stretched to [0, 1]
    balances     β_i      list of (…)          how much model i should have of an entry, of any sign
    weights      w_i      list of (…)          the largest β_i stretched to [0, 1], the others 0
    multitask    M        (…)                  multi-task vector, the sum of the task vectors (Consensus Merging)
    moments               (1 + 2 N, columns)   of each column, float64: Σ θ_0², Σ θ_0 δ_i, Σ δ_i² (WIDEN)
    scores       s_i      (N, columns)         the weight of each column of each model
    bounds                (N, 2)               the least and the largest number of a range, float32

N is the number of models. Ranks over the whole model are exact (`magnitudes.py`), so nothing is sorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging import primitives
from acm.merging.functions import implements, prepares, surveys
from acm.merging.magnitudes import numbers_at
from acm.merging.primitives import count_numbers, task_vectors, total, trim, weighted_sum, weighted_vectors
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Chunks, Every

EMBED = "embed"  # the layer whose rows are tokens


def model_size(every: Every) -> int:
    """How many entries all tensors have together."""
    return int(every(lambda chunks, own: np.array(math.prod(own.shape))))


def ranked(
    every: Every, models: int, ranks: list[int], scores: Callable[[Tensor, list[Tensor], Settings], list[Tensor]]
) -> np.ndarray:
    """The numbers at these ascending ranks of each model's scores over all tensors, (models, r) float32.

    scores: from a chunk and its settings, a float32 tensor for each model.
    """

    def count(buckets: np.ndarray | None) -> np.ndarray:
        return every(lambda chunks, own: count_numbers((scores(*chunk, own) for chunk in chunks()), models, buckets))

    return numbers_at(np.tile(ranks, (models, 1)), count)


@surveys("pcb")
def competition_bounds(every: Every, s: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of |δ_i| between which it is clipped, and those of β_i between which it weighs."""
    size, models, clip, signed = model_size(every), len(s.coefficients), s.numbers["clip"], s.numbers["signed"]
    low, high = int(size * clip), int(size * (1 - clip) - 1)
    clips = ranked(every, models, [low, max(low, high)], lambda b, f, _: [d.abs() for d in task_vectors(b, f)])
    least = min(int(size * (1 - s.numbers["ratio"])), size - 1)
    return clips, ranked(every, models, [least, size - 1], lambda b, f, _: competing(b, f, clips, signed)[1])


def stretched(values: Tensor, low: float, high: float) -> Tensor:
    """The values clipped to a range, and the range stretched to [0, 1]; zeros for an empty range."""
    return torch.zeros_like(values) if low == high else (values.clamp(low, high) - low) / (high - low)


def competing(
    base: Tensor, finetuned: list[Tensor], clips: np.ndarray, signed: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """The clipped task vectors sign(δ_i) a_i, and the balances β_i, float32.

    β_i = exp(N (â_i² − 1)) tanh(δ_i Σ_j δ_j). The paper has exp(N â_i²). The constant factor changes no weight, and
    float32 has no numbers for e^N of many models. exp and tanh are computed in float64.
    """
    deltas, bounds = task_vectors(base, finetuned), clips.tolist()
    units = [stretched(d.abs(), *pair) for d, pair in zip(deltas, bounds, strict=True)]
    rivals = total(d.sign() * unit for d, unit in zip(deltas, units, strict=True)) if signed else total(deltas)
    balances = [
        ((len(deltas) * (unit.double().square() - 1)).exp() * (delta.double() * rivals).tanh()).float()
        for delta, unit in zip(deltas, units, strict=True)
    ]
    return [d.sign() * d.abs().clamp(*pair) for d, pair in zip(deltas, bounds, strict=True)], balances


@implements("pcb")
def pcb(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α Σ_i λ_i w_i sign(δ_i) a_i / Σ_i w_i: of each entry, a mean of the models that win it (arXiv:2410.02396).

    As in the authors' code λ_i scales the result and changes no w_i. `signed`, with a `clip` of 0.01, is their code for
    images; without it, their code for all. Where all |δ_i| or all β_i are equal nothing weighs; theirs divides by 0.
    """
    clips, bounds = s.surveyed
    clipped, balances = competing(base, finetuned, clips, s.numbers["signed"])
    weights = [stretched(balance, *pair) for balance, pair in zip(balances, bounds.tolist(), strict=True)]
    merged = weighted_sum(s.coefficients, (w * d for w, d in zip(weights, clipped, strict=True)))
    return base.float() + s.scaling * (merged / total(weights).clamp(min=1e-12))


@surveys("consensus")
def least_magnitudes(every: Every, s: Settings) -> np.ndarray | None:
    """The least |λ_i δ_i| that TIES keeps of each model, (N, 1), over the whole model; None without `ties`."""
    if not s.numbers["ties"]:
        return None
    size = model_size(every)
    rank = size - max(1, int(s.numbers["density"] * size))
    return ranked(every, len(s.coefficients), [rank], lambda *chunk: [d.abs() for d in weighted_vectors(*chunk)])


@implements("consensus")
def consensus(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α M ⊙ [at least k of the TALL masks], mask i being |δ_i| > t |M − δ_i| (arXiv:2405.07813).

    λ_i scales δ_i first. M is Σ_i δ_i or, with `ties`, the sum of the largest entries that agree with the elected sign.
    The authors' code compares |θ_i − θ_0| with t |θ_0 + M − θ_i|, and differs by rounding alone.
    """
    deltas = weighted_vectors(base, finetuned, s)
    multitask = total(deltas)
    if s.numbers["ties"]:
        trimmed = [trim(delta, *bound) for delta, bound in zip(deltas, s.surveyed.tolist(), strict=True)]
        ones = [1.0] * len(trimmed)
        multitask = primitives.consensus(trimmed, ones, ones, False, "unweighted")
    votes = total((d.abs() > s.numbers["threshold"] * (multitask - d).abs()).int() for d in deltas)
    return base.float() + s.scaling * torch.where(votes >= s.numbers["agreement"], multitask, 0.0)


@prepares("widen")
def widen_scores(chunks: Chunks, s: Settings) -> Tensor:
    """The scores of a matrix's columns (tokens, for an embedding), (N, columns); of other tensors mean |δ_i|, (N,).

    Sums run entry by entry in a fixed order, so chunks change no bit.
    """
    vectors = ((base, [d.double() for d in weighted_vectors(base, models, s)]) for base, models in chunks())
    if len(s.shape) != 2:
        parts = torch.cat([torch.stack([d.abs().flatten() for d in deltas]) for _, deltas in vectors], -1)
        return parts.cumsum(-1)[:, -1] / parts.shape[-1]
    if s.layer == EMBED:
        found, done = torch.empty(0, dtype=torch.float64), 0
        for base, deltas in vectors:
            part = moments(base, deltas).cumsum(-1)[..., -1]
            found = found if done else part.new_empty(len(part), s.shape[0])  # small pieces would scatter the memory
            found[:, done : (done := done + len(base))] = part
    else:
        found = total(row for base, deltas in vectors for row in moments(base, deltas).unbind(-2))
    scores = [important(places(change), s) for change in column_changes(found)]
    return (total(scores) / len(scores)).float()


def moments(base: Tensor, deltas: list[Tensor]) -> Tensor:
    """The products whose sums are the moments, (1 + 2 N, rows, columns) float64."""
    base = base.double()
    return torch.stack([base * base, *(base * d for d in deltas), *(d * d for d in deltas)])


def column_changes(found: Tensor) -> tuple[Tensor, Tensor]:
    """How much each column changes in norm, and in direction: | ‖θ_i‖ − ‖θ_0‖ | and 1 − cosine, each (N, columns).

    They come from the moments of θ_0 and δ_i, with no difference of large numbers. The authors' code takes 1 − cosine
    in float32, where a small change of direction is lost in rounding. A column that becomes or was 0 has 1.
    """
    n = (len(found) - 1) // 2
    square, product, size = found[0], found[1 : 1 + n], found[1 + n :]
    before, after = square.sqrt(), (square + 2 * product + size).clamp(min=0).sqrt()
    step = (2 * product + size) / (before + after).clamp(min=1e-300)
    norms = before * after
    return step.abs(), torch.where(norms == 0, (size > 0).double(), (size - step**2) / (2 * norms).clamp(min=1e-300))


def places(change: Tensor) -> Tensor:
    """The rank of each column within its model, ascending from 0, ties by position, (N, columns) float64."""
    order = change.argsort(dim=-1, stable=True)
    return torch.empty_like(change).scatter_(-1, order, torch.arange(len(change.T)).to(change).expand_as(change))


def important(ranks: Tensor, s: Settings) -> Tensor:
    """The softmax over the models of rank / n, and the calibration where the rank is above the mean rank times t."""
    n = ranks.shape[-1]
    return calibrated(ranks / n, ranks > s.numbers["above_average"] * (n - 1) / 2, s)


def calibrated(values: Tensor, above: Tensor, s: Settings) -> Tensor:
    """The softmax of the values over the models (first axis), and the calibration where they are above."""
    powers = (values - values.amax(0)).exp()
    return torch.where(above, s.numbers["calibration"], powers / total(powers))


@implements("widen")
def widen(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ_i s_i δ_i: columns count by how much a model changed them, in norm and in direction (arXiv:2408.03092).

    λ_i scales δ_i first. A column belongs to an input; of an embedding it belongs to a token. A vector has no columns:
    the score of an entry is the softmax of |δ_i| or, above the tensor's mean |δ_i| times t, the calibration.
    """
    deltas = weighted_vectors(base, finetuned, s)
    if len(s.shape) != 2:
        sizes = torch.stack(deltas).double().abs()
        means = s.prepared.view(-1, *[1] * base.dim())
        scores = calibrated(sizes, sizes > s.numbers["above_average"] * means, s).float()
    elif s.layer == EMBED:
        first = s.start // s.shape[1]
        scores = s.prepared[:, first : first + len(base), None]
    else:
        scores = s.prepared[:, None]
    return base.float() + total(score * delta for score, delta in zip(scores, deltas, strict=True))
