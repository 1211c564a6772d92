"""Computes what the coefficients explorer shows: λ of each layer, beside the null controls.

The reader chooses t, shift, estimator and calibration draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.calibration.coefficients import check_mapping, layer_coefficients, matrix, redundancy
from acm.calibration.registry import CONTROLS, SHIFTS
from acm.errors import UserError, unknown
from acm.reporting.results import Results

OWN = "the profile's texts"
DRAWS = 10  # how many random draws of calibration texts are offered
DRAWN = 100  # how many texts each of these draws has
SPREAD = 100  # how many draws with replacement a band is computed from
MARKERS = "Dos^v"  # one marker for each control, in turn
LINES = ("-", "--", "-.", ":", "--")


@dataclass
class Tables:
    """The MI tables of one experiment: the pipeline's own, and those of the questions where these were asked.

    The questions measure other estimators and more texts.
    """

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
        """A table of the questions; None where there is none of this experiment alone."""
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
        """Control → MI in nats, (layers, texts). UserError for a model, estimator or draw that no table has."""
        asked = (
            ("fine-tuned model", finetuned, self.models()),
            ("estimator", estimator, self.estimators()),
            ("calibration draw", draw, self.draws(estimator)),
        )
        for what, name, known in asked:
            if name not in known:
                raise unknown(what, name, known)
        table = self.own if draw == OWN or self.pool is None else self.pool
        table = table[(table["finetuned"] == finetuned) & (table["estimator"] == estimator)]
        found = {}
        for control in CONTROLS:
            if control in set(table["control"]):
                layers, values = matrix(table, control)
                found[control] = pd.DataFrame(values, layers)
        if draw != OWN:  # the same texts for every control
            size = min(wide.shape[1] for wide in found.values())
            rng = np.random.default_rng([int(draw.split()[-1]), size])
            chosen = rng.choice(size, min(DRAWN, size), replace=False)
            found = {control: wide.iloc[:, chosen] for control, wide in found.items()}
        return found


def curves(mi: dict[str, pd.DataFrame], t: float, shift: str) -> pd.DataFrame:
    """λ of each layer (rows) under each control (columns). UserError for a t or shift that the mapping cannot take."""
    check_mapping(t, shift)
    found = {name: pd.Series(layer_coefficients(wide.to_numpy(), t, shift), wide.index) for name, wide in mi.items()}
    return pd.DataFrame(found)


@dataclass
class Spread:
    """How far λ of a control goes as texts are drawn anew: the band that stands behind its curve.

    mi: MI in nats, (layers, texts). Each of the draws takes as many texts, with replacement: those of ``draws_of``.
    What does not depend on t is computed once, so that a band follows a slider.
    """

    mi: pd.DataFrame
    shifted: dict[str, np.ndarray] = field(default_factory=dict)

    def less_shift(self, shift: str) -> np.ndarray:
        """MI less the shift of its own draw, (draws · layers, texts)."""
        if shift not in self.shifted:
            values, n = self.mi.to_numpy(), self.mi.shape[1]
            rng = np.random.default_rng([0, n])
            drawn = (values[:, rng.choice(n, n)] for _ in range(SPREAD))
            self.shifted[shift] = np.concatenate([mi - SHIFTS[shift](mi) for mi in drawn])
        return self.shifted[shift]

    def band(self, t: float, shift: str) -> pd.DataFrame:
        """Low and high by layer: 95 % of the draws give a λ between them."""
        check_mapping(t, shift)
        found = layer_coefficients(self.less_shift(shift), t, "none").reshape(SPREAD, len(self.mi))
        low, high = np.quantile(found, [0.025, 0.975], axis=0)
        return pd.DataFrame({"low": low, "high": high}, index=self.mi.index)


def summary(found: pd.DataFrame, mi: dict[str, pd.DataFrame]) -> str:
    """One sentence: λ of the real pair, and how far it is from each null. found: from :func:`curves`."""
    real, texts = found["none"], mi["none"].shape[1]
    distances = {CONTROLS[name].title: (real - found[name]).abs().mean() for name in mi if name != "none"}
    apart = "; ".join(f"{title} {distance:.4f}" for title, distance in distances.items())
    return (
        f"λ of the real pair runs from {real.min():.3f} ({real.idxmin()}) to {real.max():.3f} ({real.idxmax()}), "
        f"mean {real.mean():.3f}, n = {texts} texts. "
        f"Mean distance to the λ of each null: {apart or 'no null measured'}."
    )


def draw(
    mi: dict[str, pd.DataFrame], t: float, shift: str, controls: tuple[str, ...], spread: pd.DataFrame | None = None
) -> Figure:
    """Left, λ against layer, the real pair beside the chosen nulls; right, the mapping from MI to λ.

    spread: the band of :meth:`Spread.band`. UserError where there is no MI of the real pair.
    """
    if "none" not in mi:
        raise UserError("the MI table has no rows of the real pair (control 'none').")
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = curves(mi, t, shift)
    colours = dict(zip(CONTROLS, sns.color_palette("colorblind", len(CONTROLS)), strict=True))
    for name, marker, line in zip(CONTROLS, cycle(MARKERS), cycle(LINES), strict=False):
        if name == "none" or (name in controls and name in found):
            look = {"marker": marker, "ls": line, "ms": 6, "color": colours[name]}
            left.plot(found.index, found[name], label=CONTROLS[name].label, **look)
    if spread is not None:
        label, look = f"95 % of {SPREAD} draws of the texts", {"color": colours["none"], "alpha": 0.2, "lw": 0}
        left.fill_between(spread.index, spread["low"], spread["high"], label=label, **look)
    left.set(xlabel="layer", ylabel="coefficient λ", title=f"λ of each layer (t = {t:g}, shift {shift})")
    left.legend(fontsize=9)
    draw_mapping(right, mi["none"], t, shift)
    return figure


def draw_mapping(axes: Axes, real: pd.DataFrame, t: float, shift: str) -> None:
    """1 − σ(t (MI − shift)) of each text, one colour a layer.

    A diamond stands at the layer's mean MI and at its λ, the mean over its texts.
    """
    values = real.to_numpy()
    weights, colours = 1 - redundancy(values, t, shift), sns.color_palette("viridis", len(real))
    for layer, mi, weight, colour in zip(real.index, values, weights, colours, strict=True):
        axes.plot(mi, weight, ".", ms=4, alpha=0.45, color=colour)
        axes.plot(mi.mean(), weight.mean(), "D", ms=7, color=colour, mec="black", label=layer)
    axes.set(
        xlabel="mutual information of a text, nats",
        ylabel="1 − σ(t · (MI − shift))",
        title="from MI to λ, real pair (diamond: λ of the layer)",
    )
    axes.legend(title="layer", fontsize=8, title_fontsize=9, ncols=2)
