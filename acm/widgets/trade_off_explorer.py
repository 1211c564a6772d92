"""Explorer 3: accuracy against length, from records or a paper's numbers. A point leads to the responses behind it.

A table sets the chosen methods beside one of them. A thread makes it, since many methods take seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from acm.widgets import trade_off as state
from acm.widgets.differences import differences_html, usual
from acm.widgets.markup import note
from acm.widgets.parts import WIDE, Explorer, Picture, Worker, choice, column, labelled, offer, results_choice, several

UNITS = {"reduction against the reference, %": True, "tokens": False}


class TradeOffExplorer(Explorer):
    """Lists of results, methods and tasks; a token cap; the picture; differences; the responses behind a point."""

    name = "trade-off"

    def build(self, profile: str, experiment: str) -> None:
        self.worker = Worker(self.fail)
        records = state.record_sources()
        printed = state.printed()
        self.sources: dict[str, state.Source] = {**records, **printed}
        self.source = results_choice(list(records), profile, experiment, printed)
        self.methods = several("Methods", [], "acm-methods", rows=9)
        self.tasks = several("Tasks", [], "acm-tasks", rows=5)
        self.units = choice("Length as", UNITS, "acm-units")
        style = {"style": WIDE, "layout": {"width": "400px"}, "continuous_update": False}
        self.cap = labelled(widgets.IntSlider(1, description="Token cap", min=1, max=1, **style), "acm-cap")
        self.chosen = choice("Responses of", [], "acm-chosen")
        self.other = choice("Compare with", [], "acm-compare")
        self.picture, self.responses = Picture(self.pressed), labelled(widgets.HTML(), "acm-responses")
        self.table = labelled(widgets.HTML(), "acm-table")
        left = column(self.source, self.units, self.cap, self.other, self.chosen)
        self.show(widgets.HBox([left, self.methods, self.tasks]), self.picture, self.table, self.responses)
        self.load()
        self.watch(self.changed_source, self.source)
        self.watch(self.update, self.methods, self.tasks, self.units, self.cap)
        self.watch(self.show_responses, self.chosen)
        self.watch(self.compare, self.other)
        self.update()

    @property
    def data(self) -> state.Source:
        """The chosen results."""
        return self.sources[self.source.value]

    def load(self) -> None:
        """Take up the chosen results: their methods, tasks and cap."""
        data = self.data
        with self.quietly():
            for control, names in ((self.methods, data.methods), (self.tasks, data.tasks)):
                control.options, control.value = names, tuple(names)
            offer(self.chosen, [("– press a point, or choose here –", ""), *((name, name) for name in data.methods)])
            offer(self.other, data.methods, usual(data.methods, data.reference))
            self.other.disabled = isinstance(data, state.Printed)
            self.units.value, self.units.disabled = data.reference is not None, data.reference is None
            self.cap.disabled = data.cap is None
            self.cap.max = self.cap.value = data.cap or 1

    def changed_source(self) -> None:
        self.load()
        self.update()

    def pressed(self, name: str) -> None:
        """A point was pressed: choose its method in the list."""
        self.chosen.value = name

    def lower_cap(self) -> int | None:
        """The chosen cap where it is lower than the records' own."""
        own = self.data.cap
        return self.cap.value if own and self.cap.value < own else None

    def update(self) -> None:
        """Draw what the controls say."""
        cap = self.lower_cap()
        self.worker.stop()
        self.table.value = ""
        points = self.data.points(self.methods.value, self.tasks.value, cap, self.units.value)
        figure, places = state.draw(points)
        hints = {name: points.hint(name) for name in places}
        told = "; ".join(hint.replace("\n", ", ") for hint in hints.values())
        self.picture.draw(figure, f"Accuracy against length. {told}", places, hints)
        self.show_responses()
        self.compare()
        said = [f"cap {cap}: what is longer is cut there and counts as wrong"] if cap else []
        if points.left_out:
            said = [f"left out, without numbers for all chosen tasks: {', '.join(points.left_out)}", *said]
        self.say("; ".join(said))

    def compare(self) -> None:
        """Have the thread set the chosen methods beside the one to compare with."""
        chosen = self.data, self.methods.value, self.tasks.value, self.other.value, self.lower_cap()
        self.table.value = note(f"comparing with {self.other.value} …")

        def job(stop: Callable[[], bool]) -> None:
            found = differences_html(*chosen)
            if not stop():
                self.table.value = found

        self.worker.start(job)

    def show_responses(self) -> None:
        """Show what lies behind the chosen point."""
        name = self.chosen.value
        self.picture.select(name)
        self.responses.value = self.data.behind(name, self.tasks.value, self.lower_cap()) if name else ""
