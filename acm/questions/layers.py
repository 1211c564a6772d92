"""Question 4: which layers carry length, which accuracy? One layer left out, and one layer alone, against λ."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from acm import statistics
from acm.plotting import COLOURS
from acm.questions.study import Study
from acm.questions.variants import single
from acm.statistics import Sample, describe

QUESTION = "Which layers carry length, which accuracy?"
KINDS = {"without": "the fine-tuned model with this layer of the base", "only": "the base with this layer of the fine-tuned model"}


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
                difference = statistics.average(sample, f"{kind} {layer}", what) - statistics.average(sample, reference, what)
                row |= {f"{what}{end}": v for end, v in zip(("", "_low", "_high"), describe(difference, scale).values(), strict=True)}
            rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """Bars of the change of accuracy and length by layer, and λ beside them."""
    figure, axes = plt.subplot_mosaic([["without accuracy", "without length", "λ"], ["only accuracy", "only length", "λ"]], figsize=(13.5, 7), sharex=True)
    for kind, title in KINDS.items():
        part = table[table["kind"] == kind]
        for what, unit, colour in (("accuracy", "points", "baseline"), ("length", "tokens", "acm")):
            panel, errors = axes[f"{kind} {what}"], [part[what] - part[f"{what}_low"], part[f"{what}_high"] - part[what]]
            panel.bar(part["layer"], part[what], yerr=errors, color=COLOURS[colour], alpha=0.75, capsize=3)
            panel.axhline(0, color="0.3", lw=0.8)
            panel.set_ylabel(f"change of {what}, {unit}")
        axes[f"{kind} accuracy"].set_title(title, loc="left", fontsize=11)
    axes["λ"].plot(part["layer"], part["coefficient"], "D-", color=COLOURS["acm"])
    axes["λ"].set(ylabel="ACM's λ", title="for comparison")
    for name in ("only accuracy", "only length", "λ"):
        axes[name].set_xlabel("layer")
        axes[name].tick_params(axis="x", rotation=60)
    return figure


def verdict(table: pd.DataFrame) -> tuple[str, dict]:
    """The answer in words, and the numbers it is made of."""
    out = table[table["kind"] == "without"].set_index("layer")
    ranks = {what: spearmanr(out["coefficient"], out[what].abs()) for what in ("accuracy", "length")}
    largest = {what: out[what].abs().idxmax() for what in ranks}
    numbers = {"layers": len(out), "largest": largest,
               "largest_change": {what: {k: float(out.loc[layer, f"{what}{end}"]) for k, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
                                  for what, layer in largest.items()},
               "rank_correlation": {what: {"value": float(r.statistic), "p": float(r.pvalue)} for what, r in ranks.items()}}  # fmt: skip
    changes = {what: numbers["largest_change"][what] for what in ranks}
    related = [what for what, r in ranks.items() if r.pvalue < 0.05]
    text = (
        f"Length hangs most on layer {largest['length']} (without its update {changes['length']['value']:+.0f} [{changes['length']['low']:+.0f}, "
        f"{changes['length']['high']:+.0f}] tokens), accuracy on layer {largest['accuracy']} ({changes['accuracy']['value']:+.1f} "
        f"[{changes['accuracy']['low']:+.1f}, {changes['accuracy']['high']:+.1f}] points). Over {len(out)} layers, λ and the size of a layer's effect have rank "
        f"correlations of {ranks['accuracy'].statistic:+.2f} (accuracy, p = {ranks['accuracy'].pvalue:.2f}) and {ranks['length'].statistic:+.2f} (length, "
        f"p = {ranks['length'].pvalue:.2f}): "
        + (f"related for {' and '.join(related)}." if related else "no relation shown; with so few layers only a strong one could be.")
    )  # fmt: skip
    return text, numbers
