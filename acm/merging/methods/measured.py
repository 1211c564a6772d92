"""Merge methods that read what a calibration knows of a tensor: Fisher information, Gram matrices, input importance.

variable    symbol   shape                    meaning
statistics  F_i      (…)                      diagonal Fisher information, of the tensor's shape
gram        G_i      (inputs, inputs)         Σ x xᵀ of the layer's inputs; solved in float64
importance  s        (inputs,)                mean |x| of each input channel of the base
alpha       α        ()                       factor of a Gram matrix's off-diagonals
steps                ()                       of conjugate gradients; 0: RegMean is solved exactly
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from acm.merging.functions import implements
from acm.merging.methods.matrices import ROWS
from acm.merging.primitives import task_vectors, total, weighted_sum, weighted_vectors
from acm.merging.settings import Settings


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


@implements("regmean")
def regmean(base: Tensor, finetuned: list[Tensor], s: Settings) -> Tensor:
    """The linear map nearest to all models on their own inputs: (Σ G_i)⁻¹ Σ G_i W_iᵀ, off-diagonals of G_i times α.

    Each row of W_i is solved for by itself, so some rows are taken at a time. ACM's λ scales the task vectors first.
    Tensors without Gram matrices (vectors, embedding) are averaged. With `iterations`, that many steps go from the mean
    of the models towards the solution, as in MaTS (arXiv:2312.04339): few stay near the mean.
    """
    grams = [gram for gram in s.statistics if gram is not None]
    steps = int(s.numbers.get("iterations", 0))
    if steps and len(grams) == len(finetuned):
        return approached(base, finetuned, s, grams, steps)
    joined = solver(grams, s.numbers["alpha"]) if len(grams) == len(finetuned) else average
    found = []
    for first, *own in zip(*(model.split(ROWS) for model in (base, *finetuned)), strict=True):
        deltas = task_vectors(first, own)
        found.append(joined([first.float() + c * delta for c, delta in zip(s.coefficients, deltas, strict=True)]))
    return torch.cat(found)


def average(models: list[Tensor]) -> Tensor:
    """The mean of the models' rows."""
    return total(models) / len(models)


def solver(grams: list[Tensor], alpha: float) -> Callable[[list[Tensor]], Tensor]:
    """The function from some rows of all models to those of the result.

    Towards inputs never used it takes their mean.
    """
    grams = [shrunk(gram, alpha) for gram in grams]
    sums, pull = summed(grams)
    factors = torch.linalg.lu_factor(sums)

    def solve(models: list[Tensor]) -> Tensor:
        columns = [model.double().T for model in models]
        targets = total(gram @ column for gram, column in zip(grams, columns, strict=True)) + pull * average(columns)
        return torch.linalg.lu_solve(*factors, targets).T.float()

    return solve


def summed(grams: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Σ G_i plus a small multiple of the unit matrix, which pulls towards the mean, and this multiple."""
    sums = total(grams).clone()
    pull = 1e-9 * sums.diagonal().mean().clamp(min=1e-30)
    sums.diagonal().add_(pull)
    return sums, pull


def approached(base: Tensor, finetuned: list[Tensor], s: Settings, grams: list[Tensor], steps: int) -> Tensor:
    """RegMean after some steps of conjugate gradients, from the mean θ_0 + mean λ_i δ_i.

    The steps are those of MaTS, which takes the whole weight as one vector. Its code starts at the mean, at θ_0 or at
    a merged model that it is given, and also stops where the residual is below 1e-5 of the right-hand side. Here only
    the number of steps stops. Four float64 matrices of the weight's shape are held.
    """
    grams = [shrunk(gram, s.numbers["alpha"]) for gram in grams]
    models = [base.float() + delta for delta in weighted_vectors(base, finetuned, s)]
    start = total(model.double() for model in models) / len(models)
    residual = total((model.double() - start) @ gram for model, gram in zip(models, grams, strict=True))
    return descended(start, residual, summed(grams)[0], steps).float()


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


def shrunk(gram: Tensor, alpha: float) -> Tensor:
    """The Gram matrix in float64, its off-diagonals times α."""
    found = gram.double() * alpha
    found.diagonal().copy_(gram.diagonal())
    return found
