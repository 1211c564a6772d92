"""The answer to question 1 in words. The tables it is made of come from `estimate.py` and `sizes.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.calibration.registry import CONTROLS
from acm.questions.estimate import BLOCKS
from acm.questions.layers import rank_correlation
from acm.questions.sizes import TEXTS, UNPAIRED, paper_size
from acm.reporting.tables import cell

# Control → its name in a sentence. A control that is not here is called by its title.
KEEPS = {
    "shuffled": "shuffled tokens",
    "unrelated": "a model with permuted channels",
    "gaussian": "independent noise",
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
        *answer(plug, by_length["none"]),
        f"On texts as large as the paper's, shuffling the tokens lowers plug-in MI by {lowered(paired)}.",
        f"Share of the blocks' plug-in MI that each control keeps: {kept_in_words(kept)}.",
        f"Log length alone explains {100 * by_length['none']:.0f} % of the variance of MI over texts."
        if by_length["none"] >= 0
        else "How much of MI the length explains cannot be told.",
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
    more = ", and by more where two layers are more alike" if alike else ""
    return f"{shares.min():.0f} to {shares.max():.0f} %{more}"


def in_the_large(paired: pd.DataFrame) -> str:
    """What MI is made of at the paper's size, and how far λ is from noise's. paired: as above."""
    shares = "; ".join(
        f"{name} (outputs correlate at {row['correlation']:.3f}) {round(100 * row['pairing'] / row['real'])} % of MI, "
        f"λ {cell(row, 'from_noise', 3, signed=True)}"
        for name, row in paired.iterrows()
    )
    marginals, explained = 100 * (paired["marginals"] / paired["real"]).max(), 100 * paired["explained"]
    return (
        f"At the paper's width s1K's questions have {paper_size():,} entries (tokens times channels) on average. What "
        f"shuffled tokens take away at that size, and λ minus λ of noise on the same texts: {shares}. What "
        f"channels share at any token makes at most {marginals:.0f} % of MI at that size. Log length explains "
        f"{explained.min():.0f} to {explained.max():.0f} % of the variance of MI at that size."
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
        return "Whether λ follow what the two models share cannot be told, because the blocks are too few.", numbers
    rank, span = numbers["rank_correlation"], numbers["span"]
    return (
        f"At that size λ of {count} blocks differ by up to {span['coefficient']:.3f}, and with tokens shuffled by up "
        f"to {span['shuffled']:.3f}. The rank correlation of these λ with how alike the outputs of both models are is "
        f"{rank['median']:+.2f} in the median of {len(values)} draws of lengths ({rank['low']:+.2f} to "
        f"{rank['high']:+.2f}). The p of this rank correlation is below 5 % in {numbers['shown_in']} of these draws. "
        f"Of λ of the calibration texts, the same rank correlation is {own[0]:+.2f} (p = {own[1]:.2f})."
    ), numbers


def numbers_of(row: pd.Series) -> dict[str, float]:
    """A row as plain numbers by name."""
    return {str(name): float(value) for name, value in row.items()}


def of_estimator(shares: pd.DataFrame, name: str) -> pd.DataFrame:
    """The shares of one estimator, by control."""
    return shares.loc[[name]].droplevel("estimator")


def answer(plug: pd.DataFrame, by_length: float) -> list[str]:
    """What it measures, and why that is undecided where it is; each a sentence.

    plug: shares of the controls. by_length: R² of MI against log tokens.

    Two controls tell what is bias. Shuffled tokens keep the bias and what channels share at any token. Independent
    noise has the bias alone, with other values.
    """
    bias = plug.loc[[name for name in ("shuffled", "gaussian") if name in plug.index]]
    length = ", and with that bias the length of each text" if by_length > 0.5 else ""
    if (bias["low"] > 0.5).all():
        most = "almost only" if (bias["low"] > 0.9).all() else "mostly"
        return [f"Plug-in MI measures {most} its own bias on the calibration texts{length}."]
    if (bias["high"] < 0.5).all():
        return ["Plug-in MI owes less than half of its value to its own bias on the calibration texts."]
    reason = "The controls that tell the bias differ, or their intervals are too wide."
    return ["Plug-in MI is not shown to measure mostly its own bias on the calibration texts.", reason]


def kept_in_words(kept: dict[str, dict[str, float]]) -> str:
    """What each control keeps of the real pair's MI. kept: control → its row of :func:`kept_by_control`."""
    words = {name: KEEPS.get(name, control.title) for name, control in CONTROLS.items() if name in kept}
    return "; ".join(f"{told} {100 * kept[name]['share']:.1f} %" for name, told in words.items())


def null_in_words(printed: pd.DataFrame, layers: pd.DataFrame) -> str:
    """λ of noise beside λ of the paper, at the temperatures that the paper has. layers: as above."""
    inside = printed["paper"].between(printed["null_low"], printed["null_high"]).all()
    beyond = (printed["paper_span"] > printed["null_span"] + READING).all()
    unlike = np.ptp(layers.groupby("layer")["shuffled"].mean())
    means, spans = [], []
    for t, row in printed.iterrows():
        means.append(f"{cell(row, 'null', 3)} of noise and {row['paper']:.3f} of the paper for t = {t:g}")
        spans.append(f"{row['null_span']:.3f} of noise and {row['paper_span']:.3f} of the paper for t = {t:g}")
    level = (
        "So noise would explain the level of the paper's λ. A pair of layers that shares something would explain that "
        "level too. "
    )
    differ = "So the same noise would not explain how the paper's λ differ. "
    return (
        f"Mean λ of noise at the paper's width and lengths (with 95 % of draws of {TEXTS} texts), and of the paper's "
        f"blocks: {'; '.join(means)}. {level if inside else ''}The largest λ minus the smallest, of {BLOCKS} "
        f"layers of one noise on the same texts, and of the paper's blocks: {'; '.join(spans)}. "
        f"{differ if beyond else ''}Layers of unlike values with "
        f"nothing paired, the blocks here with tokens shuffled, differ by up to {unlike:.3f} at t = 0.7."
    )
