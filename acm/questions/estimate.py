"""Question 1: what does plug-in MI measure? Estimators against known truths, the pair against its controls, MI against length."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from acm.calibration.coefficients import layer_coefficients
from acm.calibration.information import ESTIMATORS, mutual_information
from acm.paper import load
from acm.paths import require_clone

QUESTION = "What does plug-in MI measure?"
SIMILARITIES = ("cka", "cosine")
CORRECTED = ("plug-in", "miller-madow", "shuffle-corrected")
CHARACTERS_PER_TOKEN, WIDTH, TEXTS = (
    3.2,
    3584,
    100,
)  # of s1K's questions, a rule of thumb; of the paper's 7B models; of its calibration sets
TITLES = {"none": "real pair", "shuffled": "tokens shuffled", "other-sample": "another text", "unrelated": "channels permuted",
          "gaussian": "independent Gaussians"}  # fmt: skip


def known_gaussians(
    tokens: tuple[int, ...] = (30, 100, 1000), channels: tuple[int, ...] = (8, 128), seeds: int = 3
) -> pd.DataFrame:
    """Estimates on pairs of Gaussians of correlation ρ, channel by channel, bf16: one row per (estimator, tokens, channels, rho, seed).

    truth and estimate: nats per channel, truth −½ log(1 − ρ²); similarities as they are.
    """
    rows = []
    for n in tokens:
        for d in channels:
            for seed in range(seeds):
                x, noise = torch.randn((2, n, d), generator=torch.Generator().manual_seed(seed))
                for rho in (0.0, 0.5, 0.8, 0.95):
                    y = rho * x + (1 - rho**2) ** 0.5 * noise
                    truth = -0.5 * np.log1p(-(rho**2))
                    for name in ESTIMATORS:
                        value = mutual_information(x.bfloat16(), y.bfloat16(), name)
                        rows.append((name, n, d, rho, seed, truth, value / d if name == "gaussian" else value))
    return pd.DataFrame(rows, columns=["estimator", "tokens", "channels", "rho", "seed", "truth", "estimate"])


def draw_known(table: pd.DataFrame) -> Figure:
    """Estimate against truth: a panel for each estimator, colours for tokens, line styles for channels."""
    names = list(ESTIMATORS)
    figure, grid = plt.subplots(3, 3, figsize=(12, 10.5), sharex=True)
    for axes, name in zip(grid.flat, names, strict=True):
        part = table[table["estimator"] == name].astype({"tokens": str, "channels": str})
        if name not in SIMILARITIES:
            axes.plot([0, table["truth"].max()], [0, table["truth"].max()], color="0.6", lw=1, zorder=0)
        sns.lineplot(part, x="truth", y="estimate", hue="tokens", style="channels", markers=True, dashes=True, errorbar=("ci", 95), n_boot=200,
                     seed=0, palette="colorblind", ax=axes, legend=axes is grid.flat[0])  # fmt: skip
        axes.set(
            title=name,
            xlabel="true MI, nats per channel",
            ylabel="similarity" if name in SIMILARITIES else "estimate, nats",
        )
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[0].get_legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels))
    return figure


def explained_by_length(table: pd.DataFrame) -> pd.DataFrame:
    """R² of the straight line of MI against log tokens, mean over blocks: (estimator, finetuned) × control."""
    blocks = table[table["layer"].str.isdigit()]

    def r2(part: pd.DataFrame) -> float:
        part = part.dropna(subset=["value"])
        told = part["value"].std() > 1e-12 and part["tokens"].nunique() > 1  # else a line explains nothing, or anything
        return (
            float(np.corrcoef(np.log(part["tokens"]), part["value"])[0, 1] ** 2) if told and len(part) > 2 else np.nan
        )

    found = blocks.groupby(["estimator", "finetuned", "layer", "control"], sort=False)[["tokens", "value"]].apply(r2)
    return found.groupby(["estimator", "finetuned", "control"], sort=False).mean().unstack("control")


def kept_by_control(table: pd.DataFrame) -> pd.DataFrame:
    """MI of each control as a share of the real pair's, mean over blocks and texts, with a 95 % bootstrap interval over texts.

    real: mean of the real pair's MI, nats. Texts where one of the two is NaN count for neither.
    """
    blocks = table[table["layer"].str.isdigit()]
    wide = blocks.pivot_table(index=["estimator", "sample"], columns="control", values="value", sort=False)
    rows, rng = {}, np.random.default_rng(0)
    for name, part in wide.groupby("estimator", sort=False):
        for control in part.columns.drop("none"):
            real, kept = part[["none", control]].dropna().to_numpy().T
            if not len(real):
                rows[name, control] = dict.fromkeys(("real", "share", "low", "high"), np.nan)
                continue
            draws = rng.integers(len(real), size=(2000, len(real)))
            low, high = np.quantile(kept[draws].sum(1) / real[draws].sum(1), [0.025, 0.975])
            rows[name, control] = {"real": real.mean(), "share": kept.sum() / real.sum(), "low": low, "high": high}
    return pd.DataFrame(rows).T.rename_axis(["estimator", "control"])


def draw_lengths(table: pd.DataFrame, layer: str) -> Figure:
    """MI against tokens at one layer, a panel for each estimator: every control is a colour."""
    figure, panels = plt.subplots(1, len(CORRECTED), figsize=(13, 4.3))
    for axes, name in zip(panels, CORRECTED, strict=True):
        part = table[(table["estimator"] == name) & (table["layer"] == layer)].assign(
            control=lambda r: r["control"].map(TITLES)
        )
        sns.scatterplot(part, x="tokens", y="value", hue="control", style="control", hue_order=TITLES.values(), palette="colorblind", s=28, alpha=0.8,
                        ax=axes, legend=axes is panels[0])  # fmt: skip
        axes.set(title=name, xlabel="tokens of the text", ylabel=f"MI at layer {layer}, nats")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].get_legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels))
    return figure


def paper_null(temperatures: tuple[float, ...] = (0.5, 0.7, 0.9), seed: int = 0) -> pd.DataFrame:
    """λ of independent Gaussian noise at the paper's width, texts as long as s1K's questions: one row per t, beside the paper's mean λ of Figure 4.

    null: mean over 200 draws of as many questions of s1K as the paper takes, 95 % of the draws from null_low to null_high; λ rises with the
    number of texts. Lengths: characters of all 1,000 over 3.2. correlation: of MI with log tokens.
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
        found[t] = {"null": np.mean(draws), **dict(zip(("null_low", "null_high"), np.quantile(draws, [0.025, 0.975]), strict=True)),
                    "correlation": np.corrcoef(np.log(tokens), mi)[0, 1]}  # fmt: skip
    printed = load("figure4_coefficients_7b")
    return pd.DataFrame(found).T.rename_axis("t").assign(paper=paper_means(printed), texts=TEXTS)


def paper_means(printed: pd.DataFrame) -> pd.Series:
    """Mean λ over the blocks of the paper's Figure 4, by t."""
    blocks = printed[printed["layer"].astype(str).str.isdigit()]
    return blocks.groupby("t")["coefficient"].mean()


def verdict(shares: pd.DataFrame, explained: pd.DataFrame, null: pd.DataFrame, known: pd.DataFrame) -> tuple[str, dict]:
    """The answer in words, and the numbers it is made of."""
    plug = shares.loc["plug-in"]
    model = explained.loc["plug-in"].iloc[0]
    noise = (
        known[(known["rho"] == 0) & (known["estimator"] == "plug-in")]
        .groupby(["tokens", "channels"])["estimate"]
        .mean()
    )
    numbers = {
        "kept": {c: {k: float(v) for k, v in plug.loc[c].items()} for c in plug.index},
        "beyond_shuffled": float(1 - plug["share"].get("shuffled", np.nan)),
        "explained": {c: float(v) for c, v in model.items()},
        "null": {str(t): {k: float(v) for k, v in row.items()} for t, row in null.iterrows()},
        "noise_smallest_sample": float(noise.iloc[0]), "noise_largest_sample": float(noise.iloc[-1]),
    }  # fmt: skip
    names = {
        "shuffled": "shuffled tokens keep",
        "other-sample": "another text",
        "unrelated": "a model with permuted channels",
        "gaussian": "independent noise reaches",
    }
    kept = ", ".join(f"{words} {100 * plug.loc[c, 'share']:.1f} %" for c, words in names.items() if c in plug.index)
    parts = [
        f"Of the plug-in MI of the blocks, {kept}.",
        f"Log length alone explains {100 * model['none']:.0f} % of its variance over texts." if model["none"] >= 0 else "How length explains it cannot be told.",
    ]  # fmt: skip
    if "shuffle-corrected" in shares.index and "shuffled" in plug.index:
        left = numbers["shuffle_corrected"] = {
            k: float(v) for k, v in shares.loc[("shuffle-corrected", "shuffled")].items()
        }
        parts.append(
            f"Less what is left with its entries shuffled, {left['real']:.3f} of {plug.loc['shuffled', 'real']:.2f} nats remain, "
            f"and of those shuffled tokens keep {100 * left['share']:.0f} % [{100 * left['low']:.0f}, {100 * left['high']:.0f}]."
        )
    if len(printed := null.dropna(subset=["paper"])):
        drawn = ", ".join(
            f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in printed[["null", "null_low", "null_high"]].to_numpy()
        )
        parts.append(
            f"At the paper's width noise gives λ = {drawn} for t = {', '.join(f'{t:g}' for t in printed.index)} (95 % of draws of {TEXTS} texts); "
            f"the paper's blocks have {', '.join(f'{v:.3f}' for v in printed['paper'])}."
        )
    # both: shuffled tokens keep the bias and what channels share at any token, independent noise has the bias alone, with other values
    bias = plug.loc[[c for c in ("shuffled", "gaussian") if c in plug.index]]
    length = ", and with it the length of the text" if model["none"] > 0.5 else ""
    if (bias["low"] > 0.5).all():
        head = f"It measures {'almost only' if (bias['low'] > 0.9).all() else 'mostly'} its own bias{length}."
    elif (bias["high"] < 0.5).all():
        head = "Its bias does not account for most of it here."
    else:
        head = "Whether its bias accounts for most of it here is undecided: the controls differ, or their intervals are too wide."
    return " ".join([head, *parts]), numbers
