"""Question 8: null merges of λ by layer. Each keeps a part of what some λ say, and the mean over all layers.

null             what it keeps                                    what it takes away
blocks alike     λ of embedding, norm and head; mean of blocks    which block has which λ
blocks dealt     the same, and the λ of the blocks as a set       the same
head alone       λ of the head (tied: of the embedding); mean of  which of the other layers has which λ
                 all others

A null merge can be longer than what it is made from. Then points above the bar say little: at its length the bar is
higher, and less is left to win. So both are compared by the value that the search looked for: accuracy less its price
for each token above the target of the search (``acm/searching/objective.py``).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from acm.calibration.nulls import Layers, permuted
from acm.questions.search import Judged, adjusted
from acm.questions.study import apart, joined
from acm.reporting.intervals import interval_columns
from acm.reporting.statistics import average, bootstrap_p, describe, detectable, over_draws
from acm.searching.objective import Objective
from acm.searching.points import best_points, layers_of, point_of

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
    return [(null, other) for null, other in found if not np.allclose([*other.values()], [*layers.values()])]


def alike(layers: Layers) -> Layers:
    """The mean of λ in every layer."""
    return dict.fromkeys(layers, float(np.mean([*layers.values()])))


def other_deals(layers: Layers, seed: int) -> list[Layers]:
    """The same λ, dealt to the layers at random, each time otherwise, and never as they are; at most DEALS."""
    found: list[Layers] = []
    for i in range(20 * DEALS):
        dealt = permuted(layers, seed + i)
        if len(found) < DEALS and dealt not in (layers, *found):
            found.append(dealt)
    return found


def null_table(searches: Sequence[Judged]) -> pd.DataFrame:
    """What λ by layer lose where a null merge takes their place; a row for each that all searches have, and each null.

    of, null; value, null_value: of the λ and of the null at the search's target (its first where they have none),
    points, mean over deals, then over searches. less: the first less the second, with a 95 % interval over items and
    searches. righter (points), longer (tokens): the null's less the λ's. p_adjusted: by Holm for all rows. merges: null
    merges of all searches.
    """
    rows = []
    for of, null in shared_nulls(searches):
        own, others, pairs, merges = [], [], [], 0
        for judged in searches:
            point, names = point_called(judged, of), nulls_of(judged, of, null)
            target = judged.targets.get(of.removeprefix(BEST), next(iter(judged.targets.values())))
            own.append(value(judged, point, target))
            others.append(np.mean([value(judged, name, target) for name in names], axis=0))
            pairs.append(apart(judged.sample, [(name, point) for name in names]))
            merges += len(names)
        less = over_draws(np.array(own) - np.array(others))
        rows.append({
            "of": of, "null": null, "value": np.mean(own, axis=0)[0], "null_value": np.mean(others, axis=0)[0],
            **interval_columns("less", describe(less, 1)), **joined(pairs).columns(), "detectable": detectable(less),
            "p": bootstrap_p(less), "merges": merges,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_adjusted=adjusted(table["p"])) if len(table) else table


def value(judged: Judged, method: str, target: float) -> np.ndarray:
    """Accuracy less the price of the tokens above a target, points, (draws + 1,)."""
    found: np.ndarray = Objective(target, judged.settings["price"]).value(
        100 * average(judged.sample, method), average(judged.sample, method, "length")
    )
    return found


def finer_table(first: Judged, coarse: Sequence[Judged]) -> pd.DataFrame:
    """How far λ for every layer lie above fewer λ: a row for each search of the same pair and target of both.

    search, target; few: number of its λ; value: of the first search's best points, coarse_value: of the other's, as in
    :func:`null_table`, mean over seeds; less: the first less the second, with a 95 % interval over items and the seeds
    of both; detectable, p_adjusted as there.
    """
    rows = []
    for judged in coarse:
        here, there = best_points(first.front), best_points(judged.front)
        for target in filter(there.__contains__, here):
            fine, few = (
                over_draws(np.array([value(each, point_of(row), each.targets[target]) for row in points]), seed)
                for seed, (each, points) in enumerate(((first, here[target]), (judged, there[target])))
            )
            less = fine - few
            rows.append({
                "search": judged.name, "target": target, "few": len(set(layers_of(there[target][0]).values())),
                "value": fine[0], "coarse_value": few[0],
                **interval_columns("less", describe(less, 1)), "detectable": detectable(less), "p": bootstrap_p(less),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_adjusted=adjusted(table["p"])) if len(table) else table


def shared_nulls(searches: Sequence[Judged]) -> list[tuple[str, str]]:
    """What all searches have null merges of, with the names of the nulls."""
    found = [[*dict.fromkeys(zip(part["of"], part["null"], strict=True))] for part in map(controls, searches)]
    return [pair for pair in found[0] if all(pair in other for other in found)] if found else []


def controls(judged: Judged) -> pd.DataFrame:
    """The facts of a search's null merges."""
    known = judged.trials if len(judged.trials) else pd.DataFrame(columns=["trial", "kind", "of", "null"])
    return known[known["kind"] == "control"]


def nulls_of(judged: Judged, of: str, null: str) -> list[str]:
    """The null merges of one kind, all deals."""
    return [*controls(judged).query("of == @of and null == @null")["trial"]]


def point_called(judged: Judged, of: str) -> str:
    """What null merges were made from: a trial, or the best point of a target."""
    best = best_points(judged.front)
    return point_of(best[of.removeprefix(BEST)][0]) if of.startswith(BEST) and of.removeprefix(BEST) in best else of
