"""Compiled loops (numba) of the most used merge methods. Each loop does a whole merge in one pass over a chunk.

A pass reads stored numbers and writes stored numbers. It goes over tiles that stay in a core's cache.

    base, models    (n,)   a chunk of a tensor as stored: uint16 (bits of bfloat16) or float32
    out             (n,)   the same, merged
    x, delta        (t,)   float32, a tile of the chunk, t ≤ TILE
    total           (t,)   Σ λ_i δ_i so far
    mass            (t,)   Σ of the divisors of the models that agree with the elected sign

The loops do the operations of the plain torch functions in `methods.py` in the same order, and give the same bytes:
LLVM may not reorder or fuse float operations (no fastmath). Each loop releases the GIL, so worker threads run side by
side. Compiled code is kept beside this file (`compiling.py`).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from acm.compiling import compiled
from acm.merging.magnitudes import FINE

MAGNITUDE = np.uint32(0x7FFFFFFF)  # the bits of a float32 without its sign
INFINITE = np.uint32(0x7F800000)  # the exponent of infinity and NaN; a magnitude above it is NaN
ZERO = np.float32(0)
ONE = np.float32(1)
TILE = 4096  # entries: tiles of the base, the models and the sums fit the innermost caches together

loop = compiled(error_model="numpy")  # division by zero gives infinity, as in torch


def load(raw, x):
    """Stored numbers into a float32 tile."""


@overload(load)
def load_overload(raw, x):
    if raw.dtype == types.uint16:

        def bfloat16(raw, x):
            bits = x.view(np.uint32)
            for i in range(raw.size):
                bits[i] = np.uint32(raw[i]) << np.uint32(16)

        return bfloat16

    def float32(raw, x):
        for i in range(raw.size):
            x[i] = raw[i]

    return float32


def store(x, out):
    """A float32 tile as it is stored, rounded to nearest even; NaN stays NaN."""


@overload(store)
def store_overload(x, out):
    if out.dtype == types.uint16:

        def bfloat16(x, out):
            bits = x.view(np.uint32)
            for i in range(out.size):
                word = bits[i]
                rounded = (word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                out[i] = np.uint16(0x7FC0 if (word & MAGNITUDE) > INFINITE else rounded)

        return bfloat16

    def float32(x, out):
        for i in range(out.size):
            out[i] = x[i]

    return float32


@loop
def not_finite(x):
    """How many entries are NaN or infinite."""
    bits, count = x.view(np.uint32), 0
    for i in range(bits.size):
        count += (bits[i] & INFINITE) == INFINITE
    return count


@loop
def mix(x):
    """A bijection of 32-bit words that changes half the bits on average (lowbias32 of C. Wellons, public domain)."""
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))  # numba widens products to 64 bits
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@loop
def trim(x, low, high):
    """In place: entries with low ≤ |x| ≤ high stay, the others become 0."""
    for i in range(x.size):
        size = abs(x[i])
        x[i] = x[i] if low <= size <= high else ZERO


@loop
def drop(x, density, bound, start, first, second):
    """In place: entries whose random word is below `bound` stay, divided by `density`.

    start: place of x[0] in its tensor. first, second: the key. The words are those of `primitives.random_words`.
    """
    for i in range(x.size):
        place = np.uint32(start + np.uint32(i))
        word = mix(np.uint32(mix(np.uint32(place ^ first)) + second))
        x[i] = x[i] / density if word < bound else ZERO


@loop
def add_scaled(total, factor, x, first):
    """total += factor · x, or = where it is the first."""
    for i in range(x.size):
        total[i] = factor * x[i] if first else total[i] + factor * x[i]


@loop
def add_agreeing(delta, elected, vote, coefficient, divisor, total, mass):
    """Where vote · δ has the sign of `elected` (+ on zero): total += λ δ and mass += divisor."""
    for i in range(delta.size):
        ballot = vote * delta[i]
        agrees = (ballot > ZERO) if elected[i] >= ZERO else (ballot < ZERO)
        total[i] += coefficient * delta[i] if agrees else ZERO
        mass[i] += divisor if agrees else ZERO


@loop
def divide(total, mass):
    """total /= mass, in place; entries of mass 0 stay."""
    for i in range(total.size):
        total[i] /= mass[i] if mass[i] != ZERO else ONE


@loop
def weighted(models, factors, divisor, out, bad):
    """Σ factor_i θ_i / divisor: average and SLERP.

    factors: (models,) float32. bad: (models,) int64, counts of NaN and infinity, added to.
    """
    x, total = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for start in range(0, out.size, TILE):
        stop = min(start + TILE, out.size)
        n = stop - start
        for m in range(len(models)):
            load(models[m][start:stop], x[:n])
            bad[m] += not_finite(x[:n])
            add_scaled(total[:n], factors[m], x[:n], m == 0)
        if divisor != ONE:
            for i in range(n):
                total[i] /= divisor
        store(total[:n], out[start:stop])


@loop
def deltas(base, models, start, trims, lows, highs, drops, densities, limits, keys, elects, votes, factors, divisors,
           divides, divisor, scaling, out, bad):  # fmt: skip
    """θ_0 + α Σ λ_i δ_i, task vectors trimmed or dropped, summed plainly or over the elected sign.

    These are task arithmetic, TIES, breadcrumbs, DARE and DARE-TIES. start: place of the chunk in its tensor, uint32.
    trims, drops, elects, divides: what is done. For each model: bounds of |δ| (lows, highs), density and its limit of
    random words, key (2,) uint32, vote, factor λ, divisor. divisor: what a plain sum is divided by. scaling: α.
    bad: (1 + models,) counts of NaN and infinity, base first, added to.
    """
    b, elected = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    total, mass = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    x = np.empty((len(models), TILE), np.float32)
    for begin in range(0, out.size, TILE):
        end = min(begin + TILE, out.size)
        n = end - begin
        load(base[begin:end], b[:n])
        bad[0] += not_finite(b[:n])
        for m in range(len(models)):
            delta = x[m, :n]
            load(models[m][begin:end], delta)
            bad[m + 1] += not_finite(delta)
            for i in range(n):
                delta[i] -= b[i]
            if trims:
                trim(delta, lows[m], highs[m])
            if drops and limits[m] < 2**32:
                place = np.uint32(start + np.uint32(begin))
                drop(delta, densities[m], np.uint32(limits[m]), place, keys[m, 0], keys[m, 1])
            if elects:
                add_scaled(elected[:n], votes[m], delta, m == 0)
            else:
                add_scaled(total[:n], factors[m], delta, m == 0)
        if elects:
            total[:n] = ZERO
            mass[:n] = ZERO
            for m in range(len(models)):
                add_agreeing(x[m, :n], elected[:n], votes[m], factors[m], divisors[m], total[:n], mass[:n])
            if divides:
                divide(total[:n], mass[:n])
        elif divides:
            for i in range(n):
                total[i] /= divisor
        for i in range(n):
            b[i] += scaling * total[i]
        store(b[:n], out[begin:end])


@loop
def count_upper(bits, counts):
    """Histogram of the upper bits of magnitudes. counts: (2^COARSE,) int64, added to."""
    for i in range(bits.size):
        counts[(bits[i] & MAGNITUDE) >> np.uint32(FINE)] += 1


@loop
def count_lower(bits, bucket, counts, hits):
    """Histogram of the lower bits of the magnitudes in a bucket. counts: (2^FINE,) int64, added to.

    Few entries are in a bucket, so eight are passed over at a time. hits: (TILE,) uint8, for use.
    """
    low, eights = np.uint32((1 << FINE) - 1), hits.view(np.uint64)
    hits[bits.size :] = 0
    for i in range(bits.size):
        hits[i] = ((bits[i] & MAGNITUDE) >> np.uint32(FINE)) == bucket
    for k in range(eights.size):
        if eights[k]:
            for i in range(8 * k, 8 * k + 8):
                if hits[i]:
                    counts[bits[i] & low] += 1


@loop
def histogram(base, models, buckets, counts):
    """Histograms of the magnitudes of the δ_i, added to counts.

    buckets: (models,) int64. Where it is negative, the upper bits are counted, (models, 2^COARSE); else the lower bits
    of the magnitudes in that bucket, (models, 2^FINE).
    """
    b, x, hits = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.uint8)
    for start in range(0, base.size, TILE):
        n = min(TILE, base.size - start)
        load(base[start : start + n], b[:n])
        for m in range(len(models)):
            load(models[m][start : start + n], x[:n])
            for i in range(n):
                x[i] -= b[i]
            bits = x[:n].view(np.uint32)
            if buckets[m] < 0:
                count_upper(bits, counts[m])
            else:
                count_lower(bits, np.uint32(buckets[m]), counts[m], hits)
