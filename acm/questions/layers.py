"""Question 4: which layers carry length, which accuracy, left out and alone?

Two kinds of merge show the effect of one layer. One kind applies the fine-tuned model's update to all layers but this
one, the other to this layer alone. The effect is compared with the layer's λ. Where a model has many blocks, several in
a row stand for one layer: a group, with the mean of their λ.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from scipy.stats import t as student

from acm.errors import UserError
from acm.questions.messages import on_effects
from acm.questions.study import Coefficients, apart, counted
from acm.questions.variants import Layers, chosen
from acm.reporting.intervals import Interval, interval_in, interval_text
from acm.reporting.plotting import COLOURS, name_lines, sheet
from acm.reporting.statistics import Sample

QUESTION = "Which layers carry length, which accuracy, left out and alone?"
KINDS = {  # kind of merge → its name in words
    "without": "Left out: the fine-tuned model with this layer of the base",
    "only": "Alone: the base with this layer of the fine-tuned model",
}


def groups(changed: Layers, size: int = 1) -> dict[str, list[str]]:
    """The layers that are left out together: name → layers. ``size`` blocks in a row, such as 0–4; others alone.

    changed: layer → size of its update (:func:`acm.questions.variants.magnitudes`), in the order of the layers. A group
    without an update does not come: a merge without it is the fine-tuned model.
    """
    if size < 1:
        raise UserError(f"group: is {size}; give how many blocks in a row count as one layer, 1 or more.")
    found: dict[str, list[str]] = {}
    for layer in changed:  # in their order
        first = f"{int(layer) // size * size}" if layer.isdigit() else layer
        found.setdefault(first, []).append(layer)
    named = {part[0] if len(part) == 1 else f"{part[0]}–{part[-1]}": part for part in found.values()}
    return {name: part for name, part in named.items() if any(changed[layer] for layer in part)}


def merges(groups: dict[str, list[str]], coefficients: Coefficients) -> dict[str, dict[str, Any]]:
    """What to merge: each group left out (λ = 0 there, 1 elsewhere), and each alone. coefficients: for their layers."""
    layers = next(iter(coefficients.values()))
    return {
        f"{kind} {name}": {"coefficients": {model: chosen(layers, part, *values) for model in coefficients}}
        for kind, values in (("without", (0.0, 1.0)), ("only", (1.0, 0.0)))
        for name, part in groups.items()
    }


def effects(sample: Sample, layers: Layers, base: str, finetuned: str) -> pd.DataFrame:
    """One row for each kind and layer: what changes against the model that it was made from, with 95 % intervals.

    layers: layer or group → ACM's λ, the column coefficient. accuracy (points) and length (tokens), each with ``_low``
    and ``_high``. A model without a layer's update is compared with the fine-tuned one, a layer alone with the base.
    """
    rows = []
    for kind, reference in (("without", finetuned), ("only", base)):
        for layer, coefficient in layers.items():
            row: dict[str, Any] = {"kind": kind, "layer": layer, "coefficient": coefficient}
            rows.append(row | apart(sample, [(f"{kind} {layer}", reference)]).columns())
    return pd.DataFrame(rows).rename(columns=lambda c: c.replace("righter", "accuracy").replace("longer", "length"))


TOLD = {"without": "left out", "only": "alone"}  # kind of merge → a sentence's words
NEITHER = "No layer is shown to change length most or accuracy most, left out or alone"
MEASURES = {"accuracy": "change of accuracy, points", "length": "change of length, tokens"}
LOOKS = {"without": ("left out", "o", "baseline", 0.16), "only": ("alone", "^", "control", -0.16)}


def draw(table: pd.DataFrame) -> Figure:
    """The change of accuracy and length by layer, left out and alone, and λ below them. table: of :func:`effects`."""
    names = list(table["layer"].unique())
    largest = {what: (shown(table, "without", what), shown(table, "only", what)) for what in ("length", "accuracy")}
    places = len(names) - 1 - np.arange(len(names))
    figure, panels = sheet(on_effects(largest, float(np.ptp(table["coefficient"]))), 2.4 + 0.9 * len(names), 3)
    for axes, (what, label) in zip(panels, MEASURES.items(), strict=False):
        for kind, (name, marker, colour, up) in LOOKS.items():
            part = table[table["kind"] == kind]
            arms = np.maximum([part[what] - part[f"{what}_low"], part[f"{what}_high"] - part[what]], 0)
            style: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "ls": "none", "capsize": 2}
            axes.errorbar(part[what], places + up, xerr=arms, label=name, **style)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_xlabel(label)
    name_lines(panels[0], "best")
    panels[2].plot(part["coefficient"], places, "D", color=COLOURS["acm"])
    mean = "" if at_a_time(table) == "layer" else ", mean"
    panels[2].set(xlabel=f"ACM's λ{mean}, of a possible 0 to 1", xlim=(0, 1))
    for axes in panels:
        axes.set_yticks(places, names)
        axes.set(ylabel=at_a_time(table), ylim=(-0.6, len(names) - 0.4))
    return figure


def shown(table: pd.DataFrame, kind: str, what: str) -> list[str]:
    """Layers in words whose merges of a kind are shown to change a measure, and not less than the largest change."""
    part = table[table["kind"] == kind].set_index("layer")
    sure = part[(part[f"{what}_low"] > 0) | (part[f"{what}_high"] < 0)]
    if not len(sure):
        return []
    ends = sure[[f"{what}_low", f"{what}_high"]].abs()
    largest = ends.min(axis=1).iloc[int(sure[what].abs().to_numpy().argmax())]
    return [named(str(layer)) for layer in sure.index[ends.max(axis=1) >= largest]]


def rank_correlation(x: ArrayLike, y: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Spearman's ρ of two arrays (n,), and its two-sided p by permutation. NaN for fewer than 3 values, or equal ones.

    All permutations are taken of up to 8 values, else 20,000 at random. The usual approximation of p fails for so few
    values: it gives 0 for three in order, where one order in three is as extreme.
    """
    a, b = (rankdata(values) - (np.size(values) + 1) / 2 for values in (x, y))
    scale = np.sqrt((a @ a) * (b @ b))
    if len(a) < 3 or not scale > 0:
        return np.nan, np.nan
    if len(a) <= 8:
        orders = np.array(list(itertools.permutations(range(len(a)))))
    else:
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(len(a)), (20_000, 1)), axis=1)
        orders[0] = np.arange(len(a))
    found = a[orders] @ b / scale
    value = float(a @ b / scale)
    return value, float((np.abs(found) >= abs(value) - 1e-9).mean())


def verdict(table: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of. table: of :func:`effects`."""
    sides = {kind: side(table[table["kind"] == kind].set_index("layer")) for kind in KINDS}
    layers, count = table["layer"].nunique(), counted(table["layer"].nunique(), at_a_time(table))
    numbers = {"layers": layers, **sides["without"], "alone": sides["only"]}
    parts = [
        f"{what} with {named(sides[kind]['largest'][what])} "
        f"({told}, {change(sides[kind]['largest_change'][what], unit, digits)})"
        for kind, told in TOLD.items() for what, unit, digits in (("length", "tokens", 0), ("accuracy", "points", 1))
    ]  # fmt: skip
    ranks = {
        f"{what} {told}": sides[kind]["rank_correlation"][what]
        for kind, told in TOLD.items() for what in ("accuracy", "length")
    }  # fmt: skip
    shown = any(rank["p"] < 0.05 / len(ranks) for rank in ranks.values())
    text = (
        f"{answer(sides)} λ is {'' if shown else 'not '}shown to go with the size of these changes. Left out means "
        f"the fine-tuned model with one {at_a_time(table)} of the base. Alone means the base with one "
        f"{at_a_time(table)} of the fine-tuned model. The largest changes: {'; '.join(parts)}. Over {count}, "
        f"{relation(ranks, layers)}"
    )
    return text, numbers


def at_a_time(table: pd.DataFrame) -> str:
    """What is left out at a time, in words. table: of :func:`effects`."""
    return "group of blocks" if table["layer"].str.contains("–").any() else "layer"


def answer(sides: dict[str, dict[str, Any]]) -> str:
    """The plain sentence: with which layers length and accuracy change most. sides: kind → :func:`side`."""
    length, accuracy = ([most(sides[kind], what) for kind in TOLD] for what in ("length", "accuracy"))
    if not any(length):
        late = "no layer is shown to change length most"
        return f"Accuracy changed most with {where(accuracy)}; {late}." if any(accuracy) else f"{NEITHER}."
    rest = f"accuracy with {where(accuracy)}" if any(accuracy) else "no layer is shown to change accuracy most"
    return f"Length changed most with {where(length)}; {rest}."


def most(found: dict[str, Any], what: str) -> str:
    """The layer with the largest change, in words; empty where its interval has 0. found: of :func:`side`."""
    return named(found["largest"][what]) if sure(found["largest_change"][what]) else ""


def where(layers: list[str]) -> str:
    """The layers that changed something most, left out and alone, in words; an empty name is not shown."""
    left_out, alone = layers
    if left_out == alone:
        return f"{left_out}, left out and alone"
    both = [f"{name} {told}" for name, told in zip(layers, TOLD.values(), strict=True) if name]
    return " and ".join(both) if left_out and alone else f"{both[0]} ({'alone' if left_out else 'left out'} not shown)"


def named(layer: str) -> str:
    """A layer in words."""
    words = {"embed": "the embedding", "norm": "the last norm", "lm_head": "the head"}
    return words.get(layer, f"block{'s' if '–' in layer else ''} {layer}")


def side(part: pd.DataFrame) -> dict[str, Any]:
    """What one kind of merge says, by measure: the largest effect, its layer, and λ's rank correlation with effects.

    part: the rows of the kind, by layer.
    """
    found: dict[str, Any] = {"largest": {}, "largest_change": {}, "rank_correlation": {}}
    for what in ("accuracy", "length"):
        value, p = rank_correlation(part["coefficient"].to_numpy(), part[what].abs().to_numpy())
        found["rank_correlation"][what] = {"value": value, "p": p}
        layer = found["largest"][what] = str(part[what].abs().idxmax())
        found["largest_change"][what] = interval_in(
            {str(name): values[layer] for name, values in part.to_dict().items()}, what
        )
    return found


def change(interval: Interval, unit: str, digits: int) -> str:
    """A change with its interval, and whether that includes zero."""
    text = interval_text(**interval, digits=digits, signed=True)
    return f"{text} {unit}{'' if sure(interval) else ', not shown to differ from 0'}"


def sure(interval: Interval) -> bool:
    """Whether an interval excludes zero."""
    return interval["low"] > 0 or interval["high"] < 0


def relation(ranks: dict[str, dict[str, float]], layers: int) -> str:
    """How λ goes with the size of a layer's effect, at 5 % over all tests. ranks: what of a layer → value, p."""
    known = {what: rank for what, rank in ranks.items() if not np.isnan(rank["value"])}
    if not known:
        return "λ cannot be compared with the size of a layer's change, because these are too few or all equal."
    told = []
    for what, rank in known.items():
        p = "p < 0.001" if rank["p"] < 0.001 else f"p = {rank['p']:.3f}"
        told.append(f"{what} {rank['value']:+.2f} ({p})")
    text = f"λ has these rank correlations with the size of a layer's change: {'; '.join(told)}."
    if related := [what for what, rank in known.items() if rank["p"] < 0.05 / len(ranks)]:
        return f"{text} Shown to differ from 0: {' and '.join(related)}."
    least = student.ppf(1 - 0.025 / len(ranks), layers - 2)
    beyond = least / np.sqrt(layers - 2 + least**2)
    none = f"No rank correlation is shown to differ from 0. Because {len(ranks)} are tested over so few layers, only"
    return f"{text} {none} one beyond about ±{beyond:.2f} would be."
