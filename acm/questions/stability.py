"""Question 3: how stable are the coefficients?

The λ are compared over random draws of calibration texts and over the number of texts. They are also compared over the
settings field, t, shift, dtype and token cap, of which one is changed at a time.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from acm.calibration.coefficients import draws_of, layer_coefficients, matrix
from acm.calibration.registry import CONTROLS, SHIFTS
from acm.calibration.texts import read_texts
from acm.calibration.walk import calibrate
from acm.escaping import figure_text
from acm.questions.messages import on_settings, on_shifts, on_sizes
from acm.questions.study import Study, counted
from acm.reporting.coefficient_figures import name_layers
from acm.reporting.plotting import COLOURS, TEXT, name_lines, sheet
from acm.reporting.sweep_figures import label_ends

QUESTION = "How stable are the coefficients?"
DEALS = 20  # how often the texts are dealt to draws
TEMPERATURES = (0.3, 0.5, 0.7, 0.9, 1.5)  # values of t that are tried beside the profile's own
SETTINGS = {
    "t": "t",
    "shift": "the shift",
    "field": "the text field",
    "max_tokens": "the cap on tokens",
    "dtype": "the dtype",
}
BLOCKS = "blocks"  # the line of all blocks in a figure
RANGE = 0.4, 0.7  # of λ in the figure of the number of texts; its whole range would hide a change of 0.05
LINES = ("-", "--", ":", "-.")


def pool(study: Study, texts: int, controls: tuple[str, ...] = ("none", "gaussian"), **changes: Any) -> pd.DataFrame:
    """MI of the first ``texts`` of the calibration file, unselected.

    changes: field, dtype or max_tokens other than the profile's.
    """
    source, (base, finetuned) = study.setting.calibration, study.models
    rows = read_texts(source.source, changes.get("field", source.field))[:texts]
    return calibrate(
        base,
        finetuned,
        rows,
        controls=controls,
        estimators=(study.setting.estimator,),
        seed=study.profile.seed,
        dtype=changes.get("dtype", study.profile.dtype),
        device=study.profile.device,
        max_tokens=changes.get("max_tokens", source.max_tokens),
        keep=study.folder / "calibration",
    )


def by_size(table: pd.DataFrame, sizes: tuple[int, ...], t: float, shift: str, draws: int = 2000) -> pd.DataFrame:
    """λ of each layer over draws of n texts: control, texts, layer, mean, low, high (95 % of the draws)."""
    rows: list[tuple[str, int, str, float, float, float]] = []
    for control in table["control"].unique():
        layers, mi = matrix(table, control)
        for size in sizes:
            found = draws_of(mi, size, draws, t, shift)
            low, high = np.quantile(found, [0.025, 0.975], axis=0)
            rows += zip([control] * len(layers), [size] * len(layers), layers, found.mean(0), low, high, strict=True)
    return pd.DataFrame(rows, columns=["control", "texts", "layer", "mean", "low", "high"])


def agreement(table: pd.DataFrame, size: int, t: float, shift: str, control: str = "none") -> np.ndarray:
    """Spearman's rank correlation of the blocks' λ between all pairs of disjoint draws of ``size`` texts.

    The texts are dealt to draws :data:`DEALS` times, since one way to deal them is one of many. Empty where there are
    too few texts for two draws. A draw is left out where its λ are all equal or it has one block: then no rank
    correlation is defined.
    """
    layers, mi = matrix(table, control)
    blocks = [layer.isdigit() for layer in layers]
    rng, correlations = np.random.default_rng(0), []
    for _ in range(DEALS):
        order = rng.permutation(mi.shape[1])
        draws = (order[start : start + size] for start in range(0, len(order) - size + 1, size))
        found = [layer_coefficients(mi[:, chosen], t, shift)[blocks] for chosen in draws]
        ranked = [values for values in found if np.ptp(values) > 0]
        correlations += [spearmanr(a, b).statistic for i, a in enumerate(ranked) for b in ranked[i + 1 :]]
    return np.array(correlations)


def with_interval(name: str, value: str, table: pd.DataFrame, t: float, shift: str, texts: int = 100) -> pd.DataFrame:
    """λ of each layer under one setting, with a 95 % interval by bootstrap over its texts."""
    layers, mi = matrix(table)
    mi = mi[:, :texts]
    low, high = np.quantile(draws_of(mi, mi.shape[1], 500, t, shift, replace=True), [0.025, 0.975], axis=0)
    found = {"layer": layers, "coefficient": layer_coefficients(mi, t, shift), "low": low, "high": high}
    return pd.DataFrame({"setting": name, "value": value, **found})


def settings(
    study: Study, table: pd.DataFrame, fields: list[str], caps: list[int], dtypes: list[str], texts: int = 100
) -> pd.DataFrame:
    """λ of each layer with one setting changed at a time; ``table`` is the pool at the profile's setting."""
    t, shift = study.setting.t, study.setting.shift
    found = [with_interval("t", f"{other:g}", table, other, shift, texts) for other in sorted({*TEMPERATURES, t})]
    found += [with_interval("shift", other, table, t, other, texts) for other in SHIFTS]
    changed: list[tuple[str, list[Any]]] = [("field", fields), ("max_tokens", caps), ("dtype", dtypes)]
    for name, values in changed:
        for value in values:
            other = pool(study, texts, ("none",), **{name: value})
            found.append(with_interval(name, str(value), other, t, shift, texts))
    return pd.concat(found, ignore_index=True)


def draw_sizes(sizes: pd.DataFrame) -> Figure:
    """λ against the number of texts, a panel for each control: the blocks' mean, and the other layers.

    The band holds 95 % of the draws of a block, mean over blocks.
    """
    controls = list(sizes["control"].unique())
    shown = sizes.assign(layer=sizes["layer"].where(~sizes["layer"].str.isdigit(), BLOCKS))
    shown = shown.groupby(["control", "layer", "texts"], sort=False)[["mean", "low", "high"]].mean()
    blocks = shown.loc["none" if "none" in controls else controls[0]].loc[BLOCKS]
    few, many = ((int(blocks.index[i]), float(blocks["mean"].iloc[i])) for i in (0, -1))
    noise = shown.loc["gaussian"].loc[BLOCKS]["mean"] if "gaussian" in controls else blocks["mean"] * 0
    width = float(blocks["high"].iloc[-1] - blocks["low"].iloc[-1])
    message = on_sizes(few, many, width, float(noise.iloc[-1] - noise.iloc[0]))
    figure, panels = sheet(message, 0.8 + 2.9 * len(controls), len(controls), sharex=True, sharey=True)
    for axes, control in zip(panels, controls, strict=True):
        for layer, style in zip(shown.loc[control].index.unique("layer"), itertools.cycle(LINES), strict=False):
            rows = shown.loc[control].loc[layer]
            axes.plot(rows.index, rows["mean"], ".", ls=style, color=COLOURS[kind_of(control)], label=layer)
            if layer == BLOCKS:
                band = {"color": COLOURS[kind_of(control)], "alpha": 0.2, "lw": 0}
                axes.fill_between(rows.index, rows["low"], rows["high"], **band)
        axes.set_title(CONTROLS[control].label, loc="left", fontsize=TEXT)
        axes.set(xscale="log", ylabel="λ", ylim=(min(RANGE[0], shown["low"].min()), max(RANGE[1], shown["high"].max())))
        axes.set_xticks(blocks.index, [f"{n}" for n in blocks.index], minor=False)
        axes.minorticks_off()
        axes.set_xlim(None, blocks.index.max() * (blocks.index.max() / max(1, blocks.index.min())) ** 0.32)
    panels[-1].set_xlabel("calibration texts")
    figure.draw_without_rendering()
    for axes, control in zip(panels, controls, strict=True):
        ends = shown.loc[control].groupby("layer", sort=False)["mean"].last().to_dict()
        label_ends(axes, ends, int(blocks.index.max()), dict.fromkeys(ends, COLOURS[kind_of(control)]))
    return figure


def kind_of(control: str) -> str:
    """The colour of a control, by its key."""
    return "acm" if control == "none" else "frontier"


def draw_layers(table: pd.DataFrame, size: int, t: float = 0.7) -> Figure:
    """λ by layer, a panel for each shift on the whole range from 0 to 1: the real pair beside noise.

    table: the pool. Marks are means over 500 draws of ``size`` texts; bands hold 95 % of the draws.
    """
    drawn = {
        (shift, control): draws_of(matrix(table, control)[1], size, 500, t, shift)
        for shift in SHIFTS
        for control in ("gaussian", "none")
    }
    names = matrix(table, "none")[0]
    apart = {
        shift: float(np.abs(drawn[shift, "none"].mean(0) - drawn[shift, "gaussian"].mean(0)).mean()) for shift in SHIFTS
    }
    figure, panels = sheet(on_shifts(apart), 1.2 + 2.4 * len(SHIFTS), len(SHIFTS), sharex=True, sharey=True)
    for axes, shift in zip(panels, SHIFTS, strict=True):
        for control, marker in (("gaussian", "^"), ("none", "D")):
            found, colour = drawn[shift, control], COLOURS[kind_of(control)]
            low, high = np.quantile(found, [0.025, 0.975], axis=0)
            axes.fill_between(names, low, high, color=colour, alpha=0.25, lw=0)
            axes.plot(names, found.mean(0), marker, ls="-", color=colour, ms=5, label=CONTROLS[control].label)
        axes.set_title(f"shift {shift}, t = {t:g}", loc="left", fontsize=TEXT)
        axes.set(ylabel="λ", ylim=(0, 1))
        name_layers(axes, names)
    name_lines(panels[0], "lower right")
    panels[-1].set_xlabel("layer")
    return figure


def block_means(found: pd.DataFrame) -> pd.Series:
    """The blocks' mean λ by setting and value. found: of :func:`settings`."""
    blocks = found[found["layer"].str.isdigit()]
    return blocks.groupby(["setting", "value"], sort=False)["coefficient"].mean()


def moved_by(means: pd.Series) -> dict[str, float]:
    """By how much each setting moves the blocks' mean λ. means: of :func:`block_means`."""
    return {str(name): float(values.max() - values.min()) for name, values in means.groupby("setting", sort=False)}


def draw_settings(found: pd.DataFrame) -> Figure:
    """λ with one setting changed at a time, a row for each value: the blocks' mean as a number, and each layer.

    A bar is a block's 95 % interval over texts, mean over blocks.
    """
    means = block_means(found)
    names = list(found["setting"].unique())
    message = on_settings({SETTINGS[name]: change for name, change in moved_by(means).items()})
    rows = [len(means[name]) for name in names]
    figure, panels = sheet(
        message, 0.9 + 0.55 * len(names) + 0.3 * sum(rows), len(names), sharex=True, height_ratios=rows
    )
    for axes, name in zip(panels, names, strict=True):
        own = means[name]
        for height, value in enumerate(own.index):
            layers = found[(found["setting"] == name) & (found["value"] == value)]
            axes.plot(layers["coefficient"], [height] * len(layers), "|", color=COLOURS["frontier"], ms=11, mew=1.5)
            ends = layers[layers["layer"].str.isdigit()][["low", "high"]].mean()
            arms = [[max(0.0, own[value] - ends["low"])], [max(0.0, ends["high"] - own[value])]]
            axes.errorbar(own[value], height, xerr=arms, fmt="D", color=COLOURS["acm"], ms=6)
            axes.text(1.02, height, f"{own[value]:.2f}", transform=axes.get_yaxis_transform(), va="center", size=TEXT)
        axes.set_yticks(range(len(own)), [figure_text(value) for value in own.index])
        axes.set(xlim=(0, 1), ylim=(len(own) - 0.4, -0.6))
        axes.set_title(SETTINGS[name], loc="left", fontsize=TEXT)
    panels[-1].set_xlabel("λ; diamonds and numbers: mean of the blocks\ngrey: each layer")
    return figure


def verdict(
    sizes: pd.DataFrame, ranks: dict[str, np.ndarray], found: pd.DataFrame, size: int
) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers it is made of.

    sizes: from :func:`by_size`. ranks: control → :func:`agreement`. found: from :func:`settings`. size: texts in a
    draw.
    """
    blocks = sizes[sizes["layer"].str.isdigit() & (sizes["control"] == "none")]
    typical, fewest = blocks[blocks["texts"] == size], blocks[blocks["texts"] == sizes["texts"].min()]
    means = block_means(found)
    moved = moved_by(means)
    numbers = {
        "draw_size": size,
        "interval_width": float((typical["high"] - typical["low"]).mean()),
        "spread_of_blocks": float(typical["mean"].max() - typical["mean"].min()),
        "mean_coefficient": float(typical["mean"].mean()),
        "mean_with_fewest": float(fewest["mean"].mean()),
        "fewest": int(sizes["texts"].min()),
        "rank_correlation": {control: quantiles(values) | {"pairs": len(values)} for control, values in ranks.items()},
        "moved_by": moved,
        "means": dict(zip(map("=".join, means.index.tolist()), means.tolist(), strict=True)),
    }
    return in_words(numbers), numbers


def in_words(numbers: dict[str, Any]) -> str:
    """The sentences of the verdict, from its numbers; the first is the plain answer."""
    width, mean, fewest = numbers["interval_width"], numbers["mean_coefficient"], numbers["mean_with_fewest"]
    ranks, texts = numbers["rank_correlation"]["none"], counted(numbers["draw_size"], "text")
    order = "The order of the blocks cannot be compared between disjoint draws."
    if ranks["pairs"]:
        order = (
            "The order of the blocks agrees between disjoint draws with a median rank correlation of "
            f"{ranks['median']:.2f} (5 to 95 % of the pairs: {ranks['low']:.2f} to {ranks['high']:.2f})."
        )
    hidden = "This move is no more than draws differ."
    if abs(mean - fewest) > width:
        hidden = "So the number of texts is a hidden parameter of the shift."
    moved = "; ".join(f"{SETTINGS[name]} {change:.3f}" for name, change in numbers["moved_by"].items())
    against = "more" if width > numbers["spread_of_blocks"] else "less"
    most = SETTINGS[max(numbers["moved_by"], key=numbers["moved_by"].__getitem__)]
    return (
        f"A block's λ varies {against} from one draw of calibration texts to another than the blocks' λ differ from "
        f"each other. Of the settings that were tried, {most} moves λ most. "
        f"In 95 % of draws of {texts} a block's λ lies in a range of {width:.3f}, mean over blocks. "
        f"The means of the blocks differ by up to {numbers['spread_of_blocks']:.3f}. {order} "
        f"The mean λ of the blocks moves from {fewest:.3f} with {counted(numbers['fewest'], 'text')} to {mean:.3f} "
        f"with {texts}. {hidden} "
        f"By how much the mean λ of the blocks moves where one setting alone is changed: {moved}."
    )


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Median, 5 and 95 %; NaN of nothing."""
    found = np.quantile(values, [0.5, 0.05, 0.95]) if len(values) else [np.nan] * 3
    return dict(zip(("median", "low", "high"), map(float, found), strict=True))
