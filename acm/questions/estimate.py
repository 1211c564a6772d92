"""Question 1: what does plug-in MI measure?

Four tests: estimators on data of known MI; MI of the real pair of activations against that of its controls; MI against
the length of the text; and the same by size, up to the paper's own (`sizes.py`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from acm.calibration.coefficients import layer_coefficients
from acm.calibration.information import mutual_information
from acm.calibration.registry import CONTROLS, DISTANCE, ESTIMATORS, PER_TOKEN, SIMILARITY
from acm.paper import load
from acm.questions.sizes import TEXTS, WIDTH, question_tokens
from acm.reporting.messages import on_lengths
from acm.reporting.plotting import TEXT, sheet

QUESTION = "What does plug-in MI measure?"
BLOCKS = 28  # of the paper's 7B models
COLUMNS = 3  # panels side by side in the figure on data of known MI


def known_gaussians(
    tokens: tuple[int, ...] = (30, 100, 1000), channels: tuple[int, ...] = (8, 128), seeds: int = 3
) -> pd.DataFrame:
    """Estimates on pairs of Gaussians of correlation ρ, channel by channel, bf16.

    One row for each (estimator, tokens, channels, rho, seed). truth and estimate: nats per channel, the truth being
    −½ log(1 − ρ²); similarities and distances are as they are.
    """
    rows = []
    for n in tokens:
        for d in channels:
            for seed in range(seeds):
                x, noise = torch.randn((2, n, d), generator=torch.Generator().manual_seed(seed))
                for rho in (0.0, 0.5, 0.8, 0.95):
                    y = rho * x + (1 - rho**2) ** 0.5 * noise
                    truth = -0.5 * np.log1p(-(rho**2))
                    for name, estimator in ESTIMATORS.items():
                        value = mutual_information(x.bfloat16(), y.bfloat16(), name)
                        rows.append((name, n, d, rho, seed, truth, value / d if estimator.unit == PER_TOKEN else value))
    return pd.DataFrame(rows, columns=["estimator", "tokens", "channels", "rho", "seed", "truth", "estimate"])


def draw_known(table: pd.DataFrame) -> Figure:
    """Estimate against truth: a panel for each estimator, colours for tokens, line styles for channels."""
    names, most = list(table["estimator"].unique()), table["truth"].max()
    lines = math.ceil(len(names) / COLUMNS)
    figure, grid = plt.subplots(lines, COLUMNS, figsize=(4 * COLUMNS, 3.5 * lines), sharex=True, squeeze=False)
    panels = grid.flat[: len(names)]
    for axes, name in zip(panels, names, strict=True):
        unit = ESTIMATORS[name].unit
        of_mi = unit not in (SIMILARITY, DISTANCE)
        rows = table[table["estimator"] == name].astype({"tokens": str, "channels": str})
        if of_mi:
            axes.plot([0, most], [0, most], color="0.6", lw=1, zorder=0)
        sns.lineplot(
            rows, x="truth", y="estimate", hue="tokens", style="channels", markers=True, dashes=True,
            errorbar=("ci", 95), n_boot=200, seed=0, palette="colorblind", ax=axes, legend=axes is panels[0],
        )  # fmt: skip
        axes.set(
            title=name,
            xlabel="true MI, nats per channel",
            ylabel="estimate, nats" if of_mi else unit,
        )
    for axes in grid.flat[len(names) :]:  # what a whole row would have more
        axes.set_axis_off()
    for axes in panels[-COLUMNS:]:  # the lowest of each column
        axes.tick_params(axis="x", labelbottom=True)
        axes.xaxis.label.set_visible(True)
    legend_below(figure, panels[0])
    return figure


def legend_below(figure: Figure, axes: plt.Axes) -> None:
    """Move the legend of one panel below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    if own := axes.get_legend():
        own.remove()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels))


def explained_by_length(table: pd.DataFrame) -> pd.DataFrame:
    """R² of the straight line of MI against log tokens, mean over blocks: (estimator, finetuned) × control.

    NaN where a line explains nothing, or anything: constant MI, texts of one length, fewer than three texts.
    """
    blocks = table[table["layer"].str.isdigit()]
    found = blocks.groupby(["estimator", "finetuned", "layer", "control"], sort=False)[["tokens", "value"]].apply(
        explained_at
    )
    return found.groupby(["estimator", "finetuned", "control"], sort=False).mean().unstack("control")


def kept_by_control(table: pd.DataFrame) -> pd.DataFrame:
    """MI of each control as a share of the real pair's: one row for each (estimator, control).

    share: mean over blocks and texts. low, high: 95 % bootstrap interval over texts. real: mean of the real pair's MI,
    nats. Texts where one of the two is NaN count for neither.
    """
    blocks = table[table["layer"].str.isdigit()]
    wide = blocks.pivot_table(index=["estimator", "sample"], columns="control", values="value", sort=False)
    rows, rng = {}, np.random.default_rng(0)
    for name, each in wide.groupby("estimator", sort=False):
        for control in each.columns.drop("none"):
            real, kept = each[["none", control]].dropna().to_numpy().T
            if not len(real):
                rows[name, control] = dict.fromkeys(("real", "share", "low", "high"), np.nan)
                continue
            draws = rng.integers(len(real), size=(2000, len(real)))
            low, high = np.quantile(kept[draws].sum(1) / real[draws].sum(1), [0.025, 0.975])
            rows[name, control] = {"real": real.mean(), "share": kept.sum() / real.sum(), "low": low, "high": high}
    return pd.DataFrame(rows).T.rename_axis(["estimator", "control"])


def draw_lengths(table: pd.DataFrame, layer: str) -> Figure:
    """MI against tokens at one layer: a panel for each estimator, a colour and a marker for each control."""
    names, rows = list(table["estimator"].unique()), table[table["layer"] == layer]
    first = rows[rows["estimator"] == names[0]]
    explained = {c: explained_at(first[first["control"] == c]) for c in ("none", "gaussian")}
    message = on_lengths(names[0], explained["none"], explained["gaussian"])
    figure, panels = sheet(message, 1.7 + 3.1 * len(names), len(names), sharex=True)
    for axes, name in zip(panels, names, strict=True):
        for control, colour, marker in zip(CONTROLS.values(), sns.color_palette("colorblind"), "oXsPD^v", strict=False):
            part = rows[(rows["estimator"] == name) & (rows["control"] == control.name)]
            if len(part):
                style: dict[str, Any] = {"color": colour, "marker": marker, "s": 28, "alpha": 0.8}
                axes.scatter(part["tokens"], part["value"], label=control.title, **style)
        axes.set_title(name, loc="left", fontsize=TEXT)
        axes.set_ylabel(f"MI at layer {layer}, nats")
    panels[-1].set_xlabel("tokens of the text")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncol=2, fontsize=TEXT, frameon=False)
    return figure


def explained_at(rows: pd.DataFrame) -> float:
    """R² of the straight line of MI against log tokens; NaN as in :func:`explained_by_length`."""
    rows = rows.dropna(subset=["value"])
    if len(rows) < 3 or rows["value"].std() <= 1e-12 or rows["tokens"].nunique() == 1:
        return np.nan
    return float(np.corrcoef(np.log(rows["tokens"]), rows["value"])[0, 1] ** 2)


def paper_null(temperatures: tuple[float, ...] = (0.5, 0.7, 0.9), seed: int = 0) -> pd.DataFrame:
    """λ of independent Gaussian noise at the paper's width, beside the paper's λ of Figure 4: one row for each t.

    The texts are as long as s1K's questions (:func:`acm.questions.sizes.question_tokens`). null: mean over 200 draws of
    as many questions as the paper takes; 95 % of the draws lie from null_low to null_high. (λ rises with the number of
    texts.) null_span: largest less smallest λ of BLOCKS layers of noise on the texts of one draw. correlation: of MI
    with log tokens. paper, paper_span: mean and span over the paper's blocks; NaN for a t that the paper lacks.
    """
    tokens = question_tokens()
    generator = torch.Generator().manual_seed(seed)
    mi = np.array([noise_information(n, generator) for n in tokens])
    chosen = [np.random.default_rng([seed, i]).choice(len(mi), TEXTS, replace=False) for i in range(200)]
    layers = np.array([[noise_information(n, generator) for n in tokens[chosen[0]]] for _ in range(BLOCKS)])
    found = {}
    for t in temperatures:
        draws = [float(layer_coefficients(mi[None, c], t)[0]) for c in chosen]
        low, high = np.quantile(draws, [0.025, 0.975])
        correlation = np.corrcoef(np.log(tokens), mi)[0, 1]
        found[t] = {"null": np.mean(draws), "null_low": low, "null_high": high, "correlation": correlation}
        found[t]["null_span"] = np.ptp(layer_coefficients(layers, t))
    table = pd.DataFrame(found).T.rename_axis("t")
    return table.join(paper_blocks(load("figure4_coefficients_7b"))).assign(texts=TEXTS)


def noise_information(tokens: int, generator: torch.Generator) -> float:
    """Plug-in MI of two independent Gaussian arrays (tokens, WIDTH), nats."""
    x, y = torch.randn((2, tokens, WIDTH), generator=generator).bfloat16()
    return mutual_information(x, y)


def paper_blocks(printed: pd.DataFrame) -> pd.DataFrame:
    """Mean λ over the blocks of the paper's Figure 4, and largest less smallest, by t: columns paper, paper_span."""
    by_t = printed[printed["layer"].astype(str).str.isdigit()].groupby("t")["coefficient"]
    return pd.DataFrame({"paper": by_t.mean(), "paper_span": by_t.max() - by_t.min()})
