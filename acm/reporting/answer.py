"""The answer that a report opens with: at most three sentences of one experiment, computed from its results.

They hold no interval: these stand in the tables below.
"""

from __future__ import annotations

import pandas as pd

from acm.escaping import code, markdown
from acm.reporting.dominance import dominance, pairs_of
from acm.reporting.messages import joined
from acm.reporting.results import Results
from acm.reporting.statistics import average, describe, share

BAR = "*the bar*: the most that one λ for all layers reaches in as many tokens or fewer"
CONTROLS = {"Null-": "one with λ of pure noise", "Uniform-": "one with the mean of its λ in every layer"}  # by prefix


def answer(results: Results, verdicts: pd.DataFrame, conclusive: bool) -> list[str]:
    """The sentences, as Markdown.

    verdicts: of :func:`acm.reporting.tables.verdicts_of`. conclusive: whether accuracy is high enough to say anything.
    """
    first = against_the_bar(verdicts) if results.pair else "Several models are merged here, so there is no verdict."
    second = against_the_controls(dominance(results)) if pairs_of(results) else ""
    if not conclusive:
        first, second = "No merge is right often enough to say anything of accuracy.", ""
    return [sentence for sentence in (first, second, in_numbers(results)) if sentence]


def against_the_bar(verdicts: pd.DataFrame) -> str:
    """Which ACM merges are above the bar; empty where none was made."""
    told = verdicts[verdicts["method"].str.startswith("ACM")].set_index("method")["verdict"]
    if told.empty:
        return ""
    if (told == "outside").all():
        return f"The lengths of the ACM merges lie beyond those of plain interpolation, so none is held against {BAR}."
    above = [markdown(method) for method in told.index[told == "above"]]
    if not above:
        return f"No ACM merge is shown to be above {BAR}."
    return f"{joined(above)} {'is' if len(above) == 1 else 'are'} shown to be above {BAR}."


def against_the_controls(table: pd.DataFrame) -> str:
    """Over which controls ACM is shown to be more often right; empty where there is none. table: of dominance."""
    rows = table[table["method"].str.startswith("ACM") & table["against"].str.startswith(tuple(CONTROLS))]
    if rows.empty:
        return ""
    better = rows[rows["finding"].str.startswith("more often right")]
    if better.empty:
        made = [words for name, words in CONTROLS.items() if rows["against"].str.startswith(name).any()]
        return f"On the same problems a merge by ACM is not shown to be more often right than {' or than '.join(made)}."
    pairs = [f"{markdown(row['method'])} than {markdown(row['against'])}" for _, row in better.iterrows()]
    return f"On the same problems it is shown to be more often right: {', '.join(pairs)}."


def in_numbers(results: Results) -> str:
    """Accuracy and mean length of the parents and of the first ACM merge."""
    merged = [m for m in results.experiment.methods if m.startswith("ACM")][:1]
    told: list[str] = []
    for method in [*reversed(results.experiment.parents), *merged]:
        right = share(results.sample, method)["value"]
        tokens = describe(average(results.sample, method, "length"), 1)["value"]
        verb = "" if told else " is right"
        told.append(f"{code(method)}{verb} on {right:.1f} % in {tokens:.0f} tokens")
    return f"{joined(told)}."
