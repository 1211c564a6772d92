"""The building blocks of the merge methods, in plain torch: trimming, dropping, electing, counting magnitudes.

    base         θ_0    (…)        a tensor of the base, or a chunk of it
    delta        δ_i    (…)        task vector θ_i − θ_0, float32
    coefficient  λ_i    ()         its weight in this layer
    scaling      α      ()         the recipe's `lambda`
    density      1 − k  ()         fraction kept
    key                 (2,)       two 32-bit words that seed the random numbers of one tensor of one model

`kernels.py` fuses the most used blocks into one pass, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging.magnitudes import COARSE, FINE, HALF
from acm.merging.settings import Settings, votes_of

if TYPE_CHECKING:
    from acm.merging.functions import Chunks

ROWS = 4096  # how many rows of a matrix are computed in float64 at a time
SUMMED = 1 << 14  # how many entries `gram` sums at a time


def widen(raw: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Stored numbers as float32 on a device, same shape. raw: uint16 (bits of bfloat16), float16 or float32.

    They are sent as they are stored, which is half as much as float32 where 16 bits are stored.
    """
    raw = raw if raw.flags.writeable else raw.copy()  # torch has no read-only tensors
    if raw.dtype == np.uint16:
        return torch.from_numpy(raw.view(np.int16)).to(device).view(torch.bfloat16).float()
    return torch.from_numpy(raw).to(device).float()


def narrow(values: Tensor, dtype: str) -> np.ndarray:
    """float32 numbers as they are stored in this dtype, rounded to nearest even; bfloat16 as its bits, with one NaN."""
    found = values.to(getattr(torch, dtype)).contiguous()
    if dtype != "bfloat16":
        return found.cpu().numpy()
    bits = torch.where(torch.isnan(values), 0x7FC0, found.view(torch.int16))  # the kernels have one NaN too
    return bits.short().cpu().numpy().view(np.uint16)


def task_vectors(base: Tensor, finetuned: list[Tensor]) -> list[Tensor]:
    """δ_i = θ_i − θ_0 in float32."""
    return [model.float() - base.float() for model in finetuned]


def weighted_vectors(base: Tensor, finetuned: list[Tensor], s: Settings) -> list[Tensor]:
    """λ_i δ_i in float32: what a method works on whose task vectors λ scales first."""
    return [c * delta for c, delta in zip(s.coefficients, task_vectors(base, finetuned), strict=True)]


def finite(tensors: list[Tensor]) -> bool:
    """Whether there is neither NaN nor infinity, on which a decomposition would stop."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def rows_of(matrix: Tensor) -> tuple[Tensor, ...]:
    """The matrix, ROWS rows at a time."""
    return matrix.split(ROWS)


def crossed(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ right in float64, some rows at a time, summed in their order."""
    return total(x.double().T @ y.double() for x, y in zip(rows_of(left), rows_of(right), strict=True))


def total(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor, in their order."""
    return reduce(add, tensors)


def weighted_sum(weights: list[float], tensors: Iterable[Tensor]) -> Tensor:
    """Σ w_i x_i, in their order."""
    return total(weight * tensor for weight, tensor in zip(weights, tensors, strict=True))


def combine(base: Tensor, deltas: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α Σ λ_i δ_i, the sum over :func:`divided`."""
    merged, divisor = weighted_sum(s.coefficients, deltas), divided(s)
    merged = merged / divisor if divisor != 1 else merged
    return base.float() + (s.scaling * merged if s.scaling != 1 else merged)


def divided(s: Settings) -> float:
    """What Σ λ_i δ_i is divided by: the sum of the divisors if `normalize`, unless it is nearly 0; else 1."""
    divisor = sum(s.divisors) if s.normalize else 1.0
    return divisor if abs(divisor) > 1e-8 else 1.0


def elected(base: Tensor, deltas: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + α · :func:`consensus`."""
    return base.float() + s.scaling * consensus(deltas, s.coefficients, s.divisors, s.normalize, s.election)


def consensus(
    deltas: list[Tensor], coefficients: list[float], divisors: list[float], normalize: bool, election: str
) -> Tensor:
    """Elect a sign for each entry, then sum λ_i δ_i over the models that agree with it.

    normalize: the sum is divided by that of the agreeing models' divisors.
    election: ``weighted`` elects the sign of Σ λ_i δ_i, as mergekit does; ``unweighted`` that of Σ δ_i, as the TIES
    paper does. A sum of zero elects +. A zero never agrees.
    """
    votes = votes_of(coefficients, election)
    sign = weighted_sum(votes, deltas)
    merged, mass = torch.zeros_like(sign), torch.zeros_like(sign)
    for delta, vote, coefficient, divisor in zip(deltas, votes, coefficients, divisors, strict=True):
        agrees = torch.where(sign >= 0, vote * delta > 0, vote * delta < 0)
        merged = merged + torch.where(agrees, coefficient * delta, 0.0)
        mass = mass + torch.where(agrees, divisor, 0.0)
    return merged / torch.where(mass == 0, 1.0, mass) if normalize else merged


def trim(delta: Tensor, low: float, high: float = float("inf")) -> Tensor:
    """Entries with low ≤ |δ| ≤ high stay, the others become 0.

    Entries tied with a bound all stay, as in the TIES reference. mergekit keeps an exact number, ties in sort order.
    """
    size = delta.abs()
    return torch.where((size >= low) & (size <= high), delta, 0.0)


def random_words(shape: torch.Size, key: tuple[int, int], start: int, device: torch.device) -> Tensor:
    """One random 32-bit word for each entry, int64 of this shape.

    A word is a hash of the key and of the entry's place in its tensor, so chunks do not matter. start: place of the
    first.
    """
    mask = 0xFFFFFFFF

    def mix(x: Tensor) -> Tensor:  # as `kernels.mix`; int64 products wrap, which leaves the low 32 bits right
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & mask
        x = ((x ^ (x >> 15)) * 0x846CA68B) & mask
        return x ^ (x >> 16)

    place = torch.arange(start, start + shape.numel(), device=device) & mask
    return mix((mix(place ^ key[0]) + key[1]) & mask).view(shape)


def drop(delta: Tensor, density: float, key: tuple[int, int], start: int = 0, rescale: bool = True) -> Tensor:
    """Keep each entry with probability `density` (to 2^-32); if `rescale`, divide what is kept by `density`.

    start: place of δ's first entry in its tensor.
    """
    kept = random_words(delta.shape, key, start, delta.device) < int(density * 2**32)
    return torch.where(kept, delta / (density if rescale else 1.0), 0.0)


def histogram(delta: Tensor, bucket: int | None) -> np.ndarray:
    """Counts of the upper bits of the magnitudes, (2^COARSE,) int64.

    With a bucket, of the lower bits within it, (2^FINE,).
    """
    magnitude = delta.reshape(-1).contiguous().view(torch.int32) & 0x7FFFFFFF
    upper, lower = magnitude >> FINE, magnitude & ((1 << FINE) - 1)
    if bucket is None:
        return torch.bincount(upper, minlength=1 << COARSE).cpu().numpy()
    return torch.bincount(lower[upper == bucket], minlength=1 << FINE).cpu().numpy()


def count_magnitudes(chunks: Chunks, models: int, buckets: np.ndarray | None) -> np.ndarray:
    """Histograms of the magnitudes of a tensor's task vectors, int64: a `Count` of `magnitudes.py`."""
    shape = (models, 1 << COARSE) if buckets is None else (*buckets.shape, 1 << FINE)
    found = np.zeros(shape, np.int64)
    for chunk in chunks():
        for model, delta in enumerate(task_vectors(*chunk)):
            if buckets is None:
                found[model] += histogram(delta, None)
            else:
                found[model] += np.stack([histogram(delta, bucket) for bucket in buckets[model]])
    return found


def count_numbers(chunks: Iterable[list[Tensor]], models: int, buckets: np.ndarray | None) -> np.ndarray:
    """Histograms of one float32 tensor of each model, int64: a `Count` for `numbers_at` of `magnitudes.py`."""
    shape = (models,) if buckets is None else buckets.shape
    found = np.zeros((*shape, 1 << HALF), np.int64)
    for chunk in chunks:
        for model, values in enumerate(chunk):
            bits = values.reshape(-1).contiguous().view(torch.int32)
            ordered = bits ^ (bits >> 31 & 0x7FFFFFFF)
            upper, lower = (ordered >> HALF) + (1 << HALF - 1), ordered & ((1 << HALF) - 1)
            if buckets is None:
                found[model] += torch.bincount(upper, minlength=1 << HALF).cpu().numpy()
            else:
                for r, bucket in enumerate(buckets[model]):
                    found[model, r] += torch.bincount(lower[upper == bucket], minlength=1 << HALF).cpu().numpy()
    return found


def blocks(chunks: Iterable[list[Tensor]]) -> Iterator[list[Tensor]]:
    """Flat vectors in blocks of SUMMED entries, the last one shorter; where chunks end changes no block."""
    rest: list[Tensor] = []
    for vectors in chunks:
        flat = [vector.reshape(-1) for vector in vectors]
        flat = [torch.cat(pair) for pair in zip(rest, flat, strict=True)] if rest else flat
        for block in zip(*(vector.split(SUMMED) for vector in flat), strict=True):
            rest = list(block)
            if len(rest[0]) == SUMMED:
                yield rest
                rest = []
    if rest:
        yield rest


def gram(chunks: Iterable[list[Tensor]], models: int) -> np.ndarray:
    """Inner products of flat vectors, (models, models) float64.

    Blocks of fixed size are summed, so chunks change no bit.
    """
    found = np.zeros((models, models))
    for block in blocks(chunks):
        stacked = torch.stack(block).double()
        found += (stacked @ stacked.T).cpu().numpy()
    return found
