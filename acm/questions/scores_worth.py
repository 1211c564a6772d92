"""What the scores of `acm inspect` were worth: rank correlations with outcomes, the answer, the figure.

    variable     symbol    meaning
    values       x         a score of each merge, (merges,)
    outcomes     y         what was measured after it, (merges, draws + 1); index 0 along the last axis is the data
    found        ρ         Spearman's rank correlation of x and y, (draws + 1,)

Merges of one family are kin, and so are merges of one kind. An interval that takes each for itself is too narrow. So a
bootstrap draw takes families anew, and kinds too; and items, of which the outcomes are means.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import rankdata

from acm.files import write_json
from acm.questions.rivals import EQUAL, USUAL
from acm.questions.scores import OF_LAYERS, OF_PAIRS, OF_VECTORS, Outcomes
from acm.questions.study import plain
from acm.reporting.comparison import p_text
from acm.reporting.inspection import SCORES
from acm.reporting.intervals import interval_columns, interval_in, interval_text
from acm.reporting.plotting import COLOURS, PALETTE
from acm.reporting.statistics import bootstrap_p, describe, holm
from acm.reporting.tables import cell

TITLES = {score.name: score.title.removesuffix(", mean") for score in SCORES}
KEPT, OWN = "points of an average less the better model's", "points of an average less the model's own"
POINTS, TOKENS = "points that a layer alone adds", "tokens that a layer alone adds"
LONGER, ABOVE = "tokens of a merge of one base", "points above, at equal norm (cosine with the average)"
NONE_DOES = "None is shown to foretell an outcome."


def correlation(values: np.ndarray, outcomes: np.ndarray) -> float:
    """Spearman's ρ of two arrays (merges,). NaN for fewer than 3, and where either is constant."""
    if len(values) < 3:
        return np.nan
    x, y = (rankdata(numbers) - (len(numbers) + 1) / 2 for numbers in (values, outcomes))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else np.nan


def crossed(values: np.ndarray, outcomes: np.ndarray, rows: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """ρ over all merges; each draw takes families and kinds anew, with replacement, and the merges that are of both.

    rows: (merges,), with the columns family and kind.
    """
    rng = np.random.default_rng(seed)
    places = rows.groupby(["family", "kind"]).indices
    names, kinds = (list(rows[column].unique()) for column in ("family", "kind"))
    found = [correlation(values, outcomes[:, 0])]
    for draw in range(1, outcomes.shape[1]):
        drawn = [*product(rng.choice(names, len(names)), rng.choice(kinds, len(kinds)))]
        taken = np.concatenate([places[key] for key in drawn if key in places] or [np.array([], int)])
        found.append(correlation(values[taken], outcomes[taken, draw]))
    return np.array(found)


def within(values: np.ndarray, outcomes: np.ndarray, groups: pd.Series, seed: int = 0) -> np.ndarray:
    """The mean of ρ over groups; each draw takes the groups anew, and the merges of each. groups: (merges,)."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == name) for name in groups.unique()]
    drawn = [members] + [
        [rng.choice(members[i], len(members[i])) for i in rng.integers(len(members), size=len(members))]
        for _ in range(1, outcomes.shape[1])
    ]
    return np.array([
        np.mean([correlation(values[part], outcomes[part, draw]) for part in parts]) for draw, parts in enumerate(drawn)
    ])  # fmt: skip


def centred(values: np.ndarray, kinds: pd.Series) -> np.ndarray:
    """Each less the mean of its kind. values: (merges,) or (merges, draws + 1)."""
    means = pd.DataFrame(values).groupby(kinds.to_numpy()).transform("mean").to_numpy()
    return values - means.reshape(values.shape)


def tests(outcomes: Outcomes, tables: dict[str, pd.DataFrame], trials: pd.DataFrame) -> pd.DataFrame:
    """One row for each score and outcome.

    tables: of :func:`acm.questions.scores.merges`. trials: the table of question 6, or empty.
    score, title, outcome. families, merges: how many. found, found_low, found_high: ρ with its 95 % interval.
    in_kind, in_kind_low, in_kind_high: the same after each kind's mean is taken from both; NaN without kinds.
    p_adjusted: of found, by Holm for all rows. shown: whether it is below 5 %.
    """
    rows = [row for part in (of_merges(outcomes, tables), of_trials(trials)) for row in part]
    table = pd.DataFrame(rows)
    table["p_adjusted"] = holm(table.pop("p").to_numpy())
    return table.assign(shown=table["p_adjusted"] < 0.05)


def of_merges(outcomes: Outcomes, tables: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """The rows of :func:`tests` of pairs, members and layers."""
    pairs, layers = tables["pairs"], tables["layers"]
    members, own = outcomes.members(pairs, tables["vectors"])
    both = ((OF_PAIRS, pairs, KEPT, outcomes.pairs(pairs)), (OF_VECTORS, members, OWN, own))
    for scores, rows, outcome, values in both:
        kinds = rows["kind"] + (" " + rows["model"] if "model" in rows else "")
        for score in scores:
            x = rows[score].to_numpy()
            groups = rows.assign(kind=kinds)
            found, in_kind = crossed(x, values, groups), crossed(centred(x, kinds), centred(values, kinds), groups)
            yield row_of(score, outcome, rows["family"].nunique(), len(rows), found, in_kind)
    for outcome, what in ((POINTS, "accuracy"), (TOKENS, "length")):
        values = outcomes.layers(layers, what)
        for score in OF_LAYERS:
            known = layers[score].notna().to_numpy()  # a layer without matrices has no rank
            rows = layers[known]
            found = within(rows[score].to_numpy(), values[known], rows["family"])
            yield row_of(score, outcome, rows["family"].nunique(), len(rows), found)


def of_trials(table: pd.DataFrame, draws: int = 2000) -> Iterator[dict[str, Any]]:
    """The rows of :func:`tests` of question 6: merges of the same models, in its scenes."""
    for score, outcome, measured, setting in (("norm", LONGER, "length", USUAL), ("cosine", ABOVE, "above", EQUAL)):
        rows = table[(table["setting"] == setting) & (table["same_as"] == "")] if len(table) else table
        rows = rows.dropna(subset=[measured]) if len(rows) else rows
        if len(rows):
            values = np.repeat(rows[[measured]].to_numpy(), draws + 1, axis=1)
            found = within(rows[score].to_numpy(), values, rows["scene"])
            yield row_of(score, outcome, 1, len(rows), found)


def row_of(
    score: str, outcome: str, families: int, merges: int, found: np.ndarray, in_kind: np.ndarray | None = None
) -> dict[str, Any]:
    """One row of :func:`tests`."""
    in_kind = np.full(2, np.nan) if in_kind is None else in_kind
    return {
        "score": score, "title": TITLES[score], "outcome": outcome, "families": families, "merges": merges,
        **interval_columns("found", describe(found, 1)), **interval_columns("in_kind", describe(in_kind, 1)),
        "p": bootstrap_p(found),
    }  # fmt: skip


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of :func:`tests` as text."""
    return pd.DataFrame({
        "score": table["title"], "outcome": table["outcome"],
        "ρ": table.apply(cell, axis=1, name="found", digits=2, signed=True),
        "within a kind": table.apply(cell, axis=1, name="in_kind", digits=2, signed=True),
        "p": table["p_adjusted"].map(p_text), "merges": table["merges"], "families": table["families"],
    })  # fmt: skip


def write_worth(table: pd.DataFrame, path: Path) -> None:
    """Write the rank correlations as `acm inspect` reads them."""
    names = {"found": "rank_correlation", "found_low": "low", "found_high": "high", "p_adjusted": "p"}
    columns = ["score", "outcome", "families", "merges", *names.values(), "in_kind", "in_kind_low", "in_kind_high"]
    rows = table.rename(columns=names)[columns].round(4).to_dict("records")
    write_json(path, plain(rows), allow_nan=False)


def verdict(table: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of. table: of :func:`tests`."""
    found = table[table["shown"]].sort_values("found", key=abs, ascending=False)
    told = [
        f"{row['title']} and {row['outcome']} ({interval_text(**interval_in(row, 'found'), digits=2, signed=True)})"
        for _, row in found.iterrows()
    ]
    pairs = "" if (found["outcome"] == KEPT).any() else "; no score of two task vectors is"
    names = ", ".join(found["title"].drop_duplicates())
    head = f"Shown to foretell an outcome: {names}{pairs}." if told else NONE_DOES
    kinds = table[table["in_kind"].notna()]
    apart = kinds[(kinds["in_kind_low"] > 0) | (kinds["in_kind_high"] < 0)]
    parts = [f"Of {len(table)} pairs of score and outcome {len(told)} go together: {'; '.join(told)}."] if told else []
    parts += [
        "Rank correlations have 95 % intervals over families, kinds of merge and items; shown is what Holm's p shows.",
        f"Within a kind of merge, where families alone differ, {len(apart)} of {len(kinds)} have an interval without "
        "0, not adjusted.",
    ]
    numbers = table.drop(columns="title").to_dict("records")
    return " ".join([head, *parts]), {"tests": numbers, "shown": len(found)}


def draw(table: pd.DataFrame, rows: pd.DataFrame, kept: np.ndarray) -> Figure:
    """The correlations with their intervals, and beside them the pair's cosine against what the average keeps.

    rows: the pairs. kept: (pairs,), points.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 1.2 + 0.3 * len(table)), width_ratios=[1.2, 1])
    places = len(table) - 1 - np.arange(len(table))
    colours = dict(zip(table["outcome"].unique(), PALETTE, strict=False))
    for outcome, part in table.groupby("outcome", sort=False):
        at = places[part.index]
        arms = np.maximum([part["found"] - part["found_low"], part["found_high"] - part["found"]], 0)
        left.errorbar(part["found"], at, xerr=arms, fmt="o", ms=5, color=colours[outcome], label=outcome)
    left.axvline(0, color="0.3", lw=0.8)
    left.set(xlabel="rank correlation", xlim=(-1.02, 1.02), yticks=places, yticklabels=table["title"])
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=9)
    for i, (kind, part) in enumerate(rows.groupby("kind", sort=False)):
        label = str(kind).replace("abacus-", "")
        colour = PALETTE[i % len(PALETTE)]
        right.plot(part["cosine"], kept[part.index], "osD^vP"[i % 6], ms=7, color=colour, label=label)
    right.axhline(0, color=COLOURS["frontier"], lw=0.8)
    right.set(xlabel="cosine of the two task vectors", ylabel=KEPT)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=2, fontsize=9)
    return figure
