"""The answer to question 1 in words. The tables it is made of come from `estimate.py` and `sizes.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from acm.calibration.registry import CONTROLS
from acm.questions.estimate import BLOCKS
from acm.questions.layers import rank_correlation
from acm.questions.sizes import TEXTS, UNPAIRED, paper_size
from acm.reporting.tables import cell

# Control → how the verdict says what the control keeps. A control that is not here is called by its title.
KEEPS = {
    "shuffled": "shuffled tokens keep",
    "unrelated": "a model with permuted channels",
    "gaussian": "independent noise reaches",
}
READING = 0.004  # how far two λ read from the paper's Figure 4 may be off together


def verdict(
    shares: pd.DataFrame,
    explained: pd.DataFrame,
    null: pd.DataFrame,
    sizes: dict[str, pd.DataFrame],
    layers: pd.DataFrame,
) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers it is made of.

    The first three tables are of `estimate.py`. sizes: name of a pair of layers → its table of
    :func:`acm.questions.sizes.parts`, joined with that of ``coefficients``, and correlation. The pair UNPAIRED is left
    out. layers: of ``order``, blocks alone.
    """
    plug, by_length = of_estimator(shares, "plug-in"), numbers_of(explained.loc[["plug-in"]].iloc[0])
    kept = {str(control): numbers_of(row) for control, row in plug.iterrows()}
    paired = pd.DataFrame({name: table.loc[paper_size()] for name, table in sizes.items() if name != UNPAIRED}).T
    told, ranks = order_in_words(layers)
    numbers = {
        "kept": kept,
        "beyond_shuffled": 1 - kept["shuffled"]["share"] if "shuffled" in kept else np.nan,
        "explained": by_length,
        "null": {str(t): numbers_of(row) for t, row in null.iterrows()},
        "by_size": {name: numbers_of(row) for name, row in paired.iterrows()},
        "order": ranks,
    }
    sentences = [
        f"On the texts of this profile {answer(plug, by_length['none'])}; on texts as large as the paper's, shuffling "
        f"the tokens lowers it by {lowered(paired)}.",
        f"{capital(kept_in_words(kept))} of the plug-in MI of the blocks.",
        f"Log length alone explains {100 * by_length['none']:.0f} % of its variance over texts."
        if by_length["none"] >= 0
        else "How length explains it cannot be told.",
        in_the_large(paired),
        told,
    ]
    if len(printed := null.dropna(subset=["paper"])):
        sentences.append(null_in_words(printed, layers))
    return " ".join(sentences), numbers


def lowered(paired: pd.DataFrame) -> str:
    """By how much, at least and at most, shuffled tokens lower MI. paired: a row for each pair of layers."""
    shares = 100 * paired["pairing"] / paired["real"]
    alike = shares.rank().equals(paired["correlation"].rank())
    return f"{shares.min():.0f} to {shares.max():.0f} %{', by more where two layers are more alike' if alike else ''}"


def in_the_large(paired: pd.DataFrame) -> str:
    """What MI is made of at the paper's size, and how far λ is from noise's. paired: as above."""
    shares = "; ".join(
        f"{name} (outputs correlate at {row['correlation']:.3f}) {round(100 * row['pairing'] / row['real'])} %, "
        f"λ {cell(row, 'from_noise', 3, signed=True)}"
        for name, row in paired.iterrows()
    )
    marginals, explained = 100 * (paired["marginals"] / paired["real"]).max(), 100 * paired["explained"]
    return (
        f"At the paper's width s1K's questions have {paper_size():,} entries in the mean. At that size shuffled "
        f"tokens lower MI by the following shares, and λ less λ of noise on the same texts is: {shares}. What channels "
        f"share at any token makes at most {marginals:.0f} %. Log length still explains {explained.min():.0f} to "
        f"{explained.max():.0f} % of the variance."
    )


def order_in_words(layers: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """Whether λ of the blocks follow what the two models share, at the paper's size and on the profile's own texts.

    layers: of :func:`acm.questions.sizes.order`.
    """
    means, count = layers.groupby("layer", sort=False).mean(), layers.index.unique("layer").size
    ranks = [rank_correlation(part["coefficient"], part["correlation"]) for _, part in layers.groupby("draw")]
    own = rank_correlation(means["own"], means["correlation"])
    values, ps = np.array(ranks).T
    numbers: dict[str, Any] = {
        "rank_correlation": {"median": np.median(values), "low": values.min(), "high": values.max()},
        "shown_in": int((ps < 0.05).sum()), "draws": len(values), "own": {"value": own[0], "p": own[1]},
        "span": {column: float(np.ptp(means[column])) for column in ("coefficient", "shuffled", "own")},
    }  # fmt: skip
    if np.isnan([*values, own[0]]).any():
        return "Whether λ of the blocks follow what the two models share cannot be told: they are too few.", numbers
    rank, span = numbers["rank_correlation"], numbers["span"]
    return (
        f"Over {count} blocks λ of that size span {span['coefficient']:.3f}, with tokens shuffled "
        f"{span['shuffled']:.3f}. Their rank correlation with how alike the outputs of both models are is "
        f"{rank['median']:+.2f} (median of {len(values)} draws of lengths; {rank['low']:+.2f} to {rank['high']:+.2f}; "
        f"p is below 5 % in {numbers['shown_in']} of them). Of λ on the texts of this profile it is {own[0]:+.2f} (p = "
        f"{own[1]:.2f})."
    ), numbers


def numbers_of(row: pd.Series) -> dict[str, float]:
    """A row as plain numbers by name."""
    return {str(name): float(value) for name, value in row.items()}


def of_estimator(shares: pd.DataFrame, name: str) -> pd.DataFrame:
    """The shares of one estimator, by control."""
    return shares.loc[[name]].droplevel("estimator")


def answer(plug: pd.DataFrame, by_length: float) -> str:
    """What it measures, as half a sentence. plug: shares of the controls. by_length: R² of MI against log tokens.

    Two controls tell what is bias. Shuffled tokens keep the bias and what channels share at any token. Independent
    noise has the bias alone, with other values.
    """
    bias = plug.loc[[name for name in ("shuffled", "gaussian") if name in plug.index]]
    length = ", and with it the length of the text" if by_length > 0.5 else ""
    if (bias["low"] > 0.5).all():
        return f"it measures {'almost only' if (bias['low'] > 0.9).all() else 'mostly'} its own bias{length}"
    if (bias["high"] < 0.5).all():
        return "its bias does not account for most of it"
    reason = "the controls differ, or their intervals are too wide"
    return f"it is undecided whether its bias accounts for most of it ({reason})"


def kept_in_words(kept: dict[str, dict[str, float]]) -> str:
    """What each control keeps of the real pair's MI. kept: control → its row of :func:`kept_by_control`."""
    words = {name: KEEPS.get(name, control.title) for name, control in CONTROLS.items() if name in kept}
    return ", ".join(f"{told} {100 * kept[name]['share']:.1f} %" for name, told in words.items())


def null_in_words(printed: pd.DataFrame, layers: pd.DataFrame) -> str:
    """λ of noise beside λ of the paper, at the temperatures that the paper has. layers: as above."""
    columns = printed[["null", "null_low", "null_high"]].to_numpy()
    drawn = ", ".join(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in columns)
    blocks, spans, noise = (in_turn(printed[column]) for column in ("paper", "paper_span", "null_span"))
    inside = printed["paper"].between(columns[:, 1], columns[:, 2]).all()
    beyond = (printed["paper_span"] > printed["null_span"] + READING).all()
    unlike = np.ptp(layers.groupby("layer")["shuffled"].mean())
    return (
        f"At the paper's width and lengths noise gives λ = {drawn} for t = {in_turn(printed.index, 'g')} (95 % of "
        f"draws of {TEXTS} texts); the paper's blocks have {blocks} in the mean"
        f"{', so noise would do for their level, and so would a pair that shares something' if inside else ''}. From "
        f"the smallest to the largest they span {spans}, where {BLOCKS} layers of one noise on the same texts span "
        f"{noise}{', so the same noise would not do for their differences' if beyond else ''}. Layers of unlike values "
        f"with nothing paired, the blocks here with tokens shuffled, span {unlike:.3f} at t = 0.7."
    )


def in_turn(values: Iterable[float], digits: str = ".3f") -> str:
    """Numbers with commas between."""
    return ", ".join(format(value, digits) for value in values)


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]
