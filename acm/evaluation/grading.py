r"""Grades a response to a mathematics question twice: by math-verify, and by comparing normalized strings.

1. Of a response that thinks in ``<think>…</think>``, the part after the last ``</think>`` counts. Thinking that never closes is
   wrong, whatever it says (``thinking_closed`` of the record is False, so that such responses can be counted).
2. The answer is the content of the last complete ``\boxed{…}``. A box that is cut off is no answer. Without any box, the answer is
   what follows the last "the answer is" or "answer:"; never just the last number, which in a cut-off response is chance.
3. ``correct``: math-verify 0.9 says that answer and gold are equal, or they are the same text. A gold that is prose, which it takes
   for a product of letters, or that it cannot read is compared as in 4. It runs in a child process with limits of time and memory:
   answers such as ``2^{2^{2^{100}}}`` hang it, and its own time-outs work in a main thread only.
4. ``correct_string``: the boxed answer and the gold are equal after ``normalized``. Without a box it is false.

Units, degree and percent signs do not count in either grade, nor do subscripts of number bases and the order of what is listed
without parentheses (math-verify's rules); (1,2) as a point and as an open interval are alike. Where either side is a decimal number, six
decimal places count; more, if the gold is small.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acm.evaluation.benchmarks import BOX, last_box
from acm.evaluation.verifier import equal

if TYPE_CHECKING:  # the plan counts items without pandas
    import pandas as pd

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
LONGEST = 1000  # characters of an answer that math-verify is asked about; the longest gold has 993
ANSWER = re.compile(r"answer\s*(?:is|:|=)\s*:?\s*(.+?)\s*(?:\.\s|\.?$|\n)", re.IGNORECASE | re.MULTILINE)
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
SCIENTIFIC = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]|(?:\\times|\\cdot|×)10\^)\{?([+-]?\d+)\}?")
NAME = re.compile(  # of what an assignment defines: x, f^{-1}(x), \mathbf{y}', m_{\max}
    r"\s*(?:\\[A-Za-z]+\s*(?:\{\\?[A-Za-z]+\})?|[A-Za-z])\s*(?:_\w|_\{\s*\\?\w+\s*\}|\^\{?(?:-\d|T|\\prime)\}?|'|\s)*"
    r"(?:\([A-Za-z](?:,\s*[A-Za-z])*\))?\s*"
)
COUNTED = re.compile(  # "495 cookies", "\frac{40}{3} minutes"
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
    """``source``: box, sentence or none; ``thinking_closed``: None without thinking."""

    answer: str
    source: str
    correct: bool
    correct_string: bool
    thinking_closed: bool | None


def grade(response: str, gold: str) -> Grade:
    """Both grades of a response. UserError if math-verify cannot be run."""
    closed = after_thinking(response)[1]
    answer, source = extract(response)
    if source == "none":
        return Grade(answer, source, False, False, closed)
    return Grade(
        answer, source, verified(answer, gold), source == "box" and normalized(answer) == normalized(gold), closed
    )


def after_thinking(response: str) -> tuple[str, bool | None]:
    """The text that counts, and whether thinking closed (None: there was none)."""
    text = response.rpartition(THINK_CLOSE)[2]
    if THINK_OPEN in text:
        return text, False
    return text, True if THINK_CLOSE in response else None


def extract(response: str) -> tuple[str, str]:
    """Answer and where it stood: box, sentence, or none."""
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
    """math-verify's verdict, or the same text."""
    ours, theirs = readable(answer), readable(gold)
    if not ours or "".join(ours.split()) == "".join(theirs.split()):
        return bool(ours)
    if len(ours) > LONGEST or prose(theirs):  # to math-verify, words are products of letters
        return normalized(answer) == normalized(gold)
    ours, *_ = halves(ours, r"\\approx")
    return any(same(part, ours) for part in alternatives(theirs))


def alternatives(gold: str) -> list[str]:
    """A gold that says its value twice: exactly and about, or as an inequality and, after a colon, as an interval."""
    if found := re.fullmatch(r"(.*(?:[<>]|\\[lg]e).*):\s*((?:\\left\s*)?[(\[].*[)\]])", gold, re.DOTALL):
        return [found[1], found[2]]
    return halves(gold, r"\\approx")


def same(gold: str, answer: str) -> bool:
    """math-verify's verdict on what is right of the equals sign, if both name the same thing on its left or one leaves that out."""
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
    """math-verify's, or that of the strings where it cannot read the gold."""
    found = equal(gold, answer, places(gold))
    return normalized(gold) == normalized(answer) if found is None else found


def prose(text: str) -> bool:
    """Whether words stand outside of commands: "not a function", but not "x=1 or x=2", "18 \\text{ cents}" or "sin x"."""
    bare = re.sub(
        r"\\(?:begin|end)\s*\{[a-z*]+\}(\{[a-z]*\})?|\\(?:text|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+",
        " ",
        text,
    )
    words = r"(?!sin|cos|tan|log|and)[A-Za-z]{3}|(?<![^\s,.])(?:at|is|if|in|to|no|of|by)(?![^\s,.])|@"
    return bool(WORDS.fullmatch(plain_text(text)) or re.search(words, bare))


def halves(text: str, sign: str) -> list[str]:
    """``text`` cut at a sign that it has once, outside of braces; else all of it."""
    parts = re.split(sign, text)
    whole = len(parts) != 2 or any(part.count("{") != part.count("}") or not part.strip() for part in parts)
    return [text] if whole else [part.strip() for part in parts]


def assignment(text: str) -> tuple[str, str]:
    """Left and right of an assignment such as ``y=2x+3`` or ``f^{-1}(x)=…``; nothing and the text where it is none."""
    left, *right = halves(text, "=")
    single = right and not re.search(r"\\(?:neq?|leq?|geq?|leqslant|geqslant)(?![A-Za-z])|[<>]", text)
    return (left, right[0]) if single and NAME.fullmatch(left) else ("", text)


def places(gold: str) -> int:
    """Decimal places that math-verify compares: 6 as it does, more where the gold is small (else all tiny numbers are equal)."""
    value = number(gold)
    return 6 - min(0, math.floor(math.log10(abs(value)))) if value else 6


def number(text: str) -> float | None:
    """The value of a plain or scientific number, else None."""
    text = re.sub(r"\s|\$", "", text)
    if found := SCIENTIFIC.fullmatch(text):
        return float(f"{found[1]}e{found[2]}")
    return float(text) if NUMBER.fullmatch(text) else None


def readable(text: str) -> str:
    """What both grades start from, as LaTeX that math-verify reads: no $, no percent sign, words as text, 1e-5 as a power."""
    text = re.sub(r"\\\$|\$|(?<!\\)\\[()\[\]]|\\%|%|\\percent\b", "", text.strip())
    text = re.sub(r"\\[dt]frac", r"\\frac", text).replace("−", "-").strip().rstrip(".").strip()
    text = re.sub(r"(?<=\d)\.(?=/)", "", text)
    text = re.sub(
        r"\\(?:mathbf|boldsymbol|bm)\s*\{\s*([A-Za-z])\s*\}", r" \1", text
    )  # math-verify takes 3\mathbf{u}+… for 3 and a unit
    text = re.sub(r"\s*[,;]?\s*\\q?quad(?![A-Za-z])\s*", ", ", text).strip(
        ", "
    )  # else it multiplies what stands on both sides
    if found := SCIENTIFIC.fullmatch(re.sub(r"\s", "", text)):
        return rf"{found[1]} \times 10^{{{int(found[2])}}}"
    text = COUNTED.sub(r"\1\2", text)
    text = re.sub(r"^\\approx\s*", "", text)
    units = UNIT_COMMAND.findall(text)
    if len(units) > 1 or (
        units and ("=" in text or "/" in units[0])
    ):  # math-verify takes all from the first to the last for one
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
    """The string that ``correct_string`` compares: layout, units and ways of writing a fraction or a number removed."""
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
        whole, _, part = digits.partition(".")
        text = f"{sign}{whole.lstrip('0') or '0'}" + (f".{part.rstrip('0')}" if part.rstrip("0") else "")
    return text


def differences(records: pd.DataFrame) -> pd.DataFrame:
    """The records on which the two grades differ; tasks that have one grade only are left out."""
    if "correct_string" not in records:
        return records.iloc[:0]
    return records[records["correct_string"].notna() & (records["correct"] != records["correct_string"])]


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """Per model and task: n, both accuracies, and the fractions of responses cut off, without an answer, and still thinking."""
    marked = records[records["correct_string"].notna()].assign(
        no_answer=lambda r: r["answer_from"] == "none",
        still_thinking=lambda r: r["thinking_closed"].map(lambda closed: closed is False or closed == 0).astype(bool),
    )
    groups = marked.groupby(["model", "task"], sort=False)
    columns = ["correct", "correct_string", "truncated", "no_answer", "still_thinking"]
    return groups[columns].mean().astype(float).assign(n=groups.size())
