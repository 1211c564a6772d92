"""Merge methods that turn tensors on spheres, as mergekit's do.

    variable   symbol   shape              meaning
    vector     v_i      (…)                what is turned: δ_i where the recipe names a base, else θ_i
    norm       n_i      ()                 its length
    unit       u_i      (…)                its direction v_i / n_i
    angle      Ω        () or of rows      the angle between two directions
    share      w_i      ()                 the weight of a model, over the sum of weights
    products   G        (models, models)   inner products v_i · v_j, float64
    factor     c_i      ()                 the result is θ_0 + Σ c_i v_i

Each result is a sum of the vectors with a few factors, and the factors follow from G. So a first pass over a tensor
sums G, in float64, and a second pass merges. Where the recipe names no base, the engine gives zeros as θ_0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging.functions import implements, prepares
from acm.merging.primitives import gram, task_vectors, weighted_sum
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Chunks

SHORTEST = 1e-7  # nuslerp: a vector shorter than this has a unit vector that is shorter too, as in mergekit
CANCELLED = 1e-6  # directions whose weighted sum is this short cancel: in float32 it is rounding
OPPOSITE = 1e-10  # 1 + cosine of two directions that no shortest way joins
QUIETLY = np.errstate(invalid="ignore")  # where NaN is allowed, NaN comes out


@prepares("nuslerp")
def arc(chunks: Chunks, s: Settings) -> list[Tensor] | None:
    """The factors of both vectors: one pair for the tensor, or for each of its columns; None where rows have their own.

    A tensor of one dimension is one row.
    """
    if s.numbers["nuslerp_flatten"] or len(s.shape) < 2:
        products = torch.from_numpy(gram((task_vectors(*chunk) for chunk in chunks()), 2))
        return arc_factors([products[0, 0], products[1, 1], products[0, 1]], s)
    if not s.numbers["nuslerp_row_wise"]:
        return None
    sums = None
    for chunk in chunks():
        first, second = (delta.double() for delta in task_vectors(*chunk))
        products = torch.stack([first * first, second * second, first * second], dim=1)
        below = products if sums is None else torch.cat([sums, products])
        sums = below.cumsum(0)[-1:]  # row after row, so that chunks change no bit
    assert sums is not None
    return arc_factors(list(sums[0]), s)


def arc_factors(products: list[Tensor], s: Settings) -> list[Tensor]:
    """sin(w_i Ω) / sin Ω for both vectors, float32. products: v_1 · v_1, v_2 · v_2 and v_1 · v_2, float64.

    Vectors on a line, whose cosine is ±1 in float32, are interpolated.
    """
    first, second, product = products
    total = sum(s.coefficients)
    shares = [weight / total for weight in s.coefficients] if abs(total) >= 1e-6 else [0.5, 0.5]
    cosine = (product / first.sqrt().clamp(min=SHORTEST) / second.sqrt().clamp(min=SHORTEST)).clamp(-1, 1)
    line = cosine.float().abs() == 1
    angle = torch.where(line, 0.0, cosine).acos()
    return [torch.where(line, share, (share * angle).sin() / angle.sin()).float() for share in shares]


@implements("nuslerp")
def nuslerp(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + (sin(w_1 Ω) v_1 + sin(w_2 Ω) v_2) / sin Ω, with w_1 + w_2 = 1: an arc between two vectors.

    Ω is the angle of the flat tensors; with `nuslerp_flatten: false` that of each row along the last axis; with
    `nuslerp_row_wise: true` too, that of each column along the first. Source: mergekit 0.1.5. Weights that sum to 0 are
    equal shares, as there.
    """
    deltas, factors = task_vectors(base, finetuned), s.prepared
    if factors is None:
        first, second = (delta.double() for delta in deltas)
        products = [(a * b).sum(-1, keepdim=True) for a, b in ((first, first), (second, second), (first, second))]
        factors = arc_factors(products, s)
    return base.float() + (factors[0] * deltas[0] + factors[1] * deltas[1])


def shares(s: Settings) -> np.ndarray:
    """w_i, (models,): the weights, over the sum of the divisors if `normalize_weights`.

    A single model has all the weight, whatever the recipe says, as in mergekit. ACM's λ stays what it is.
    """
    if len(s.coefficients) == 1 and s.divisors == s.coefficients:
        return np.ones(1)
    return np.array(s.coefficients) / (sum(s.divisors) if s.normalize else 1.0)


@prepares("multislerp")
@QUIETLY
def mean_direction(chunks: Chunks, s: Settings) -> list[float]:
    """The factors c_i = cos(ε) L w_i / (n_i + ε) / ‖Σ w_i u_i‖, with the length L = Σ w_i n_i.

    Where directions cancel, and for a single model, c_i = w_i.
    """
    weights, eps = shares(s), s.numbers["eps"]
    products = gram((task_vectors(*chunk) for chunk in chunks()), len(weights))
    norms = np.sqrt(np.diag(products))
    units = weights / (norms + eps)
    length = length_of(units, products)
    if len(weights) == 1 or length < max(eps, CANCELLED * np.abs(weights).sum()):
        return [float(weight) for weight in weights]
    return [float(factor) for factor in np.cos(eps) * (weights * norms).sum() / length * units]


def length_of(factors: np.ndarray, products: np.ndarray) -> float:
    """‖Σ c_i v_i‖. The sums treat all models alike, so that their order changes no bit of two."""
    return float(np.sqrt(np.maximum((factors * (products * factors).sum(axis=1)).sum(), 0.0)))


@implements("multislerp")
def multislerp(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + L m: the direction m of Σ w_i u_i, and the length L = Σ w_i n_i.

    Source: https://goddard.blog/posts/multislerp-wow-what-a-cool-idea and mergekit 0.1.5. That rule projects the u_i
    onto the tangent space at m, sums them there with the weights, and walks from m along the sum. The sum is
    Σ w_i u_i − (Σ w_i u_i · m) m = 0, whatever the models, so the walk ends where it starts, at m. ε (`eps`) is added
    to each norm and to the length of the walk. Where the directions cancel, the result is θ_0 + Σ w_i v_i; mergekit
    does so for two models and stops with more, as it does on a tensor that no model has changed.
    """
    return base.float() + weighted_sum(s.prepared, task_vectors(base, finetuned))


@prepares("karcher")
@QUIETLY
def middle(chunks: Chunks, s: Settings) -> list[float]:
    """The factors c_i of θ_i: those of the directions' mean, times the mean norm over n_i.

    A tensor shorter than `tol` has no direction, but its norm counts.
    """
    tol, count = s.numbers["tol"], len(s.coefficients)
    products = gram((models for _, models in chunks()), count)
    norms = np.sqrt(np.diag(products))
    used = norms > tol
    factors = np.zeros(count)
    if used.any():
        cosines = np.clip(products[np.ix_(used, used)] / np.outer(norms[used], norms[used]), -1, 1)
        np.fill_diagonal(cosines, 1.0)
        factors[used] = norms.mean() * karcher_mean(cosines, int(s.numbers["max_iter"]), tol) / norms[used]
    return [float(factor) for factor in factors]


def karcher_mean(cosines: np.ndarray, steps: int, tol: float) -> np.ndarray:
    """The point m = Σ c_i u_i of the unit sphere whose squared angles to all u_i have the least sum, as its c_i.

    cosines: u_i · u_j, (models, models). Each step goes along the mean of the vectors that lead from m to the u_i on
    the shortest ways. A u_i opposite to m has no shortest way and is left out. It starts from the direction of Σ u_i,
    or from u_1 where that is shorter than `tol`, and ends with a step that would be.
    """
    count = len(cosines)
    point = np.full(count, 1 / count)
    length = length_of(point, cosines)
    point = point / length if length >= max(tol, CANCELLED) else np.eye(count)[0]
    for _ in range(steps):
        dots = np.clip((cosines * point).sum(axis=1), -1, 1)
        angles = np.arccos(dots)
        way = (angles >= tol) & (1 + dots > OPPOSITE)
        pull = np.where(way, 1 / np.sinc(np.where(way, angles, 0.0) / np.pi), 0.0) / count
        tangent = pull - (pull * dots).sum() * point
        length = length_of(tangent, cosines)
        if not length >= tol:
            break
        point = np.cos(length) * point + np.sin(length) / length * tangent
        point = point / length_of(point, cosines)
    return point


@implements("karcher")
def karcher(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """The mean norm of the θ_i times the Riemannian mean of their directions. A base that is named is one of them.

    Source: mergekit 0.1.5, which names arXiv:2603.04972. Every iterate is a sum of the directions, so the iteration
    runs on their cosines, in float64. mergekit's cosines are float32 and cannot tell an angle below 3e-4 from 0, so of
    models that are so near to each other its result is rounding. Where the directions cancel, the iteration starts at
    the first model by name; in mergekit at the first of the recipe.
    """
    return weighted_sum(s.prepared, (model.float() for model in finetuned))
