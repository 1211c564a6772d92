"""Words what the figure of a question shows, as its title: see :mod:`acm.reporting.messages`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from acm.reporting.intervals import Interval
from acm.reporting.messages import BEST, EVEN, SOME, joined


def on_leads(verdicts: Sequence[str]) -> str:
    """Over how many other kinds of λ ACM's leads, and behind how many it is. verdicts: on its leads."""
    above, below = verdicts.count("above"), verdicts.count("below")
    if not verdicts:
        return "No kind of λ could be compared with ACM's"
    if not above and not below:
        return f"ACM's λ is shown to lead none of {len(verdicts)} other kinds of λ"
    told = f"ACM's λ leads {above} of {len(verdicts)} other kinds of λ"
    return f"{told}, and trails {below}" if below else told


def on_lengths(estimator: str, pair: float, noise: float) -> str:
    """How much of an estimate the length of the text explains: R² for the real pair and for noise; NaN: not defined."""
    if isnan(pair):
        return f"The {estimator} MI of texts against their length"
    told = f"Text length explains {100 * pair:.1f} % of the variance of {estimator} MI"
    return told if isnan(noise) else f"{told}, and {100 * noise:.1f} % for noise"


def on_sizes(fewest: tuple[int, float], most: tuple[int, float], width: float, noise: float = 0.0) -> str:
    """How λ of the blocks follows the number of calibration texts. fewest, most: texts and mean λ.

    width: of the interval over draws with the most texts. noise: by how much λ of noise moves.
    """
    told = f"{fewest[1]:.2f} with {fewest[0]} to {most[1]:.2f} with {most[0]}"
    if abs(most[1] - fewest[1]) > width:
        return f"The number of texts moves λ{', of noise too' if abs(noise) > width else ''}: {told}"
    return f"The number of texts hardly moves λ: {told}"


def on_estimators(estimator: str, truth: float, size: float) -> str:
    """What an estimate follows: the share of its variance (percent) that the truth makes, and that the size makes."""
    name = f"{estimator[0].upper()}{estimator[1:]}"
    if truth > size:
        return f"{name} follows the truth ({truth:.0f} % of its variance) more than the size of the data ({size:.0f} %)"
    told = f"{name} follows the size of the data ({size:.0f} % of its variance)"
    return f"{told}, {'not' if truth < BEST else 'more than'} the truth ({truth:.0f} %)"


def on_chance(shares: Sequence[float]) -> str:
    """How much of plug-in MI (percent) is what chance alone gives, in texts of the paper's size, over pairs."""
    low, high = (f"{end:.0f}" for end in (min(shares), max(shares)))
    span = low if low == high else f"{low} to {high}"
    return f"In texts of the paper's size chance alone makes {span} % of plug-in MI"


def on_contrasts(verdicts: Mapping[str, str], items: int) -> str:
    """Whom ACM's λ lead and trail on fresh items. verdicts: name of the other → verdict on the lead."""
    above, below = ([name for name, found in verdicts.items() if found == side] for side in ("above", "below"))
    parts = [f"lead {joined(above)}"] * bool(above) + [f"trail {joined(below)}"] * bool(below)
    if parts:
        return f"On {items:,} fresh items ACM's λ {joined(parts)}"
    compared = [name for name, found in verdicts.items() if found != "outside"]
    if not compared:
        return f"On {items:,} fresh items ACM's λ lie outside the frontier"
    return f"On {items:,} fresh items ACM's λ are not shown to lead {joined(compared, 'or')}"


def on_settings(moved: Mapping[str, float]) -> str:
    """Which setting moves λ most, and which least. moved: setting in words → by how much the blocks' mean λ moves."""
    most, least = (end(moved, key=moved.__getitem__) for end in (max, min))
    if len(moved) == 1:
        return f"λ moves by {moved[most]:.2f} with {most}"
    return f"λ moves most with {most}: by {moved[most]:.2f}. It moves least with {least}: by {moved[least]:.2f}"


def on_shifts(apart: Mapping[str, float]) -> str:
    """How far λ of the pair and of noise are apart. apart: shift → mean difference over layers."""
    told = [f"{found:.2f} with shift {shift}" for shift, found in apart.items()]
    return f"On average λ of the pair and of noise differ by {joined(told)}"


def on_effects(largest: Mapping[str, tuple[Sequence[str], Sequence[str]]], span: float) -> str:
    """With which layers a measure changes most. largest: measure → those left out, and alone, that may be the largest.

    None: no layer is shown to change it. span: largest λ less the smallest.
    """
    parts = []
    for what, (out, alone) in largest.items():
        one, other = (joined(names, "or") if len(names) <= SOME else "several layers" for names in (out, alone))
        if one == other:
            parts.append(f"{what} changes most with {one}" if one else f"no layer is shown to change {what}")
        else:
            told = filter(None, (one and f"{one} left out", other and f"{other} alone"))
            parts.append(f"{what} changes most with {joined(list(told))}")
    text = "; ".join([*parts, f"λ {'hardly differs' if span <= EVEN else 'differs'}"])
    return f"{text[0].upper()}{text[1:]}"


def on_flat(lead: Interval, families: int) -> str:
    """The mean of ACM's λ everywhere against ACM's λ, above the bar. lead: of the mean, over fresh families."""
    where = "1 fresh family" if families == 1 else f"{families} fresh families"
    if isnan(lead["value"]):
        return f"On {where} the mean of ACM's λ everywhere cannot be compared with ACM's λ"
    if lead["low"] > 0:
        return f"On {where} the mean of ACM's λ everywhere leads ACM's λ"
    if lead["high"] < 0:
        return f"On {where} ACM's λ lead their mean everywhere"
    return f"On {where} no difference is shown between ACM's λ and their mean everywhere"


def on_rivals(above: Sequence[str], below: int, of: int, none: str, line: str) -> str:
    """Which merges lie above plain merging, and how many below it. above: names. none: such as "merge is shown"."""
    told = f"no {none} to beat {line}"
    if above:
        told = f"{joined(above) if len(above) <= SOME else len(above)} {'beats' if len(above) == 1 else 'beat'} {line}"
    fall = "falls" if below == 1 else "fall"
    return f"At equal norm {told}{f', and {below} of {of} {fall} below it' if below else f', of {of} tried'}"


def on_front(above: int, of: int, acm: str) -> str:
    """How many best points of a search lie above one λ. acm: verdict on ACM's λ; empty: not tried."""
    told = f"{'All' if 0 < above == of else above or 'None'} {'' if 0 < above == of else 'of '}{of} λ by layer"
    lie = "lies" if above == 1 else "lie"
    words = {
        "above": "too",
        "below": "below it",
        "no difference shown": "not told apart",
        "outside": "out of its range",
    }
    return f"{told} from a search {lie} above one λ{f'; those of ACM {words[acm]}' if acm else ''}"


def on_searches(verdicts: Mapping[str, str]) -> str:
    """In how many tests λ from a search beat one λ, and in which they do not. verdicts: search → its verdict."""
    rest = [name for name, verdict in verdicts.items() if verdict != "above"]
    told = f"λ from a search beat one λ in {len(verdicts) - len(rest)} of {len(verdicts)} tests"
    return f"{told}, not in {joined(rest)}" if 0 < len(rest) <= SOME else told


def on_back(lost: Mapping[str, Mapping[str, float]]) -> str:
    """Which layers' λ cannot be at the mean. lost: layer → points lost there, and their interval's ends.

    Named are those that lose most: all whose interval reaches that of the first.
    """
    first = max(lost, key=lambda layer: lost[layer]["lost"], default="")
    if not lost or lost[first]["lost_low"] <= 0:
        return "No λ is shown to lose by going back to the mean of all"
    most = [layer for layer, row in lost.items() if row["lost_high"] >= lost[first]["lost_low"]]
    layers, up = (f"layer {first} counts", "") if len(most) == 1 else (f"layers {joined(most)} count", "up to ")
    return f"The λ of {layers} most: the mean there costs {up}{lost[first]['lost']:.0f} points"


def on_nulls(shown: int, of: int) -> str:
    """How many null merges are shown to lose against the λ by layer that they are made from."""
    if not shown:
        return f"None of {of} null merges is shown to lose against λ that were found elsewhere"
    return f"{shown} of {of} null merges {'loses' if shown == 1 else 'lose'} against λ that were found elsewhere"


def on_fresh(optimism: float) -> str:
    """By how much the best points of a search are better on the items that chose them, points on average."""
    told = f"{abs(optimism):.1f} points {'lower' if optimism > 0 else 'higher'}"
    return f"On fresh items the best points are {told} than on the items that chose them, on average"


def on_worth(shown: Sequence[str], of: int) -> str:
    """Which scores of task vectors go with an outcome of a merge. shown: their names. of: how many were tested."""
    if not shown:
        return f"None of {of} tests shows a score that goes with its outcome"
    names = f": {joined(shown)}" if len(shown) <= SOME else ""
    return (
        f"{len(shown)} of {of} tests {'shows' if len(shown) == 1 else 'show'} a score that goes with its outcome{names}"
    )
