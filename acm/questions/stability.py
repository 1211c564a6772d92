"""Question 3: how stable are the coefficients?

The λ are compared over random draws of calibration texts and over the number of texts. They are also compared over the
settings field, t, shift, dtype and token cap, of which one is changed at a time.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from acm.calibration.coefficients import draws_of, layer_coefficients, matrix
from acm.calibration.registry import CONTROLS, SHIFTS
from acm.calibration.texts import read_texts
from acm.calibration.walk import calibrate
from acm.questions.study import Study, counted
from acm.reporting.coefficient_figures import name_layers
from acm.reporting.messages import on_sizes
from acm.reporting.plotting import COLOURS, TEXT, sheet
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
LINES = ("-", "--", ":", "-.")
COLUMNS = 3  # panels side by side in the figure of settings


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
    figure, panels = sheet(message, 0.8 + 3.3 * len(controls), len(controls), sharex=True, sharey=True)
    for axes, control in zip(panels, controls, strict=True):
        for layer, style in zip(shown.loc[control].index.unique("layer"), itertools.cycle(LINES), strict=False):
            rows = shown.loc[control].loc[layer]
            axes.plot(rows.index, rows["mean"], ".", ls=style, color=COLOURS[kind_of(control)], label=layer)
            if layer == BLOCKS:
                band = {"color": COLOURS[kind_of(control)], "alpha": 0.2, "lw": 0}
                axes.fill_between(rows.index, rows["low"], rows["high"], **band)
        axes.set_title(CONTROLS[control].label, loc="left", fontsize=TEXT)
        axes.set(xscale="log", ylabel="coefficient λ")
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


def draw_layers(table: pd.DataFrame, size: int, temperatures: tuple[float, ...] = (0.5, 0.7, 0.9)) -> Figure:
    """λ by layer, a row of panels for each shift and a column for each t: the real pair beside noise.

    table: the pool. Lines are means over 500 draws of ``size`` texts; bands hold 95 % of the draws.
    """
    shape = len(SHIFTS), len(temperatures)
    figure, grid = plt.subplots(*shape, figsize=(4.2 * shape[1], 0.6 + 2.7 * shape[0]), sharex=True, sharey="row")
    for (shift, row), (control, kind) in itertools.product(
        zip(SHIFTS, grid, strict=True), (("gaussian", "frontier"), ("none", "acm"))
    ):
        layers, mi = matrix(table, control)
        for axes, t in zip(row, temperatures, strict=True):
            drawn = draws_of(mi, size, 500, t, shift)
            low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
            axes.fill_between(layers, low, high, color=COLOURS[kind], alpha=0.25, lw=0)
            axes.plot(layers, drawn.mean(0), ".-", color=COLOURS[kind], label=CONTROLS[control].title)
            axes.set_title(f"shift {shift}, t = {t:g}", fontsize=11)
            name_layers(axes, layers)
        row[0].set_ylabel("coefficient λ")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=2)
    return figure


def draw_settings(found: pd.DataFrame) -> Figure:
    """λ against layer, a panel for each setting, with 95 % intervals over texts."""
    names = list(found["setting"].unique())
    lines = math.ceil(len(names) / COLUMNS)
    figure, grid = plt.subplots(lines, COLUMNS, figsize=(13, 3.75 * lines), sharex=True, squeeze=False)
    for axes, name in zip(grid.flat[: len(names)], names, strict=True):
        looks = zip(itertools.cycle("osD^v"), itertools.cycle(sns.color_palette("colorblind")), strict=True)
        for value, rows in found[found["setting"] == name].groupby("value", sort=False):
            marker, colour = next(looks)
            arms = np.maximum([rows["coefficient"] - rows["low"], rows["high"] - rows["coefficient"]], 0)
            axes.errorbar(
                rows["layer"], rows["coefficient"], arms, color=colour, label=value,
                marker=marker, capsize=2, lw=1.2, ms=5,
            )  # fmt: skip
        axes.set(xlabel="layer", ylabel="coefficient λ")
        axes.tick_params(axis="x", labelbottom=True)
        name_layers(axes, list(found["layer"].unique()))
        axes.legend(
            title=name, fontsize=9, title_fontsize=11, ncol=3, frameon=False,
            loc="lower center", bbox_to_anchor=(0.5, 1),
        )  # fmt: skip
    for axes in grid.flat[len(names) :]:  # what a whole row would have more
        axes.set_axis_off()
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
    means = found[found["layer"].str.isdigit()].groupby(["setting", "value"], sort=False)["coefficient"].mean()
    moved = {name: float(values.max() - values.min()) for name, values in means.groupby("setting", sort=False)}
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
    ranks = numbers["rank_correlation"]["none"]
    order = "the order of the blocks cannot be compared between disjoint draws"
    if ranks["pairs"]:
        order = (
            "the order of the blocks agrees between disjoint draws with a median rank correlation of "
            f"{ranks['median']:.2f} (5 to 95 % of the pairs: {ranks['low']:.2f} to {ranks['high']:.2f})"
        )
    hidden = "no more than draws differ"
    if abs(mean - fewest) > width:
        hidden = "the number of texts is a hidden parameter of the shift"
    moved = ", ".join(f"{change:.3f} ({name})" for name, change in numbers["moved_by"].items())
    against = "more" if width > numbers["spread_of_blocks"] else "less"
    most = SETTINGS[max(numbers["moved_by"], key=numbers["moved_by"].__getitem__)]
    return (
        f"From draw to draw of texts a block's λ varies by {against} than the blocks differ, "
        f"and of the settings {most} moves λ most. "
        f"Over draws of {counted(numbers['draw_size'], 'text')} a block's λ varies by {width:.3f} (95 %), "
        f"the blocks' means differ by up to {numbers['spread_of_blocks']:.3f}; {order}. "
        f"The mean λ moves from {fewest:.3f} with {counted(numbers['fewest'], 'text')} to {mean:.3f} "
        f"with {numbers['draw_size']}: {hidden}. "
        f"Changed one at a time, the mean λ of the blocks moves by {moved}."
    )


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Median, 5 and 95 %; NaN of nothing."""
    found = np.quantile(values, [0.5, 0.05, 0.95]) if len(values) else [np.nan] * 3
    return dict(zip(("median", "low", "high"), map(float, found), strict=True))
