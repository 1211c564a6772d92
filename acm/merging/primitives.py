"""What the methods are made of, in plain torch: trimming, dropping, electing, ranking magnitudes.

    delta    δ_i   (…)   task vector, float32
    density  1−k   ()    fraction kept
    key            (2,)  two 32-bit words that seed the random numbers of one tensor of one model

`kernels.py` fuses the most used into one pass with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

Chunks = Callable[
    [], Iterable[tuple[Tensor, list[Tensor]]]
]  # each call: base and fine-tuned chunks of a tensor, from its start
COARSE, FINE = 16, 15  # bits: the 31 magnitude bits of a float32 as bucket and place within the bucket
BLOCK = 1 << 14  # entries that `gram` sums at a time; the engine's chunks are multiples of it


def widen(raw: np.ndarray) -> Tensor:
    """Stored numbers, (n,) uint16 (bits of bfloat16), float16 or float32, as float32."""
    raw = raw if raw.flags.writeable else raw.copy()  # torch has no read-only tensors
    if raw.dtype == np.uint16:
        return torch.from_numpy(raw.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(raw).float()


def narrow(values: Tensor, dtype: str) -> np.ndarray:
    """float32 numbers as they are stored in this dtype, bfloat16 as its bits; rounded to nearest even."""
    found = values.to(getattr(torch, dtype)).contiguous()
    if dtype != "bfloat16":
        return found.numpy()
    return (
        torch.where(torch.isnan(values), 0x7FC0, found.view(torch.int16)).short().numpy().view(np.uint16)
    )  # one NaN, as the kernels


def task_vectors(base: Tensor, finetuned: list[Tensor]) -> list[Tensor]:
    """δ_i = θ_i − θ_0 in float32."""
    return [model.float() - base.float() for model in finetuned]


def total(tensors: Iterable[Tensor]) -> Tensor:
    return reduce(add, tensors)


def trim(delta: Tensor, low: float, high: float = float("inf")) -> Tensor:
    """Entries with low ≤ |δ| ≤ high stay, the others become 0. Entries tied with a bound all stay.

    So does the TIES reference; mergekit keeps an exact number, ties in sort order.
    """
    size = delta.abs()
    return torch.where((size >= low) & (size <= high), delta, 0.0)


def random_words(shape: torch.Size, key: tuple[int, int], start: int, device: torch.device) -> Tensor:
    """One random 32-bit word for each entry, int64: a hash of its place in the tensor and the key, so independent of chunks."""
    mask = 0xFFFFFFFF

    def mix(x: Tensor) -> Tensor:  # `kernels.mix`; int64 products wrap, which leaves the low 32 bits right
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & mask
        x = ((x ^ (x >> 15)) * 0x846CA68B) & mask
        return x ^ (x >> 16)

    place = torch.arange(start, start + shape.numel(), device=device) & mask
    return mix((mix(place ^ key[0]) + key[1]) & mask).view(shape)


def drop(delta: Tensor, density: float, key: tuple[int, int], start: int = 0, rescale: bool = True) -> Tensor:
    """Keep each entry with probability `density` (to 2^-32), divided by it if `rescale`. start: place of δ's first entry in its tensor."""
    kept = random_words(delta.shape, key, start, delta.device) < int(density * 2**32)
    return torch.where(kept, delta / (density if rescale else 1.0), 0.0)


def consensus(
    deltas: list[Tensor], coefficients: list[float], divisors: list[float], normalize: bool, election: str
) -> Tensor:
    """Elect a sign per entry, then Σ λ_i δ_i over the models that agree with it, over the sum of their divisors if `normalize`.

    election: ``weighted`` sums λ_i δ_i, as mergekit does; ``unweighted`` sums δ_i, as the TIES paper does. A zero sum elects +,
    and zeros never agree.
    """
    votes = ballots(coefficients, election)
    elected = total(vote * delta for vote, delta in zip(votes, deltas, strict=True))
    merged, mass = torch.zeros_like(elected), torch.zeros_like(elected)
    for delta, vote, coefficient, divisor in zip(deltas, votes, coefficients, divisors, strict=True):
        agrees = torch.where(elected >= 0, vote * delta > 0, vote * delta < 0)
        merged = merged + torch.where(agrees, coefficient * delta, 0.0)
        mass = mass + torch.where(agrees, divisor, 0.0)
    return merged / torch.where(mass == 0, 1.0, mass) if normalize else merged


def ballots(coefficients: list[float], election: str) -> list[float]:
    return coefficients if election == "weighted" else [1.0] * len(coefficients)


def histogram(delta: Tensor, bucket: int | None) -> np.ndarray:
    """Counts of the upper magnitude bits of a task vector, (2^16,) int64, or, of the entries in a bucket, of the lower, (2^15,)."""
    magnitude = delta.reshape(-1).contiguous().view(torch.int32) & 0x7FFFFFFF
    upper, lower = magnitude >> FINE, magnitude & ((1 << FINE) - 1)
    if bucket is None:
        return torch.bincount(upper, minlength=1 << COARSE).cpu().numpy()
    return torch.bincount(lower[upper == bucket], minlength=1 << FINE).cpu().numpy()


def count_magnitudes(chunks: Chunks, models: int, buckets: np.ndarray | None) -> np.ndarray:
    """Histograms of the task vectors of a tensor: (models, 2^16) or, within buckets (models, r), (models, r, 2^15)."""
    if buckets is None:
        return sum(np.stack([histogram(d, None) for d in task_vectors(*chunk)]) for chunk in chunks())
    return sum(
        np.stack([[histogram(d, b) for b in own] for d, own in zip(task_vectors(*chunk), buckets, strict=True)])
        for chunk in chunks()
    )


def locate(counts: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin that holds each ascending rank, and the rank within the bin. counts: (…, bins), ranks: (…), both int64."""
    sums = counts.cumsum(axis=-1)
    bins = (sums <= ranks[..., None]).sum(axis=-1)
    below = np.where(bins > 0, np.take_along_axis(sums, np.maximum(bins - 1, 0)[..., None], -1)[..., 0], 0)
    return bins, ranks - below


def magnitudes_at(ranks: np.ndarray, count: Callable[[np.ndarray | None], np.ndarray]) -> np.ndarray:
    """The exact magnitudes at ascending ranks, without sorting: two histograms of magnitude bits.

    ranks: (models, r) int64. count: :func:`count_magnitudes` of what is ranked, given the buckets. Returns (models, r) float32.
    """
    buckets, rest = locate(np.repeat(count(None)[:, None], ranks.shape[1], axis=1), ranks)
    places, _ = locate(count(buckets), rest)
    return ((buckets << FINE) | places).astype(np.uint32).view(np.float32)


def gram(chunks: Iterable[list[Tensor]], models: int) -> np.ndarray:
    """Inner products of flat vectors, (models, models) float64, summed in blocks of fixed size so that chunks change no bit."""
    found = np.zeros((models, models))
    for vectors in chunks:
        for block in zip(*(v.reshape(-1).split(BLOCK) for v in vectors), strict=True):
            stacked = torch.stack(block).double()
            found += (stacked @ stacked.T).cpu().numpy()
    return found
