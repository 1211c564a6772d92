"""Draws the figures of an experiment from its records and coefficients. No model is run here.

Each figure is a function and a row of :data:`FIGURES`. Notebook 6 draws every row that applies to an experiment, so a
new figure is one function and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from acm.reporting.coefficient_figures import coefficient_strips, coefficients_by_layer
from acm.reporting.plotting import save_figure
from acm.reporting.results import Results
from acm.reporting.sweep_figures import by_steps, scaling_sweep
from acm.reporting.thinking import closed_thinking, thinks
from acm.reporting.trade_off_figures import alike, trade_off


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn for each experiment.

    name: its stem among the saved files. title: what the notebook calls it. draw: the figure from the results.
    caption: its caption. applies: whether the results have what it shows.
    """

    name: str
    title: str
    draw: Callable[[Results], Figure]
    caption: Callable[[Results], str]
    applies: Callable[[Results], bool] = lambda results: True


def trade_off_caption(results: Results) -> str:
    """What the marks and the curve of the trade-off are."""
    if alike(results.sample, results.experiment.reference):
        return results.caption(
            "Accuracy of all models, means over tasks; their lengths are alike. A single λ is the same for all layers "
            "and task vectors. Equal models share a row."
        )
    return results.caption(
        "Accuracy against length reduction, means over tasks. "
        "Length reduction is 1 − length / length of the reference. The grey line is one λ for all layers, swept, with "
        "its interval. Marks that would overlap are one, at the place of the first name. The title's verdicts compare "
        "at equal mean length in tokens. So a point a little above the line need not be above the frontier."
    )


FIGURES = {
    drawing.name: drawing
    for drawing in (
        Drawing(
            "trade_off",
            "Accuracy against length reduction",
            lambda r: trade_off(
                r.sample, list(r.experiment.methods), list(r.experiment.parents), r.frontier, r.experiment.reference
            ),
            trade_off_caption,
        ),
        Drawing(
            "coefficients",
            "Coefficients against layer, with the null controls",
            lambda r: coefficients_by_layer(r.information, r.experiment.shift, r.experiment.t, r.experiment.estimator),
            lambda r: r.calibration_caption(
                f"Coefficients of each layer at t = {r.experiment.t:g}. The axis has all values that a coefficient can "
                "have."
            ),
        ),
        Drawing(
            "strips",
            "Coefficients as strips",
            lambda r: coefficient_strips(r.coefficients["none"]),
            lambda r: r.calibration_caption(
                f"Coefficients of each layer at t = {r.experiment.t:g}. The colours span all values that a coefficient "
                "can have."
            ),
        ),
        Drawing(
            "scaling",
            "The scaling sweep of task arithmetic",
            lambda r: scaling_sweep(r.sample, r.swept),
            lambda r: r.caption("Task arithmetic with its scaling swept."),
        ),
        Drawing(
            "steps",
            "By number of steps",
            lambda r: by_steps(r.records, r.selected, list(r.experiment.parents)),
            lambda r: r.caption("By number of steps in the problem."),
            lambda r: "steps" in r.records and r.records["steps"].nunique() > 1,  # the tasks' items tell it
        ),
        Drawing(
            "thinking",
            "Closed thinking against λ",
            closed_thinking,
            lambda r: r.caption("Responses whose thinking closes, and whose thinking never does, of all responses."),
            thinks,
        ),
    )
}


def draw_all(results: Results, folder: Path) -> Iterator[tuple[Drawing, Figure]]:
    """Draw and save every figure that applies to an experiment, in the order of :data:`FIGURES`.

    Yields each with its row. The figures are closed, so that a notebook shows them once, where it displays them.
    """
    for drawing in FIGURES.values():
        if drawing.applies(results):
            figure = drawing.draw(results)
            save_figure(figure, folder / drawing.name, drawing.caption(results), results.provenance)
            plt.close(figure)
            yield drawing, figure
