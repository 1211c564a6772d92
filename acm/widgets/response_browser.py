"""Explorer 4: one question, the responses of all models, those that differ first."""

from __future__ import annotations

import ipywidgets as widgets

from acm.errors import UserError
from acm.widgets import responses as state
from acm.widgets.markup import block, brief
from acm.widgets.parts import WIDE, Explorer, button, choice, column, guarded, labelled, offer, several
from acm.widgets.sources import preferred
from acm.widgets.trade_off_explorer import record_sources

LISTED = 500  # questions in the list at a time


class ResponseBrowser(Explorer):
    """profile, experiment: what it starts with; your own run if there is one, else the committed results."""

    def __init__(self, profile: str = "tiny", experiment: str = "long-to-short") -> None:
        super().__init__("responses", profile=profile, experiment=experiment)

    def build(self, profile: str, experiment: str) -> None:
        self.sources = record_sources()
        self.source = choice(
            "Results", list(self.sources), "acm-source", preferred(list(self.sources), profile, experiment)
        )
        self.task = choice("Task", [], "acm-task")
        self.search = labelled(
            widgets.Text(description="Search", continuous_update=False, style=WIDE, layout={"width": "400px"}),
            "acm-search",
        )
        self.question = choice("Question", [], "acm-question", width="100%")
        self.models = several("Models", [], "acm-models", rows=7)
        self.previous = button("◀ Previous", "acm-previous", lambda _: self.step(-1), "previous question")
        self.next = button("Next ▶", "acm-next", lambda _: self.step(1), "next question")
        self.asked, self.responses = labelled(widgets.HTML(), "acm-asked"), labelled(widgets.HTML(), "acm-responses")
        left = column(self.source, self.task, self.search, widgets.HBox([self.previous, self.next]))
        self.show(widgets.HBox([left, self.models]), self.question, self.asked, self.responses)
        self.load()
        self.source.observe(self.changed_source, "value")
        for control in (self.models, self.task, self.search):
            control.observe(self.changed_list, "value")
        self.question.observe(self.redraw, "value")
        self.update_list()

    def load(self) -> None:
        """Take up the chosen results: their models and tasks."""
        data = self.sources[self.source.value]
        self.records = data.rows
        with self.quietly():
            self.models.options, self.models.value = data.methods, tuple(data.methods)
            offer(self.task, [("all", ""), *((task, task) for task in data.tasks)])
            self.search.value = ""

    @guarded
    def changed_source(self, _: dict) -> None:
        self.load()
        self.update_list()

    @guarded
    def changed_list(self, _: dict) -> None:
        self.update_list()

    @guarded
    def redraw(self, _: dict) -> None:
        self.update()

    @guarded
    def step(self, by: int) -> None:
        places = [value for _, value in self.question.options]
        if not places:
            raise UserError("no question to go to.")
        with self.quietly():
            self.question.value = places[(places.index(self.question.value) + by) % len(places)]
        self.update()

    def update_list(self) -> None:
        """The questions by how much the chosen models differ, as far as they match."""
        chosen = self.records[self.records["method"].isin(self.models.value)]
        found = state.matching(state.questions(chosen), self.search.value, self.task.value)
        with self.quietly():
            offer(
                self.question,
                [
                    (
                        f"{row.answers} answers · {row.task} {row.item} · {brief(row.question, 110)}",
                        (row.task, row.item),
                    )
                    for row in found.head(LISTED).itertuples()
                ],
            )
        self.update()
        if len(found) > LISTED:
            self.say(f"The list shows the first {LISTED} of {len(found)} questions.")

    def update(self) -> None:
        if self.question.value is None:
            self.asked.value = self.responses.value = ""
            raise UserError("no question contains that; search for something else.")
        task, item = self.question.value
        self.responses.value = state.page(self.records, task, item, self.models.value)
        row = self.records[(self.records["task"] == task) & (self.records["item"] == item)].iloc[0]
        self.asked.value = block(f"{row.get('question', '')}\nright answer: {row.get('gold', '')}")
