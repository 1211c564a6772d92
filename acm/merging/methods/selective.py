"""Merge methods that choose which entries of task vectors to take.

variable    symbol        shape       meaning
delta       δ_i           (…)         task vector θ_i − θ_0, times ACM's λ_i where there are such
importance  |δ| · KL      (…)         of an entry: its change, times how far its row moved; float32
spread      Var_i δ_i     (…)         variance of an entry over the task vectors; float32
changed     |δ_i| > ε     (…)         where a model differs from the base
weight      w_i           ()          of a model in a tensor
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging.functions import implements, prepares
from acm.merging.magnitudes import numbers_at
from acm.merging.primitives import count_numbers, gram, total, weighted_sum, weighted_vectors
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Chunks

NEGLIGIBLE = 1e-6  # of mergekit: a distance of nearswap, a sum of weights of sce, below which it divides by this


def values_at(scores: Callable[[], Iterable[Tensor]], ranks: list[int]) -> np.ndarray:
    """The scores at these ascending ranks, (ranks,) float32, exact.

    scores: gives all of them, some at a time, the same at each call.
    """
    return numbers_at(np.array([ranks]), lambda buckets: count_numbers(([v] for v in scores()), 1, buckets))[0]


@implements("nearswap")
def nearswap(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + min(1, t / |δ|) δ: no entry moves by more than t. Where |δ| < 1e-6 the quotient is t / 1e-6.

    Source: mergekit 0.1.5, after https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001.
    """
    (delta,) = weighted_vectors(base, finetuned, s)
    return base.float() + (s.numbers["t"] / delta.abs().clamp(min=NEGLIGIBLE)).clamp(max=1) * delta


def importance(base: Tensor, delta: Tensor) -> Tensor:
    """|δ| · KL(p ‖ q) of each entry, p and q the softmax of its row in the model and in the base, each plus 1e-8.

    It is computed in float32, as in mergekit. A KL below 1e-7, as of rows whose entries change by less than 3e-4, is
    then mostly rounding, and may be negative.
    """
    p, q = (torch.softmax(rows, dim=-1) + 1e-8 for rows in (base.float() + delta, base.float()))
    return delta.abs() * (p * torch.log(p / q)).sum(dim=-1, keepdim=True)


@prepares("arcee_fusion")
def fence(chunks: Chunks, s: Settings) -> float:
    """Median + 1.5 (Q_3 − Q_1) of the importances of a tensor: Tukey's fence, but from the median.

    Each quantile is the number at rank int(q (n − 1)). mergekit takes them from 1,000,000 entries that it draws where
    a tensor has more; these are exact.
    """
    last = math.prod(s.shape) - 1

    def scores() -> Iterable[Tensor]:
        return (importance(base, *weighted_vectors(base, models, s)) for base, models in chunks())

    first, median, third = values_at(scores, [last // 4, last // 2, 3 * last // 4])
    return float(median + np.float32(1.5) * (third - first))


@implements("arcee_fusion")
def arcee_fusion(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + δ where the importance reaches the fence, else θ_0. Source: mergekit 0.1.5.

    A vector is one row. Where rows have one entry, or no entry changes, all importances are 0, and all is taken.
    """
    (delta,) = weighted_vectors(base, finetuned, s)
    return base.float() + delta * (importance(base, delta) >= s.prepared)


def changed(deltas: list[Tensor], epsilon: float) -> tuple[list[Tensor], Tensor]:
    """Of each δ_i whether its entries are changed, and how many of the δ_i are, float32."""
    masks = [delta.abs() > epsilon for delta in deltas]
    return masks, total(mask.float() for mask in masks)


@implements("ram")
def ram(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Entries that one model has changed are taken in full, those that several have changed as their mean.

    Source: arXiv:2601.13572 and mergekit 0.1.5.
    """
    deltas = weighted_vectors(base, finetuned, s)
    masks, count = changed(deltas, s.numbers["epsilon"])
    kept = total(delta * mask for delta, mask in zip(deltas, masks, strict=True))
    return base.float() + kept / count.clamp(min=1)


@prepares("ramplus_tl")
def overlap_factors(chunks: Chunks, s: Settings) -> list[float]:
    """1 + r · min(α, shared_i / alone_i): how many changed entries a model shares with others, over those it does not.

    mergekit divides by ε where that is larger than the number of entries, which is 0 then.
    """
    counts = np.zeros((2, len(s.coefficients)), np.int64)
    for base, models in chunks():
        masks, count = changed(weighted_vectors(base, models, s), s.numbers["epsilon"])
        for kind, where in enumerate((count > 1, count == 1)):
            counts[kind] += np.array([int((mask & where).sum()) for mask in masks])
    r, alpha, epsilon = (s.numbers[key] for key in ("r", "alpha", "epsilon"))
    ratios = [shared / max(alone, epsilon) if alone else 0.0 for shared, alone in counts.T.tolist()]
    return [1 + r * min(ratio, alpha) for ratio in ratios]


@implements("ramplus_tl")
def ramplus_tl(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """As `ram`, but an entry that one model alone has changed is times a factor of that model and tensor.

    Source: mergekit 0.1.5. RAM+ of arXiv:2601.13572 counts over the whole model, this variant over each tensor.
    """
    deltas = weighted_vectors(base, finetuned, s)
    masks, count = changed(deltas, s.numbers["epsilon"])
    kept = [delta * mask for delta, mask in zip(deltas, masks, strict=True)]
    alone = weighted_sum(s.prepared, kept)
    return base.float() + torch.where(count == 1, alone, total(kept) / count.clamp(min=1))


def spread(deltas: list[Tensor]) -> Tensor:
    """The variance of each entry over the task vectors, divided by their number; exactly 0 where all are equal.

    Computed in float64 from the differences to the first, and rounded: the number that torch.var gives, but faster.
    """
    shifted = [delta.double() - deltas[0].double() for delta in deltas]
    mean = total(shifted) / len(deltas)
    return (total((own - mean).square() for own in shifted) / len(deltas)).float()


def selected(deltas: list[Tensor], bound: float) -> list[Tensor]:
    """The task vectors where their spread reaches the bound, 0 elsewhere. A bound of 0 selects all."""
    if bound == 0:
        return deltas
    mask = spread(deltas) >= bound
    return [delta * mask for delta in deltas]


def spread_bound(chunks: Chunks, s: Settings) -> float:
    """The least spread that is selected: `select_topk` of the spreads that are not 0 reach it; infinite for none.

    Their number is rounded down, after a product in float32 as in mergekit and in the authors' code.
    """
    top = s.numbers["select_topk"]
    if top >= 1:
        return 0.0

    def spreads() -> Iterable[Tensor]:
        return (spread(weighted_vectors(*chunk, s)) for chunk in chunks())

    count = int(np.float32(sum(int(values.count_nonzero()) for values in spreads())) * np.float32(top))
    return float(values_at(spreads, [math.prod(s.shape) - count])[0]) if count else math.inf


@prepares("sce")
def selection(chunks: Chunks, s: Settings) -> tuple[float, list[float]]:
    """The least spread that is selected, and the w_i: the mean squares of what is selected, over their sum.

    The weights are equal where that sum is below 1e-6, as in mergekit. So they are where task vectors are short: N of
    them whose entries are about 1e-3 / √N or less. With `weights_only` they are equal where the sum is 0, as in the
    authors' code.
    """
    bound, count = spread_bound(chunks, s), len(s.coefficients)
    products = gram((selected(weighted_vectors(*chunk, s), bound) for chunk in chunks()), count)
    squares = np.diag(products) / math.prod(s.shape)
    if squares.sum() == 0 or (squares.sum() < NEGLIGIBLE and not s.numbers["weights_only"]):
        return bound, [1 / count] * count
    return bound, [float(weight) for weight in squares / squares.sum()]


@implements("sce")
def sce(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """Select entries by their spread, calculate a weight of each model, erase minority signs: θ_0 + Σ w_i δ_i / Σ w_i.

    Both sums are over the models whose δ_i has the sign of Σ δ_i in this entry; a sum of zero elects +. Source:
    mergekit 0.1.5, where entries that are not selected stay as in the base. With `weights_only`, as in the code of
    arXiv:2408.07990, the selection serves the weights alone. Entries tied with the least spread are all selected.
    """
    (bound, weights), whole = s.prepared, s.numbers["weights_only"]
    deltas = weighted_vectors(base, finetuned, s)
    deltas = deltas if whole else selected(deltas, bound)
    sign = total(deltas)
    agreeing = [w * ((d != 0) & ((d > 0) == (sign >= 0))) for w, d in zip(weights, deltas, strict=True)]
    merged, mass = total(a * d for a, d in zip(agreeing, deltas, strict=True)), total(agreeing)
    mass = torch.where(mass == 0, 1.0, mass) if whole else mass.clamp(min=NEGLIGIBLE)
    return base.float() + merged / mass
