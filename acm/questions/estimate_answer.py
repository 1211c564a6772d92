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
    :func:`acm.questions.sizes.parts`, joined with that of ``coefficients``. layers: of ``order``, blocks alone.
    """
    plug, by_length = of_estimator(shares, "plug-in"), numbers_of(explained.loc[["plug-in"]].iloc[0])
    kept = {str(control): numbers_of(row) for control, row in plug.iterrows()}
    large = pd.DataFrame({name: table.loc[paper_size()] for name, table in sizes.items()}).T
    paired = large.drop(index=UNPAIRED, errors="ignore")
    told, ranks = order_in_words(layers)
    numbers = {
        "kept": kept,
        "beyond_shuffled": 1 - kept["shuffled"]["share"] if "shuffled" in kept else np.nan,
        "explained": by_length,
        "null": {str(t): numbers_of(row) for t, row in null.iterrows()},
        "by_size": {name: {f"{n}": numbers_of(row) for n, row in table.iterrows()} for name, table in sizes.items()},
        "order": ranks,
    }
    sentences = [
        f"On the texts of this profile {answer(plug, by_length['none'])}; at the paper's size {of_pairing(paired)} % "
        "of it come from which tokens belong together.",
        f"On the texts of this profile {kept_in_words(kept)} of the plug-in MI of the blocks.",
        f"Log length alone explains {100 * by_length['none']:.0f} % of its variance over texts."
        if by_length["none"] >= 0
        else "How length explains it cannot be told.",
        in_the_large(large, paired),
        told,
    ]
    if len(printed := null.dropna(subset=["paper"])):
        sentences.append(null_in_words(printed))
    return " ".join(sentences), numbers


def of_pairing(paired: pd.DataFrame) -> str:
    """Least and largest share of pairing, percent. paired: a row for each pair of layers on the same tokens."""
    shares = 100 * paired["pairing"] / paired["real"]
    return f"{shares.min():.0f} to {shares.max():.0f}"


def in_the_large(large: pd.DataFrame, paired: pd.DataFrame) -> str:
    """What MI is made of at the paper's size, and how far λ is from noise's.

    large: a row for each pair of layers. paired: those whose sides read the same tokens.
    """
    shares = ", ".join(f"{name}: {100 * row['pairing'] / row['real']:.0f} %" for name, row in large.iterrows())
    marginals = 100 * (large["marginals"] / large["real"]).max()
    explained = 100 * paired["explained"]
    below = ", ".join(f"{cell(row, 'from_noise', 3, signed=True)} ({name})" for name, row in paired.iterrows())
    return (
        f"A mean text of the paper has {paper_size():,} entries. There pairing makes {shares}. What channels share at "
        f"any token makes at most {marginals:.0f} %. The rest is bias, and log length still explains "
        f"{explained.min():.0f} to {explained.max():.0f} % of the variance. λ less that of noise on the same texts is "
        f"{below}."
    )


def order_in_words(layers: pd.DataFrame) -> tuple[str, dict[str, dict[str, float]]]:
    """Whether λ of the blocks follow what the two models share, at the paper's size and on the profile's own texts."""
    ranks = {}
    for name in ("coefficient", "own"):
        value, p = rank_correlation(layers[name], layers["pairing"])
        ranks[name] = {"value": value, "p": p, "low": layers[name].min(), "high": layers[name].max()}
    large, own = ranks["coefficient"], ranks["own"]
    return (
        f"Over the {len(layers)} blocks λ then go with the part that comes from pairing at a rank correlation of "
        f"{large['value']:+.2f} (p = {large['p']:.3f}; λ {large['low']:.3f} to {large['high']:.3f}), on the texts of "
        f"this profile at {own['value']:+.2f} (p = {own['p']:.3f}; λ {own['low']:.3f} to {own['high']:.3f})."
    ), ranks


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


def null_in_words(printed: pd.DataFrame) -> str:
    """λ of noise beside λ of the paper, at the temperatures that the paper has."""
    columns = printed[["null", "null_low", "null_high"]].to_numpy()
    drawn = ", ".join(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in columns)
    blocks, spans, noise = (in_turn(printed[column]) for column in ("paper", "paper_span", "null_span"))
    inside = printed["paper"].between(columns[:, 1], columns[:, 2]).all()
    beyond = (printed["paper_span"] > printed["null_span"] + READING).all()
    return (
        f"At the paper's width and lengths noise gives λ = {drawn} for t = {in_turn(printed.index, 'g')} (95 % of "
        f"draws of {TEXTS} texts); the paper's blocks have {blocks} in the mean"
        f"{', so noise would do for their level' if inside else ''}. From the smallest to the largest they span "
        f"{spans}, where {BLOCKS} layers of noise on the same texts span {noise}"
        f"{', so noise would not do for their differences' if beyond else ''}."
    )


def in_turn(values: Iterable[float], digits: str = ".3f") -> str:
    """Numbers with commas between."""
    return ", ".join(format(value, digits) for value in values)
