"""Explorer 3: accuracy against length, from records or a paper's numbers. A point leads to the responses behind it.

A table sets the chosen methods beside one of them. A thread makes it, since many methods take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from acm.widgets import trade_off as state
from acm.widgets.chart import Chart, Chips
from acm.widgets.differences import differences_html, usual
from acm.widgets.markup import busy, note
from acm.widgets.parts import Explorer, Worker, choice, labelled, offer, results_choice, row, side_by_side
from acm.widgets.printed import Printed, printed
from acm.widgets.trade_off_chart import Ranges, axes, chips, home, methods_of, trade_off_chart

UNITS = {"reduction": "reduction, %", "tokens": "tokens"}
NOTHING = "<p>Press a point: its numbers, and the shortest and longest responses behind it, show here.</p>"
ALONE = "– nothing –"


class TradeOffExplorer(Explorer):
    """Results, methods and tasks; a token cap; the picture; the responses behind a point; differences."""

    name = "trade-off"

    def build(self, profile: str, experiment: str) -> None:
        self.worker = Worker(self.fail)
        self.homes: dict[tuple[str, bool], Ranges] = {}
        records, papers = state.record_sources(), printed()
        self.sources: dict[str, state.Source] = {**records, **papers}
        self.source = results_choice(list(records), profile, experiment, papers)
        self.beside = choice("Beside it", [ALONE, *self.sources], "acm-beside-source")
        self.units = labelled(Chips(label="Length", single=True), "acm-units")
        self.cap = labelled(widgets.IntSlider(1, description="Token cap", min=1, max=1), "acm-cap")
        self.methods = labelled(Chips(label="Methods"), "acm-methods")
        self.tasks = labelled(Chips(label="Tasks"), "acm-tasks")
        self.chart, self.second = (labelled(Chart(pressable=True), f"acm-{name}-chart") for name in ("first", "second"))
        self.panel = labelled(widgets.HTML(NOTHING), "acm-panel")
        self.show(
            row(self.source, self.beside, self.cap),
            row(self.methods),
            row(self.tasks, self.units),
            side_by_side((5, self.chart), (5, self.second), (3, self.panel)),
            *self.comparison(),
        )
        self.load()
        self.watch(self.changed_source, self.source)
        self.watch(self.update, self.methods, self.tasks, self.units, self.cap)
        self.watch(self.draw_second, self.beside, self.units)
        self.watch_press(lambda name: self.press(name, self.data, self.tasks.value), self.chart)
        self.watch_press(lambda name: self.press(name, self.sources[self.beside.value]), self.second)
        self.draw_second()
        self.update()

    def comparison(self) -> tuple[widgets.Widget, ...]:
        """A switch, the method to compare with, and the table of differences."""
        switch = widgets.ToggleButton(description="Table of differences", layout={"width": "auto"})
        self.compared = labelled(switch, "acm-compared")
        self.other = choice("less those of", [], "acm-compare", width="300px")
        self.other.style.description_width = "auto"
        self.table = labelled(widgets.HTML(), "acm-table")
        self.watch(self.compare, self.compared, self.other)
        return widgets.HBox([self.compared, self.other]), self.table

    @property
    def data(self) -> state.Source:
        """The chosen results."""
        return self.sources[self.source.value]

    @property
    def reduction(self) -> bool:
        """Whether lengths are shown as a reduction."""
        return self.units.value == ["reduction"]

    def load(self) -> None:
        """Take up the chosen results: their methods, tasks and cap."""
        data = self.data
        with self.quietly():
            self.methods.offer(chips(data.methods, data.parents, data.swept))
            self.tasks.offer([{"name": task} for task in data.tasks])
            self.chart.chosen = ""
            offer(self.other, data.methods, usual(data.methods, data.reference))
            self.other.disabled = self.compared.disabled = isinstance(data, Printed)
            offered = UNITS if data.reference else {"tokens": UNITS["tokens"]}
            kept = self.units.value if self.units.value and self.units.value[0] in offered else [next(iter(offered))]
            self.units.offer([{"name": name, "label": label} for name, label in offered.items()], kept)
            self.cap.layout.visibility = "hidden" if data.cap is None else "visible"
            self.cap.disabled = data.cap is None
            self.cap.max = self.cap.value = data.cap or 1

    def changed_source(self) -> None:
        self.load()
        self.update()

    def lower_cap(self) -> int | None:
        """The chosen cap where it is lower than the records' own."""
        own = self.data.cap
        return self.cap.value if own and self.cap.value < own else None

    def chosen_methods(self) -> list[str]:
        """The methods whose chips are on."""
        return methods_of(self.methods.value, self.data.methods, self.data.swept)

    def update(self) -> None:
        """Draw what the controls say."""
        data, cap = self.data, self.lower_cap()
        points = data.points(self.chosen_methods(), self.tasks.value, cap, self.reduction)
        self.chart.spec = self.drawn(self.source.value, points, cap, self.reduction)
        self.press(self.chart.chosen, data, self.tasks.value)
        self.compare()
        said = [f"cap {cap}: what is longer is cut there and counts as wrong"] if cap else []
        if points.left_out:
            said = [f"left out, without numbers for all chosen tasks: {', '.join(points.left_out)}", *said]
        shown = f"{len(points.table)} methods, n = {points.table['n'].iloc[0]:,.0f} responses each; means over tasks"
        known = "printed without intervals" if isinstance(data, Printed) else "95 % intervals"
        self.say("; ".join([f"{shown}, {known}", *said]))

    def draw_second(self) -> None:
        """Draw all of the results beside, if there are some."""
        other = self.sources.get(self.beside.value)
        self.second.layout.display = "none" if other is None else ""
        if other is not None:
            reduction = self.reduction and other.reference is not None
            points = other.points(other.methods, other.tasks, None, reduction)
            self.second.spec = self.drawn(self.beside.value, points, None, reduction)

    def drawn(self, title: str, points: state.Points, cap: int | None, reduction: bool) -> dict[str, Any]:
        """What a chart is told of these results; its axes stay as long as results and unit do."""
        data, key = self.sources[title], (title, reduction)
        if key not in self.homes:
            self.homes[key] = home(data, reduction)
        ranges = axes(data, self.homes[key], cap, reduction)
        return trade_off_chart(points, ranges, f"Accuracy against length, {title}")

    def press(self, name: str, data: state.Source, tasks: list[str] | None = None) -> None:
        """Show what lies behind a point, with all its numbers. tasks: None for all."""
        cap = self.lower_cap() if data is self.data else None
        self.panel.value = data.behind(name, tasks or data.tasks, cap) if name else NOTHING

    def compare(self) -> None:
        """Have the thread set the chosen methods beside the one to compare with, if the table is asked for."""
        self.worker.stop()
        if not self.compared.value:
            self.table.value = ""
            return
        chosen = self.data, self.chosen_methods(), self.tasks.value, self.other.value, self.lower_cap()
        self.table.value = busy(self.table.value) if self.table.value else note("comparing …")

        def job(stop: Callable[[], bool]) -> None:
            found = differences_html(*chosen)
            if not stop():
                self.table.value = found

        self.worker.start(job)
