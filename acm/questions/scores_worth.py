"""What the scores of `acm inspect` were worth: rank correlations with outcomes, and the figure.

    variable     symbol    meaning
    values       x         a score of each merge, (merges,)
    outcomes     y         what was measured after it, (merges, draws + 1); index 0 along the last axis is the data
    found        ρ         Spearman's rank correlation of x and y, (draws + 1,)

Merges of one family are kin. So are those of the same models in other families, and layers at one depth. An interval
that takes each merge for itself is too narrow. So a bootstrap draw takes families anew, and kin anew, with replacement.
A merge comes as often as its family was drawn, times its kin. Outcomes are means over items, which are drawn too. Kinds
of pair share models, which no draw knows: of four models their intervals are still rather too narrow than too wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from acm.escaping import literal
from acm.files import write_json
from acm.questions.messages import on_worth
from acm.questions.rivals import EQUAL, USUAL
from acm.questions.scores import MODELS, OF_LAYERS, OF_PAIRS, OF_VECTORS, Outcomes
from acm.questions.study import plain
from acm.reporting.comparison import p_text
from acm.reporting.inspection import SCORES
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS, PALETTE, TEXT, label_points, mark_better, sheet
from acm.reporting.statistics import bootstrap_p, describe, holm
from acm.reporting.tables import cell

DEPTH = "depth"  # a control: the place of a layer in its model
TITLES = {score.name: score.title.removesuffix(", mean") for score in SCORES} | {DEPTH: "depth (control)"}
KEPT, OWN = "points of an average less the better model's", "points of an average less the model's own"
POINTS, TOKENS = "points that the layer alone adds", "tokens that the layer alone adds"
LETTERS = 24  # of a score's name, on one line


@dataclass(frozen=True)
class Held:
    """An outcome, and the scores that are held against it.

    of: what the scores are of: pair, task vector or layer. rows: (merges,), with family and the scores. kin: (merges,),
    what is drawn beside families: the two models, the model, or the depth. kinds: (merges,), of merge; None: ρ is the
    mean of each family's own.
    values: the outcome, (merges, draws + 1).
    """

    of: str
    outcome: str
    scores: tuple[str, ...]
    rows: pd.DataFrame
    kin: list[str]
    kinds: pd.Series | None
    values: np.ndarray


def role(layer: str, blocks: int) -> str:
    """Which layers of unlike families are kin: those of one name, the last blocks, and blocks of one fifth of the rest.

    >>> [role(layer, 6) for layer in ("embed", "0", "4", "5")]
    ['embed', 'fifth 0', 'fifth 4', 'last block']
    """
    if not layer.isdigit():
        return layer
    return "last block" if int(layer) == blocks - 1 else f"fifth {5 * int(layer) // (blocks - 1)}"


def held(outcomes: Outcomes, tables: dict[str, pd.DataFrame]) -> Iterator[Held]:
    """All outcomes. tables: of :func:`acm.questions.scores.merges`."""
    pairs, layers = tables["pairs"], tables["layers"]
    yield Held("pair", KEPT, OF_PAIRS, pairs, list(pairs["kind"]), pairs["kind"], outcomes.pairs(pairs))
    members, own = outcomes.members(pairs, tables["vectors"])
    if len(members):
        kinds = members["kind"] + " " + members["model"]
        yield Held("task vector", OWN, OF_VECTORS, members, list(members["model"]), kinds, own)
    blocks = layers["layer"].str.isdigit().groupby(layers["family"]).transform("sum")
    roles = [role(layer, count) for layer, count in zip(layers["layer"], blocks, strict=True)]
    placed = layers.assign(**{DEPTH: layers.groupby("family").cumcount()})
    for outcome, what in ((POINTS, "accuracy"), (TOKENS, "length")):
        yield Held("layer", outcome, (*OF_LAYERS, DEPTH), placed, roles, None, outcomes.layers(layers, what))


def correlation(values: np.ndarray, outcomes: np.ndarray) -> float:
    """Spearman's ρ of two arrays (merges,). NaN for fewer than 3, and where either is constant."""
    if len(values) < 3:
        return np.nan
    x, y = (rankdata(numbers) - (len(numbers) + 1) / 2 for numbers in (values, outcomes))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else np.nan


def drawn(families: pd.Series, kin: list[str], draws: int, seed: int = 0) -> list[np.ndarray]:
    """Which rows each draw takes, first all. A row comes as often as its family was drawn, times its kin."""
    rng = np.random.default_rng(seed)
    codes = [pd.factorize(np.asarray(names, object))[0] for names in (families, kin)]
    found = [np.arange(len(kin))]
    for _ in range(draws):
        often = [
            np.bincount(rng.integers(code.max() + 1, size=code.max() + 1), minlength=code.max() + 1) for code in codes
        ]
        found.append(np.repeat(found[0], often[0][codes[0]] * often[1][codes[1]]))
    return found


def correlations(values: np.ndarray, outcomes: np.ndarray, taken: list[np.ndarray], groups: np.ndarray) -> np.ndarray:
    """ρ of each draw, (draws + 1,): the mean of that within each group of rows. groups: (merges,) of integers.

    values: (merges,); rows without one are left out.
    """
    found = []
    for draw, rows in enumerate(taken):
        known = rows[~np.isnan(values[rows])]
        parts = (known[groups[known] == group] for group in np.unique(groups[known]))
        own = [correlation(values[part], outcomes[part, draw]) for part in parts]
        found.append(np.mean(defined) if (defined := [value for value in own if not np.isnan(value)]) else np.nan)
    return np.array(found)


def centred(values: np.ndarray, kinds: pd.Series) -> np.ndarray:
    """Each less the mean of its kind. values: (merges,) or (merges, draws + 1)."""
    means = pd.DataFrame(values).groupby(kinds.to_numpy()).transform("mean").to_numpy()
    return np.round(values - means.reshape(values.shape), 9)


def tests(outcomes: Outcomes, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row for each score and outcome; a score that is constant has none.

    of, score, title, outcome. families, merges: how many. found, found_low, found_high: ρ with its 95 % interval.
    in_kind, in_kind_low, in_kind_high: the same after each kind's mean is taken from both; NaN without kinds. unlike: ρ
    of the pairs of unlike skills alone. p_adjusted: of found, by Holm for all rows. shown: whether it is below 5 %.
    """
    table = pd.DataFrame([row for one in held(outcomes, tables) for row in rows_of(one)])
    table = table[table["found"].notna()].reset_index(drop=True)
    table["p_adjusted"] = holm(table.pop("p").to_numpy())
    return table.assign(shown=table["p_adjusted"] < 0.05)


def rows_of(one: Held) -> Iterator[dict[str, Any]]:
    """The rows of :func:`tests` of one outcome."""
    families = one.rows["family"].reset_index(drop=True)
    taken = drawn(families, one.kin, one.values.shape[1] - 1)
    groups = np.zeros(len(families), int) if one.kinds is not None else families.astype("category").cat.codes.to_numpy()
    for score in one.scores:
        x = one.rows[score].to_numpy(float)
        found, in_kind = correlations(x, one.values, taken, groups), np.full(2, np.nan)
        if one.kinds is not None:
            in_kind = correlations(centred(x, one.kinds), centred(one.values, one.kinds), taken, groups)
        yield {
            "of": one.of, "score": score, "title": TITLES[score], "outcome": one.outcome,
            "families": families.nunique(), "merges": int(np.sum(~np.isnan(x))),
            **interval_columns("found", describe(found, 1)), **interval_columns("in_kind", describe(in_kind, 1)),
            "unlike": without_like(one, x) if one.of == "pair" else np.nan,
            "p": bootstrap_p(found),
        }  # fmt: skip


def without_like(one: Held, values: np.ndarray) -> float:
    """ρ of the pairs whose models have unlike skills."""
    unlike = (one.rows["first"].map(MODELS) != one.rows["second"].map(MODELS)).to_numpy()
    return correlation(values[unlike], one.values[unlike, 0])


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """What norm and direction of a *merged* task vector go with, in question 6: ρ by scene, without intervals.

    These are known after a merge alone, so `acm inspect` cannot foretell by them. table: of question 6.
    """
    looked = (("norm", "length", USUAL, "‖θ − θ_0‖ of the merge", "tokens"),
              ("cosine", "above", EQUAL, "its cosine with plain averaging, at equal norm", "points above"))  # fmt: skip
    rows = []
    for score, measured, setting, title, outcome in looked:
        own = table[(table["setting"] == setting) & (table["same_as"] == "")].dropna(subset=[measured])
        for scene, part in own.groupby("scene", sort=False):
            value = correlation(part[score].to_numpy(), part[measured].to_numpy())
            rows.append({"scene": scene, "of a merge": title, "outcome": outcome, "ρ": value, "merges": len(part)})
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of :func:`tests` as text."""
    return pd.DataFrame({
        "of": table["of"], "score": table["title"], "outcome": table["outcome"],
        "ρ": table.apply(cell, axis=1, name="found", digits=2, signed=True),
        "within a kind": table.apply(cell, axis=1, name="in_kind", digits=2, signed=True),
        "unlike skills alone": table["unlike"].map("{:+.2f}".format, na_action="ignore"),
        "p": table["p_adjusted"].map(p_text), "merges": table["merges"], "families": table["families"],
    })  # fmt: skip


def write_worth(table: pd.DataFrame, path: Path) -> None:
    """Write the rank correlations as `acm inspect` reads them. The control is left out."""
    names = {"found": "rank_correlation", "found_low": "low", "found_high": "high", "p_adjusted": "p"}
    columns = ["of", "score", "outcome", "families", "merges", *names.values()]
    columns += ["in_kind", "in_kind_low", "in_kind_high"]
    rows = table[table["score"] != DEPTH].rename(columns=names)[columns].round(4).to_dict("records")
    write_json(path, plain(rows), allow_nan=False)


def draw(table: pd.DataFrame, rows: pd.DataFrame, kept: np.ndarray) -> Figure:
    """The correlations with their intervals, a panel for each outcome; last the pair's cosine against what it keeps.

    Blue: shown. rows: the pairs. kept: (pairs,), points.
    """
    scores = table[table["score"] != DEPTH]
    told = [f"{row['title']} of a {row['of']}" for _, row in scores[scores["shown"]].iterrows()]
    parts = [(outcome, part) for outcome, part in table.groupby("outcome", sort=False)]
    tall = [(0.45 if part["title"].str.len().max() > LETTERS else 0.33) * len(part) for _, part in parts] + [4.0]
    height = sum(tall) + 0.75 * len(tall)
    figure, panels = sheet(on_worth(told, len(scores)), height, len(tall), height_ratios=tall)
    for axes, (outcome, part) in zip(panels, parts, strict=False):
        draw_rows(axes, part)
        axes.set_title(f"with {outcome}", loc="right", fontsize=TEXT)
    panels[-2].set_xlabel("rank correlation (blue: shown; orange: control)")
    draw_pairs(panels[-1], rows.assign(kept=kept))
    return figure


def draw_rows(axes: Axes, part: pd.DataFrame) -> None:
    """The correlations of one outcome."""
    for y, (_, row) in enumerate(part.iterrows()):
        arms = [[max(0.0, row["found"] - row["found_low"])], [max(0.0, row["found_high"] - row["found"])]]
        kind = "control" if row["score"] == DEPTH else "baseline" if row["shown"] else "frontier"
        axes.errorbar(row["found"], y, xerr=arms, fmt="o", ms=6, color=COLOURS[kind])
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set(xlim=(-1.04, 1.04), ylim=(len(part) - 0.4, -0.6))
    axes.set_yticks(range(len(part)), [fill(title, LETTERS) for title in part["title"]])
    axes.grid(visible=False, axis="y")


def draw_pairs(axes: Axes, rows: pd.DataFrame) -> None:
    """What averages keep against the cosine of their models. The kind is named at the point most apart from others."""
    axes.axhline(0, color=COLOURS["frontier"], lw=0.8)
    at = rows[["cosine", "kept"]] / rows[["cosine", "kept"]].agg(np.ptp).replace(0, 1)
    for i, (kind, part) in enumerate(rows.groupby("kind", sort=False)):
        others = at[rows["kind"] != kind].to_numpy()
        apart = [np.hypot(*(others - place).T).min(initial=9) for place in at.loc[part.index].to_numpy()]
        named = part.index[int(np.argmax(apart))]
        style: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "marker": "osD^vP"[i % 6], "ls": "", "ms": 7}
        label = literal(str(kind).replace("abacus-", ""))
        axes.plot(*part.loc[[named], ["cosine", "kept"]].to_numpy().T, gid=label, **style)
        axes.plot(*part.drop(named)[["cosine", "kept"]].to_numpy().T, **style)
    axes.set(xlabel="cosine of the two task vectors", ylabel=fill(KEPT, 26), xmargin=0.4, ymargin=0.12)
    mark_better(axes, "↑")
    label_points(axes, TEXT)
