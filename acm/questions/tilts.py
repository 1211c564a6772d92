"""The first part of question 5: coefficients that differ from early to late layers, tried on the shipped family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from acm.questions.study import inside
from acm.questions.variants import Layers, line, parted
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.statistics import Sample, above_bar, above_frontier, average, bootstrap_p, describe, holm


def tried(layers: Layers) -> dict[str, Layers]:
    """What was tried on the first edition of the shipped family before the rule was fixed."""
    found = {f"early 1, late {x}": parted(layers, 1.0, x) for x in (0.2, 0.5, 0.7)}
    found |= {f"early {x}, late 1": parted(layers, x, 1.0) for x in (0.2, 0.5)}
    for mean in (0.3, 0.5):
        found |= {
            f"rising, mean {mean}": line(layers, mean - 0.2, mean + 0.2),
            f"falling, mean {mean}": line(layers, mean + 0.2, mean - 0.2),
        }
    return found | {
        "head 1, else 0.3": parted(layers, 0.3, 0.3, 1.0),
        "head 0, else 0.6": parted(layers, 0.6, 0.6, 0.0),
    }


def against_frontier(sample: Sample, names: list[str], frontier: list[str]) -> pd.DataFrame:
    """One row for each merge, with 95 % intervals over items.

    accuracy (percent), length (tokens). above, verdict: points above the frontier at equal length, and the verdict on
    them. bar: points above the bar. p: of these; p_adjusted: by Holm for all merges together, which are one family.
    bar_verdict: by p_adjusted.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        above, bar = (f(sample, name, frontier) for f in (above_frontier, above_bar))
        rows[name] = {
            "accuracy": 100 * average(sample, name)[0],
            "length": average(sample, name, "length")[0],
            **interval_columns("above", describe(inside(above))),
            "verdict": statistics.verdict(above),
            **interval_columns("bar", describe(inside(bar))),
            "p": bootstrap_p(inside(bar)),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    known = table["p"].notna()
    table.loc[known, "p_adjusted"] = holm(table.loc[known, "p"].to_numpy(float))
    table["bar_verdict"] = np.where(known, "no difference shown", "outside")
    shown = known & (table["p_adjusted"] < 0.05)
    table.loc[shown, "bar_verdict"] = np.where(table.loc[shown, "bar"] > 0, "above", "below")
    return table
