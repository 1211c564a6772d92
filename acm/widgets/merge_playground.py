"""Explorer 2: merge the embedded models with a slider for each layer, ask all three, measure the merge, compare, undo, export."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from acm.errors import UserError
from acm.merging.registry import METHODS
from acm.paths import RUNS
from acm.widgets import playground as state
from acm.widgets import trade_off
from acm.widgets.markup import card, cards
from acm.widgets.parts import WIDE, Explorer, Picture, Worker, button, choice, guarded, labelled, offer
from acm.widgets.sources import preferred, results_with

LAMBDAS = {"shuffled": "λ of shuffled tokens", "gaussian": "λ of Gaussian noise", "none": "ACM's λ"}
SLIDER = {"width": "410px", "margin": "0 2px"}


def slider(label: str, name: str, value: float, low: float = 0, high: float = 1.2) -> widgets.FloatSlider:
    return labelled(widgets.FloatSlider(value, min=low, max=high, step=0.01, description=label, readout_format=".3f", continuous_update=False,
                                        style={"description_width": "110px"}, layout=SLIDER), name)  # fmt: skip


class MergePlayground(Explorer):
    """profile, experiment: which small models, with one fine-tuned model. items: how many the merge is measured on, of all tasks in turn.

    saved: folder that exported recipes are written to.
    """

    def __init__(
        self,
        profile: str = "tiny",
        experiment: str = "long-to-short",
        items: int = 100,
        saved: Path = RUNS / "playground",
    ) -> None:
        self.worker, self.saved = Worker(self.fail), saved
        super().__init__("playground", profile=profile, experiment=experiment, items=items)

    def build(self, profile: str, experiment: str, items: int) -> None:
        sources = results_with("records.parquet") | results_with("records")
        self.results = sources[preferred(list(sources), profile, experiment)]
        if not self.results.pair:
            raise UserError(
                f"experiment {experiment} merges several models into its base; the playground takes one. Choose another."
            )
        self.base, self.finetuned = self.results.experiment.parents
        paths = self.results.experiment.parents.values()
        self.trio = state.Trio(*paths, cap=self.results.profile.cap(experiment))
        self.items = state.benchmark_items(items, self.results.experiment.tasks)
        self.measured, self.past, self.merged, self.asked = {}, [], None, None
        self.show(
            widgets.HBox([self.recipe_controls(), self.measure_controls()]),
            widgets.VBox([self.other, self.table]),
            self.ask_controls(),
            self.export_controls(),
        )
        self.current = self.read()
        self.redraw()
        self.work()

    def recipe_controls(self) -> widgets.VBox:
        """Method, its parameters, and λ."""
        self.method = choice(
            "Method",
            {METHODS[m].title: m for m in state.offered_methods()},
            "acm-method",
            "task_arithmetic",
            width="410px",
        )
        self.parameters: dict[str, widgets.Widget] = {}
        self.parameter_box = labelled(widgets.VBox(), "acm-parameters")
        self.seed = labelled(
            widgets.IntText(0, description="Seed of masks", style=WIDE, layout={"width": "260px"}), "acm-seed"
        )
        self.every = slider("λ of all layers", "acm-all", 0.5)
        self.layers = {
            layer: slider(f"λ of {'layer ' * layer.isdigit()}{layer}", f"acm-layer-{layer}", 0.5)
            for layer in self.trio.layers
        }
        self.undo_button = button("Undo", "acm-undo", self.undo, "back to the setting before", disabled=True)
        presets = [
            button(words, f"acm-preset-{c}", functools.partial(self.preset, c))
            for c, words in LAMBDAS.items()
            if c in self.results.coefficients
        ]
        self.make_parameters()
        self.method.observe(self.changed_method, "value")
        self.every.observe(self.changed_all, "value")
        for control in (self.seed, *self.layers.values()):
            control.observe(self.changed, "value")
        return widgets.VBox([self.method, self.parameter_box, self.every, *self.layers.values(), widgets.HBox([*presets, self.undo_button], layout={"flex_flow": "row wrap"})],
                            layout={"width": "430px", "flex": "none"})  # fmt: skip

    def measure_controls(self) -> widgets.VBox:
        """The picture, measuring, comparing."""
        self.picture = Picture(self.pressed)
        self.measure_button = button(
            f"Measure on {len(self.items)} items", "acm-measure", self.measure, button_style="primary"
        )
        self.stop_button = button("Stop", "acm-stop", self.stop, "stop measuring", disabled=True)
        self.progress = labelled(
            widgets.IntProgress(0, max=len(self.items), description="Items", layout={"width": "260px"}), "acm-progress"
        )
        self.other = choice(
            "Compare with", [self.base, self.finetuned, *self.results.swept.values()], "acm-compare", self.finetuned
        )
        self.table = labelled(widgets.HTML(), "acm-table")
        self.other.observe(self.compared, "value")
        return widgets.VBox([self.picture, widgets.HBox([self.measure_button, self.stop_button, self.progress])],
                            layout={"flex": "1 1 auto", "min_width": "0"})  # fmt: skip

    def ask_controls(self) -> widgets.VBox:
        """The problem and the answers."""
        self.problem = labelled(widgets.Textarea(description="Problem", continuous_update=False, rows=3, style={"description_width": "110px"},
                                                 layout={"width": "760px"}), "acm-problem")  # fmt: skip
        self.steps = labelled(
            widgets.BoundedIntText(3, min=1, max=6, description="Steps", layout={"width": "150px"}), "acm-steps"
        )
        self.golds: dict[str, str] = {}
        self.draw_new(0)
        self.problem.observe(self.typed, "value")
        self.answers = labelled(widgets.HTML(), "acm-answers")
        draw = button("Draw a problem", "acm-draw", self.draw_problem, "a new problem that no model was trained on")
        return widgets.VBox([widgets.HBox([self.problem, widgets.VBox([self.steps, draw])]), self.answers])

    def export_controls(self) -> widgets.VBox:
        self.style_of_recipe = labelled(
            widgets.ToggleButtons(options=["ours", "mergekit"], description="Recipe", value=None), "acm-style"
        )
        self.recipe = labelled(
            widgets.Textarea(disabled=True, rows=10, layout={"width": "760px", "display": "none"}), "acm-recipe"
        )
        self.save_button = button("Save recipe", "acm-save", self.save, "write the recipe to a file", disabled=True)
        self.style_of_recipe.observe(self.export, "value")
        return widgets.VBox([widgets.HBox([self.style_of_recipe, self.save_button]), self.recipe])

    def make_parameters(self) -> None:
        """Controls for the chosen method's parameters."""
        self.parameters = {}
        for key, value in state.parameters_of(self.method.value).items():
            if isinstance(value, bool):
                found = labelled(widgets.Checkbox(value, description=key), f"acm-parameter-{key}")
            else:
                found = slider(key, f"acm-parameter-{key}", value, *METHODS[self.method.value].parameters[key].slider)
            found.observe(self.changed, "value")
            self.parameters[key] = found
        random = METHODS[self.method.value].random
        self.parameter_box.children = (*self.parameters.values(), *([self.seed] if random else []))

    def read(self) -> state.Choice:
        """The choice that the controls show."""
        return state.Choice(self.method.value, {layer: control.value for layer, control in self.layers.items()},
                            {key: control.value for key, control in self.parameters.items()}, self.seed.value)  # fmt: skip

    def put(self, chosen: state.Choice) -> None:
        """Set the controls to a choice."""
        with self.quietly():
            self.method.value, self.seed.value = chosen.method, chosen.seed
            self.make_parameters()
            for controls, values in ((self.parameters, chosen.parameters), (self.layers, chosen.coefficients)):
                for key, value in values.items():
                    controls[key].value = value

    @guarded
    def changed(self, _: dict) -> None:
        self.take()

    @guarded
    def changed_method(self, _: dict) -> None:
        self.make_parameters()
        self.take()

    @guarded
    def changed_all(self, change: dict) -> None:
        with self.quietly():
            for control in self.layers.values():
                control.value = change["new"]
        self.take()

    @guarded
    def preset(self, control: str, _: object) -> None:
        self.put(state.Choice(self.method.value, {k: v for k, v in self.results.coefficients[control][self.finetuned].items() if k in self.layers},
                              self.read().parameters, self.seed.value))  # fmt: skip
        self.take()

    @guarded
    def undo(self, _: object) -> None:
        if not self.past:
            raise UserError("nothing to undo.")
        self.put(self.past.pop())
        self.take(remember=False)

    @guarded
    def pressed(self, name: str) -> None:
        if name not in self.measured:
            self.say(f"{name} is one of the committed results; press a merge of your own to go back to its setting.")
            return
        self.put(self.measured[name][0])
        self.take()

    def take(self, remember: bool = True) -> None:
        """Go over to what the controls show: merge it, and ask it."""
        chosen = self.read()
        if chosen == self.current:
            return
        if remember:
            self.past.append(self.current)
        self.current, self.undo_button.disabled = chosen, not self.past
        self.write_recipe()
        self.work()

    @guarded
    def typed(self, _: dict) -> None:
        self.work()

    @guarded
    def draw_problem(self, _: object) -> None:
        self.draw_new(secrets.randbelow(1 << 30))
        self.work()

    def draw_new(self, seed: int) -> None:
        problem = state.draw_problem(self.steps.value, seed)
        self.golds[problem.question] = problem.gold
        with self.quietly():
            self.problem.value = problem.question

    @guarded
    def measure(self, _: object) -> None:
        self.work(measure=True)

    @guarded
    def stop(self, _: object) -> None:
        self.worker.stop()

    def work(self, measure: bool = False) -> None:
        """In the worker's thread: merge, ask all three, and measure if asked to."""
        chosen, text = self.current, self.problem.value
        self.worker.start(lambda stop: self.job(chosen, text, measure, stop))

    def job(self, chosen: state.Choice, text: str, measure: bool, stop: Callable[[], bool]) -> None:
        self.stop_button.disabled, self.progress.value = not measure, 0
        try:
            if self.merged != chosen:
                self.merged = self.asked = None
                began = time.perf_counter()
                self.trio.merge(chosen)
                self.merged = chosen
                self.say(f"{chosen.describe()}: merged in {time.perf_counter() - began:.2f} s.")
            self.ask(chosen, text, stop)
            if measure:
                self.add_point(chosen, self.trio.evaluate(self.items, self.report, stop))
        except state.Stopped:
            if measure:
                self.say(f"Stopped after {self.progress.value} of {len(self.items)} items; no point is drawn.")
        finally:
            self.stop_button.disabled = True

    def ask(self, chosen: state.Choice, text: str, stop: Callable[[], bool]) -> None:
        """All three answers side by side, unless they stand there."""
        if self.asked == (chosen, text):
            return
        question, parts = state.as_prompt(text), []
        for name in self.trio.names:
            answer, gold, task = self.trio.ask(name, question, stop), self.golds.get(question), state.TASKS[0]
            row = vars(answer) if gold is None else state.graded({"task": task, "gold": gold}, answer)
            parts.append(card(name, row, state.pattern_of(task)))
            self.answers.value = cards(parts)
        self.asked = chosen, text

    def report(self, done: int) -> None:
        self.progress.value = done

    def add_point(self, chosen: state.Choice, records) -> None:
        name = next(
            (n for n, (known, _) in self.measured.items() if known == chosen), f"merge {len(self.measured) + 1}"
        )
        self.measured[name] = chosen, records
        with self.quietly():
            offer(
                self.other, [self.base, self.finetuned, *self.results.swept.values(), *self.measured], self.other.value
            )
        self.redraw(name)
        self.say(f"{name}: {chosen.describe()}, measured on {len(self.items)} items.")

    @guarded
    def compared(self, _: dict) -> None:
        self.show_table()

    def redraw(self, selected: str | None = None) -> None:
        """The picture with the measured merges, and their table."""
        own = {name: records for name, (_, records) in self.measured.items()}
        self.sample = state.beside(self.results.records, own, self.results.frontier, self.items)
        points = trade_off.Points(
            trade_off.points(self.sample, self.finetuned),
            trade_off.xlabel(self.finetuned),
            [self.base, self.finetuned],
            self.results.frontier,
        )
        figure, places = trade_off.draw(points, (8.6, 4.6))
        hints = {
            name: points.hint(name) + (f"\n{self.measured[name][0].describe()}" if name in own else "")
            for name in places
        }
        alt = "Accuracy against length of the frontier and the measured merges. " + "; ".join(hints.values())
        self.picture.draw(figure, alt, places, hints)
        self.picture.select(selected)
        self.show_table()

    def show_table(self) -> None:
        words = {name: chosen.describe() for name, (chosen, _) in self.measured.items()}
        table = state.comparison(self.sample, words, self.other.value, self.results.frontier)
        self.table.value = (
            table.to_html(border=0)
            if words
            else f"<p>No merge measured yet; each is measured on {len(self.items)} items.</p>"
        )

    @guarded
    def export(self, _: dict) -> None:
        self.write_recipe()

    def write_recipe(self) -> None:
        """Show the recipe of the current choice in the chosen style, if one is chosen."""
        style = self.style_of_recipe.value
        self.recipe.value, self.save_button.disabled = "", True
        self.recipe.layout.display = "none" if style is None else ""
        if style is not None:
            self.recipe.value, self.save_button.disabled = self.trio.export(self.current, style), False

    @guarded
    def save(self, _: object) -> None:
        self.saved.mkdir(parents=True, exist_ok=True)
        number = next(n for n in range(1, 10_000) if not (self.saved / f"recipe-{n}.yml").exists())
        path = self.saved / f"recipe-{number}.yml"
        path.write_text(self.recipe.value, encoding="utf-8")
        self.say(f"written to {path}")
