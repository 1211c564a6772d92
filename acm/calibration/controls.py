"""Controls: which two arrays of activations are compared by their mutual information (MI).

The control ``none`` is the real pair: the base's activations and the fine-tuned model's, token by token. Every other
control takes something away from the real pair. MI that is still found there does not come from what was taken away.

Each control is one function here. :func:`pairs_up` binds the function to its row in `registry.py`. The row says what
the control is, and which model and which text the second array comes from. The function says how the rows of the two
arrays are paired. A pair holds only the tokens and channels that both arrays have.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acm.calibration.arrays import CODE_DTYPES
from acm.calibration.counts import PairCounts
from acm.calibration.information import information_of_sums, mutual_information
from acm.calibration.layerwise import LayerwiseModel
from acm.calibration.registry import CONTROLS, ESTIMATORS
from acm.errors import UserError, unknown

CHUNK_ENTRIES = 1 << 24  # how many entries of an array are held at a time
GPU_ENTRIES = 1 << 26  # the same on a GPU, whose chunks are put together: counting takes 40 bytes of each entry
DRAWN = ("gaussian",)  # controls whose numbers are drawn on the CPU, whatever counts them

Pair = tuple[Tensor, Tensor]


class Logits:
    """The head's output (tokens, vocabulary) in bf16, computed for the rows that are asked for."""

    def __init__(self, model: LayerwiseModel, normed: Tensor) -> None:
        self.model, self.normed, self.shape = model, normed, (len(normed), model.vocabulary)
        self.device = normed.device

    def __getitem__(self, place: tuple[Tensor, slice]) -> Tensor:
        rows, columns = place
        return self.model.logits(self.normed[rows], columns.stop)

    def __len__(self) -> int:
        return self.shape[0]


@dataclass(frozen=True)
class Sides:
    """The two arrays that a control pairs, each (tokens, channels), cut to the tokens and channels that both have.

    x: activations of the base. y: the activations that the control compares them with.
    """

    x: Tensor | Logits
    y: Tensor | Logits

    @property
    def tokens(self) -> int:
        return min(len(self.x), len(self.y))

    @property
    def channels(self) -> int:
        """How many channels both arrays have. For logits of unlike vocabularies: the rows that both heads have."""
        return min(self.x.shape[1], self.y.shape[1])

    @property
    def device(self) -> torch.device:
        """Where estimates are computed: where the base's activations lie."""
        return self.x.device

    def left(self, rows: Tensor) -> Tensor:
        return self.x[rows, : self.channels]

    def right(self, rows: Tensor) -> Tensor:
        return self.y[rows, : self.channels]

    def chunks(self, entries: int) -> tuple[Tensor, ...]:
        """The row numbers 0, 1, …, split into chunks. The rows of a chunk hold about so many entries."""
        return torch.arange(self.tokens).split(max(1, entries // self.channels))


Pairing = Callable[[Sides, Sequence[Tensor], torch.Generator], Iterator[Pair]]
FUNCTIONS: dict[str, Pairing] = {}  # control → its function


def pairs_up(*names: str) -> Callable[[Pairing], Pairing]:
    """Bind a function to the controls of these names in the registry.

    The function takes both arrays, the numbers of their rows in chunks, and a generator of random numbers. It yields
    one pair of arrays for each chunk.
    """

    def bind(function: Pairing) -> Pairing:
        FUNCTIONS.update(dict.fromkeys(names, function))
        return function

    return bind


@pairs_up("none", "other-sample", "unrelated")
def in_order(sides: Sides, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[Pair]:
    """Each token of the base with the same token of the other side."""
    for rows in chunks:
        yield sides.left(rows), sides.right(rows)


@pairs_up("shuffled")
def shuffled(sides: Sides, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[Pair]:
    """Each token of the base with a random token of the other side."""
    order = torch.randperm(sides.tokens, generator=generator)
    for rows in chunks:
        yield sides.left(rows), sides.right(order[rows])


@pairs_up("gaussian")
def gaussian(sides: Sides, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[Pair]:
    """Independent standard normal numbers, bf16. Other chunks give other numbers."""
    for rows in chunks:
        left = torch.randn((len(rows), sides.channels), generator=generator).to(torch.bfloat16)
        right = torch.randn((len(rows), sides.channels), generator=generator).to(torch.bfloat16)
        yield left, right


def check_measures(controls: Sequence[str], estimators: Sequence[str], texts: int) -> None:
    """UserError for an unknown or impossible control or estimator. texts: how many there are."""
    for what, given, known in (("control", controls, list(CONTROLS)), ("estimator", estimators, list(ESTIMATORS))):
        for name in given:
            if name not in known:
                raise unknown(what, name, known)
        if not given:
            raise UserError(f"name at least one {what}: {', '.join(known)}.")
    for name in controls:
        if CONTROLS[name].other_text and texts < 2:
            raise UserError(f"the control '{name}' needs at least two calibration texts.")


def pairs(control: str, sides: Sides, key: str, entries: int = CHUNK_ENTRIES) -> Iterator[Pair]:
    """The pair of arrays (tokens, channels) that a control compares, in chunks of about so many entries.

    key: random numbers follow from it. The chunks together are the same pair for any number of entries, but for
    ``gaussian``, whose numbers change with it. Raises UserError for an unknown control.
    """
    if control not in CONTROLS:
        raise unknown("control", control, CONTROLS)
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
    return FUNCTIONS[control](sides, sides.chunks(entries), generator)


def whole_pair(control: str, sides: Sides, key: str) -> Pair:
    """The pair as two arrays, where the base's activations lie."""
    chunks = [(left.to(sides.device), right.to(sides.device)) for left, right in pairs(control, sides, key)]
    left, right = (torch.cat(side) if len(side) > 1 else side[0] for side in zip(*chunks, strict=True))
    return left, right


@dataclass(frozen=True)
class Measurement:
    """What was measured of one pair.

    values: one for each estimator, in its unit. norms: mean L2 norm of a token's activations, left and right.
    """

    values: list[float]
    norms: tuple[float, float]


def measure(
    control: str, sides: Sides, key: str, estimators: Sequence[str], entries: int = CHUNK_ENTRIES
) -> Measurement:
    """The estimates of the pair that a control compares; the arguments are those of :func:`pairs`.

    Everything is computed where the base's activations lie. A pair of several chunks is not held whole where all
    estimators are additive and its dtype has 16 bits: its label pairs are counted. Else, and on a GPU up to
    GPU_ENTRIES, the chunks are put together. Raises UserError for an unknown control or estimator, and
    ValueError for values that are not finite and for what no estimator takes.
    """
    additive = {name for name, row in ESTIMATORS.items() if row.additive}
    device = sides.device
    fits = len(sides.chunks(entries if device.type == "cpu" else max(entries, GPU_ENTRIES))) == 1
    counted = not fits and additive.issuperset(estimators)
    counts, held = PairCounts(), []
    sums = [0.0, 0.0]
    for left, right in pairs(control, sides, key, entries):
        pair = left.to(device), right.to(device)
        sums = [total + more for total, more in zip(sums, norm_sums(pair), strict=True)]
        if counted and pair[0].dtype in CODE_DTYPES:
            counts.add(*pair)
        else:
            held.append(pair)
    if held:
        left, right = held[0] if len(held) == 1 else (torch.cat(side) for side in zip(*held, strict=True))
        values = [mutual_information(left, right, name) for name in estimators]
    else:
        values = [information_of_sums(counts.sums(), name) for name in estimators]
    return Measurement(values, (sums[0] / sides.tokens, sums[1] / sides.tokens))


def norm_sums(pair: Pair) -> tuple[float, float]:
    """Of each array, the sum of its rows' L2 norms, in float64. Raises ValueError where an entry is not finite."""
    norms = torch.stack([torch.linalg.vector_norm(side, dim=1, dtype=torch.float64).sum() for side in pair])
    left, right = norms.tolist()
    check_norms(left, right)
    return left, right


def check_norms(*norms: float) -> None:
    """ValueError where a norm is not finite, for then an entry is not."""
    if not all(map(math.isfinite, norms)):
        raise ValueError("activations hold NaN or infinity; the model or its dtype is at fault.")
