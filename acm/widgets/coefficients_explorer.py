"""Explorer 1: λ of each layer for any t, shift, estimator and calibration draw, beside the null controls."""

from __future__ import annotations

import ipywidgets as widgets

from acm.calibration import defaults
from acm.calibration.registry import COEFFICIENT_CONTROLS, CONTROLS, SHIFTS
from acm.widgets import coefficients as state
from acm.widgets.chart import Chart, Chips
from acm.widgets.coefficients_charts import families, layers_chart, mapping_chart
from acm.widgets.parts import Explorer, choice, labelled, offer, results_choice, row, side_by_side
from acm.widgets.sources import results_with

BANDS = f"Bands: λ of 95 % of {state.SPREAD} draws of the texts, with replacement. Press a layer to see its texts."


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
        self.t = labelled(widgets.FloatSlider(defaults.T, description="t", min=-3, max=3, step=0.1), "acm-t")
        self.shift = labelled(Chips(label="Shift", single=True), "acm-shift")
        self.shift.offer([{"name": name} for name in SHIFTS], [defaults.SHIFT])
        self.controls = labelled(Chips(label="Nulls"), "acm-controls")
        self.layers, self.mapping = (labelled(Chart(pressable=True), name) for name in ("acm-layers", "acm-mapping"))
        self.show(
            row(self.source, self.model, self.estimator, self.drawn),
            row(self.t, self.shift, self.controls),
            side_by_side((3, self.layers), (2, self.mapping)),
            widgets.HTML(f'<p class="acm-caption">{BANDS}</p>'),
        )
        self.load()
        self.watch(self.changed_source, self.source)
        self.watch(self.changed_estimator, self.estimator)
        self.watch(self.changed_texts, self.model, self.drawn)
        self.watch(self.update, self.t, self.shift, self.controls)
        self.watch_press(self.press, self.layers, self.mapping)
        self.changed_texts()

    def load(self) -> None:
        """Take up the chosen results: their models, their estimators, their own t and shift."""
        self.tables = state.Tables(self.sources[self.source.value])
        setting = self.tables.results.experiment
        with self.quietly():
            offer(self.model, self.tables.models())
            offer(self.estimator, self.tables.estimators(), setting.estimator)
            self.t.min, self.t.max = min(-3, setting.t), max(3, setting.t)
            self.t.value, self.shift.value = setting.t, [setting.shift]
            offer(self.drawn, self.tables.draws(self.estimator.value))

    def changed_source(self) -> None:
        self.load()
        self.changed_texts()

    def changed_estimator(self) -> None:
        with self.quietly():
            offer(self.drawn, self.tables.draws(self.estimator.value), self.drawn.value)
        self.changed_texts()

    def changed_texts(self) -> None:
        """Take up the MI of the chosen model, estimator and draw, and the nulls that it has."""
        self.mi = self.tables.mi(self.model.value, self.estimator.value, self.drawn.value)
        self.spreads = {name: state.Spread(wide) for name, wide in self.mi.items()}
        nulls = [name for name in CONTROLS if name != "none" and name in self.mi]
        kept = [name for name in (self.controls.value or COEFFICIENT_CONTROLS) if name in nulls]
        kinds = families()
        with self.quietly():
            self.controls.offer(
                [{"name": name, "label": CONTROLS[name].title, "family": kinds[name]} for name in nulls], kept
            )
        self.update()

    def update(self) -> None:
        """Draw what the controls say."""
        t, [shift] = self.t.value, self.shift.value
        self.layers.spec = layers_chart(self.mi, self.spreads, t, shift, self.controls.value)
        self.draw_mapping()

    def draw_mapping(self) -> None:
        """Draw how MI becomes λ, the chosen layer's texts apart; say how far the nulls are."""
        t, [shift] = self.t.value, self.shift.value
        self.mapping.spec = mapping_chart(self.mi["none"], t, shift, self.layers.chosen)
        self.say(state.summary(state.curves(self.mi, t, shift), self.mi))

    def press(self, layer: str) -> None:
        """A layer was pressed in one chart: ring it in both."""
        self.layers.chosen = self.mapping.chosen = layer
        self.draw_mapping()
