"""Explorer 3: accuracy against length of any records or of the printed numbers; a point leads to the responses behind it."""

from __future__ import annotations

import ipywidgets as widgets

from acm.widgets import trade_off as state
from acm.widgets.parts import WIDE, Explorer, Picture, choice, column, guarded, labelled, offer, several
from acm.widgets.sources import preferred, results_with

UNITS = {"reduction against the reference, %": True, "tokens": False}


def record_sources() -> dict[str, state.Records]:
    """Title → records, of every experiment that has some: whole, or a file for each method."""
    found = results_with("records.parquet") | results_with("records")
    return {title: state.Records(results) for title, results in found.items()}


class TradeOffExplorer(Explorer):
    """profile, experiment: what it starts with; your own run if there is one, else the committed results."""

    def __init__(self, profile: str = "tiny", experiment: str = "long-to-short") -> None:
        super().__init__("trade-off", profile=profile, experiment=experiment)

    def build(self, profile: str, experiment: str) -> None:
        records = record_sources()
        self.sources = records | state.printed()
        self.source = choice("Results", list(self.sources), "acm-source", preferred(list(records), profile, experiment))
        self.methods, self.tasks = (
            several("Methods", [], "acm-methods", rows=9),
            several("Tasks", [], "acm-tasks", rows=5),
        )
        self.units = choice("Length as", UNITS, "acm-units")
        self.cap = labelled(
            widgets.IntSlider(
                1, description="Token cap", min=1, max=1, continuous_update=False, style=WIDE, layout={"width": "400px"}
            ),
            "acm-cap",
        )
        self.chosen = choice("Responses of", [], "acm-chosen")
        self.picture, self.responses = Picture(self.pressed), labelled(widgets.HTML(), "acm-responses")
        self.show(
            widgets.HBox([column(self.source, self.units, self.cap, self.chosen), self.methods, self.tasks]),
            self.picture,
            self.responses,
        )
        self.load()
        self.source.observe(self.changed_source, "value")
        for control in (self.methods, self.tasks, self.units, self.cap):
            control.observe(self.redraw, "value")
        self.chosen.observe(self.picked, "value")
        self.update()

    def load(self) -> None:
        """Take up the chosen results: their methods, tasks and cap."""
        data = self.sources[self.source.value]
        with self.quietly():
            for control, names in ((self.methods, data.methods), (self.tasks, data.tasks)):
                control.options, control.value = names, tuple(names)
            offer(self.chosen, [("– press a point, or choose here –", ""), *((name, name) for name in data.methods)])
            self.units.value, self.units.disabled = data.reference is not None, data.reference is None
            self.cap.disabled = data.cap is None
            self.cap.max = self.cap.value = data.cap or 1

    @guarded
    def changed_source(self, _: dict) -> None:
        self.load()
        self.update()

    @guarded
    def redraw(self, _: dict) -> None:
        self.update()

    @guarded
    def picked(self, _: dict) -> None:
        self.show_responses()

    def pressed(self, name: str) -> None:
        self.chosen.value = name

    def lower_cap(self) -> int | None:
        """The chosen cap where it is lower than the records' own."""
        own = self.sources[self.source.value].cap
        return self.cap.value if own and self.cap.value < own else None

    def update(self) -> None:
        data, cap = self.sources[self.source.value], self.lower_cap()
        points = data.points(self.methods.value, self.tasks.value, cap, self.units.value)
        figure, places = state.draw(points)
        hints = {name: points.hint(name) for name in places}
        self.picture.draw(
            figure,
            "Accuracy against length. " + "; ".join(hint.replace("\n", ", ") for hint in hints.values()),
            places,
            hints,
        )
        self.show_responses()
        told = (
            [f"left out, without numbers for all chosen tasks: {', '.join(points.left_out)}"] if points.left_out else []
        )
        told += [f"cap {cap}: what is longer is cut there and counts as wrong"] if cap else []
        self.say("; ".join(told))

    def show_responses(self) -> None:
        """What lies behind the chosen point."""
        name, data = self.chosen.value, self.sources[self.source.value]
        self.picture.select(name)
        self.responses.value = data.behind(name, self.tasks.value, self.lower_cap()) if name else ""
