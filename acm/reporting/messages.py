"""Words what a figure shows, as its title: each function takes the numbers that the figure draws.

What is not shown, by intervals, is not said. Names are those of methods, parents and layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, isnan

from acm.reporting.intervals import Interval

ALIKE = 0.05  # coefficients that differ by less than this share of them, on average, are called nearly the same
EVEN = 0.1  # a range of λ, which lies between 0 and 1, as small as this is called nearly the same in every layer
SOME = 3  # more names than these are counted, not told
BEST = 2.0  # points of accuracy below the best, or percent of length, that still count as level


def joined(names: Sequence[str], word: str = "and") -> str:
    """Names as a phrase.

    >>> joined(["TA", "TIES", "DARE"])
    'TA, TIES and DARE'
    """
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def on_trade_off(verdicts: Mapping[str, str], what: str = "merge", line: str = "plain interpolation") -> str:
    """Which methods lie above the frontier's bar, and which below. verdicts: method → its verdict."""
    above, below = ([name for name, found in verdicts.items() if found == side] for side in ("above", "below"))
    if above:
        text = f"{joined(above)} {'beats' if len(above) == 1 else 'beat'} {line}"
    elif len(below) == len(verdicts) > 1:
        return f"Every {what} falls below {line}"
    else:
        text = f"No {what} is shown to beat {line}"
    return f"{text}, and {joined(below)} {'falls' if len(below) == 1 else 'fall'} below it" if below else text


def on_accuracy(one: float, acm: float, difference: Interval, names: tuple[str, str]) -> str:
    """One λ for all task vectors against an ACM merge. one, acm: accuracy, percent. difference: ACM's less the other's.

    names: of the two.
    """
    if difference["low"] > 0:
        return f"{names[1]} beats the best single λ: {acm:.0f} % right against {one:.0f} %"
    if difference["high"] < 0:
        return f"A {names[0]} beats the best ACM merge: {one:.0f} % right against {acm:.0f} %"
    return f"No difference is shown between a {names[0]} ({one:.0f} % right) and {names[1]} ({acm:.0f} %)"


def on_coefficients(share: float, most: str) -> str:
    """λ of the real pair beside λ of noise. share: mean |difference| / mean λ. most: the layer that differs most."""
    if share < ALIKE:
        return f"Noise gives nearly ACM's λ: {100 * share:.1f} % apart on average, most in {most}"
    return f"ACM's λ differ from those of noise by {100 * share:.1f} % on average, most in {most}"


def on_layers(low: float, high: float, whose: str = "λ", what: str = "layers") -> str:
    """How far λ ranges over the layers, or what else it has."""
    told = "hardly differs" if high - low <= EVEN else "differs"
    return f"{whose} {told} between {what}: {low:.2f} to {high:.2f} of a possible 0 to 1"


def on_scaling(accuracy: Mapping[float, float], length: Mapping[float, float]) -> str:
    """From which λ on accuracy (percent) stays level, and what length (tokens) does from there."""
    swept, level = sorted(accuracy), max(accuracy.values()) - BEST
    if len(swept) == 1:
        return f"One λ alone was run: {swept[0]:g}"
    lower = [i for i, λ in enumerate(swept) if accuracy[λ] < level]
    tail = swept[max(lower, default=-1) + 1 :]
    if len(tail) < 2:
        best = max(swept, key=accuracy.__getitem__)
        return f"Accuracy is highest at λ = {best:g}" + ("" if tail else ", and falls after it")
    change = 100 * (length[tail[-1]] / length[tail[0]] - 1)
    told = f"but length still {'grows' if change > 0 else 'falls'} by {abs(change):.0f} %"
    if abs(change) < BEST:
        told = f"and length within {BEST:g} %"
    return f"From λ = {tail[0]:g} on accuracy stays within {BEST:g} points of its best, {told}"


def on_steps(fewest: Mapping[str, float], most: Mapping[str, float], steps: tuple[int, int]) -> str:
    """Accuracy (percent) by method, of the problems with the fewest and with the most steps."""
    spread = [max(part.values()) - min(part.values()) for part in (fewest, most)]
    few, many = (f"{min(part.values()):.0f} to {max(part.values()):.0f} %" for part in (fewest, most))
    told = "tell the models apart" if spread[1] > spread[0] else "tell the models apart no better than short ones"
    return f"Long problems {told}: {many} right at {steps[1]} steps, {few} at {steps[0]}"


def on_thinking(merges: Interval, parents: Interval) -> str:
    """Whether merges leave their thinking open more often than their parents: of each the model that does it most.

    In percent of its responses.
    """
    if merges["value"] == parents["value"] == 0:
        return "Every response that thinks closes its thinking"
    told = f"up to {merges['value']:.0f} % of responses, parents in {parents['value']:.0f} %"
    if merges["low"] > parents["high"]:
        return f"Merges never close their thinking in {told}"
    return f"No merge is shown to leave thinking open more often than its parents: in {told}"


def on_replication(size: str, above: int, of: int) -> str:
    """How many of a replication's ACM merges lie above its plain interpolation. No intervals are published."""
    many = "none" if not above else "all" if above == of else f"{above}"
    verb = "lies" if above == 1 or not above else "lie"
    return f"{size}, as printed: {many} of a replication's {of} ACM merges {verb} above its plain interpolation"


def on_published(size: str, right: int, of: int) -> str:
    """How many of the paper's merges are as often right as R1."""
    if not right:
        return f"{size}, as printed: no merge of the paper is as often right as R1"
    verb = "is" if right == 1 else "are"
    return f"{size}, as printed: {right} of the paper's {of} merges {verb} as often right as R1"


def on_figure_2(scalings: tuple[float, float], longer: float, items: int) -> str:
    """What a larger scaling gives. longer: ratio of lengths. items: of 30, how many more are right."""
    told = f"{abs(items)} of 30 {'more' if items >= 0 else 'fewer'} right"
    return f"From λ = {scalings[0]:g} to {scalings[1]:g}: {longer:.1f} times as long, {told}"


def on_figure_5(shorter: float, accuracy: float) -> str:
    """ACM-TA against R1 at 1.5B. shorter: percent. accuracy: percent of R1's, signed."""
    told = "more" if accuracy > 0 else "less"
    return f"1.5B, as printed: ACM-TA is {shorter:.0f} % shorter than R1 and {abs(accuracy):.1f} % {told} often right"


def on_changes(model: str, kind: str, layer: str, change: float) -> str:
    """Where a fine-tuning changed the weights most. change: ‖δ‖ / ‖θ_0‖."""
    return f"{model} changed most in {kind}, layer {layer}: by {100 * change:.0f} % of the weights' norm"


def on_kin(cosines: Mapping[str, float]) -> str:
    """Which task vectors are nearest. cosines: pair → cosine."""
    nearest, *others = sorted(cosines, key=cosines.__getitem__, reverse=True)
    told = f"{nearest} are kin with cosine {cosines[nearest]:.2f}"
    return f"{told}, all others with {cosines[others[0]]:.2f} at most" if others else told


def on_conflicts(gap: float) -> str:
    """How far the sign conflict of the blocks is from what the correlation gives; NaN: there are no blocks."""
    if isnan(gap):
        return "How often two task vectors have opposite signs"
    off = ceil(100 * gap) / 100
    return f"In the blocks the share of opposite signs is within {off:g} of what the correlation alone gives"


def on_overlaps(fewest: float, most: float) -> str:
    """How many times as much as random ones singular directions overlap, over layers and pairs."""
    if f"{fewest:.1f}" == f"{most:.1f}":
        return f"Singular directions overlap {fewest:.1f} times as much as random ones"
    return f"Singular directions overlap {fewest:.1f} to {most:.1f} times as much as random ones"
