"""Explorer 2: merges two embedded models with a slider for each layer. It asks, measures, compares, exports.

The two models and their merge answer the same question side by side.

Merging, asking and measuring run in a thread, so that the controls stay alive (:class:`acm.widgets.parts.Worker`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from acm.errors import UserError
from acm.files import write_text
from acm.hypertext import table
from acm.paths import RUNS
from acm.widgets import differences, trade_off
from acm.widgets import playground as state
from acm.widgets.markup import card, cards
from acm.widgets.parts import Explorer, Picture, Worker, choice, labelled, offer
from acm.widgets.playground_recipe import RecipeControls
from acm.widgets.sources import preferred, results_with

WIDE_BOX = {"width": "760px"}
PRESETS = ("shuffled", "gaussian", "none")  # controls whose λ a button takes over, in the order of the buttons
NO_MERGE = "<p>No merge measured yet; each is measured on {} items.</p>"


class MergePlayground(Explorer):
    """Controls of a recipe, a picture of what was measured, a problem to ask, and an export.

    The experiment must have one fine-tuned model, and both models must be small. items: how many items a merge is
    measured on, of all tasks in turn. saved: the folder that exported recipes are written to.
    """

    name = "playground"

    def __init__(self, profile: str, experiment: str, items: int = 100, saved: Path = RUNS / "playground") -> None:
        self.worker, self.saved = Worker(self.fail), saved
        super().__init__(profile, experiment, items=items)

    def build(self, profile: str, experiment: str, items: int = 100) -> None:
        sources = results_with("records.parquet") | results_with("records")
        self.results = sources[preferred(list(sources), profile, experiment)]
        if not self.results.pair:
            told = f"experiment {experiment} merges several models into its base"
            raise UserError(f"{told}; the playground takes one. Choose another.")
        self.base, self.finetuned = self.results.experiment.parents
        base, finetuned = self.results.experiment.parents.values()
        self.trio = state.Trio(base, finetuned, self.results.profile.cap(experiment))
        self.items = state.benchmark_items(items, self.results.experiment.tasks)
        self.usual = differences.usual(self.results.methods, self.finetuned)
        self.known = list(dict.fromkeys([self.usual, *self.results.frontier]))
        self.measured: dict[str, tuple[state.Choice, pd.DataFrame]] = {}
        self.past: list[state.Choice] = []
        self.merged: state.Choice | None = None
        self.asked: tuple[state.Choice, str] | None = None
        presets = {c: self.results.coefficients[c][self.finetuned] for c in PRESETS if c in self.results.coefficients}
        self.controls = RecipeControls(self, self.trio.layers, presets, self.take, self.undo)
        above = widgets.HBox([self.controls, self.measure_controls()])
        self.show(above, widgets.VBox([self.other, self.table]), self.ask_controls(), self.export_controls())
        self.current = self.controls.read()
        self.redraw()
        self.work()

    def measure_controls(self) -> widgets.VBox:
        """The picture, measuring, comparing."""
        self.picture = Picture(lambda name: self.attempt(lambda: self.pressed(name)))
        count = len(self.items)
        measure = f"Measure on {count} items"
        self.measure_button = self.button(measure, "acm-measure", self.measure, button_style="primary")
        self.stop_button = self.button("Stop", "acm-stop", self.worker.stop, "stop measuring", disabled=True)
        progress = widgets.IntProgress(0, max=count, description="Items", layout={"width": "260px"})
        self.progress = labelled(progress, "acm-progress")
        self.other = choice("Compare with", self.known, "acm-compare", self.usual)
        self.table = labelled(widgets.HTML(), "acm-table")
        self.watch(self.show_table, self.other)
        below = widgets.HBox([self.measure_button, self.stop_button, self.progress])
        return widgets.VBox([self.picture, below], layout={"flex": "1 1 auto", "min_width": "0"})

    def ask_controls(self) -> widgets.VBox:
        """The problem and the answers."""
        style = {"style": {"description_width": "110px"}, "layout": WIDE_BOX, "continuous_update": False}
        self.problem = labelled(widgets.Textarea(description="Problem", rows=3, **style), "acm-problem")
        steps = widgets.BoundedIntText(3, min=1, max=6, description="Steps", layout={"width": "150px"})
        self.steps = labelled(steps, "acm-steps")
        self.golds: dict[str, str] = {}
        self.draw_new(0)
        self.watch(self.work, self.problem)
        self.answers = labelled(widgets.HTML(), "acm-answers")
        hint = "a new problem that no model was trained on"
        draw = self.button("Draw a problem", "acm-draw", self.draw_problem, hint)
        return widgets.VBox([widgets.HBox([self.problem, widgets.VBox([self.steps, draw])]), self.answers])

    def export_controls(self) -> widgets.VBox:
        """The recipe as text, in the chosen style."""
        styles = widgets.ToggleButtons(options=["ours", "mergekit"], description="Recipe", value=None)
        self.style_of_recipe = labelled(styles, "acm-style")
        text = widgets.Textarea(disabled=True, rows=10, layout=WIDE_BOX | {"display": "none"})
        self.recipe = labelled(text, "acm-recipe")
        hint = "write the recipe to a file"
        self.save_button = self.button("Save recipe", "acm-save", self.save, hint, disabled=True)
        self.watch(self.write_recipe, self.style_of_recipe)
        return widgets.VBox([widgets.HBox([self.style_of_recipe, self.save_button]), self.recipe])

    def undo(self) -> None:
        """Go back to the choice before."""
        if not self.past:
            raise UserError("nothing to undo.")
        self.controls.put(self.past.pop())
        self.take(remember=False)

    def pressed(self, name: str) -> None:
        """A point was pressed: go back to the choice that it was measured with."""
        if name not in self.measured:
            self.say(f"{name} is one of the committed results; press a merge of your own to go back to its setting.")
            return
        self.controls.put(self.measured[name][0])
        self.take()

    def take(self, remember: bool = True) -> None:
        """Go over to what the controls show: merge it, and ask it."""
        chosen = self.controls.read()
        if chosen == self.current:
            return
        if remember:
            self.past.append(self.current)
        self.current, self.controls.undo_button.disabled = chosen, not self.past
        self.write_recipe()
        self.work()

    def draw_problem(self) -> None:
        """Ask a problem drawn at random."""
        self.draw_new(secrets.randbelow(1 << 30))
        self.work()

    def draw_new(self, seed: int) -> None:
        """Put a problem into the box, and remember its right answer."""
        problem = state.draw_problem(self.steps.value, seed)
        self.golds[problem.question] = problem.gold
        with self.quietly():
            self.problem.value = problem.question

    def measure(self) -> None:
        """Measure the current merge."""
        self.work(measure=True)

    def work(self, measure: bool = False) -> None:
        """In the worker's thread: merge, ask all three, and measure if asked to."""
        chosen, text = self.current, self.problem.value
        self.worker.start(lambda stop: self.job(chosen, text, measure, stop))

    def job(self, chosen: state.Choice, text: str, measure: bool, stop: Callable[[], bool]) -> None:
        """What the thread does. stop: whether a newer job waits."""
        self.stop_button.disabled, self.progress.value = not measure, 0
        try:
            if self.merged != chosen:
                self.merge(chosen)
            self.ask(chosen, text, stop)
            if measure:
                self.add_point(chosen, self.trio.evaluate(self.items, self.report, stop))
        except state.Stopped:
            if measure:
                self.say(f"Stopped after {self.progress.value} of {len(self.items)} items; no point is drawn.")
        finally:
            self.stop_button.disabled = True

    def merge(self, chosen: state.Choice) -> None:
        """Make the merge of a choice, and say how long it took."""
        self.merged = self.asked = None
        began = time.perf_counter()
        self.trio.merge(chosen)
        self.merged = chosen
        self.say(f"{chosen.describe()}: merged in {time.perf_counter() - began:.2f} s.")

    def ask(self, chosen: state.Choice, text: str, stop: Callable[[], bool]) -> None:
        """Show all three answers side by side, unless they stand there."""
        if self.asked == (chosen, text):
            return
        question, parts = state.as_prompt(text), []
        gold, task = self.golds.get(question), state.TASKS[0]
        for name in self.trio.names:
            answer = self.trio.ask(name, question, stop)
            row = vars(answer) if gold is None else state.graded({"task": task, "gold": gold}, answer)
            parts.append(card(name, row, state.pattern_of(task)))
            self.answers.value = cards(parts)
        self.asked = chosen, text

    def report(self, done: int) -> None:
        """Show how many items are done."""
        self.progress.value = done

    def add_point(self, chosen: state.Choice, records: pd.DataFrame) -> None:
        """Add a measured merge to the picture, or replace the one of the same choice."""
        same = (name for name, (known, _) in self.measured.items() if known == chosen)
        name = next(same, f"merge {len(self.measured) + 1}")
        self.measured[name] = chosen, records
        with self.quietly():
            offer(self.other, [*self.known, *self.measured], self.other.value)
        self.redraw(name)
        self.say(f"{name}: {chosen.describe()}, measured on {len(self.items)} items.")

    def redraw(self, selected: str | None = None) -> None:
        """Draw the picture with the measured merges, and their table. selected: the point to ring."""
        own = {name: records for name, (_, records) in self.measured.items()}
        self.records = differences.same_items(self.results.records, own, self.known, self.items)
        numbers = trade_off.points(differences.sampled(self.records), self.finetuned)
        parents, xlabel = [self.base, self.finetuned], trade_off.xlabel(self.finetuned)
        points = trade_off.Points(numbers, xlabel, parents, self.results.frontier)
        figure, places = trade_off.draw(points, (8.6, 4.6))
        hints = {name: points.hint(name) for name in places}
        hints |= {name: f"{hints[name]}\n{self.measured[name][0].describe()}" for name in own}
        alt = "Accuracy against length of plain interpolation and the measured merges. " + "; ".join(hints.values())
        self.picture.draw(figure, alt, places, hints)
        self.picture.select(selected)
        self.show_table()

    def show_table(self) -> None:
        """Show the measured merges beside the chosen method."""
        words = {name: chosen.describe() for name, (chosen, _) in self.measured.items()}
        self.table.value = NO_MERGE.format(len(self.items))
        if words:
            rows = differences.measured_merges(self.records, words, self.other.value, self.results.frontier)
            self.table.value = table(rows)

    def write_recipe(self) -> None:
        """Show the recipe of the current choice in the chosen style, if one is chosen."""
        style = self.style_of_recipe.value
        self.recipe.value, self.save_button.disabled = "", True
        self.recipe.layout.display = "none" if style is None else ""
        if style is not None:
            self.recipe.value, self.save_button.disabled = self.trio.export(self.current, style), False

    def save(self) -> None:
        """Write the recipe to a new file."""
        number = next(n for n in range(1, 10_000) if not (self.saved / f"recipe-{n}.yml").exists())
        path = self.saved / f"recipe-{number}.yml"
        write_text(path, self.recipe.value)
        self.say(f"written to {path}")
