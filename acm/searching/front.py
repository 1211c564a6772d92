"""Fronts of accuracy against length: targets for a search, and the points that are judged on fresh items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from acm.errors import UserError
from acm.searching.objective import Objective

MOST = 12  # points of plain interpolation's front that are judged
FEW = 6  # points of a sampler's front that are judged, over all its arms


def front_of(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates that no shorter or equally long one beats in accuracy, the shortest first.

    candidates: with accuracy (percent) and tokens.
    """
    order = candidates.sort_values(["tokens", "accuracy"], ascending=[True, False], kind="stable")
    return order[order["accuracy"] > order["accuracy"].cummax().shift(fill_value=-1.0)]


def length_at(one: pd.DataFrame, share: float) -> float:
    """The least tokens at which plain interpolation reaches a share of its best accuracy, between its points.

    one: its candidates, with accuracy (percent) and tokens. Lines join the points of their front.
    """
    points = front_of(one)
    if not points["accuracy"].max() > 0:
        raise UserError(
            "plain interpolation is never right on these items, so a share of it is no target; give tokens."
        )
    wanted = share * points["accuracy"].max()
    after = points[points["accuracy"] >= wanted].iloc[0]
    before = points[points["accuracy"] < wanted]
    if before.empty:
        return float(after["tokens"])
    last = before.iloc[-1]
    part = (wanted - last["accuracy"]) / (after["accuracy"] - last["accuracy"])
    return float(last["tokens"] + part * (after["tokens"] - last["tokens"]))


def thinned(front: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many points of a front, evenly among them, the first and the last one too."""
    if len(front) <= most:
        return front
    places = sorted({round(i * (len(front) - 1) / (most - 1)) for i in range(most)})
    return front.iloc[places]


def chosen(candidates: pd.DataFrame, objectives: Iterable[Objective]) -> list[dict[str, Any]]:
    """The points that are judged on fresh items, as rows with ``role``.

    role: ``best`` of an arm, by value; ``front`` of plain interpolation, or of a sampler over all its arms. A best one
    that is on the front too comes once, as the best. Candidates that were stopped early are none of them.
    objectives: of the arms. Plain interpolation's best of each is judged too: another arm's best is compared with it.
    """
    whole = candidates[~candidates["stopped"].astype(bool)]
    sampler = whole["arm"].str.partition("-")[0]
    parts = []
    for name, own in whole.groupby(sampler, sort=False):
        if name == "one":
            front = front_of(own)
            values = [goal.value(front["accuracy"], front["tokens"]) for goal in objectives if goal.target is not None]
            points = pd.concat([thinned(front, MOST), front.loc[[value.idxmax() for value in values]]])
            parts.append(points.drop_duplicates("candidate").sort_values("tokens").assign(role="front"))
            continue
        order = own.sort_values(["value", "tokens", "candidate"], ascending=[False, True, True])
        best = order.groupby("arm", sort=False).head(1).sort_values("arm").assign(role="best")
        front = thinned(front_of(own), FEW).assign(role="front")
        parts.append(pd.concat([best, front]).drop_duplicates(["arm", "candidate"]))
    rows: list[dict[str, Any]] = pd.concat(parts, ignore_index=True).to_dict("records")  # type: ignore[assignment]
    return rows
