r"""Grades a response to a mathematics question twice: by math-verify, and by comparing normalized strings.

1. **Thinking.** Of a response that thinks in ``<think>…</think>``, only the part after the last ``</think>`` counts.
   A response whose thinking never closes is wrong, whatever it says. Its record has ``thinking_closed`` False, so that
   such responses can be counted.
2. **Answer.** The answer is the content of the last complete ``\boxed{…}``. A box that is cut off is no answer. Without
   any box, the answer is what follows the last "the answer is" or "answer:". Otherwise there is no answer. The last
   number of a response is never taken for one: where the response was cut off, it would be there by chance.
3. ``correct``: math-verify 0.9 says that answer and gold (the reference answer) are equal, or the two are the same
   text. A gold that is prose, or that math-verify cannot read, is compared as in 4: math-verify would take prose for a
   product of letters. math-verify runs in a child process with limits of time and memory, because answers such as
   ``2^{2^{2^{100}}}`` hang it. Its own time-outs work in a main thread only.
4. ``correct_string``: the boxed answer and the gold are equal after ``normalized``. Without a box it is false.

Both grades ignore units and the signs of degrees and percent. They also ignore subscripts of number bases, and the
order of a list without parentheses; these are math-verify's rules. The point (1,2) and the open interval (1,2) are
equal. Where either side is a decimal number, six decimal places count, and more where the gold is small.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acm.evaluation.boxes import BOX, last_box
from acm.evaluation.thinking import after_thinking
from acm.evaluation.verifier import equal

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 1000  # characters of an answer that math-verify is asked about; the longest gold has 993
ANSWER = re.compile(r"answer\s*(?:is|:|=)\s*:?\s*(.+?)\s*(?:\.\s|\.?$|\n)", re.IGNORECASE | re.MULTILINE)
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
SCIENTIFIC = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]|(?:\\times|\\cdot|×)10\^)\{?([+-]?\d+)\}?")
NAME = re.compile(  # the name that an assignment defines: x, f^{-1}(x), \mathbf{y}', m_{\max}
    r"\s*(?:\\[A-Za-z]+\s*(?:\{\\?[A-Za-z]+\})?|[A-Za-z])\s*(?:_\w|_\{\s*\\?\w+\s*\}|\^\{?(?:-\d|T|\\prime)\}?|'|\s)*"
    r"(?:\([A-Za-z](?:,\s*[A-Za-z])*\))?\s*"
)
COUNTED = re.compile(  # a number with a noun: "495 cookies", "\frac{40}{3} minutes"
    r"^(-?\d[\d,]*(?:\.\d+)?)\s+[A-Za-z]{3,}$"
    r"|^(.*[\d}])\s+(?:minutes?|hours?|seconds?|meters?|feet|inches|miles?|pounds?|degrees?|dollars?|cents?)$"
)
UNIT_COMMAND = re.compile(  # \mathrm{~cm}^2, \mathrm{mi} / \mathrm{hr}
    r"(?<=[\d}\s])\\(?:text|mbox|mathrm)\s*\{[~\s]*(?!or\b|and\b)[A-Za-z.]+[~\s]*\}(?:\^\{?\d\}?)?"
    r"(?:\s*/\s*\\mathrm\s*\{[A-Za-z~\s]+\}(?:\^\{?\d\}?)?)*"
)
WORDS = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z][A-Za-z '’.-]*")


@dataclass(frozen=True)
class Grade:
    """Both grades of a response, and where its answer stood.

    source: box, sentence or none. thinking_closed: None for a response that does not think.
    """

    answer: str
    source: str
    correct: bool
    correct_string: bool
    thinking_closed: bool | None


def grade(response: str, gold: str) -> Grade:
    """Both grades of a response. UserError where math-verify cannot be run."""
    closed = after_thinking(response)[1]
    answer, source = extract(response)
    if source == "none":
        return Grade(answer, source, False, False, closed)
    same_string = source == "box" and normalized(answer) == normalized(gold)
    return Grade(answer, source, verified(answer, gold), same_string, closed)


def extract(response: str) -> tuple[str, str]:
    """The answer of a response, and where it stood: box, sentence, or none."""
    text, closed = after_thinking(response)
    if closed is False:
        return "", "none"
    if (boxed := last_box(text)) is not None:
        return boxed, "box"
    if re.search(BOX, text):
        return "", "none"
    said = [m.group(1) for m in ANSWER.finditer(text)]
    return (said[-1].strip("*$ "), "sentence") if said else ("", "none")


def verified(answer: str, gold: str) -> bool:
    """Whether math-verify takes answer and gold for equal, or both are the same text."""
    ours, theirs = readable(answer), readable(gold)
    if not ours or "".join(ours.split()) == "".join(theirs.split()):
        return bool(ours)
    if len(ours) > LONGEST or prose(theirs):  # to math-verify, words are products of letters
        return normalized(answer) == normalized(gold)
    ours, *_ = halves(ours, r"\\approx")
    return any(same(value, ours) for value in alternatives(theirs))


def alternatives(gold: str) -> list[str]:
    """The values that a gold states, any of which is right.

    Some golds say their value twice: exactly and about, or as an inequality and, after a colon, as an interval.
    """
    if found := re.fullmatch(r"(.*(?:[<>]|\\[lg]e).*):\s*((?:\\left\s*)?[(\[].*[)\]])", gold, re.DOTALL):
        return [found[1], found[2]]
    return halves(gold, r"\\approx")


def same(gold: str, answer: str) -> bool:
    """math-verify's verdict on what stands right of the equals sign.

    Both sides must name the same thing left of it, or one of them must leave that out.
    """
    (left, right), (other, ours) = assignment(gold), assignment(answer)
    if left and other and normalized(left) != normalized(other):
        return False
    if left or other:
        return verdict(right, ours)
    gold_halves, answer_halves = halves(gold, "="), halves(answer, "=")
    if len(gold_halves) == len(answer_halves) == 2 and normalized(gold_halves[0]) == normalized(answer_halves[0]):
        gold, answer = gold_halves[1], answer_halves[1]
    return verdict(gold, answer)


def verdict(gold: str, answer: str) -> bool:
    """math-verify's verdict. Where it cannot read the gold, the verdict of the strings."""
    found = equal(gold, answer, places(gold))
    return normalized(gold) == normalized(answer) if found is None else found


def prose(text: str) -> bool:
    """Whether words stand outside of commands.

    "not a function" is prose; "x=1 or x=2", "18 \\text{ cents}" and "sin x" are not.
    """
    bare = re.sub(
        r"\\(?:begin|end)\s*\{[a-z*]+\}(\{[a-z]*\})?|\\(?:text|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+",
        " ",
        text,
    )
    words = r"(?!sin|cos|tan|log|and)[A-Za-z]{3}|(?<![^\s,.])(?:at|is|if|in|to|no|of|by)(?![^\s,.])|@"
    return bool(WORDS.fullmatch(plain_text(text)) or re.search(words, bare))


def halves(text: str, sign: str) -> list[str]:
    """A text cut at a sign that it has once, outside of braces. Else the whole text."""
    sides = re.split(sign, text)
    whole = len(sides) != 2 or any(side.count("{") != side.count("}") or not side.strip() for side in sides)
    return [text] if whole else [side.strip() for side in sides]


def assignment(text: str) -> tuple[str, str]:
    """Left and right of an assignment such as ``y=2x+3`` or ``f^{-1}(x)=…``. Of another text, nothing and the text."""
    left, *right = halves(text, "=")
    single = right and not re.search(r"\\(?:neq?|leq?|geq?|leqslant|geqslant)(?![A-Za-z])|[<>]", text)
    return (left, right[0]) if single and NAME.fullmatch(left) else ("", text)


def places(gold: str) -> int:
    """The decimal places that count: math-verify's 6, and more where the gold is small.

    With 6 places all tiny numbers would be equal.
    """
    value = number(gold)
    return 6 - min(0, math.floor(math.log10(abs(value)))) if value else 6


def number(text: str) -> float | None:
    """The value of a plain or scientific number, else None."""
    text = re.sub(r"\s|\$", "", text)
    if found := SCIENTIFIC.fullmatch(text):
        return float(f"{found[1]}e{found[2]}")
    return float(text) if NUMBER.fullmatch(text) else None


def readable(text: str) -> str:
    """What both grades start from: LaTeX that math-verify reads.

    Without ``$`` and percent signs; words become text, and 1e-5 becomes a power.
    """
    text = re.sub(r"\\\$|\$|(?<!\\)\\[()\[\]]|\\%|%|\\percent\b", "", text.strip())
    text = re.sub(r"\\[dt]frac", r"\\frac", text).replace("−", "-").strip().rstrip(".").strip()
    text = re.sub(r"(?<=\d)\.(?=/)", "", text)
    # math-verify takes 3\mathbf{u}+… for 3 and a unit
    text = re.sub(r"\\(?:mathbf|boldsymbol|bm)\s*\{\s*([A-Za-z])\s*\}", r" \1", text)
    # math-verify multiplies what stands on both sides of a \quad
    text = re.sub(r"\s*[,;]?\s*\\q?quad(?![A-Za-z])\s*", ", ", text).strip(", ")
    if found := SCIENTIFIC.fullmatch(re.sub(r"\s", "", text)):
        return rf"{found[1]} \times 10^{{{int(found[2])}}}"
    text = COUNTED.sub(r"\1\2", text)
    text = re.sub(r"^\\approx\s*", "", text)
    units = UNIT_COMMAND.findall(text)
    # math-verify takes all from the first unit to the last for one unit
    if len(units) > 1 or (units and ("=" in text or "/" in units[0])):
        text = UNIT_COMMAND.sub("", text)
    return rf"\text{{{text}}}" if WORDS.fullmatch(text) else text


def plain_text(text: str) -> str:
    r"""``\text{no solution}`` without its command."""
    return re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}", r"\1", text).strip()


UNITS = re.compile(
    r"(?<=[\d})])(?:dollars?|cents?|degrees?|miles?|hours?|minutes?|seconds?|days?|inches|inch|feet|foot|meters?|units?|squareunits?"
    r"|points?|mph|km/h|km|cm|mm|min|ft|m|s|h)(?:\^\{?[23]\}?)?$"
)


def normalized(text: str) -> str:
    """The string that ``correct_string`` compares.

    Without layout and units; fractions and numbers are written in one way.
    """
    text = plain_text(readable(text))
    if WORDS.fullmatch(text):
        return "".join(text.lower().split()).strip(".")
    text = re.sub(r"(?<!\\)\\(?:left|right|[!,;: ]|q?quad)|~", "", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?|°", "", text)
    text = "".join(text.split()).replace("{,}", ",")
    text = re.sub(r"^[A-Za-z](?:=|\\in)", "", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\{(\d+)\}(\d)", r"\\frac{\1}{\2}", re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text))
    text = re.sub(r"\\sqrt(\d)", r"\\sqrt{\1}", text)
    text = UNITS.sub("", text)
    text = re.sub(r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text):
        sign, digits = ("-" if text[0] == "-" else ""), text.lstrip("+-")
        whole, _, decimals = digits.partition(".")
        decimals = decimals.rstrip("0")
        text = f"{sign}{whole.lstrip('0') or '0'}" + (f".{decimals}" if decimals else "")
    return text


def differences(records: pd.DataFrame) -> pd.DataFrame:
    """The records whose two grades differ. Tasks that have one grade only are left out."""
    if "correct_string" not in records:
        return records.iloc[:0]
    return records[records["correct_string"].notna() & (records["correct"] != records["correct_string"])]


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per model and task: n, and means over the responses, each a fraction.

    correct and correct_string are the two accuracies. truncated, no_answer and still_thinking are the shares of
    responses that the cap cut, that have no answer, and whose thinking never closes.
    """
    marked = records[records["correct_string"].notna()].assign(
        no_answer=lambda r: r["answer_from"] == "none",
        still_thinking=lambda r: r["thinking_closed"].map(lambda closed: closed is False or closed == 0).astype(bool),
    )
    groups = marked.groupby(["model", "task"], sort=False)
    columns = ["correct", "correct_string", "truncated", "no_answer", "still_thinking"]
    return groups[columns].mean().astype(float).assign(n=groups.size())
