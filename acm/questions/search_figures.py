"""The figures of question 8: fronts, leads by search, and λ by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from acm.questions.search import Judged, flatness
from acm.questions.search_answer import SAMPLERS
from acm.reporting.plotting import COLOURS, label_points
from acm.reporting.statistics import average
from acm.searching.points import best_points

SEARCHED = ("D", COLOURS["acm"])
LOOKS = {"random": ("^", COLOURS["control"])}
NULL_MARKS = "sov"  # one for each null of search_nulls.py


def draw_fronts(judged: Judged, coarse: Sequence[Judged], title: str) -> Figure:
    """Accuracy against tokens on fresh items: the bar, the best points of the arms, and layer rules by name.

    coarse: searches of fewer λ on the same items; their best points too, without random ones.
    """

    def at(point: str) -> tuple[float, float]:
        return float(average(judged.sample, point, "length")[0]), 100 * float(average(judged.sample, point)[0])

    figure, axes = plt.subplots(figsize=(8.5, 5.5))
    axes.plot(*zip(*sorted(map(at, judged.bar)), strict=True), ".-", color=COLOURS["frontier"], label="one λ")
    for sampler, part in judged.best().groupby("sampler", sort=False):
        mark, colour = LOOKS.get(str(sampler), SEARCHED)
        axes.plot(part["length"], part["accuracy"], mark, color=colour, label=f"λ by layer, {SAMPLERS[str(sampler)]}")
    for other in coarse:
        part = other.best().query("sampler != 'random'")
        axes.plot(part["length"], part["accuracy"], "o", mfc="none", color=SEARCHED[1], label=f"fewer λ ({other.name})")
    for rule in judged.trials.query("kind == 'rule'")["trial"] if len(judged.trials) else ():
        axes.plot(*at(rule), "s", color=COLOURS["baseline"], ms=5, gid=rule)
    for length in judged.targets.values():
        axes.axvline(length, color="0.6", lw=0.8, ls=":")
    axes.set(xlabel="tokens (shorter is better)", ylabel="accuracy, %")
    axes.set_title(title, loc="left")
    axes.legend(loc="center right", fontsize=9)
    label_points(axes)
    return figure


def short(target: str) -> str:
    """A target as a label: 75 %, or 52 tokens."""
    return f"{target[:-1]} tokens" if target.endswith("t") else f"{target} %"


def draw_leads(table: pd.DataFrame, title: str) -> Figure:
    """Points above the bar of every search, target and sampler. table: of ``summary``."""
    names = [f"{row['search']}, {short(row['target'])}" for _, row in table.iterrows()]
    order = list(dict.fromkeys(names))
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(order) + 1.8))
    for sampler, part in table.assign(place=[order.index(name) for name in names]).groupby("sampler", sort=False):
        mark, colour = LOOKS.get(str(sampler), SEARCHED)
        arms = np.maximum([part["lead"] - part["lead_low"], part["lead_high"] - part["lead"]], 0)
        places = part["place"] + (0.15 if sampler == "random" else -0.15)
        axes.errorbar(part["lead"], places, xerr=arms, fmt=mark, color=colour, label=SAMPLERS[str(sampler)])
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel("points above the bar of one λ, on fresh items")
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", fontsize=9)
    return figure


def draw_layers(table: pd.DataFrame, acm: pd.Series, judged: Judged, title: str) -> Figure:
    """λ by layer of every best point of one search beside ACM's, and what each λ is worth there."""
    flat = flatness(judged)
    figure, (top, low) = plt.subplots(2, 1, figsize=(8, 6.5), sharex=True)
    layers = [*dict.fromkeys(table["layer"])]
    for (target, seed), part in table.groupby(["target", "seed"], sort=False):
        target = str(target)
        first = target == next(iter(best_points(judged.front)))
        top.plot(part["layer"], part["coefficient"], "D-" if first else "o--", color=COLOURS["acm"], alpha=0.55, ms=4,
                 label=f"found at {short(target)}" if seed == table["seed"].min() else None)  # fmt: skip
    top.plot(layers, acm[layers], "s-", color=COLOURS["baseline"], ms=4, label="ACM")
    top.axhline(0, color="0.3", lw=0.8)
    top.set(ylabel="λ")
    top.set_title(title, loc="left")
    top.legend(fontsize=9)
    for i, (target, part) in enumerate(flat[flat["what"].isin(layers)].groupby("target", sort=False)):
        arms = np.maximum([part["lost"] - part["lost_low"], part["lost_high"] - part["lost"]], 0)
        places = [layers.index(what) + 0.16 * (2 * i - 1) for what in part["what"]]
        low.errorbar(places, part["lost"], yerr=arms, fmt="D" if i == 0 else "o", color=COLOURS["acm"],
                     alpha=0.9 if i == 0 else 0.5, ms=4, label=f"at {short(str(target))}")  # fmt: skip
    low.axhline(0, color="0.3", lw=0.8)
    low.set(ylabel="points lost with this λ\nat the mean of all", xlabel="layer")
    low.legend(loc="upper left", fontsize=9)
    return figure


def draw_nulls(nulls: pd.DataFrame, title: str) -> Figure:
    """What each null merge loses against what it is made from, with 95 % intervals. nulls: of ``null_table``."""
    trials = [*dict.fromkeys(nulls["of"])]
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(trials) + 1.8))
    for i, (mark, (null, part)) in enumerate(zip(NULL_MARKS, nulls.groupby("null", sort=False), strict=False)):
        places = [trials.index(of) + 0.2 * (i - 1) for of in part["of"]]
        arms = np.maximum([part["less"] - part["less_low"], part["less_high"] - part["less"]], 0)
        axes.errorbar(part["less"], places, xerr=arms, fmt=mark, color=COLOURS["control"], label=null)
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set_yticks(range(len(trials)), trials)
    axes.set_ylim(len(trials) - 0.5, -0.5)
    axes.set_xlabel("points lost in a null merge, each token above the target priced")
    axes.set_title(title, loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def draw_front_pairs(judged: Judged, title: str) -> Figure:
    """Judged points by arm, each with an arrow from the items that chose to the fresh ones."""
    figure, axes = plt.subplots(figsize=(8.5, 5.5))
    for sampler, part in judged.front.groupby(judged.front["arm"].str.partition("-")[0], sort=False):
        mark, colour = {"one": (".", COLOURS["frontier"])}.get(str(sampler), LOOKS.get(str(sampler), SEARCHED))
        axes.plot(
            part["fresh_tokens"], part["fresh_accuracy"], mark, color=colour, label=SAMPLERS.get(str(sampler), "one λ")
        )
        for _, row in part.iterrows():
            ends = (row["fresh_tokens"], row["fresh_accuracy"]), (row["tokens"], row["accuracy"])
            axes.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.5})
    axes.set(xlabel="tokens (shorter is better)", ylabel="accuracy, %")
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", fontsize=9)
    return figure
