"""The parts that explorers share: controls, a status line, a worker thread, visible errors.

An :class:`Explorer` builds its controls, watches them, and draws. The plain modules beside it compute what it shows.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import ipywidgets as widgets

from acm.errors import UserError
from acm.widgets.chart import Chart, Chips
from acm.widgets.markup import CSS, alert, note
from acm.widgets.sources import preferred

Handler = Callable[[], None]
Widget = TypeVar("Widget", bound=widgets.DOMWidget)


class Explorer(widgets.VBox):
    """Controls and pictures, with a status line on top.

    name: its CSS class, after ``acm-``. profile, experiment: what it starts with; your own run of them if there is one,
    else the committed results. A subclass builds its controls in :meth:`build`; errors there show in the status line,
    as all errors do.
    """

    name: str

    def __init__(self, profile: str, experiment: str, **parameters: Any) -> None:
        self.changing, self.told = False, 0
        self.message = labelled(widgets.HTML(), "acm-message")
        self.style_sheet = widgets.HTML(f"<style>{CSS}</style>")
        super().__init__([self.style_sheet, self.message])
        self.add_class("acm-explorer").add_class(f"acm-{self.name}")
        self.attempt(lambda: self.build(profile, experiment, **parameters))

    def build(self, profile: str, experiment: str) -> None:
        """Make the controls, and show what they stand for."""
        raise NotImplementedError

    def show(self, *parts: widgets.Widget) -> None:
        """Put the parts below the style sheet and the message."""
        self.children = (self.style_sheet, self.message, *parts)

    def attempt(self, handler: Handler) -> None:
        """Call a handler; its error shows in the message. Does nothing while the explorer changes its own controls.

        A message of before stays until the handler tells another; an error does not.
        """
        if self.changing:
            return
        before = self.told
        try:
            handler()
        except Exception as error:
            self.fail(error)
        if self.told == before and 'role="alert"' in self.message.value:
            self.say("")

    def watch(self, handler: Handler, *controls: widgets.Widget) -> None:
        """Call a handler whenever one of these controls changes."""
        for control in controls:
            control.observe(lambda _: self.attempt(handler), "value")

    def watch_press(self, handler: Callable[[str], None], *charts: Chart) -> None:
        """Call a handler with the name of the point that was pressed, or with nothing where it was let go."""
        for chart in charts:
            chart.observe(lambda change: self.attempt(lambda: handler(change["new"])), "chosen")

    def button(self, label: str, name: str, handler: Handler, tooltip: str = "", **traits: Any) -> widgets.Button:
        """A button that calls a handler."""
        layout = {"width": "auto", "flex": "none"}
        found = widgets.Button(description=label, tooltip=tooltip or label, layout=layout, **traits)
        found.on_click(lambda _: self.attempt(handler))
        return labelled(found, name)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Controls that are changed within wake no handler."""
        self.changing = True
        try:
            yield
        finally:
            self.changing = False

    def say(self, text: str) -> None:
        """Show a message."""
        self.tell(note(text))

    def fail(self, error: Exception) -> None:
        """Show an error: a user's by its sentence, others with their type and, folded, where they came from."""
        if isinstance(error, UserError):
            self.tell(alert(str(error)))
        else:
            self.tell(alert(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))))

    def tell(self, text: str) -> None:
        """Show HTML as the message."""
        self.told += 1
        self.message.value = text


def labelled(widget: Widget, name: str) -> Widget:
    """The widget with a CSS class of its own."""
    return widget.add_class(name)


def choice(label: str, options: Any, name: str, value: Any = None, **layout: str) -> widgets.Dropdown:
    """A labelled drop-down list."""
    options = list(options.items()) if isinstance(options, Mapping) else list(options)
    chosen = {} if value is None else {"value": value}
    return labelled(widgets.Dropdown(description=label, options=options, layout=layout, **chosen), name)


def results_choice(titles: list[str], profile: str, experiment: str, more: Iterable[str] = ()) -> widgets.Dropdown:
    """A list of results, of which those of this profile and experiment are chosen; UserError if there are none.

    more: titles of other things to choose.
    """
    return choice("Results", [*titles, *more], "acm-source", preferred(titles, profile, experiment))


def offer(control: widgets.Dropdown, options: list, value: Any = None) -> None:
    """Give a list new options and choose ``value`` if it is among them, else the first."""
    control.options = options
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    control.value = value if value in values else values[0] if values else None


def row(*parts: widgets.DOMWidget) -> widgets.Box:
    """Controls beside each other, each below its label; what finds no room goes on below."""
    for part in parts:
        part.layout.width, part.layout.min_width = "auto", "0"
        part.layout.flex = part.layout.flex or ("0 1 auto" if isinstance(part, Chips | widgets.Button) else "1 1 150px")
    return labelled(widgets.Box(parts), "acm-row")


def side_by_side(*parts: tuple[int, widgets.DOMWidget]) -> widgets.Box:
    """Parts beside each other, each as wide as its share; below each other where the page is narrow."""
    for share, part in parts:
        part.layout.flex, part.layout.min_width = f"{share} 1 {100 * share}px", "0"
    return labelled(widgets.Box([part for _, part in parts]), "acm-side-by-side")


class Worker:
    """Runs one job at a time in a thread of its own. A newer job stops the one under way and takes its place."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self.failed, self.lock = failed, threading.Lock()
        self.stopped, self.thread = threading.Event(), threading.Thread()

    def start(self, job: Callable[[Callable[[], bool]], None]) -> None:
        """job: told by its argument, when called, whether to stop. Its errors go to ``failed``."""
        self.stop()
        stopped = self.stopped = threading.Event()

        def run() -> None:
            with self.lock:
                if stopped.is_set():
                    return
                try:
                    job(stopped.is_set)
                except Exception as error:
                    self.failed(error)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Ask the job under way to stop."""
        self.stopped.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the newest job has ended within this time."""
        if self.thread.ident is not None:
            self.thread.join(seconds)
        return not self.thread.is_alive()
