"""Explorer 1: λ of each layer for any t, shift, estimator and calibration draw, beside the null controls."""

from __future__ import annotations

import ipywidgets as widgets

from acm.calibration import defaults
from acm.calibration.registry import COEFFICIENT_CONTROLS, CONTROLS, SHIFTS
from acm.widgets import coefficients as state
from acm.widgets.parts import WIDE, Explorer, Picture, choice, column, labelled, offer, results_choice, several
from acm.widgets.sources import results_with


class CoefficientsExplorer(Explorer):
    """Sliders and lists for the mapping from mutual information to λ.

    profile, experiment: what it starts with. It shows the reader's own run where there is one, else the committed
    results.
    """

    name = "coefficients"

    def build(self, profile: str, experiment: str) -> None:
        self.sources = results_with("mutual_information.parquet")
        self.source = results_choice(list(self.sources), profile, experiment)
        self.model = choice("Fine-tuned model", [], "acm-model")
        self.estimator = choice("Estimator", [], "acm-estimator")
        self.drawn = choice("Calibration draw", [], "acm-draw")
        style = {"style": WIDE, "layout": {"width": "400px"}, "continuous_update": False}
        slider = widgets.FloatSlider(defaults.T, description="Temperature t", min=-3, max=3, step=0.1, **style)
        self.t = labelled(slider, "acm-t")
        self.shift = choice("Shift", list(SHIFTS), "acm-shift", defaults.SHIFT)
        nulls = [(control.label, name) for name, control in CONTROLS.items() if name != "none"]
        self.controls = several("Null controls", [], "acm-controls", rows=4)
        self.controls.options = nulls
        self.controls.value = [name for name in COEFFICIENT_CONTROLS if name != "none"]
        self.picture, self.summary = Picture(), labelled(widgets.HTML(), "acm-summary")
        left = column(self.source, self.model, self.estimator, self.drawn)
        self.show(widgets.HBox([left, column(self.t, self.shift, self.controls)]), self.picture, self.summary)
        self.load()
        self.watch(self.changed_source, self.source)
        self.watch(self.changed_estimator, self.estimator)
        self.watch(self.update, self.model, self.drawn, self.t, self.shift, self.controls)
        self.update()

    def load(self) -> None:
        """Take up the chosen results: their models, their estimators, their own t and shift."""
        self.tables = state.Tables(self.sources[self.source.value])
        setting = self.tables.results.experiment
        with self.quietly():
            offer(self.model, self.tables.models())
            offer(self.estimator, self.tables.estimators(), setting.estimator)
            self.t.min, self.t.max = min(-3, setting.t), max(3, setting.t)
            self.t.value, self.shift.value = setting.t, setting.shift
            offer(self.drawn, self.tables.draws(self.estimator.value))

    def changed_source(self) -> None:
        self.load()
        self.update()

    def changed_estimator(self) -> None:
        with self.quietly():
            offer(self.drawn, self.tables.draws(self.estimator.value), self.drawn.value)
        self.update()

    def update(self) -> None:
        """Draw what the controls say."""
        t, shift = self.t.value, self.shift.value
        mi = self.tables.mi(self.model.value, self.estimator.value, self.drawn.value)
        pool = self.tables.pool if len(self.drawn.options) > 1 else None
        text = state.summary(state.curves(mi, t, shift), mi)
        figure = state.draw(mi, t, shift, self.controls.value, state.band(pool, t, shift))
        self.picture.draw(figure, f"Coefficients of each layer. {text}")
        self.summary.value = f"<p>{text}</p>"
