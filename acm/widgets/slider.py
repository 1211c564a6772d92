"""A slider above a chart: Python draws anew whenever it moves. Where no kernel runs, a still picture stands for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.reporting.plotting import COLOURS, MARKERS
from acm.widgets.chart import Chart
from acm.widgets.markup import CSS, note
from acm.widgets.parts import labelled

Spec = dict[str, Any]  # of a chart, as web/chart/spec.js says
Shown = tuple[Spec, str]  # a chart, and a sentence on it


class Slider(widgets.VBox):
    """A slider, a sentence and a chart.

    label: what the slider sets. values: label of a place → its value, in order. show: value → chart and sentence, in
    less than a tenth of a second. start: the label that it stands at first.

    >>> def show(t):
    ...     axes = {"x": {"label": "x", "range": [0, 1]}, "y": {"label": "y", "range": [0, 2]}}
    ...     return {"label": "a line", **axes, "lines": [{"name": "tx", "points": [[0, 0], [1, t]]}]}, f"t is {t}."
    >>> Slider("t", {"one": 1, "two": 2}, show, "two").said
    't is 2.'
    """

    def __init__(self, label: str, values: Mapping[str, Any], show: Callable[[Any], Shown], start: str) -> None:
        self.draw = show
        self.control = widgets.SelectionSlider(
            options=list(values.items()), value=values[start], description=label,
            style={"description_width": "initial"}, layout={"width": "min(36rem, 100%)"},
        )  # fmt: skip
        self.sentence, self.chart = widgets.HTML(), Chart()
        super().__init__([widgets.HTML(f"<style>{CSS}</style>"), self.control, self.sentence, self.chart])
        labelled(self, "acm-explorer").add_class("acm-slider")
        self.control.observe(lambda _: self.update(), "value")
        self.update()

    def update(self) -> None:
        """Show what belongs to the slider's place."""
        self.chart.spec, self.said = self.draw(self.control.value)
        self.sentence.value = note(self.said)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | {"image/png": base64.b64encode(still(self.chart.spec, self.said)).decode()}


def still(spec: Spec, said: str) -> bytes:
    """A chart as a PNG with a sentence as its title."""
    figure = Figure(figsize=(7.5, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for bar in spec.get("bars", ()):
        axes.bar((bar["x0"] + bar["x1"]) / 2, bar["y"], bar["x1"] - bar["x0"], color=colour(bar), alpha=0.55)
    for kind, draw in (("lines", lines), ("dots", dots), ("points", points)):
        draw(axes, spec.get(kind, ()))
    for name in ("x", "y"):
        axis = spec[name]
        axes.set(**{f"{name}lim": axis["range"], f"{name}label": axis["label"]})
        if ticks := axis.get("ticks"):
            axes.set(**{f"{name}ticks": [t["at"] for t in ticks], f"{name}ticklabels": [t["label"] for t in ticks]})
    axes.set_title(said, fontsize=10, wrap=True)
    if spec.get("lines"):
        axes.legend(fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def colour(part: Mapping[str, Any]) -> str:
    """The colour of a part of a chart, by its family."""
    return COLOURS.get(part.get("family", ""), COLOURS["baseline"])


def lines(axes: Axes, parts: Sequence[Mapping[str, Any]]) -> None:
    """Lines, broken where they are dashed."""
    for part in parts:
        x, y = zip(*part["points"], strict=True)
        axes.plot(x, y, "--" if part.get("dashed") else "-", color=colour(part), label=part["name"])


def dots(axes: Axes, parts: Sequence[Mapping[str, Any]]) -> None:
    """Marks without names."""
    for part in parts:
        x, y = zip(*part["points"], strict=True)
        axes.scatter(x, y, s=10, alpha=0.4, color=colour(part))


def points(axes: Axes, parts: Sequence[Mapping[str, Any]]) -> None:
    """Marks with their names."""
    for part in parts:
        axes.plot(part["x"], part["y"], MARKERS.get(part.get("family", ""), "o"), ms=9, color=colour(part))
        axes.annotate(part["name"], (part["x"], part["y"]), xytext=(7, 4), textcoords="offset points", fontsize=9)
