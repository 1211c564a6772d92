"""Lists the explorers: for each, its widget class, its module, and the notebook that shows it.

A new explorer is one module and one row. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """An explorer.

    widget: its class. module: where that lives. notebook: its file in ``notebooks/explore``, without the ending.
    changed, seen: what its user changes and sees, for the table of the docs.
    """

    widget: str
    module: str
    notebook: str
    changed: str
    seen: str


EXPLORERS = {
    row.widget: row
    for row in (
        Row(
            "CoefficientsExplorer",
            "acm.widgets.coefficients_explorer",
            "1-coefficients",
            "t, shift, nulls, estimator, calibration draw",
            "λ of each layer beside the null controls, each with its band; how the MI of each text becomes λ",
        ),
        Row(
            "Playground",
            "acm.widgets.playground",
            "2-merge-playground",
            "λ of all layers, of each, or of attention and MLP; the method; the problem",
            "the answers of both models and their merge, token by token; the merge measured on 50 items",
        ),
        Row(
            "TradeOffExplorer",
            "acm.widgets.trade_off_explorer",
            "3-trade-off",
            "results (two side by side), methods, tasks, unit, token cap, what to compare with",
            "accuracy against length; both less another method's, on the same items; the responses behind a point",
        ),
        Row(
            "ResponseBrowser",
            "acm.widgets.response_browser",
            "4-responses",
            "question, models, filters, search, what to compare with",
            "the responses to a question, where they part from one another, reflections",
        ),
    )
}


def table() -> str:
    """The table of ``docs/explorers.md``."""
    lines = ["| notebook | what you change | what you see |", "|---|---|---|"]
    for row in EXPLORERS.values():
        link = f"[{row.notebook}](../notebooks/explore/{row.notebook}.ipynb)"
        lines.append(f"| {link} | {row.changed} | {row.seen} |")
    return "\n".join(lines) + "\n"
