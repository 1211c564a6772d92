"""Question 3: how stable are the coefficients? Over calibration draws, number of texts, field, t, shift, dtype and token cap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from acm import calibrate
from acm.calibration.coefficients import draws_of, layer_coefficients, matrix
from acm.calibration.texts import read_texts
from acm.questions.study import Study, counted

QUESTION = "How stable are the coefficients?"
TEMPERATURES, SHIFTS = (0.3, 0.5, 0.7, 0.9, 1.5), ("layer", "global", "none")


def pool(study: Study, texts: int, controls: tuple[str, ...] = ("none", "gaussian"), **changes) -> pd.DataFrame:
    """MI of the first ``texts`` of the calibration file, unselected. changes: field, dtype or max_tokens other than the profile's."""
    source, (base, finetuned) = study.setting.calibration, study.models
    rows = read_texts(source.source, changes.get("field", source.field))[:texts]
    return calibrate(base, finetuned, rows, controls, (study.setting.estimator,), study.profile.seed, changes.get("dtype", study.profile.dtype),
                     study.profile.device, max_tokens=changes.get("max_tokens", source.max_tokens), keep=study.folder / "calibration")  # fmt: skip


def by_size(table: pd.DataFrame, sizes: tuple[int, ...], t: float, shift: str, draws: int = 200) -> pd.DataFrame:
    """λ of each layer over draws of n texts: control, texts, layer, mean, low, high (95 % of the draws)."""
    rows = []
    for control in table["control"].unique():
        layers, mi = matrix(table, control)
        for size in sizes:
            found = draws_of(mi, size, draws, t, shift)
            low, high = np.quantile(found, [0.025, 0.975], axis=0)
            rows += zip([control] * len(layers), [size] * len(layers), layers, found.mean(0), low, high, strict=True)
    return pd.DataFrame(rows, columns=["control", "texts", "layer", "mean", "low", "high"])


def agreement(table: pd.DataFrame, size: int, t: float, shift: str, control: str = "none") -> np.ndarray:
    """Spearman's rank correlation of the blocks' λ between all pairs of disjoint draws of ``size`` texts.

    None where there are too few texts for two draws; a pair is left out where it has no rank correlation, as with one block or equal λ.
    """
    layers, mi = matrix(table, control)
    blocks = [layer.isdigit() for layer in layers]
    order = np.random.default_rng(0).permutation(mi.shape[1])
    found = [
        layer_coefficients(mi[:, order[i : i + size]], t, shift)[blocks] for i in range(0, len(order) - size + 1, size)
    ]
    ranked = [f for f in found if np.ptp(f) > 0]
    return np.array([spearmanr(a, b).statistic for i, a in enumerate(ranked) for b in ranked[i + 1 :]])


def with_interval(name: str, value: str, table: pd.DataFrame, t: float, shift: str, texts: int = 100) -> pd.DataFrame:
    """λ of each layer under one setting, with a 95 % interval by bootstrap over its texts."""
    layers, mi = matrix(table)
    mi = mi[:, :texts]
    low, high = np.quantile(draws_of(mi, mi.shape[1], 500, t, shift, replace=True), [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {
            "setting": name,
            "value": value,
            "layer": layers,
            "coefficient": layer_coefficients(mi, t, shift),
            "low": low,
            "high": high,
        }
    )


def settings(
    study: Study, table: pd.DataFrame, fields: list[str], caps: list[int], dtypes: list[str], texts: int = 100
) -> pd.DataFrame:
    """λ of each layer with one setting changed at a time; ``table`` is the pool at the profile's setting."""
    t, shift = study.setting.t, study.setting.shift
    parts = [with_interval("t", f"{other:g}", table, other, shift, texts) for other in sorted({*TEMPERATURES, t})]
    parts += [with_interval("shift", other, table, t, other, texts) for other in SHIFTS]
    for name, values in (("field", fields), ("max_tokens", caps), ("dtype", dtypes)):
        parts += [
            with_interval(name, str(value), pool(study, texts, ("none",), **{name: value}), t, shift, texts)
            for value in values
        ]
    return pd.concat(parts, ignore_index=True)


def draw_sizes(sizes: pd.DataFrame) -> Figure:
    """λ of each layer against the number of texts, real pair and Gaussian null; bands: 95 % of the draws."""
    controls = list(sizes["control"].unique())
    figure, panels = plt.subplots(1, len(controls), figsize=(6.2 * len(controls), 4.6), sharey=True, squeeze=False)
    for axes, control in zip(panels[0], controls, strict=True):
        part = sizes[sizes["control"] == control]
        for colour, (layer, rows) in zip(
            sns.color_palette("viridis", part["layer"].nunique()), part.groupby("layer", sort=False), strict=True
        ):
            axes.plot(rows["texts"], rows["mean"], marker=".", color=colour, label=layer)
            axes.fill_between(rows["texts"], rows["low"], rows["high"], color=colour, alpha=0.1, lw=0)
        axes.set(
            xscale="log",
            xlabel="calibration texts",
            title={"none": "real pair", "gaussian": "null: independent Gaussians"}.get(control, control),
        )
    panels[0, 0].set_ylabel("coefficient λ")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center", title="layer")
    return figure


def draw_settings(found: pd.DataFrame) -> Figure:
    """λ against layer, a panel for each setting, with 95 % intervals over texts."""
    names = list(found["setting"].unique())
    figure, grid = plt.subplots(2, 3, figsize=(13, 7.5), sharex=True)
    for axes, name in zip(grid.flat, names, strict=False):
        part = found[found["setting"] == name]
        for k, (value, rows) in enumerate(part.groupby("value", sort=False)):
            arms = np.maximum([rows["coefficient"] - rows["low"], rows["high"] - rows["coefficient"]], 0)
            axes.errorbar(rows["layer"], rows["coefficient"], arms, marker="osD^v"[k % 5], capsize=2, lw=1.2, ms=5, color=sns.color_palette("colorblind")[k], label=value)  # fmt: skip
        axes.set(xlabel="layer", ylabel="coefficient λ")
        axes.tick_params(axis="x", rotation=60, labelbottom=True)
        axes.legend(
            title=name,
            fontsize=9,
            title_fontsize=11,
            ncol=3,
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            frameon=False,
        )
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    return figure


def verdict(sizes: pd.DataFrame, ranks: dict[str, np.ndarray], found: pd.DataFrame, size: int) -> tuple[str, dict]:
    """The answer in words, and the numbers it is made of."""
    blocks = sizes[sizes["layer"].str.isdigit() & (sizes["control"] == "none")]
    typical, one = blocks[blocks["texts"] == size], blocks[blocks["texts"] == sizes["texts"].min()]
    width, spread = (
        float((typical["high"] - typical["low"]).mean()),
        float(typical["mean"].max() - typical["mean"].min()),
    )
    part = found[found["layer"].str.isdigit()].groupby(["setting", "value"], sort=False)["coefficient"].mean()
    moved = {name: float(values.max() - values.min()) for name, values in part.groupby("setting", sort=False)}
    numbers = {
        "draw_size": size, "interval_width": width, "spread_of_blocks": spread, "mean_coefficient": float(typical["mean"].mean()),
        "mean_with_fewest": float(one["mean"].mean()), "fewest": int(sizes["texts"].min()),
        "rank_correlation": {c: quantiles(r) | {"pairs": len(r)} for c, r in ranks.items()},
        "moved_by": moved, "means": {f"{s}={v}": float(x) for (s, v), x in part.items()},
    }  # fmt: skip
    r, fewest, mean = numbers["rank_correlation"]["none"], numbers["mean_with_fewest"], numbers["mean_coefficient"]
    order = (
        f"the order of the blocks agrees between disjoint draws with a median rank correlation of {r['median']:.2f} (5 to 95 %: {r['low']:.2f} to {r['high']:.2f})"
        if r["pairs"] else "the order of the blocks cannot be compared between disjoint draws"
    )  # fmt: skip
    hidden = (
        "the number of texts is a hidden parameter of the shift"
        if abs(mean - fewest) > width
        else "no more than draws differ"
    )
    text = (
        f"Over draws of {counted(size, 'text')} a block's λ varies by {width:.4f} (95 %), the blocks' means differ by up to {spread:.4f}; {order}. "
        f"The mean λ moves from {fewest:.3f} with {counted(numbers['fewest'], 'text')} to {mean:.3f} with {size}: {hidden}. "
        f"Changed one at a time, the mean λ of the blocks moves by " + ", ".join(f"{v:.3f} ({k})" for k, v in moved.items()) + "."
    )  # fmt: skip
    return text, numbers


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Median, 5 and 95 %; NaN of nothing."""
    return dict(
        zip(
            ("median", "low", "high"),
            map(float, np.quantile(values, [0.5, 0.05, 0.95])) if len(values) else [np.nan] * 3,
            strict=True,
        )
    )
