"""Reads the checks in responses of the smol models: does "yes" or "no" fit the step that it is about?

step    the last equation of the line above a check, such as 48 / 28 = 2
check   "Wait, let me check: 2 * 28 = 56, no."
mend    what follows a "no": "It is 48 / 28 = 2."

A step is right where its equation holds. Models write at most two decimals in a check, so a step that is off by less
than half a hundredth, or by a thousandth of its result, counts as right.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from smol.writer import CURRENCY, EQUATION, NUMBER, TIMES, Equation, apply

CHECK = re.compile(rf"^Wait, let me check: {NUMBER} [-+*/] {NUMBER} = [^,]*, (yes|no)\.(.*)$")


class Check(NamedTuple):
    """step: whether the step above is right. yes: what the check says. mend: whether its mend is right; None: none."""

    step: bool
    yes: bool
    mend: bool | None


def holds(equation: Equation) -> bool:
    """Whether an equation is right, as far as two decimals tell."""
    value = apply(float(equation.left), equation.op, float(equation.right))
    return math.isclose(value, float(equation.result), rel_tol=1e-3, abs_tol=5e-3)


def last_equation(line: str) -> Equation | None:
    """The last simple equation of a line, right or wrong."""
    found = EQUATION.findall(CURRENCY.sub("", line))
    if not found:
        return None
    left, sign, right, result = found[-1]
    return Equation(left, TIMES.get(sign, sign), right, result)


def checks(response: str) -> list[Check]:
    """The checks of a response, in order. A check without a simple equation above it is passed over."""
    lines, found = response.splitlines(), []
    for above, line in itertools.pairwise(lines):
        told, step = CHECK.match(line), last_equation(above)
        if not told or step is None:
            continue
        mended = last_equation(told[4])
        same = mended is not None and (mended.left, mended.op, mended.right) == (step.left, step.op, step.right)
        mend = (same and holds(mended)) if mended else None
        found.append(Check(holds(step), told[3] == "yes", mend))
    return found


def table(records: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """One row for each method: what checks say of right and of wrong steps, and whether their mends are right.

    All are numbers of checks, but ``found``: the share of the wrong steps of which a check says no, percent, with a
    95 % interval by bootstrap over responses (found_low, found_high); NaN where no step is wrong.
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
    """Percent of the wrong steps of which a check says no, and its 95 % interval by bootstrap over responses."""
    wrong = np.array([sum(not check.step for check in response) for response in responses])
    found = np.array([sum(not check.step and not check.yes for check in response) for response in responses])
    if not wrong.sum():
        return math.nan, math.nan, math.nan
    drawn = np.random.default_rng(0).integers(len(responses), size=(draws, len(responses)))
    with np.errstate(invalid="ignore"):
        shares = 100 * found[drawn].sum(1) / wrong[drawn].sum(1)
    low, high = np.nanquantile(shares, [0.025, 0.975])
    return 100 * found.sum() / wrong.sum(), float(low), float(high)
