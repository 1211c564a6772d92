"""Question 8: null merges of λ by layer. Each keeps a part of what some λ say, and the mean over all layers.

null             what it keeps                                    what it takes away
blocks alike     λ of embedding, norm and head; mean of blocks    which block has which λ
blocks dealt     the same, and the λ of the blocks as a set       the same
head alone       λ of the head (tied: of the embedding); mean of  which of the other layers has which λ
                 all others

A null merge can be longer than what it is made from. Longer merges have less to win: the bar is higher there. So both
are compared by what they win of the way from the bar to the best accuracy of one λ.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from acm.calibration.nulls import Layers, permuted
from acm.questions.search import Judged, adjusted
from acm.questions.search_points import best_points, point_of
from acm.questions.study import inside
from acm.reporting.intervals import interval_columns
from acm.reporting.statistics import bootstrap_p, describe, detectable, over_draws

DEALS = 3  # merges of each null that deals at random
BEST = "best λ at "  # before a target: its best point


def null_layers(layers: Layers, place: str) -> list[tuple[str, Layers]]:
    """λ by layer of every null merge, by null; none that is what it is made from.

    layers: λ by layer, some of which are blocks. place: a name; the deals of two places differ.
    """
    blocks = {layer: value for layer, value in layers.items() if layer.isdecimal()}
    head = "lm_head" if "lm_head" in layers else "embed"
    others = {layer: value for layer, value in layers.items() if layer != head}
    found = [("blocks alike", layers | alike(blocks)), ("head alone", layers | alike(others))]
    found += [("blocks dealt", layers | dealt) for dealt in other_deals(blocks, zlib.crc32(place.encode()))]
    return [(null, other) for null, other in found if other != layers]


def alike(layers: Layers) -> Layers:
    """The mean of λ in every layer."""
    return dict.fromkeys(layers, float(np.mean([*layers.values()])))


def other_deals(layers: Layers, seed: int) -> list[Layers]:
    """The same λ, dealt to the layers at random, each time otherwise, and never as they are; at most DEALS."""
    found: list[Layers] = []
    for i in range(20 * DEALS):
        dealt = permuted(layers, seed + i)
        if dealt not in (layers, *found):
            found.append(dealt)
    return found[:DEALS]


def null_table(searches: Sequence[Judged]) -> pd.DataFrame:
    """What λ by layer lose where a null merge takes their place; a row for each that all searches have, and each null.

    trial, null; lead: of the trial, null_lead: of the null, points above the bar, mean over deals and searches; less:
    the first less the second, with a 95 % interval over items and searches; detectable: the least true difference that
    would have been found. p_adjusted: by Holm for all rows. judged: null merges in the bar's range, of `merges`.
    """
    rows = []
    for trial, null in shared_nulls(searches):
        parts, own = [], []
        for judged in searches:
            lead, nulls = lead_of(judged, trial), deals_of(judged, trial, null)
            parts += [[lead - inside(judged.lead(name)) for name in nulls]]
            own += [lead]
        known = [[part for part in deals if np.isfinite(part[0])] for deals in parts]
        if not all(known) or not all(np.isfinite(lead[0]) for lead in own):
            continue
        less = over_draws(np.array([np.mean(deals, axis=0) for deals in known]))
        mean = 100 * float(np.mean([lead[0] for lead in own]))
        rows.append({
            "trial": trial, "null": null, "lead": mean, "null_lead": mean - 100 * float(less[0]),
            **interval_columns("less", describe(less)), "detectable": 100 * detectable(less),
            "p": bootstrap_p(less), "judged": sum(map(len, known)), "merges": sum(map(len, parts)),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_adjusted=adjusted(table["p"])) if len(table) else table


def shared_nulls(searches: Sequence[Judged]) -> list[tuple[str, str]]:
    """The pairs of trial and null that all searches have, without the number of the deal."""
    found = [[*dict.fromkeys(map(parted, names_of(judged)))] for judged in searches]
    return [pair for pair in found[0] if all(pair in other for other in found)] if found else []


def names_of(judged: Judged) -> list[str]:
    """The null merges of a search."""
    return [*judged.trials.query("kind == 'control'")["trial"]] if len(judged.trials) else []


def parted(name: str) -> tuple[str, str]:
    """The trial and the null of a null merge's name."""
    trial, _, null = name.rpartition(": ")
    return trial, null.rstrip(" 0123456789")


def deals_of(judged: Judged, trial: str, null: str) -> list[str]:
    """The null merges of this trial and null."""
    return [name for name in names_of(judged) if parted(name) == (trial, null)]


def lead_of(judged: Judged, trial: str) -> np.ndarray:
    """The lead of what the nulls belong to: a trial, or the best point of a target."""
    known = set(judged.trials["trial"])
    point = trial if trial in known else point_of(best_points(judged.front)[trial.removeprefix(BEST)][0])
    return inside(judged.lead(point))
