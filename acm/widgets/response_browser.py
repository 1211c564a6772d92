"""Explorer 4: one question and the responses of all models to it. Questions on which the models differ come first."""

from __future__ import annotations

import ipywidgets as widgets

from acm.errors import UserError
from acm.widgets import responses as state
from acm.widgets.markup import block, brief
from acm.widgets.parts import WIDE, Explorer, choice, column, labelled, offer, results_choice, several
from acm.widgets.trade_off import record_sources

LISTED = 500  # how many questions the list shows at a time


class ResponseBrowser(Explorer):
    """Lists of results, tasks, models and questions; a search; the responses."""

    name = "responses"

    def build(self, profile: str, experiment: str) -> None:
        self.sources = record_sources()
        self.source = results_choice(list(self.sources), profile, experiment)
        self.task = choice("Task", [], "acm-task")
        style = {"style": WIDE, "layout": {"width": "400px"}, "continuous_update": False}
        self.search = labelled(widgets.Text(description="Search", **style), "acm-search")
        self.question = choice("Question", [], "acm-question", width="100%")
        self.models = several("Models", [], "acm-models", rows=7)
        self.previous = self.button("◀ Previous", "acm-previous", lambda: self.step(-1), "previous question")
        self.next = self.button("Next ▶", "acm-next", lambda: self.step(1), "next question")
        self.asked, self.responses = labelled(widgets.HTML(), "acm-asked"), labelled(widgets.HTML(), "acm-responses")
        left = column(self.source, self.task, self.search, widgets.HBox([self.previous, self.next]))
        self.show(widgets.HBox([left, self.models]), self.question, self.asked, self.responses)
        self.load()
        self.watch(self.changed_source, self.source)
        self.watch(self.update_list, self.models, self.task, self.search)
        self.watch(self.update, self.question)
        self.update_list()

    def load(self) -> None:
        """Take up the chosen results: their models and tasks."""
        data = self.sources[self.source.value]
        self.records = data.rows
        with self.quietly():
            self.models.options, self.models.value = data.methods, tuple(data.methods)
            offer(self.task, [("all", ""), *((task, task) for task in data.tasks)])
            self.search.value = ""

    def changed_source(self) -> None:
        self.load()
        self.update_list()

    def step(self, by: int) -> None:
        """Go on by so many questions; after the last comes the first."""
        places = [value for _, value in self.question.options]
        if not places:
            raise UserError("no question to go to.")
        with self.quietly():
            self.question.value = places[(places.index(self.question.value) + by) % len(places)]
        self.update()

    def update_list(self) -> None:
        """List the questions that match, those first on which the chosen models differ most."""
        chosen = self.records[self.records["method"].isin(self.models.value)]
        found = state.matching(state.questions(chosen), self.search.value, self.task.value)
        options = [
            (f"{row.answers} answers · {row.task} {row.item} · {brief(row.question, 110)}", (row.task, row.item))
            for row in found.head(LISTED).itertuples()
        ]
        with self.quietly():
            offer(self.question, options)
        self.update()
        if len(found) > LISTED:
            self.say(f"The list shows the first {LISTED} of {len(found)} questions.")

    def update(self) -> None:
        """Show the chosen question and the responses to it."""
        if self.question.value is None:
            self.asked.value = self.responses.value = ""
            raise UserError("no question contains that; search for something else.")
        task, item = self.question.value
        self.responses.value = state.page(self.records, task, item, self.models.value)
        row = self.records[(self.records["task"] == task) & (self.records["item"] == item)].iloc[0]
        self.asked.value = block(f"{row.get('question', '')}\nright answer: {row.get('gold', '')}")
