r"""Writes worked solutions of any wordiness to the word problems of reasoning-gym's ``gsm_symbolic``.

line        a line of the generator's chain of thought, such as "There are 25/100 * 56 = 14 more purple cards."
equation    left (op) right = result, in a line; a line can have none, or several
decision    whether the writer does one thing at one line, such as checking it: a toss of a biased coin
offset      how readily a decision is taken, log-odds
verbosity   how wordy the writer is, log-odds; it is added to every decision
difficulty  of a line: 0.2, nothing to work out, to 0.95, a product of two long numbers
slip        a wrong result that is planted for a check to find

    log-odds of a decision = SLOPE · (difficulty of the line − MIDDLE) + offset + verbosity

So hard lines get more tokens. As verbosity grows, a writer first adds useful text (noting a step at all), then
redundant text (restating the result). Independent coins let a merge change length gradually. If one choice held for a
whole document, a merge would switch between two modes. ``abacus/problems.py`` does the same for its own problems.

A check means something: one in ten finds a planted slip, says "no" and mends it.

    >>> solve(["She has 17 + 25 = 42 shells."], "42", verbosity=-9, rng=random.Random(0))
    'The final answer is $\\boxed{42}$.'
    >>> print(solve(["She has 17 + 25 = 42 shells."], "42", verbosity=9, rng=random.Random(0)))
    Let's go step by step.
    She has 17 + 25 = 42 shells.
    Wait, let me check: 42 - 25 = 17, yes.
    So we have 42 here.
    That was the last step.
    The final answer is $\boxed{42}$.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import NamedTuple

SLOPE, MIDDLE = 5.0, 0.55
OFFSETS = {"note": 1.2, "words": -0.3, "check": -0.8, "phrase": -1.0, "restate": -1.8}
SLIPPED = 0.1  # share of the checks for which a slip is planted
SLIPS = (-100, -10, -2, -1, 1, 2, 10, 100)
OPENING, CLOSING = "Let's go step by step.", "That was the last step."
ANSWER = "The final answer is $\\boxed{{{}}}$."
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}
TIMES = {"×": "*", "x": "*"}
NUMBER = r"(\d+(?:\.\d+)?)"
EQUATION = re.compile(rf"(?<![\d.+*/×x-]){NUMBER} ?([-+*/×x]) ?{NUMBER}(?: ?[a-zA-Z]+)? ?= ?{NUMBER}(?![\d%])")
CURRENCY = re.compile(r"[$€£¥]|(?<=\d),(?=\d{3})")  # and commas between thousands
BULLET = re.compile(r"^(?:\d+[.)]|[-•*])\s+")
Decide = Callable[[str, float], bool]  # decision, difficulty → whether it is taken


class Equation(NamedTuple):
    """Left (op) right = result, each number as it is written."""

    left: str
    op: str
    right: str
    result: str

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right} = {self.result}"


def lines_of(chain: str) -> list[str]:
    """The lines of a chain of thought, without bullets, headings and the line of the answer."""
    lines = [BULLET.sub("", line.strip()) for line in chain.split("####")[0].splitlines()]
    return [line for line in lines if line and not line.endswith(":") and not line.lower().startswith("let's solve")]


def equations(line: str) -> list[Equation]:
    """The simple equations of a line that hold."""
    found = []
    for left, sign, right, result in EQUATION.findall(CURRENCY.sub("", line)):
        op = TIMES.get(sign, sign)
        value = apply(float(left), op, float(right))
        if not (op == "/" and float(right) == 0) and math.isclose(value, float(result), rel_tol=1e-9, abs_tol=1e-9):
            found.append(Equation(left, op, right, result))
    return found


def apply(left: float, op: str, right: float) -> float:
    """left (op) right. A division by 0 gives 0."""
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right if right else 0.0


def difficulty(line: str) -> float:
    """Of the hardest equation of a line."""
    return max((hardness(found) for found in equations(line)), default=0.2)


def hardness(equation: Equation) -> float:
    """From 0.35 (a sum of numbers below 20) to 0.95 (a product of two long numbers)."""
    small, large = sorted((float(equation.left), float(equation.right)))
    if equation.op in "+-":
        return 0.35 if large < 20 else 0.6 if large < 100 else 0.8
    if large < 10:
        return 0.45
    return 0.75 if small < 10 or small % 10 == 0 or large % 100 == 0 else 0.95


def solve(lines: list[str], gold: str, verbosity: float, rng: random.Random) -> str:
    """The solution as a writer of this verbosity (log-odds) would put it; ends with the boxed answer."""

    def decide(what: str, hardness: float = MIDDLE) -> bool:
        logit = SLOPE * (hardness - MIDDLE) + OFFSETS[what] + verbosity
        return rng.random() < 1 / (1 + math.exp(-logit))

    parts = [OPENING] if decide("phrase") else []
    for line in lines:
        if decide("note", difficulty(line)):
            parts += write_line(line, decide, rng)
    if decide("phrase"):
        parts.append(CLOSING)
    return "\n".join([*parts, ANSWER.format(gold)])


def write_line(line: str, decide: Decide, rng: random.Random) -> list[str]:
    """A line in words or as its equations alone, then its check, then its result once more."""
    found, hard, text = equations(line), difficulty(line), line.rstrip(".")
    if not found:
        return [f"{text}."]
    if not decide("words", hard):
        text = "; ".join(map(str, found))
    last = found[-1]
    if not decide("check", hard):
        parts = [f"{text}."]
    elif rng.random() >= SLIPPED:
        parts = [f"{text}.", f"{check(last)}, yes."]
    else:
        wrong = slip(last.result, rng)
        mistaken = last._replace(result=wrong)
        parts = [f"{planted(text, last, wrong)}.", f"{check(mistaken)}, no. It is {last}."]
    if decide("restate", hard):
        parts.append(f"So we have {last.result} here.")
    return parts


def planted(text: str, equation: Equation, wrong: str) -> str:
    """The text with a slip behind its last equals sign; the equation alone where the result is not written there."""
    found = re.fullmatch(rf"(.*= ?[$€£¥]?){re.escape(equation.result)}(?!\d)(.*)", text)
    return f"{found[1]}{wrong}{found[2]}" if found else str(equation._replace(result=wrong))


def check(equation: Equation) -> str:
    """The inverse operation on the result."""
    inverse = INVERSE[equation.op]
    back = short(apply(float(equation.result), inverse, float(equation.right)))
    return f"Wait, let me check: {equation.result} {inverse} {equation.right} = {back}"


def short(value: float) -> str:
    """A number without a fraction where it has none, else with at most two decimals."""
    return str(int(value)) if value == int(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def slip(result: str, rng: random.Random) -> str:
    """A plausible wrong result, not negative."""
    value = float(result)
    return short(rng.choice([value + s for s in SLIPS if value + s >= 0 and abs(s) <= max(2, value)]))


def fact(rng: random.Random) -> tuple[str, str]:
    """A question for a bare sum, difference, product or quotient of whole numbers, and its answer."""
    op = rng.choice("+-*/")
    if op in "+-":
        left, right = rng.randint(1, 10 ** rng.randint(1, 4)), rng.randint(1, 10 ** rng.randint(1, 3))
        if op == "-":
            left, right = max(left, right), min(left, right)
        result = left + right if op == "+" else left - right
    else:
        right, factor = rng.randint(2, 10 ** rng.randint(1, 2)), rng.randint(2, 10 ** rng.randint(1, 3))
        left, result = (right * factor, factor) if op == "/" else (factor, right * factor)
    return f"What is {left} {op} {right}?", f"{left} {op} {right} = {result}.\n{ANSWER.format(result)}"
