"""Reads the checks in responses of the smol models: does "yes" or "no" fit the step that it is about?

equation    a chain of sums, differences, products and quotients without brackets, and its result: 3 + 4 * 2 = 11
step        the last equation of the line above a check, such as 48 / 28 = 2
check       "Wait, let me check: 2 * 28 = 56, no."
mend        what follows a "no": "It is 48 / 28 = 2."

An equation is right where it holds. A quotient may be rounded to the decimals that are written, to two at least.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from acm.reporting.statistics import mover
from smol.writer import CURRENCY, TIMES, apply

NUMBER = r"\d+(?:\.\d+)?"
EQUATION = re.compile(
    rf"(?<![\d.])({NUMBER}(?:\s*[-+*/×x]\s*{NUMBER})+)(?:\s*[a-zA-Z]+)?\s*=\s*({NUMBER})(?!\d|\.\d|\s*[-+*/×%])"
)
CHECK = re.compile(rf"^Wait, let me check: {NUMBER} [-+*/] {NUMBER} = [^,]*, (yes|no)\.(.*)$")
WRONG = ("cut by the cap", "a checked step is wrong", "another equation is wrong", "no equation is wrong")


class Equation(NamedTuple):
    """A chain, such as ``3+4*2``, and its result as it is written."""

    chain: str
    result: str


class Check(NamedTuple):
    """step: whether the step above is right. yes: what the check says. mend: whether its mend is right; None: none."""

    step: bool
    yes: bool
    mend: bool | None


def equations(line: str) -> list[Equation]:
    """The equations of a line, right or wrong. What stands behind a bracket or a further operator is passed over."""
    text = CURRENCY.sub("", line)
    found = []
    for match in EQUATION.finditer(text):
        before = text[: match.start()].rstrip()
        if not before.endswith((")", "+", "-", "*", "/", "×", "÷", "=")):
            chain = "".join(TIMES.get(sign, sign) for sign in match[1] if not sign.isspace())
            found.append(Equation(chain, match[2]))
    return found


def value(chain: str) -> float:
    """What a chain comes to, products and quotients first; NaN where something is divided by 0."""
    numbers, signs = [float(part) for part in re.split(r"[-+*/]", chain)], re.findall(r"[-+*/]", chain)
    for group in ("*/", "+-"):
        k = 0
        while k < len(signs):
            if signs[k] in group:
                left, right = numbers[k : k + 2]
                numbers[k : k + 2] = [math.nan if signs[k] == "/" and not right else apply(left, signs[k], right)]
                del signs[k]
            else:
                k += 1
    return numbers[0]


def holds(equation: Equation) -> bool:
    """Whether an equation is right; see above on quotients."""
    found, written = value(equation.chain), float(equation.result)
    decimals = len(equation.result.partition(".")[2])
    rounding = 0.5 * 10.0 ** -max(2, decimals) if "/" in equation.chain else 0.0
    return math.isclose(found, written, rel_tol=1e-9, abs_tol=rounding + 1e-9)


def checks(response: str) -> list[Check]:
    """The checks of a response, in order. A check without an equation above it is passed over."""
    lines, found = response.splitlines(), []
    for above, line in itertools.pairwise(lines):
        told, steps = CHECK.match(line), equations(above)
        if told and steps:
            mended = equations(told[2])
            mend = mended[-1].chain == steps[-1].chain and holds(mended[-1]) if mended else None
            found.append(Check(holds(steps[-1]), told[1] == "yes", mend))
    return found


def why_wrong(response: str, truncated: bool) -> str:
    """The first of :data:`WRONG` that is true of a wrong answer. Where no equation is wrong, the plan is."""
    if truncated:
        return WRONG[0]
    if any(not check.step for check in checks(response)):
        return WRONG[1]
    written = [equation for line in response.splitlines() if not CHECK.match(line) for equation in equations(line)]
    return WRONG[3] if all(map(holds, written)) else WRONG[2]


def table(records: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """One row for each method: what checks say of right and of wrong steps, and whether their mends are right.

    All are numbers of checks, but ``found``: the share of the wrong steps of which a check says no, percent, with a
    95 % interval (found_low, found_high) of :func:`found_share`.
    """
    rows = {}
    for method in methods:
        responses = [checks(text) for text in records.loc[records["method"] == method, "response"]]
        together = [check for response in responses for check in response]
        wrong = [check for check in together if not check.step]
        no = [check for check in together if not check.yes]
        found, low, high = found_share(responses)
        rows[method] = {
            "checks": len(together),
            "right steps, no": sum(check.step for check in no),
            "wrong steps": len(wrong),
            "wrong steps, no": sum(not check.yes for check in wrong),
            **{"found": found, "found_low": low, "found_high": high},
            "mends": sum(check.mend is not None for check in no),
            "right mends": sum(bool(check.mend) for check in no),
            "wrong steps mended": sum(bool(check.mend) for check in wrong),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def found_share(responses: list[list[Check]], draws: int = 2000) -> tuple[float, float, float]:
    """Percent of the wrong steps of which a check says no, with its 95 % interval; NaN where no step is wrong.

    The interval is by bootstrap over responses, or Wilson's over steps where that reaches further: the bootstrap has no
    width where all checks or none say no.
    """
    wrong = np.array([sum(not check.step for check in response) for response in responses])
    found = np.array([sum(not check.step and not check.yes for check in response) for response in responses])
    if not wrong.sum():
        return math.nan, math.nan, math.nan
    drawn = np.random.default_rng(0).integers(len(responses), size=(draws, len(responses)))
    with np.errstate(invalid="ignore"):
        shares = 100 * found[drawn].sum(1) / wrong[drawn].sum(1)
    low, high = np.nanquantile(shares, [0.025, 0.975])
    wilson = mover(np.array([found.sum() / wrong.sum()]), np.array([wrong.sum()]))
    return wilson["value"], min(float(low), wilson["low"]), max(float(high), wilson["high"])
