"""Question 4: which layers carry length, which accuracy? One layer left out, and one layer alone, against λ."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import rankdata
from scipy.stats import t as student

from acm.questions.study import Study, counted
from acm.questions.variants import single
from acm.reporting import statistics
from acm.reporting.intervals import interval_text
from acm.reporting.plotting import COLOURS
from acm.reporting.statistics import Sample, describe

QUESTION = "Which layers carry length, which accuracy?"
KINDS = {
    "without": "the fine-tuned model with this layer of the base",
    "only": "the base with this layer of the fine-tuned model",
}


def merges(study: Study) -> dict[str, dict]:
    """Each layer left out (λ = 0 there, 1 elsewhere), and each alone."""
    coefficients = study.results.coefficients["none"]
    layers = next(iter(coefficients.values()))
    return {
        f"{kind} {layer}": {"coefficients": {model: single(layers, layer, *values) for model in coefficients}}
        for kind, values in (("without", (0.0, 1.0)), ("only", (1.0, 0.0)))
        for layer in layers
    }


def effects(sample: Sample, layers: dict[str, float], base: str, finetuned: str) -> pd.DataFrame:
    """Per kind and layer: change of accuracy (points) and of mean length (tokens) against the model it was changed from, 95 % intervals."""
    rows = []
    for kind, reference in (("without", finetuned), ("only", base)):
        for layer, coefficient in layers.items():
            row = {"kind": kind, "layer": layer, "coefficient": coefficient}
            for what, scale in (("accuracy", 100), ("length", 1)):
                difference = statistics.average(sample, f"{kind} {layer}", what) - statistics.average(
                    sample, reference, what
                )
                row |= {
                    f"{what}{end}": v
                    for end, v in zip(("", "_low", "_high"), describe(difference, scale).values(), strict=True)
                }
            rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """Bars of the change of accuracy and length by layer, and λ beside them."""
    figure, axes = plt.subplot_mosaic(
        [["without accuracy", "without length", "λ"], ["only accuracy", "only length", "λ"]],
        figsize=(13.5, 7),
        sharex=True,
    )
    for kind, title in KINDS.items():
        part = table[table["kind"] == kind]
        for what, unit, colour in (("accuracy", "points", "baseline"), ("length", "tokens", "acm")):
            panel, errors = (
                axes[f"{kind} {what}"],
                [part[what] - part[f"{what}_low"], part[f"{what}_high"] - part[what]],
            )
            panel.bar(
                part["layer"], part[what], yerr=np.maximum(errors, 0), color=COLOURS[colour], alpha=0.75, capsize=3
            )
            panel.axhline(0, color="0.3", lw=0.8)
            panel.set_ylabel(f"change of {what}, {unit}")
        axes[f"{kind} accuracy"].set_title(title, loc="left", fontsize=11)
    axes["λ"].plot(part["layer"], part["coefficient"], "D-", color=COLOURS["acm"])
    axes["λ"].set(ylabel="ACM's λ", title="for comparison")
    for name in ("only accuracy", "only length", "λ"):
        axes[name].set_xlabel("layer")
        axes[name].tick_params(axis="x", rotation=60)
    return figure


def rank_correlation(x: np.ndarray, y: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Spearman's ρ and its two-sided p by permutation: all of them up to 8 values, else 20,000. NaN for fewer than 3 values, or equal ones.

    The usual approximation of p fails for so few values: 0 for three in order, where one of three orders is as extreme.
    """
    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
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


def verdict(table: pd.DataFrame) -> tuple[str, dict]:
    """The answer in words, and the numbers it is made of."""
    out = table[table["kind"] == "without"].set_index("layer")
    ranks = {
        what: dict(zip(("value", "p"), rank_correlation(out["coefficient"], out[what].abs()), strict=True))
        for what in ("accuracy", "length")
    }
    largest = {what: out[what].abs().idxmax() for what in ranks}
    changes = {what: {k: float(out.loc[layer, f"{what}{end}"]) for k, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
               for what, layer in largest.items()}  # fmt: skip
    numbers = {"layers": len(out), "largest": largest, "largest_change": changes, "rank_correlation": ranks}

    def change(what: str, unit: str, digits: int) -> str:
        c = changes[what]
        doubt = "" if c["low"] > 0 or c["high"] < 0 else ", not told from zero"
        return f"{interval_text(**c, digits=digits, signed=True)} {unit}{doubt}"

    def rank(what: str) -> str:
        p = ranks[what]["p"]
        return f"{ranks[what]['value']:+.2f} ({what}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"

    known = [what for what, r in ranks.items() if not np.isnan(r["value"])]
    related = [what for what in known if ranks[what]["p"] < 0.05 / len(ranks)]
    text = (
        f"The largest change of length comes with layer {largest['length']} (without its update {change('length', 'tokens', 0)}), the largest of accuracy with layer "
        f"{largest['accuracy']} ({change('accuracy', 'points', 1)}). Over {counted(len(out), 'layer')}, "
    )  # fmt: skip
    if not known:
        return (
            f"{text}λ and the size of a layer's effect cannot be compared: there are too few, or all are equal.",
            numbers,
        )
    least = student.ppf(1 - 0.025 / len(ranks), len(out) - 2)
    beyond = least / np.sqrt(len(out) - 2 + least**2)
    none = f"no relation shown; over so many layers only a correlation beyond about ±{beyond:.2f} would be, as two are looked at."
    end = f"related for {' and '.join(related)}." if related else none
    return (
        f"{text}λ and the size of a layer's effect have rank correlations of {' and '.join(map(rank, known))}: {end}",
        numbers,
    )
