"""Question 1: what does plug-in MI measure?

Three tests: estimators on data of known MI; MI of the real pair of activations against that of its controls; MI against
the length of the text.
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
from acm.calibration.registry import CONTROLS, ESTIMATORS, PER_TOKEN, SIMILARITY
from acm.paper import load
from acm.paths import require_clone

QUESTION = "What does plug-in MI measure?"
CHARACTERS_PER_TOKEN = 3.2  # in s1K's questions; a rule of thumb
WIDTH = 3584  # channels of the paper's 7B models
TEXTS = 100  # how many texts the paper's calibration set has
COLUMNS = 3  # panels side by side in the figure on data of known MI
# Control → how the verdict says what the control keeps. A control that is not here is called by its title.
KEEPS = {
    "shuffled": "shuffled tokens keep",
    "unrelated": "a model with permuted channels",
    "gaussian": "independent noise reaches",
}


def known_gaussians(
    tokens: tuple[int, ...] = (30, 100, 1000), channels: tuple[int, ...] = (8, 128), seeds: int = 3
) -> pd.DataFrame:
    """Estimates on pairs of Gaussians of correlation ρ, channel by channel, bf16.

    One row for each (estimator, tokens, channels, rho, seed). truth and estimate: nats per channel, the truth being
    −½ log(1 − ρ²); similarities are as they are.
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
        similarity = ESTIMATORS[name].unit == SIMILARITY
        rows = table[table["estimator"] == name].astype({"tokens": str, "channels": str})
        if not similarity:
            axes.plot([0, most], [0, most], color="0.6", lw=1, zorder=0)
        sns.lineplot(
            rows, x="truth", y="estimate", hue="tokens", style="channels", markers=True, dashes=True,
            errorbar=("ci", 95), n_boot=200, seed=0, palette="colorblind", ax=axes, legend=axes is panels[0],
        )  # fmt: skip
        axes.set(
            title=name,
            xlabel="true MI, nats per channel",
            ylabel="similarity" if similarity else "estimate, nats",
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

    def r2(rows: pd.DataFrame) -> float:
        rows = rows.dropna(subset=["value"])
        if len(rows) < 3 or rows["value"].std() <= 1e-12 or rows["tokens"].nunique() == 1:
            return np.nan
        return float(np.corrcoef(np.log(rows["tokens"]), rows["value"])[0, 1] ** 2)

    found = blocks.groupby(["estimator", "finetuned", "layer", "control"], sort=False)[["tokens", "value"]].apply(r2)
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
    names, titles = list(table["estimator"].unique()), {name: control.title for name, control in CONTROLS.items()}
    figure, grid = plt.subplots(1, len(names), figsize=(13 / 3 * len(names), 4.3), squeeze=False)
    panels = grid.flat[:]
    for axes, name in zip(panels, names, strict=True):
        rows = table[(table["estimator"] == name) & (table["layer"] == layer)]
        sns.scatterplot(
            rows.assign(control=rows["control"].map(titles)), x="tokens", y="value", hue="control", style="control",
            hue_order=titles.values(), palette="colorblind", s=28, alpha=0.8, ax=axes, legend=axes is panels[0],
        )  # fmt: skip
        axes.set(title=name, xlabel="tokens of the text", ylabel=f"MI at layer {layer}, nats")
    legend_below(figure, panels[0])
    return figure


def paper_null(temperatures: tuple[float, ...] = (0.5, 0.7, 0.9), seed: int = 0) -> pd.DataFrame:
    """λ of independent Gaussian noise at the paper's width, beside the paper's mean λ of Figure 4: one row for each t.

    The texts are as long as s1K's questions: the characters of all 1,000, over CHARACTERS_PER_TOKEN.
    null: mean over 200 draws of as many questions as the paper takes; 95 % of the draws lie from null_low to null_high.
    (λ rises with the number of texts.) correlation: of MI with log tokens. paper: NaN for a t that the paper lacks.
    """
    require_clone("paper_null, which reads the paper's published numbers,")
    characters = load("s1k_question_characters")["characters"]
    tokens = (characters / CHARACTERS_PER_TOKEN).round().clip(lower=1).astype(int)
    generator, mi = torch.Generator().manual_seed(seed), []
    for n in tokens:
        x, y = torch.randn((2, n, WIDTH), generator=generator).bfloat16()
        mi.append(mutual_information(x, y))
    chosen = [np.random.default_rng([seed, i]).choice(len(mi), TEXTS, replace=False) for i in range(200)]
    found = {}
    for t in temperatures:
        draws = [float(layer_coefficients(np.array([mi])[:, c], t)[0]) for c in chosen]
        low, high = np.quantile(draws, [0.025, 0.975])
        correlation = np.corrcoef(np.log(tokens), mi)[0, 1]
        found[t] = {"null": np.mean(draws), "null_low": low, "null_high": high, "correlation": correlation}
    printed = load("figure4_coefficients_7b")
    return pd.DataFrame(found).T.rename_axis("t").assign(paper=paper_means(printed), texts=TEXTS)


def paper_means(printed: pd.DataFrame) -> pd.Series:
    """Mean λ over the blocks of the paper's Figure 4, by t."""
    blocks = printed[printed["layer"].astype(str).str.isdigit()]
    return blocks.groupby("t")["coefficient"].mean()


def verdict(
    shares: pd.DataFrame, explained: pd.DataFrame, null: pd.DataFrame, known: pd.DataFrame
) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers it is made of. The tables are those of the functions above."""
    plug, by_length = of_estimator(shares, "plug-in"), numbers_of(explained.loc[["plug-in"]].iloc[0])
    independent = known[(known["rho"] == 0) & (known["estimator"] == "plug-in")]
    noise = independent.groupby(["tokens", "channels"])["estimate"].mean().tolist()
    kept = {str(control): numbers_of(row) for control, row in plug.iterrows()}
    numbers = {
        "kept": kept,
        "beyond_shuffled": 1 - kept["shuffled"]["share"] if "shuffled" in kept else np.nan,
        "explained": by_length,
        "null": {str(t): numbers_of(row) for t, row in null.iterrows()},
        "noise_smallest_sample": noise[0],
        "noise_largest_sample": noise[-1],
    }
    sentences = [
        answer(plug, by_length["none"]),
        f"Of the plug-in MI of the blocks, {kept_in_words(kept)}.",
        f"Log length alone explains {100 * by_length['none']:.0f} % of its variance over texts."
        if by_length["none"] >= 0
        else "How length explains it cannot be told.",
    ]
    if "shuffle-corrected" in shares.index and "shuffled" in kept:
        left = numbers_of(of_estimator(shares, "shuffle-corrected").T["shuffled"])
        numbers["shuffle_corrected"] = left
        sentences.append(
            f"Less what is left with its entries shuffled, {left['real']:.3f} of {kept['shuffled']['real']:.2f} "
            f"nats remain, and of those shuffled tokens keep {100 * left['share']:.0f} % "
            f"[{100 * left['low']:.0f}, {100 * left['high']:.0f}]."
        )
    if len(printed := null.dropna(subset=["paper"])):
        sentences.append(null_in_words(printed))
    return " ".join(sentences), numbers


def numbers_of(row: pd.Series) -> dict[str, float]:
    """A row as plain numbers by name."""
    return {str(name): float(value) for name, value in row.items()}


def of_estimator(shares: pd.DataFrame, name: str) -> pd.DataFrame:
    """The shares of one estimator, by control."""
    return shares.loc[[name]].droplevel("estimator")


def answer(plug: pd.DataFrame, by_length: float) -> str:
    """The first sentence. plug: shares of the controls. by_length: R² of MI against log tokens.

    Two controls tell what is bias. Shuffled tokens keep the bias and what channels share at any token. Independent
    noise has the bias alone, with other values.
    """
    bias = plug.loc[[name for name in ("shuffled", "gaussian") if name in plug.index]]
    length = ", and with it the length of the text" if by_length > 0.5 else ""
    if (bias["low"] > 0.5).all():
        return f"It measures {'almost only' if (bias['low'] > 0.9).all() else 'mostly'} its own bias{length}."
    if (bias["high"] < 0.5).all():
        return "Its bias does not account for most of it here."
    reason = "the controls differ, or their intervals are too wide"
    return f"Whether its bias accounts for most of it here is undecided: {reason}."


def kept_in_words(kept: dict[str, dict[str, float]]) -> str:
    """What each control keeps of the real pair's MI. kept: control → its row of :func:`kept_by_control`."""
    words = {name: KEEPS.get(name, control.title) for name, control in CONTROLS.items() if name in kept}
    return ", ".join(f"{told} {100 * kept[name]['share']:.1f} %" for name, told in words.items())


def null_in_words(printed: pd.DataFrame) -> str:
    """λ of noise beside λ of the paper, at the temperatures that the paper has."""
    columns = printed[["null", "null_low", "null_high"]].to_numpy()
    drawn = ", ".join(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in columns)
    temperatures = ", ".join(f"{t:g}" for t in printed.index)
    blocks = ", ".join(f"{value:.3f}" for value in printed["paper"])
    return (
        f"At the paper's width noise gives λ = {drawn} for t = {temperatures} (95 % of draws of {TEXTS} texts); "
        f"the paper's blocks have {blocks}."
    )
