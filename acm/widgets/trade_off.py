"""Computes what the trade-off explorer shows: accuracy against length, and the responses behind a point.

The numbers come from the records of an experiment (:class:`Records`), or from the tables of a paper (``printed.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from acm.errors import UserError, unknown
from acm.evaluation.reflections import pattern_of
from acm.hypertext import shown
from acm.reporting.intervals import interval_in, interval_text
from acm.reporting.plotting import label_points
from acm.reporting.results import Results
from acm.reporting.statistics import Sample, average, bootstrap, describe, length_change, resampled, share
from acm.reporting.trade_off_figures import draw_points
from acm.widgets.markup import card, cards
from acm.widgets.sources import results_with

ENDS = [f"{axis}{end}" for axis in "xy" for end in ("", "_low", "_high")]
LENGTH = "length, tokens"
MEAN = " (mean over tasks)"


@dataclass
class Points:
    """What is drawn.

    table: a row for each method with x, y, their 95 % intervals (NaN: none) and n items. parents, frontier: which rows
    they are. left_out: methods without a number for one of the chosen tasks.
    """

    table: pd.DataFrame
    xlabel: str
    parents: list[str] = field(default_factory=list)
    frontier: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def rows(self) -> dict[str, dict[str, float]]:
        """The table as numbers: method → column → value."""
        values = zip(self.table.index, self.table.to_numpy(float).tolist(), strict=True)
        return {str(name): dict(zip(self.table.columns, row, strict=True)) for name, row in values}

    def hint(self, name: str) -> str:
        """What is told of a point that is hovered or focused."""
        p = self.rows[name]
        accuracy, length = (
            interval_text(**interval_in(p, axis))
            if np.isfinite(p[f"{axis}_low"])
            else f"{p[axis]:.1f} (printed without interval)"
            for axis in "yx"
        )
        what = LENGTH if self.xlabel.startswith(LENGTH) else "length reduction, %"
        return f"{name}\naccuracy, %: {accuracy}\n{what}: {length}\nn = {p['n']:,.0f} items"


class Source(Protocol):
    """What the explorer needs of the numbers that it shows.

    parents, swept: which methods are the models that were merged, and which plain interpolation with λ swept.
    reference: the model that lengths compare with; None: lengths are in tokens alone. cap: the token cap of the
    responses; None: not known.
    """

    @property
    def methods(self) -> list[str]: ...
    @property
    def tasks(self) -> list[str]: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def cap(self) -> int | None: ...
    @property
    def parents(self) -> list[str]: ...
    @property
    def swept(self) -> list[str]: ...

    def points(
        self, methods: Sequence[str], tasks: Sequence[str], cap: int | None = None, reduction: bool = True
    ) -> Points:
        """Accuracy (percent) and length of these methods, means over these tasks.

        cap: a lower token cap, which cuts longer responses and makes them wrong. reduction: lengths as reduction in
        percent of the reference, else in tokens. UserError where nothing is chosen, or something unknown.
        """

    def ends(self, cap: int | None = None, reduction: bool = True) -> pd.DataFrame:
        """x and y of every method on every single task; means over tasks lie between them."""

    def behind(self, method: str, tasks: Sequence[str], cap: int | None = None) -> str:
        """HTML of the shortest and longest, right and wrong responses of a method."""


@dataclass
class Records:
    """The records of an experiment, as a :class:`Source`."""

    results: Results

    @property
    def methods(self) -> list[str]:
        return self.results.methods

    @property
    def tasks(self) -> list[str]:
        return list(self.results.experiment.tasks)

    @property
    def reference(self) -> str:
        return self.results.experiment.reference

    @property
    def cap(self) -> int:
        return self.results.profile.cap(self.results.name)

    @property
    def parents(self) -> list[str]:
        return list(self.results.experiment.parents)

    @property
    def swept(self) -> list[str]:
        return list(self.results.swept.values())

    @cached_property
    def rows(self) -> pd.DataFrame:
        """All records."""
        return self.results.records

    @cached_property
    def responses(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Task → right (fraction) and length (tokens) of each response, (methods, items, repeats)."""
        whole, found = self.sample(None), {}
        order = {method: i for i, method in enumerate(self.methods)}
        rows = self.rows[["method", "task", "item", "repeat", "correct", "length"]]
        rows = rows.assign(method=rows["method"].map(order)).dropna(subset="method")
        for task, n in whole.items.items():
            part = rows[rows["task"] == task].sort_values(["method", "item", "repeat"])
            shape = len(order), n, whole.repeats
            found[task] = part["correct"].to_numpy(float).reshape(shape), part["length"].to_numpy(float).reshape(shape)
        return found

    @cached_property
    def samples(self) -> dict[int | None, Sample]:
        """Token cap → bootstrap under it: the records' own (None), and the one asked for last."""
        return {None: bootstrap(self.rows, self.methods, self.tasks, seed=self.results.profile.seed)}

    def sample(self, cap: int | None) -> Sample:
        """Bootstrap of all methods and tasks, under a lower cap where one is given."""
        if cap not in self.samples:
            whole = self.samples[None]
            cut = {task: cut_cells(*values, cap) for task, values in self.responses.items()}
            made = resampled(self.methods, cut, whole.repeats, seed=self.results.profile.seed)
            self.samples.clear()
            self.samples.update({None: whole, cap: made})
        return self.samples[cap]

    def points(
        self, methods: Sequence[str], tasks: Sequence[str], cap: int | None = None, reduction: bool = True
    ) -> Points:
        methods, tasks = checked(methods, self.methods, "method"), checked(tasks, self.tasks, "task")
        parents = [parent for parent in self.parents if parent in methods]
        frontier = [method for method in self.results.frontier if method in methods]
        needed = list(dict.fromkeys([*methods, self.reference]))
        reference = self.reference if reduction else None
        table = points(part_of(self.sample(cap), needed, tasks), reference).loc[methods]
        return Points(table, xlabel(reference), parents, frontier if len(frontier) > 1 else [])

    def ends(self, cap: int | None = None, reduction: bool = True) -> pd.DataFrame:
        sample = self.sample(cap)
        length, accuracy = sample.length[:, :, 0], sample.accuracy[:, :, 0]
        x = 100 * (1 - length / length[sample.row(self.reference)]) if reduction else length
        return pd.DataFrame({"x": x.ravel(), "y": 100 * accuracy.ravel()})

    def behind(self, method: str, tasks: Sequence[str], cap: int | None = None) -> str:
        rows = capped(self.rows, cap)
        rows = rows[(rows["method"] == method) & rows["task"].isin(tasks)]
        if rows.empty:
            raise UserError(f"no responses of {method} to these tasks.")
        told = f"the shortest and longest of {len(rows):,} responses, right and wrong"
        made = [
            card(f"{title} · {row['task']}, item {row['item']}", row, pattern_of(row["task"]), question=True)
            for title, row in extremes(rows)
        ]
        return f"<p><strong>{shown(method)}</strong>: {told}</p>" + cards(made)


def record_sources() -> dict[str, Records]:
    """Title → records, of every experiment that has some: in one file, or in a file for each method."""
    found = results_with("records.parquet") | results_with("records")
    return {title: Records(results) for title, results in found.items()}


def checked(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The chosen names in the order of the known ones; UserError where none is chosen or one is unknown."""
    if odd := set(names) - set(known):
        raise unknown(what, min(odd), known)
    if not names:
        raise UserError(f"choose at least one {what}.")
    return [name for name in known if name in names]


def capped(records: pd.DataFrame, cap: int | None) -> pd.DataFrame:
    """The records as a lower token cap would have made them.

    What is longer has the cap's length and, without its end, is wrong. Greedy responses begin alike under any cap, so
    the lengths are exact. Right answers that stood before the cut are counted as wrong. UserError for a cap below 1.
    """
    if cap is None:
        return records
    if cap < 1:
        raise UserError(f"the cap must be at least 1 token, not {cap}.")
    cut = records["length"] > cap
    length, correct = records["length"].where(~cut, cap), records["correct"].where(~cut, 0.0)
    return records.assign(length=length, correct=correct, truncated=records["truncated"] | cut)


def cut_cells(right: np.ndarray, length: np.ndarray, cap: int | None) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`capped` makes of responses (methods, items, repeats), as means of the items (methods, items)."""
    frame = capped(pd.DataFrame({"correct": right.ravel(), "length": length.ravel(), "truncated": False}), cap)
    found = (frame[name].to_numpy(float).reshape(right.shape).mean(axis=2) for name in ("correct", "length"))
    return next(found), next(found)


def part_of(sample: Sample, methods: list[str], tasks: list[str]) -> Sample:
    """The bootstrap of some of the methods and tasks: what :func:`bootstrap` of these alone gives."""
    rows, columns = [sample.methods.index(m) for m in methods], [sample.tasks.index(t) for t in tasks]
    place = np.ix_(rows, columns)
    grades = tuple(sample.grades[column][rows] for column in columns)
    items = {task: sample.items[task] for task in tasks}
    return Sample(methods, tasks, items, sample.accuracy[place], sample.length[place], sample.repeats, grades)


def points(sample: Sample, reference: str | None) -> pd.DataFrame:
    """x, y with their 95 % intervals, and n items, of each method.

    reference: x is the length reduction in percent of this model's; None: x is the length in tokens.
    """
    rows = {}
    for method in sample.methods:
        reduction = describe(-length_change(sample, method, reference)) if reference else None
        x, y = reduction or describe(average(sample, method, "length"), 1), share(sample, method)
        ends = [interval[key] for interval in (x, y) for key in ("value", "low", "high")]
        rows[method] = dict(zip(ENDS, ends, strict=True)) | {"n": sum(sample.items.values())}
    return pd.DataFrame.from_dict(rows, orient="index")


def xlabel(reference: str | None) -> str:
    """The label of the horizontal axis."""
    what = f"length reduction against {reference}, %" if reference else LENGTH
    return what + MEAN


def extremes(rows: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """(what it is, record) of the shortest and longest right and wrong responses.

    Ties go to the first. A response that is both shortest and longest is named once.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for word, part in (("right", rows[rows["correct"] == 1]), ("wrong", rows[rows["correct"] == 0])):
        if part.empty:
            continue
        named = {f"shortest {word}": part["length"].idxmin(), f"longest {word}": part["length"].idxmax()}
        if len(part) == 1:
            named = {f"the only {word}": part.index[0]}
        for title, place in named.items():
            row = part[part.index == place].iloc[0]
            found.append((title, {str(column): value for column, value in row.items()}))
    return found


def draw(points: Points, size: tuple[float, float] = (10.5, 5.6)) -> Figure:
    """The picture. size: inches."""
    table = points.table
    names = [m for m in table.index if m not in points.frontier or m in points.parents]
    with plt.rc_context({"text.parse_math": False}):  # names are text, whatever they hold
        figure = Figure(figsize=size, layout="constrained")  # without pyplot, which no second thread may use
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw_points(axes, table, names, points.parents, points.frontier, names)
        axes.set(xlabel=points.xlabel, ylabel="accuracy, % (mean over tasks)")
        axes.margins(0.06)
        label_points(axes)
    return figure
