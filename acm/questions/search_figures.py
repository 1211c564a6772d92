"""The figures of question 8: fronts, leads by search, λ by layer, and null merges."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.questions.messages import on_back, on_fresh, on_front, on_nulls, on_searches
from acm.questions.search import Judged, flatness
from acm.questions.search_words import SAMPLERS
from acm.reporting.coefficient_figures import name_layers
from acm.reporting.plotting import COLOURS, TEXT, family, label_points, mark_better, sheet, write_key
from acm.reporting.statistics import average
from acm.searching.points import best_points

SEARCHED = ("D", COLOURS["baseline"], "◆")  # marker, colour, and the marker as a letter
LOOKS = {"random": ("^", COLOURS["control"], "▲"), "one": (".", COLOURS["frontier"], "●")}
NULL_MARKS = (("s", "■"), ("o", "●"), ("v", "▼"))  # of each null of search_nulls.py: marker, and as a letter
NULL_COLOURS = (COLOURS["control"], COLOURS["frontier"], COLOURS["parent"])
LETTERS, NARROW = 18, 14  # of a line of a row's name, and of a point's


def draw_fronts(judged: Judged, coarse: Sequence[Judged]) -> Figure:
    """Accuracy against tokens on fresh items: the bar, the best points of the arms, and layer rules by name.

    coarse: searches of fewer λ on the same items; their best points too, without random ones.
    """

    def at(point: str) -> tuple[float, float]:
        return float(average(judged.sample, point, "length")[0]), 100 * float(average(judged.sample, point)[0])

    best = judged.best()
    tried = judged.tried().query("kind == 'rule'") if len(judged.trials) else pd.DataFrame(columns=["trial", "verdict"])
    acm = dict(zip(tried["trial"], tried["verdict"], strict=True)).get("ACM", "")
    figure, (axes,) = sheet(on_front(int((best["lead_low"] > 0).sum()), len(best), acm), 6.2)
    bar = np.array(sorted(map(at, judged.bar)))
    axes.plot(*bar.T, ".-", color=COLOURS["frontier"])
    named = {"● one λ": COLOURS["frontier"]}
    for sampler, part in best.groupby("sampler", sort=False):
        mark, colour, letter = LOOKS.get(str(sampler), SEARCHED)
        axes.plot(part["length"], part["accuracy"], mark, color=colour)
        named[f"{letter} λ by layer, {SAMPLERS[str(sampler)]}"] = colour
    for other in coarse:
        part = other.best().query("sampler != 'random'")
        axes.plot(part["length"], part["accuracy"], "o", mfc="none", color=SEARCHED[1])
        named[f"○ fewer λ ({other.name})"] = SEARCHED[1]
    for rule in tried["trial"]:
        colour = COLOURS["acm" if family(rule) == "acm" else "parent"]
        axes.plot(*at(rule), "s", color=colour, ms=6, gid=fill(rule.partition(" (")[0], NARROW))
    if len(tried):
        named["■ a layer rule"] = COLOURS["parent"]
    axes.set(xlabel="length, tokens", ylabel="accuracy, %", ylim=(0, 108))
    write_key(axes, named, room=True)
    for target, length in judged.targets.items():
        axes.axvline(length, color="0.6", lw=0.8, ls=":")
        axes.text(length, 0, f" {short(target)}", fontsize=TEXT, color="0.4", va="bottom", ha="left")
    mark_better(axes, "↖")
    label_points(axes, TEXT)
    return figure


def short(target: str) -> str:
    """A target as a label: 75 %, or 52 tokens."""
    return f"{target[:-1]} tokens" if target.endswith("t") else f"{target} %"


def arms_of(part: pd.DataFrame, what: str) -> np.ndarray:
    """Lengths of error bars (2, n)."""
    return np.maximum([part[what] - part[f"{what}_low"], part[f"{what}_high"] - part[what]], 0)


def rows_of(axes: Axes, names: Sequence[str], label: str, named: dict[str, str]) -> None:
    """The names of rows, from the top, a line at 0, the label of the axis, and a key at the foot."""
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=label)
    axes.grid(visible=False, axis="y")
    write_key(axes, named, room=True)


def draw_leads(table: pd.DataFrame) -> Figure:
    """Points above the bar of every search, target and sampler. table: of ``summary``."""
    names = [f"{row['search']}, {short(row['target'])}" for _, row in table.iterrows()]
    order = list(dict.fromkeys(names))
    tests = table[table["tested"].astype(bool)]
    found = {f"{row['search']} at {short(row['target'])}": str(row["verdict"]) for _, row in tests.iterrows()}
    figure, (axes,) = sheet(on_searches(found), 0.45 * len(order) + 1.6)
    named = {}
    for sampler, part in table.assign(place=[order.index(name) for name in names]).groupby("sampler", sort=False):
        mark, colour, letter = LOOKS.get(str(sampler), SEARCHED)
        places = part["place"] + (0.15 if sampler == "random" else -0.15)
        axes.errorbar(part["lead"], places, xerr=arms_of(part, "lead"), fmt=mark, color=colour)
        named[f"{letter} {SAMPLERS[str(sampler)]}"] = colour
    rows_of(axes, order, "points above the bar of one λ, fresh items", named)
    mark_better(axes, "→")
    return figure


def draw_layers(table: pd.DataFrame, acm: pd.Series, judged: Judged) -> Figure:
    """λ by layer of every best point of one search beside ACM's, and what each λ is worth there."""
    flat, layers = flatness(judged), [*dict.fromkeys(table["layer"])]
    flat = flat[flat["what"].isin(layers)]
    targets = [target for target in best_points(judged.front) if target in set(table["target"])]
    looks = dict(zip(targets, (("D-", SEARCHED[1], "◆"), ("o--", COLOURS["control"], "●")), strict=False))
    first = flat[flat["target"] == targets[0]].set_index("what")[["lost", "lost_low", "lost_high"]].dropna()
    lost = {str(layer): {str(end): float(value) for end, value in row.items()} for layer, row in first.iterrows()}
    figure, (top, low) = sheet(on_back(lost), 8.2, 2, sharex=True)
    named = {}
    for (target, _), part in table[table["target"].isin(looks)].groupby(["target", "seed"], sort=False):
        style, colour, letter = looks[str(target)]
        top.plot(part["layer"], part["coefficient"], style, color=colour, alpha=0.7, ms=5)
        named[f"{letter} found, a line for each seed, at {short(str(target))}"] = colour
    top.plot(layers, acm[layers], "s-", color=COLOURS["acm"], ms=5)
    top.set_ylabel("λ")
    for i, (target, (style, colour, _)) in enumerate(looks.items()):
        part = flat[flat["target"] == target]
        places = [layers.index(what) + 0.16 * (2 * i - 1) for what in part["what"]]
        low.errorbar(places, part["lost"], yerr=arms_of(part, "lost"), fmt=style[0], color=colour, ms=6)
    low.set_ylabel("points lost with this λ\nat the mean of all")
    name_layers(low, layers)
    low.set_xlabel("layer")
    for axes in (top, low):
        axes.axhline(0, color="0.3", lw=0.8)
    write_key(top, named | {"■ ACM": COLOURS["acm"]}, room=True)
    return figure


def draw_nulls(nulls: pd.DataFrame) -> Figure:
    """What each null merge loses against what it is made from, with 95 % intervals. nulls: of ``null_table``."""
    trials = [*dict.fromkeys(nulls["of"])]
    figure, (axes,) = sheet(on_nulls(int((nulls["p_adjusted"] < 0.05).sum()), len(nulls)), 0.75 * len(trials) + 1.9)
    named = {}
    parts = list(nulls.groupby("null", sort=False))
    for i, ((mark, letter), colour, (null, part)) in enumerate(zip(NULL_MARKS, NULL_COLOURS, parts, strict=False)):
        places = [trials.index(of) + 0.2 * (i - 1) for of in part["of"]]
        axes.errorbar(part["less"], places, xerr=arms_of(part, "less"), fmt=mark, color=colour)
        named[f"{letter} {null}"] = colour
    names = [fill(of, LETTERS) for of in trials]
    rows_of(axes, names, "points lost in a null merge,\neach token above the target priced", named)
    return figure


def draw_front_pairs(judged: Judged) -> Figure:
    """Judged points by arm, each with an arrow from the items that chose to the fresh ones."""
    figure, (axes,) = sheet(on_fresh(float(judged.best()["optimism"].mean())), 6.0)
    named = {}
    for sampler, part in judged.front.groupby(judged.front["arm"].str.partition("-")[0], sort=False):
        mark, colour, letter = LOOKS.get(str(sampler), SEARCHED)
        axes.plot(part["fresh_tokens"], part["fresh_accuracy"], mark, color=colour)
        named[f"{letter} {SAMPLERS.get(str(sampler), 'one λ')}"] = colour
        for _, row in part.iterrows():
            ends = (row["fresh_tokens"], row["fresh_accuracy"]), (row["tokens"], row["accuracy"])
            axes.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.5})
    axes.set(xlabel="length, tokens", ylabel="accuracy, %", ylim=(0, 108))
    mark_better(axes, "↖")
    write_key(axes, named, room=True)
    return figure
