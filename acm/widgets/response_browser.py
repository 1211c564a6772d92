"""Explorer 4: one question and the responses of all models to it. Questions on which the models differ come first."""

from __future__ import annotations

import ipywidgets as widgets

from acm.errors import UserError
from acm.widgets import responses as state
from acm.widgets.chart import Chips
from acm.widgets.markup import block, brief
from acm.widgets.parts import Explorer, choice, labelled, offer, results_choice, row
from acm.widgets.trade_off import record_sources
from acm.widgets.trade_off_chart import chips, methods_of

LISTED = 500  # how many questions the list shows at a time


class ResponseBrowser(Explorer):
    """Lists of results, tasks, models and questions; filters and a search; the responses."""

    name = "responses"

    def build(self, profile: str, experiment: str) -> None:
        self.sources = record_sources()
        self.source = results_choice(list(self.sources), profile, experiment)
        self.task = choice("Task", [], "acm-task")
        self.search = labelled(widgets.Text(description="Search", placeholder="a word of the question"), "acm-search")
        self.beside = choice("Compared with", [], "acm-beside")
        self.models = labelled(Chips(label="Models"), "acm-models")
        self.only = labelled(Chips(label="Only where there is"), "acm-only")
        self.only.offer([{"name": name, "label": label} for name, (label, *_) in state.FILTERS.items()], [])
        self.question = choice("Question", [], "acm-question")
        self.previous = self.button("◀ Previous", "acm-previous", lambda: self.step(-1), "previous question")
        self.next = self.button("Next ▶", "acm-next", lambda: self.step(1), "next question")
        self.asked, self.responses = labelled(widgets.HTML(), "acm-asked"), labelled(widgets.HTML(), "acm-answers")
        self.question.layout.flex = "1 1 400px"
        self.show(
            row(self.source, self.task, self.search, self.beside),
            row(self.models),
            row(self.only),
            row(self.question, self.previous, self.next),
            self.asked,
            self.responses,
        )
        self.load()
        self.watch(self.changed_source, self.source)
        self.watch(self.update_list, self.models, self.task, self.search, self.only)
        self.watch(self.update, self.question, self.beside)
        self.update_list()

    def load(self) -> None:
        """Take up the chosen results: their models and tasks."""
        data = self.data = self.sources[self.source.value]
        self.records = data.rows
        with self.quietly():
            self.models.offer(chips(data.methods, data.parents, data.swept), [*data.results.selected])
            if not self.models.value:
                self.models.value = self.models.names
            offer(self.task, [("all", ""), *((task, task) for task in data.tasks)])
            offer(self.beside, [("nothing", ""), *((name, name) for name in data.methods)], data.reference)
            self.search.value = ""

    def changed_source(self) -> None:
        self.load()
        self.update_list()

    def chosen(self) -> list[str]:
        """The methods whose chips are on; UserError for none."""
        found = methods_of(self.models.value, self.data.methods, self.data.swept)
        if not found:
            raise UserError("choose at least one model.")
        return found

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
        rows = self.records[self.records["method"].isin(self.chosen())]
        self.found = state.matching(state.questions(rows), self.search.value, self.task.value, self.only.value)
        listed = self.found.head(LISTED)
        options = [
            (f"{row.answers} answers · {row.task} {row.item} · {brief(text, 110)}", (row.task, row.item))
            for row, text in zip(listed.itertuples(), state.unlike(listed["question"]), strict=True)
        ]
        with self.quietly():
            offer(self.question, options, self.question.value)
        self.update()

    def update(self) -> None:
        """Show the chosen question and the responses to it."""
        if self.question.value is None:
            self.asked.value = self.responses.value = ""
            raise UserError("no question is like that; search for something else, or take a filter away.")
        task, item = self.question.value
        self.responses.value = state.page(self.records, task, item, self.chosen(), self.beside.value)
        row = self.records[(self.records["task"] == task) & (self.records["item"] == item)].iloc[0]
        self.asked.value = block(f"{row.get('question', '')}\nright answer: {row.get('gold', '')}")
        place = [value for _, value in self.question.options].index(self.question.value) + 1
        listed = f", of which the list has {LISTED}" if len(self.found) > LISTED else ""
        self.say(f"Question {place} of {len(self.found):,}{listed}; those first on which the models differ most.")
