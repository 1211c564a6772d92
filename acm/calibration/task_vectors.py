"""Measures the task vectors of a fine-tuned model, layer by layer: their lengths and their effective ranks.

    symbol      shape              meaning
    x           rows of a tensor   the base's weights, θ_0
    y           as x               the fine-tuned model's weights
    d           as x               the task vector, y − x
    energies    (short side,)      squared singular values of a tensor

Some rows of one tensor are held at a time, in float64; of a matrix that is wider than long, all of them. Only the rows
that both models have are compared, where their vocabularies differ. The head of a tied model is its embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from acm.architectures import HEAD
from acm.checkpoints import Checkpoint, check_weights, layer_of
from acm.errors import UserError
from acm.headers import TensorInfo, as_float32

CHUNK = 1 << 25  # entries of a tensor that are held at a time
Tensors = dict[str, list[tuple[TensorInfo, TensorInfo]]]  # layer → the base's and the fine-tuned model's tensors
Measure = TypeVar("Measure")


class Sizes(NamedTuple):
    """Sums over the entries of a layer, float64: ‖δ‖², ‖θ_0‖² and ⟨θ_0, δ⟩."""

    change: float
    base: float
    inner: float

    @property
    def relative(self) -> float:
        """‖δ‖ / ‖θ_0‖; infinite or NaN where θ_0 is 0."""
        with np.errstate(all="ignore"):
            return float(np.sqrt(np.float64(self.change) / self.base))


def layers_of(model: Checkpoint) -> list[str]:
    """``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``. UserError for a model that lacks one of them."""
    found = {layer_of(name) for name in model.tensors}
    blocks = sorted((layer for layer in found if layer.isdigit()), key=int)
    layers = ["embed", *map(str, range(int(blocks[-1]) + 1 if blocks else 1)), "norm"]
    if lacking := [layer for layer in layers if layer not in found]:
        raise UserError(f"{model.folder} has no tensor of layer {lacking[0]}; fetch the model again.")
    return [*layers, "lm_head"]


def tensors_by_layer(base: Checkpoint, finetuned: Checkpoint) -> Tensors:
    """The pairs of tensors of each layer. A head that both models tie is left out: its λ is the embedding's."""
    found: Tensors = {layer: [] for layer in layers_of(base)}
    for name, info in base.tensors.items():
        if name != HEAD and info.size:
            found[layer_of(name)].append((info, finetuned.tensors[name]))
    if base.tied and finetuned.tied:
        del found["lm_head"]
    else:
        found["lm_head"].append((base.head, finetuned.head))
    return found


def with_head(layers: dict[str, Measure]) -> dict[str, Measure]:
    """The same, with the embedding's value for a head that is not there."""
    return layers if "lm_head" in layers else {**layers, "lm_head": layers["embed"]}


def parts(left: TensorInfo, right: TensorInfo, entries: int = CHUNK) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """θ_0 and δ of two tensors, float64, each (rows, columns), about so many entries at a time.

    They are cut to the rows that both have. A vector is one row.
    """
    shared, columns = min(left.size, right.size), columns_of(left)
    one, other = left.read(), right.read()
    step = max(1, entries // columns) * columns
    for start in range(0, shared, step):
        x, y = (as_float32(raw[start : min(start + step, shared)]).astype(np.float64) for raw in (one, other))
        with np.errstate(invalid="ignore"):  # who asks finds what is not finite
            d = y - x
        yield x.reshape(-1, columns), d.reshape(-1, columns)


def columns_of(info: TensorInfo) -> int:
    """How many columns a tensor has as a matrix; a vector is one row."""
    return info.shape[-1] if info.shape else 1


def sizes(base: Checkpoint, finetuned: Checkpoint) -> dict[str, Sizes]:
    """The sums of each layer. UserError for weights that are not finite."""
    found = {}
    for layer, pairs in tensors_by_layer(base, finetuned).items():
        total = np.zeros(3)
        for left, right in pairs:
            for x, d in parts(left, right):
                with np.errstate(invalid="ignore"):
                    total += [np.vdot(d, d), np.vdot(x, x), np.vdot(x, d)]
        check_finite(total, base, finetuned)
        found[layer] = Sizes(*map(float, total))
    return with_head(found)


def check_finite(numbers: np.ndarray, base: Checkpoint, finetuned: Checkpoint) -> None:
    """UserError that names the weights which are not finite, where a number made of them is not."""
    if not np.isfinite(numbers).all():
        check_weights(base)
        check_weights(finetuned)
        raise UserError(f"the weights of {base.folder} and {finetuned.folder} are too far apart to be compared.")


def energies(left: TensorInfo, right: TensorInfo) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values of θ_0 and of δ, ascending, by the Gram matrix of the shorter side.

    Their sum is right to rounding. Values that are smaller than 1e-16 of the largest are rounding, and cut at 0.
    """
    columns = columns_of(left)
    rows = min(left.size, right.size) // columns
    grams = [np.zeros((min(rows, columns),) * 2) for _ in range(2)]
    with np.errstate(invalid="ignore"):
        for both in parts(left, right, CHUNK if rows >= columns else left.size):
            for gram, part in zip(grams, both, strict=True):
                gram += part.T @ part if rows >= columns else part @ part.T
    x, d = (np.linalg.eigvalsh(gram).clip(min=0) if np.isfinite(gram).all() else np.diag(gram) for gram in grams)
    return x, d


def effective_rank(energies: np.ndarray) -> float:
    """exp of the entropy of the shares p of the energies; 0 for a tensor of zeros.

    It is 1 for one direction, and r for r directions of equal strength.
    """
    total = float(energies.sum())
    if not total:
        return 0.0
    shares = energies[energies > 0] / total
    return math.exp(-float(shares @ np.log(shares)))


def effective_ranks(base: Checkpoint, finetuned: Checkpoint) -> dict[str, tuple[float, float]]:
    """Of θ_0 and of δ in each layer: the mean over its tensors, weighted by their numbers of entries.

    A vector is a matrix of one row, of rank 1. UserError for weights that are not finite.
    """
    found = {}
    for layer, pairs in tensors_by_layer(base, finetuned).items():
        total, entries = np.zeros(2), 0
        for left, right in pairs:
            spectra = energies(left, right)
            for spectrum in spectra:
                check_finite(spectrum, base, finetuned)
            size = min(left.size, right.size)
            total += [size * effective_rank(spectrum) for spectrum in spectra]
            entries += size
        found[layer] = (float(total[0] / entries), float(total[1] / entries))
    return with_head(found)
