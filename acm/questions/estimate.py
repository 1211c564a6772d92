"""Question 1: what does plug-in MI measure?

Four tests: estimators on data of known MI; MI of the real pair of activations against that of its controls; MI against
the length of the text; and the same by size, up to the paper's own (`sizes.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from acm.calibration.coefficients import layer_coefficients
from acm.calibration.information import mutual_information
from acm.calibration.registry import CONTROLS, ESTIMATORS, PER_TOKEN
from acm.paper import load
from acm.questions.messages import on_estimators, on_lengths
from acm.questions.sizes import TEXTS, WIDTH, question_tokens
from acm.reporting.messages import joined
from acm.reporting.plotting import TEXT, sheet

QUESTION = "What does plug-in MI measure?"
BLOCKS = 28  # of the paper's 7B models
FOLLOWED = {"truth": ("the truth", "#0173B2"), "size": ("size of the data", "#DE8F05"), "rest": ("the rest", "0.6")}
ROOM = 8  # percent of a bar that hold a number
REPEATS = 0.99  # estimates of one layer that correlate as much draw the same picture


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


def followed(table: pd.DataFrame) -> pd.DataFrame:
    """What the estimates follow: shares of each estimator's variance over all pairs, a row for each estimator.

    table: of :func:`known_gaussians`. truth: share that the truth makes; size: that tokens and channels make; rest:
    both together, and the seeds. They add up to 1 where all combinations are equally often there.
    """
    rows = {}
    for name, part in table.groupby("estimator", sort=False):
        value = part["estimate"]
        means = [value.groupby([part[c] for c in by]).transform("mean") for by in (["rho"], ["tokens", "channels"])]
        truth, size = (float(mean.var() / value.var()) for mean in means)
        rows[name] = {"truth": truth, "size": size, "rest": 1 - truth - size}
    return pd.DataFrame(rows).T


def draw_known(table: pd.DataFrame) -> Figure:
    """What each estimate follows, as shares of its variance: a row for each estimator, the most truthful on top."""
    shares = 100 * followed(table).sort_values("truth")
    message = on_estimators("plug-in MI", *shares.loc["plug-in", ["truth", "size"]])
    figure, (axes,) = sheet(message, 1.2 + 0.42 * len(shares))
    left = np.zeros(len(shares))
    for (part, (text, colour)), side in zip(FOLLOWED.items(), ("left", "center", "right"), strict=True):
        axes.barh(range(len(shares)), shares[part], left=left, color=colour, lw=0)
        for height, (start, width) in enumerate(zip(left, shares[part], strict=True)):
            if width >= ROOM:
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": TEXT, "color": "black"}
                axes.text(start + width / 2, height, f"{width:.0f}", **style)
        left += shares[part].to_numpy()
        place = {"left": 1, "center": 50, "right": 99}[side]
        axes.text(place, len(shares) - 0.4, text, ha=side, va="bottom", fontsize=TEXT, color=colour, fontweight="bold")
    axes.set_yticks(range(len(shares)), shares.index)
    axes.set(xlabel="% of the variance of the estimates", xlim=(0, 100), ylim=(-0.6, len(shares) + 0.3))
    return figure


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
    """MI against tokens at one layer: a panel for each estimator, a colour and a marker for each control.

    Estimators of which one repeats the other share the panel of the first, on a common axis.
    """
    rows = table[table["layer"] == layer]
    alike = repeating(rows)
    names = list(alike)
    first = rows[rows["estimator"] == names[0]]
    explained = {c: explained_at(first[first["control"] == c]) for c in ("none", "gaussian")}
    message = on_lengths(names[0], explained["none"], explained["gaussian"])
    figure, panels = sheet(message, 1.7 + 3.1 * len(names), len(names), sharex=True, sharey=True)
    for axes, name in zip(panels, names, strict=True):
        for control, colour, marker in zip(CONTROLS.values(), sns.color_palette("colorblind"), "oXsPD^v", strict=False):
            part = rows[(rows["estimator"] == name) & (rows["control"] == control.name)]
            if len(part):
                style: dict[str, Any] = {"color": colour, "marker": marker, "s": 28, "alpha": 0.8}
                axes.scatter(part["tokens"], part["value"], label=control.title, **style)
        others = f" ({joined(alike[name])} moves alike)" if alike[name] else ""
        axes.set_title(f"{name}{others}", loc="left", fontsize=TEXT)
        axes.set_ylabel(f"MI at layer {layer}, nats")
    panels[-1].set_xlabel("tokens of the text")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncol=2, fontsize=TEXT, frameon=False)
    return figure


def repeating(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Estimator → others whose estimates correlate with its by :data:`REPEATS` or more. rows: of one layer."""
    names = list(rows["estimator"].unique())
    together = rows.pivot_table(index=["finetuned", "sample", "control"], columns="estimator", values="value").corr()
    found: dict[str, list[str]] = {}
    for name in names:
        like = next((one for one in found if together.loc[one, name] >= REPEATS), None)
        if like is None:
            found[name] = []
        else:
            found[like].append(name)
    return found


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
