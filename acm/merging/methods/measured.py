"""Merge methods that read what a calibration knows of a tensor: Fisher information, Gram matrices, input importance.

variable    symbol   shape                    meaning
statistics  F_i      (…)                      diagonal Fisher information, of the tensor's shape
gram        G_i      (inputs, inputs)         Σ x xᵀ of the layer's inputs; solved in float64
importance  s        (inputs,)                mean |x| of each input channel of the base
alpha       α        ()                       factor of a Gram matrix's off-diagonals
steps                ()                       of conjugate gradients; 0: RegMean is solved exactly
saliency             (…)                      what an entry of δ_i matters, as far as statistics tell, at least 0
least                (rankings,)              the least saliency or score that stays of a tensor
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from acm.merging.functions import implements, prepares
from acm.merging.magnitudes import numbers_at
from acm.merging.primitives import count_numbers, rows_of, task_vectors, total, weighted_sum, weighted_vectors
from acm.merging.settings import Settings

if TYPE_CHECKING:
    from acm.merging.functions import Measured

SHRUNK = 1024  # how many rows of a Gram matrix are computed in float64 at a time


@implements("fisher")
def fisher(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ λ_i F_i δ_i / Σ w_i F_i. A plain mean where no model has Fisher information, or all have 0."""
    information = [torch.ones_like(base, dtype=torch.float32) if f is None else f for f in s.statistics]
    deltas = task_vectors(base, finetuned)
    terms = [c * f * d for c, f, d in zip(s.coefficients, information, deltas, strict=True)]
    mass = weighted_sum(s.divisors, information)
    mean = weighted_sum(s.coefficients, deltas) / sum(s.divisors)
    return base.float() + torch.where(mass > 0, total(terms) / torch.where(mass > 0, mass, 1.0), mean)


@implements("aim")
def aim(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ λ_i δ_i ⊙ (1 − s (1 − ω)): input channels that matter to the base keep more of it.

    s is the mean |x| of each input channel over the largest of them, (inputs,). Tensors without statistics (biases,
    norms, embedding) are merged as in task arithmetic.
    """
    (importance,) = s.statistics
    changed = weighted_sum(s.coefficients, task_vectors(base, finetuned))
    if importance is None:
        return base.float() + changed
    relaxation = 1 - importance / importance.max().clamp(min=1e-30) * (1 - s.numbers["omega"])
    return base.float() + changed * relaxation


@implements("sens")
def sens(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """c_0 θ_0 + c_1 α λ δ, the pair c_0, c_1 from the sensitivities of base and model in this layer."""
    (delta,) = task_vectors(base, finetuned)
    alpha = s.numbers["alpha"]
    first, second = sensitivity_pair(s.layers["sensitivity"], alpha, s.numbers["temperature"])
    return first * base.float() + second * alpha * s.coefficients[0] * delta


def sensitivity_pair(sensitivities: list[float | None], alpha: float, temperature: float) -> tuple[float, float]:
    """Sens-Merging's coefficients of a layer: twice the softmax of ((1 − α) s_0, α s_1) / T; (1, 1) outside the blocks.

    sensitivities: s_0 of the base, s_1 of the model, None outside the blocks. Whether T divides or multiplies the paper
    leaves open. As everywhere else, it divides here.
    """
    base, finetuned = sensitivities
    if base is None or finetuned is None:
        return 1.0, 1.0
    second = float(1 / (1 + np.exp(np.clip(((1 - alpha) * base - alpha * finetuned) / temperature, -700, 700))))
    return 2 * (1 - second), 2 * second


@prepares("regmean")
def factorised(chunks: Measured, s: Settings) -> tuple[tuple[Tensor, Tensor], float] | None:
    """LU factors of Σ G_i and the pull towards the mean. None without all Gram matrices, and where steps are taken."""
    grams = next(iter(chunks()))[2]
    if s.numbers.get("iterations") or any(gram is None for gram in grams):
        return None
    sums, pull = summed([gram for gram in grams if gram is not None], s.numbers["alpha"])
    pivots = torch.empty(0, dtype=torch.int32, device=sums.device)
    torch.linalg.lu_factor(sums, out=(sums, pivots))  # in place
    return (sums, pivots), pull


@implements("regmean")
def regmean(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """The linear map nearest to all models on their own inputs: (Σ G_i)⁻¹ Σ G_i W_iᵀ, off-diagonals of G_i times α.

    Each row of W_i is solved for by itself, so some rows are taken at a time. ACM's λ scales the task vectors first.
    Tensors without Gram matrices (vectors, embedding) are averaged. With `iterations`, that many steps go from the mean
    of the models towards the solution, as in MaTS (arXiv:2312.04339): few stay near the mean.
    """
    grams, steps = known(s), int(s.numbers.get("iterations", 0))
    if steps and len(grams) == len(finetuned):
        return approached(base, finetuned, s, grams, steps)
    found = torch.empty_like(base, dtype=torch.float32)
    for place, first, *own in zip(*map(rows_of, (found, base, *finetuned)), strict=True):
        deltas = task_vectors(first, own)
        models = [first.float() + c * delta for c, delta in zip(s.coefficients, deltas, strict=True)]
        place.copy_(average(models) if s.prepared is None else solved(models, grams, s))
    return found


def average(models: list[Tensor]) -> Tensor:
    """The mean of the models' rows."""
    return total(models) / len(models)


def solved(models: list[Tensor], grams: list[Tensor], s: Settings) -> Tensor:
    """Some rows of the result, from those of all models. Towards inputs never used it takes their mean."""
    factors, pull = s.prepared
    columns = [model.double().T for model in models]
    targets = total(product(gram, column, s.numbers["alpha"]) for gram, column in zip(grams, columns, strict=True))
    targets += pull * average(columns)
    return torch.linalg.lu_solve(*factors, targets).T


def product(gram: Tensor, right: Tensor, alpha: float) -> Tensor:
    """The shrunk Gram matrix times a float64 matrix."""
    found = torch.empty_like(right, memory_format=torch.contiguous_format)
    for start, rows in shrunk(gram, alpha):
        torch.matmul(rows, right, out=found[start : start + len(rows)])
    return found


def summed(grams: list[Tensor], alpha: float) -> tuple[Tensor, float]:
    """Σ G_i, shrunk, plus a small multiple of the unit matrix, which pulls towards the mean, and this multiple.

    Its columns are contiguous, as LAPACK has them.
    """
    sums = torch.zeros_like(grams[0], dtype=torch.float64).T
    for gram in grams:
        for start, rows in shrunk(gram, alpha):
            sums[start : start + len(rows)] += rows
    pull = 1e-9 * sums.diagonal().mean().clamp(min=1e-30)
    sums.diagonal().add_(pull)
    return sums, float(pull)


def approached(base: Tensor, finetuned: list[Tensor], s: Settings, grams: list[Tensor], steps: int) -> Tensor:
    """RegMean after some steps of conjugate gradients, from the mean θ_0 + mean λ_i δ_i.

    The steps are those of MaTS, which takes the whole weight as one vector. Its code starts at the mean, at θ_0 or at
    a merged model that it is given, and also stops where the residual is below 1e-5 of the right-hand side. Here only
    the number of steps stops. Four float64 matrices of the weight's shape are held.
    """
    alpha = s.numbers["alpha"]
    models = [base.float() + delta for delta in weighted_vectors(base, finetuned, s)]
    start = total(model.double() for model in models) / len(models)
    residual = total(
        product(gram.T, (model.double() - start).T, alpha).T for model, gram in zip(models, grams, strict=True)
    )
    return descended(start, residual, summed(grams, alpha)[0], steps).float()


def descended(found: Tensor, residual: Tensor, gram: Tensor, steps: int) -> Tensor:
    """Conjugate gradients on X · G = B. found: the first X. residual: B − X · G of this X. Both are overwritten."""
    direction, square = residual.clone(), residual.square().sum()
    for _ in range(steps):
        turned = direction @ gram
        curvature = (direction * turned).sum()
        if square == 0 or curvature <= 0:  # nothing is left to gain
            break
        length = square / curvature
        found.add_(length * direction)
        residual.sub_(length * turned)
        before, square = square, residual.square().sum()
        direction.mul_(square / before).add_(residual)
    return found


def shrunk(gram: Tensor, alpha: float) -> Iterator[tuple[int, Tensor]]:
    """The Gram matrix in float64, its off-diagonals times α: some rows at a time, with the place of the first."""
    for number, rows in enumerate(gram.split(SHRUNK)):
        found = rows.double() * alpha
        found.diagonal(number * SHRUNK).copy_(rows.diagonal(number * SHRUNK))
        yield number * SHRUNK, found


def least_kept(
    chunks: Measured, s: Settings, densities: list[float], rank: Callable[..., list[Tensor]]
) -> list[float] | None:
    """The least number that stays of each ranking of a tensor's entries; None without all statistics.

    The int(density · entries) largest stay, one at least, and all that tie with the last. densities: of each ranking.
    rank: from the base, the models and the statistics of a chunk, float32 numbers of each ranking.
    """
    if any(found is None for found in next(iter(chunks()))[2]):
        return None
    size = math.prod(s.shape)
    ranks = np.array([[size - max(1, int(density * size))] for density in densities])

    def count(buckets: np.ndarray | None) -> np.ndarray:
        return count_numbers((rank(*chunk) for chunk in chunks()), len(densities), buckets)

    return numbers_at(ranks, count)[:, 0].tolist()


def known(s: Settings) -> list[Tensor]:
    """The statistics of a tensor that has all."""
    return [found for found in s.statistics if found is not None]


def plain_mean(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + mean λ_i δ_i: what becomes of a tensor that lacks statistics."""
    return base.float() + weighted_sum(s.coefficients, task_vectors(base, finetuned)) / len(finetuned)


def saliencies(base: Tensor, finetuned: list[Tensor], energies: list[Tensor]) -> list[Tensor]:
    """|δ_i| √energy_i. It has the order of δ_i² · energy_i, whose smallest numbers float32 does not hold."""
    return [d.abs() * e.sqrt() for d, e in zip(task_vectors(base, finetuned), energies, strict=True)]


@prepares("ota", "obim")
def least_saliencies(chunks: Measured, s: Settings) -> list[float] | None:
    """The least saliency that stays of each model."""
    return least_kept(chunks, s, s.density, lambda base, models, found: saliencies(base, models, found))


@implements("ota")
def ota(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ λ_i P_i δ_i / Σ P_i, P_i = (F_i^p + ε) ⊙ [F_i δ_i² ≥ τ_i] (arXiv:2509.11167).

    The paper has Adam's second moments for F_i, the diagonal Fisher information; files of them can be given instead.
    τ_i is the tensor's quantile at 1 − density; the paper tunes it for each model. Entries that all models lose are the
    base's. ε decides where F_i is 0. It is 1e-26 as in the paper's recipes: Adam's moments are about 1e-20, and next to
    the 1e-8 of their code the mean would be plain. F_i^p is exp(p log F_i) in float64, which chunks do not change.
    """
    if s.prepared is None:
        return plain_mean(base, finetuned, s)
    information, weights = known(s), []
    salient = saliencies(base, finetuned, information)
    for found, saliency, least in zip(information, salient, s.prepared, strict=True):
        power = (found.double().log() * s.numbers["power"]).exp() + s.numbers["eps"]
        weights.append(torch.where(saliency >= least, power, 0.0))
    mass, deltas = total(weights), weighted_vectors(base, finetuned, s)
    merged = total(w * d for w, d in zip(weights, deltas, strict=True)) / torch.where(mass > 0, mass, 1.0)
    return base.float() + merged.float()


@implements("obim")
def obim(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ m_i ⊙ λ_i δ_i: each model in turn takes its most salient entries that are free (our reading).

    The saliency of an entry is δ² Σ x², x its input on the model's own texts: the layer's squared error of dropping the
    entry, with a diagonal Hessian (arXiv:2502.12217). An entry of no saliency is not taken.
    """
    if s.prepared is None:
        return plain_mean(base, finetuned, s)
    merged = torch.zeros_like(base, dtype=torch.float32)
    free = torch.ones_like(base, dtype=torch.bool)
    salient = saliencies(base, finetuned, known(s))
    for delta, saliency, least in zip(weighted_vectors(base, finetuned, s), salient, s.prepared, strict=True):
        taken = free & (saliency >= least) & (saliency > 0) & (delta != 0)
        merged, free = torch.where(taken, delta, merged), free & ~taken
    return base.float() + merged


@prepares("led")
def least_scores(chunks: Measured, s: Settings) -> list[float] | None:
    """The least score that counts as important: of the base on each model's texts, then of each model."""
    return least_kept(chunks, s, 2 * s.numbers["rate"], lambda base, models, scores: [f.abs() for f in scores])


@implements("led")
def led(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """θ_0 + Σ λ_i e_i ⊙ δ_i, e_i: important to base and to model i, and elected for no other model (arXiv:2502.16770).

    Scores are |θ ⊙ Σ |∂L/∂θ|| on the texts of model i, of the base and of the model. The released code elects entries
    strictly above the last of its top, and for other models that entry too; here all have int(rate · entries) and ties,
    so that rate 1 keeps all. A score of 0 elects nothing, else rows of unseen tokens would be everyone's.
    """
    if s.prepared is None:
        return plain_mean(base, finetuned, s)
    important = [(f.abs() >= least) & (f != 0) for f, least in zip(known(s), s.prepared, strict=True)]
    n = len(finetuned)
    elected = [by_base & by_model for by_base, by_model in zip(important[:n], important[n:], strict=True)]
    alone = total(mask.int() for mask in elected) == 1
    deltas = weighted_vectors(base, finetuned, s)
    return base.float() + total(torch.where(mask & alone, d, 0.0) for mask, d in zip(elected, deltas, strict=True))
