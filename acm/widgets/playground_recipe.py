"""The controls by which the merge playground's recipe is chosen: method, parameters, and a λ slider for each layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import ipywidgets as widgets

from acm.calibration.registry import CONTROLS
from acm.merging.registry import METHODS
from acm.widgets import playground as state
from acm.widgets.parts import WIDE, Explorer, Handler, choice, labelled

SLIDER = {"width": "410px", "margin": "0 2px"}


def slider(label: str, name: str, value: float, low: float = 0, high: float = 1.2) -> widgets.FloatSlider:
    """A labelled slider with three decimals. It takes whole steps from a value that is an int."""
    style = {"style": {"description_width": "110px"}, "layout": SLIDER, "readout_format": ".3f"}
    step = 1 if isinstance(value, int) else 0.01
    found = widgets.FloatSlider(
        value, min=low, max=high, step=step, description=label, continuous_update=False, **style
    )
    return labelled(found, name)


class RecipeControls(widgets.VBox):
    """What the playground merges, as controls.

    explorer: to which they belong. layers: those that have a λ. presets: control of the MI table → its λ of each layer;
    a button for each takes them over. changed, undo: called when the choice changes, and by the button that undoes.
    """

    def __init__(
        self,
        explorer: Explorer,
        layers: list[str],
        presets: Mapping[str, Mapping[str, float]],
        changed: Handler,
        undo: Handler,
    ) -> None:
        self.explorer, self.presets, self.changed = explorer, presets, changed
        titles = {METHODS[method].title: method for method in state.offered_methods()}
        self.method = choice("Method", titles, "acm-method", "task_arithmetic", width="410px")
        self.parameters: dict[str, widgets.Widget] = {}
        self.parameter_box = labelled(widgets.VBox(), "acm-parameters")
        style = {"style": WIDE, "layout": {"width": "260px"}}
        self.seed = labelled(widgets.IntText(0, description="Seed of masks", **style), "acm-seed")
        self.every = slider("λ of all layers", "acm-all", 0.5)
        self.layers = {
            layer: slider(f"λ of {'layer ' * layer.isdigit()}{layer}", f"acm-layer-{layer}", 0.5) for layer in layers
        }
        self.undo_button = explorer.button("Undo", "acm-undo", undo, "back to the setting before", disabled=True)
        self.preset_buttons = {control: self.preset_button(control) for control in presets}
        self.make_parameters()
        explorer.watch(self.changed_method, self.method)
        explorer.watch(self.changed_all, self.every)
        explorer.watch(changed, self.seed, *self.layers.values())
        below = widgets.HBox([*self.preset_buttons.values(), self.undo_button], layout={"flex_flow": "row wrap"})
        parts = [self.method, self.parameter_box, self.every, *self.layers.values(), below]
        super().__init__(parts, layout={"width": "430px", "flex": "none"})

    def preset_button(self, control: str) -> widgets.Button:
        """The button that sets every λ to that of a control."""
        label = "ACM's λ" if control == "none" else f"λ: {CONTROLS[control].title}"
        return self.explorer.button(label, f"acm-preset-{control}", functools.partial(self.take_preset, control))

    def make_parameters(self) -> None:
        """Make controls for the chosen method's parameters; the seed is for methods that draw at random."""
        method = METHODS[self.method.value]
        defaults = state.parameters_of(method.name)
        self.parameters = {key: parameter(key, value, method.parameters[key].slider) for key, value in defaults.items()}
        self.explorer.watch(self.changed, *self.parameters.values())
        self.parameter_box.children = (*self.parameters.values(), *([self.seed] if method.random else []))

    def read(self) -> state.Choice:
        """The choice that the controls show."""
        coefficients = {layer: control.value for layer, control in self.layers.items()}
        parameters = {key: control.value for key, control in self.parameters.items()}
        return state.Choice(self.method.value, coefficients, parameters, self.seed.value)

    def put(self, chosen: state.Choice) -> None:
        """Set the controls to a choice; no handler is called."""
        with self.explorer.quietly():
            self.method.value, self.seed.value = chosen.method, chosen.seed
            self.make_parameters()
            for controls, values in ((self.parameters, chosen.parameters), (self.layers, chosen.coefficients)):
                for key, value in values.items():
                    controls[key].value = value

    def changed_method(self) -> None:
        self.make_parameters()
        self.changed()

    def changed_all(self) -> None:
        with self.explorer.quietly():
            for control in self.layers.values():
                control.value = self.every.value
        self.changed()

    def take_preset(self, control: str) -> None:
        coefficients = {layer: value for layer, value in self.presets[control].items() if layer in self.layers}
        chosen = self.read()
        self.put(state.Choice(chosen.method, coefficients, chosen.parameters, chosen.seed))
        self.changed()


def parameter(key: str, value: float | bool, ends: tuple[float, float]) -> widgets.Widget:
    """The control of a method's parameter, at its default. ends: of a number's slider."""
    name = f"acm-parameter-{key}"
    if isinstance(value, bool):
        return labelled(widgets.Checkbox(value, description=key), name)
    return slider(key, name, value, *ends)
