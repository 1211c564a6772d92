"""What the coefficients explorer shows: λ of each layer at any t, shift, estimator and calibration draw, beside the null controls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

from acm.calibration.coefficients import check_mapping, draws_of, layer_coefficients, matrix
from acm.errors import UserError, unknown
from acm.reporting.results import Results

CONTROLS = {
    "none": "real pair", "shuffled": "null: tokens shuffled", "other-sample": "null: another text", "unrelated": "null: channels permuted",
    "gaussian": "null: independent Gaussians",
}  # fmt: skip
OWN = "the profile's texts"
DRAWS, DRAWN = 10, 100  # random draws that are offered, and texts in each
SPREAD = 100  # random draws behind a band


@dataclass
class Tables:
    """The MI tables of one experiment: the pipeline's own and, where the questions were asked, other estimators and more texts."""

    results: Results

    @cached_property
    def own(self) -> pd.DataFrame:
        """MI (nats) of the calibration texts, by finetuned, layer, sample, estimator and control."""
        own, more = self.results.information, self.beside("estimate/information.parquet")
        if more is not None:
            more = more[more["finetuned"].isin(own["finetuned"]) & ~more["estimator"].isin(own["estimator"])]
            own = pd.concat([own, more], ignore_index=True)
        return own

    @cached_property
    def pool(self) -> pd.DataFrame | None:
        """MI of many texts, from which draws are made; None where it was not measured."""
        return self.beside("stability/pool.parquet")

    def beside(self, name: str) -> pd.DataFrame | None:
        path = self.results.folder.parent / "questions" / name
        if not path.is_file():
            return None
        table = pd.read_parquet(path)
        known = set(self.results.information["finetuned"])  # the questions are asked to one experiment
        return table if set(table["finetuned"]) <= known and len(known) == 1 else None

    def estimators(self) -> list[str]:
        return list(self.own["estimator"].unique())

    def models(self) -> list[str]:
        return list(self.own["finetuned"].unique())

    def draws(self, estimator: str) -> list[str]:
        """Which calibration draws there are for an estimator."""
        if self.pool is None or estimator not in set(self.pool["estimator"]):
            return [OWN]
        return [OWN, *(f"random draw {k + 1}" for k in range(DRAWS))]

    def mi(self, finetuned: str, estimator: str, draw: str) -> dict[str, pd.DataFrame]:
        """Control → MI in nats, (layers, texts). UserError for a model, estimator or draw that the tables do not have."""
        for what, name, known in (("fine-tuned model", finetuned, self.models()), ("estimator", estimator, self.estimators()),
                                  ("calibration draw", draw, self.draws(estimator))):  # fmt: skip
            if name not in known:
                raise unknown(what, name, known)
        table = self.own if draw == OWN else self.pool
        table = table[(table["finetuned"] == finetuned) & (table["estimator"] == estimator)]
        found = {control: pd.DataFrame(values, layers) for control in CONTROLS if control in set(table["control"])
                 for layers, values in [matrix(table, control)]}  # fmt: skip
        if draw != OWN:  # the same texts for every control
            size = min(wide.shape[1] for wide in found.values())
            rng = np.random.default_rng([int(draw.split()[-1]), size])
            chosen = rng.choice(size, min(DRAWN, size), replace=False)
            found = {control: wide.iloc[:, chosen] for control, wide in found.items()}
        return found


def curves(mi: dict[str, pd.DataFrame], t: float, shift: str) -> pd.DataFrame:
    """λ of each layer (rows) under each control (columns). UserError for a t or shift that the mapping cannot take."""
    check_mapping(t, shift)
    return pd.DataFrame(
        {control: pd.Series(layer_coefficients(wide.to_numpy(), t, shift), wide.index) for control, wide in mi.items()}
    )


def band(pool: pd.DataFrame | None, t: float, shift: str) -> pd.DataFrame | None:
    """Of λ over random draws of texts of the real pair, by layer: low and high (95 % of the draws)."""
    if pool is None:
        return None
    layers, mi = matrix(pool)
    low, high = np.quantile(draws_of(mi, min(DRAWN, mi.shape[1]), SPREAD, t, shift), [0.025, 0.975], axis=0)
    return pd.DataFrame({"low": low, "high": high}, index=layers)


def summary(found: pd.DataFrame, mi: dict[str, pd.DataFrame]) -> str:
    """One sentence: λ of the real pair, and how far from each null."""
    real, texts = found["none"], mi["none"].shape[1]
    apart = "; ".join(
        f"{CONTROLS[c].removeprefix('null: ')} {(real - found[c]).abs().mean():.4f}" for c in found if c != "none"
    )
    return (f"λ of the real pair runs from {real.min():.3f} ({real.idxmin()}) to {real.max():.3f} ({real.idxmax()}), mean {real.mean():.3f}, n = {texts} texts. "
            f"Mean distance to the λ of each null: {apart or 'no null measured'}.")  # fmt: skip


def draw(
    mi: dict[str, pd.DataFrame], t: float, shift: str, controls: tuple[str, ...], spread: pd.DataFrame | None = None
) -> Figure:
    """Left, λ against layer, the real pair beside the chosen nulls; right, the mapping from MI to λ with the texts of the real pair on it."""
    if "none" not in mi:
        raise UserError("the MI table has no rows of the real pair (control 'none').")
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = curves(mi, t, shift)
    colours = dict(zip(CONTROLS, sns.color_palette("colorblind", 5), strict=True))
    for control, marker, line in zip(CONTROLS, "Dos^v", ("-", "--", "-.", ":", "--"), strict=True):
        if control == "none" or (control in controls and control in found):
            left.plot(
                found.index,
                found[control],
                marker=marker,
                ls=line,
                ms=6,
                color=colours[control],
                label=CONTROLS[control],
            )
    if spread is not None:
        left.fill_between(
            spread.index,
            spread["low"],
            spread["high"],
            color=colours["none"],
            alpha=0.2,
            lw=0,
            label=f"95 % of draws of {DRAWN} texts",
        )
    left.set(xlabel="layer", ylabel="coefficient λ", title=f"λ of each layer (t = {t:g}, shift {shift})")
    left.legend(fontsize=9)
    draw_mapping(right, mi["none"], t, shift)
    return figure


def draw_mapping(axes: Axes, real: pd.DataFrame, t: float, shift: str) -> None:
    """1 − σ(t (MI − shift)) of each text, one colour a layer; diamonds: the layer's mean MI and its λ, the mean over its texts."""
    maximum = {"layer": real.max(axis=1), "global": real.max(axis=None), "none": 0.0}[shift]
    weights = 1 - expit(t * (real.sub(maximum, axis=0) if shift == "layer" else real - maximum))
    for (layer, row), colour in zip(real.iterrows(), sns.color_palette("viridis", len(real)), strict=True):
        axes.plot(row, weights.loc[layer], ".", ms=4, alpha=0.45, color=colour)
        axes.plot(row.mean(), weights.loc[layer].mean(), "D", ms=7, color=colour, mec="black", label=layer)
    axes.set(
        xlabel="mutual information of a text, nats",
        ylabel="1 − σ(t · (MI − shift))",
        title="from MI to λ, real pair (diamond: λ of the layer)",
    )
    axes.legend(title="layer", fontsize=8, title_fontsize=9, ncols=2)
