"""What the MI of a pair is compared with: pairs from which matching tokens, the text, the training or all structure was taken.

    none          base and fine-tuned activations as they are
    shuffled      the fine-tuned side's tokens permuted: channels keep their values, tokens no longer match
    other-sample  the fine-tuned side from another text of nearly the same length, both cut to the shorter
    unrelated     the fine-tuned model with the channels of every tensor permuted: the same weights, nothing learnt
    gaussian      independent standard normal numbers on both sides: any MI is bias of the estimate

All have the tokens and channels that both sides share.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from acm.calibration.information import ADDITIVE, CODED, ESTIMATORS, PairCounts, mutual_information
from acm.calibration.layerwise import LayerwiseModel
from acm.calibration.registry import CONTROLS
from acm.errors import UserError, unknown

PART = 1 << 24  # entries of an array that are held at a time

Pair = tuple[Tensor, Tensor]


class Logits:
    """The head's output (tokens, vocabulary) in bf16, computed for the tokens that are asked for."""

    def __init__(self, model: LayerwiseModel, normed: Tensor) -> None:
        self.model, self.normed, self.shape = model, normed, (len(normed), model.vocabulary)

    def __getitem__(self, place: tuple[Tensor, slice]) -> Tensor:
        rows, columns = place
        return self.model.logits(self.normed[rows], columns.stop)

    def __len__(self) -> int:
        return self.shape[0]


def check_measures(controls: tuple[str, ...], estimators: tuple[str, ...], texts: int) -> None:
    """UserError for an unknown or impossible control or estimator."""
    for what, given, known in (("control", controls, CONTROLS), ("estimator", estimators, ESTIMATORS)):
        for name in given:
            if name not in known:
                raise unknown(what, name, known)
        if not given:
            raise UserError(f"name at least one {what}: {', '.join(known)}.")
    if "other-sample" in controls and texts < 2:
        raise UserError("the control 'other-sample' needs at least two calibration texts.")


def parts(control: str, x: Tensor | Logits, y: Tensor | Logits, key: str, size: int = PART) -> Iterator[Pair]:
    """The pair of arrays (tokens, d) that a control compares, in parts of about ``size`` entries; random numbers follow from ``key``.

    x: of the base; y: of what the control compares it with (the same model in another text, an unrelated model …). Together the parts are
    the same pair for any ``size``, but for ``gaussian``, whose numbers change with it.
    """
    if control not in CONTROLS:
        raise unknown("control", control, CONTROLS)
    tokens, width = min(len(x), len(y)), min(x.shape[1], y.shape[1])  # unlike vocabularies: the common rows of the head
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
    order = torch.randperm(tokens, generator=generator) if control == "shuffled" else torch.arange(tokens)
    for rows in torch.arange(tokens).split(max(1, size // width)):
        if control == "gaussian":
            yield tuple(torch.randn((len(rows), width), generator=generator).to(torch.bfloat16) for _ in range(2))
        else:
            yield x[rows, :width], y[order[rows], :width]


def measure(pairs: Iterator[Pair], estimators: tuple[str, ...]) -> list[float]:
    """The estimates of a pair that comes in parts. Estimators outside ADDITIVE need it whole, and so do dtypes of more than 16 bits."""
    first = next(pairs)
    second = next(pairs, None)
    if second is None:
        return [mutual_information(*first, name) for name in estimators]
    if not ADDITIVE.issuperset(estimators) or first[0].dtype not in CODED:
        whole = [torch.cat(side) for side in zip(first, second, *pairs, strict=True)]
        return [mutual_information(*whole, name) for name in estimators]
    counts = PairCounts()
    for pair in itertools.chain((first, second), pairs):
        counts.add(*pair)
    return [counts.information(name) for name in estimators]
