"""What the trade-off explorer shows: accuracy against length of any records, or of the printed numbers, and the responses behind a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from acm.errors import UserError
from acm.paper import load
from acm.reporting.figures import draw_points
from acm.reporting.intervals import interval_text
from acm.reporting.paper_numbers import ITEMS
from acm.reporting.plotting import label_points
from acm.reporting.results import Results
from acm.reporting.statistics import Sample, average, bootstrap, describe, length_change, share
from acm.widgets.markup import card, cards, shown
from acm.widgets.responses import reflection_pattern

ENDS = [f"{axis}{end}" for axis in "xy" for end in ("", "_low", "_high")]


@dataclass
class Points:
    """What is drawn: a row for each method with x, y, their 95 % intervals (NaN: none), n, and what the axes and the caption say."""

    table: pd.DataFrame
    xlabel: str
    parents: list[str] = field(default_factory=list)
    frontier: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def hint(self, name: str) -> str:
        """What a pointer on a point reads."""
        p, tokens = self.table.loc[name], self.xlabel.startswith("length, tokens")
        accuracy, length = (
            interval_text(value, low, high) if np.isfinite(low) else f"{value:.1f} (printed without interval)"
            for value, low, high in ((p.y, p.y_low, p.y_high), (p.x, p.x_low, p.x_high))
        )
        what, unit = ("length", "tokens") if tokens else ("length reduction", "%")
        return f"{name}\naccuracy, %: {accuracy}\n{what}, {unit}: {length}\nn = {p.n:,.0f} responses"


@dataclass
class Records:
    """Records of an experiment. ``points`` gives means over tasks; a lower cap cuts lengths and makes what it cuts wrong."""

    results: Results
    interval: bool = True

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

    @cached_property
    def rows(self) -> pd.DataFrame:
        return self.results.records

    def points(
        self, methods: Sequence[str], tasks: Sequence[str], cap: int | None = None, reduction: bool = True
    ) -> Points:
        """Accuracy (percent) and length (tokens, or reduction in percent of the reference) of these methods over these tasks."""
        chosen = checked(methods, self.methods, "method"), checked(tasks, self.tasks, "task")
        parents, frontier = list(self.results.experiment.parents), [m for m in self.results.frontier if m in methods]
        needed = list(dict.fromkeys([*chosen[0], self.reference]))
        sample = bootstrap(capped(self.rows, cap), needed, chosen[1], seed=self.results.profile.seed)
        table = points(sample, self.reference if reduction else None).loc[chosen[0]]
        return Points(
            table,
            xlabel(self.reference if reduction else None),
            [p for p in parents if p in methods],
            frontier if len(frontier) > 1 else [],
        )

    def behind(self, method: str, tasks: Sequence[str], cap: int | None = None) -> str:
        """HTML of the shortest and longest, right and wrong responses of a method."""
        rows = capped(self.rows, cap)
        rows = rows[(rows["method"] == method) & rows["task"].isin(tasks)]
        if rows.empty:
            raise UserError(f"no responses of {method} to these tasks.")
        words = f"<p><strong>{shown(method)}</strong>: the shortest and longest of {len(rows):,} responses, right and wrong</p>"
        return words + cards([card(f"{title} · {row['task']}, item {row['item']}", row, reflection_pattern(row["task"]), question=True)
                              for title, row in extremes(rows)])  # fmt: skip


@dataclass
class Printed:
    """The numbers that a paper printed for models of one size. They have no intervals, and no responses."""

    source: str
    size: str
    interval: bool = False
    cap: int | None = None

    @cached_property
    def scores(self) -> pd.DataFrame:
        return (
            load("published_scores")
            .query("source == @self.source and size == @self.size")
            .dropna(subset=["length"])
        )

    @property
    def methods(self) -> list[str]:
        return list(self.scores["method"].unique())

    @property
    def tasks(self) -> list[str]:
        return list(self.scores["task"].unique())

    @property
    def reference(self) -> str | None:
        return next((m for m in self.methods if m.startswith("DeepSeek-R1")), None)

    def points(
        self, methods: Sequence[str], tasks: Sequence[str], cap: int | None = None, reduction: bool = True
    ) -> Points:
        """As :meth:`Records.points`; methods without a number for one of the tasks are left out, and named."""
        methods, tasks = checked(methods, self.methods, "method"), checked(tasks, self.tasks, "task")
        cells = self.scores.set_index(["method", "task"])[["accuracy", "length"]].unstack("task")
        accuracy, length = cells["accuracy"].loc[methods, tasks], cells["length"].loc[:, tasks]
        reference = self.reference if reduction else None
        x = 100 * (1 - length / length.loc[reference]) if reference else length
        table = pd.DataFrame(
            {"x": x.loc[methods].mean(axis=1, skipna=False), "y": accuracy.mean(axis=1, skipna=False)}
        ).reindex(columns=ENDS)
        table["n"] = sum(ITEMS[task] for task in tasks)
        whole = table.dropna(subset=["x", "y"])
        if whole.empty:
            raise UserError("no chosen method has printed numbers for all chosen tasks; choose fewer tasks.")
        parents = [m for m in whole.index if m.startswith(("DeepSeek-R1", "Qwen"))]
        return Points(whole, xlabel(reference), parents, left_out=[m for m in methods if m not in whole.index])

    def behind(self, method: str, tasks: Sequence[str], cap: int | None = None) -> str:
        return (
            f"<p><strong>{shown(method)}</strong>: printed numbers; the responses behind them were not published.</p>"
        )


def printed() -> dict[str, Printed]:
    """Title → printed numbers, for each source and size that has lengths."""
    scores = load("published_scores").dropna(subset=["length"])
    pairs = scores[["source", "size"]].drop_duplicates().itertuples(index=False)
    return {f"printed / {source} / {size}": Printed(source, size) for source, size in pairs}


def checked(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The chosen names in their own order; UserError where none is chosen or one is unknown."""
    if odd := set(names) - set(known):
        raise UserError(f"unknown {what} '{min(odd)}'. Known: {', '.join(known)}.")
    if not names:
        raise UserError(f"choose at least one {what}.")
    return [name for name in known if name in names]


def capped(records: pd.DataFrame, cap: int | None) -> pd.DataFrame:
    """The records as a lower token cap would have made them: what is longer has the cap's length and, without its end, is wrong.

    Greedy responses begin alike under any cap, so the lengths are exact; right answers given before the cut are counted as wrong.
    """
    if cap is None:
        return records
    if cap < 1:
        raise UserError(f"the cap must be at least 1 token, not {cap}.")
    cut = records["length"] > cap
    return records.assign(
        length=records["length"].where(~cut, cap),
        correct=records["correct"].where(~cut, 0.0),
        truncated=records["truncated"] | cut,
    )


def points(sample: Sample, reference: str | None) -> pd.DataFrame:
    """x, y with their 95 % intervals, and n, of each method. reference: length reduction in percent of it; None: length in tokens."""
    rows = {}
    for method in sample.methods:
        x = (
            describe(-length_change(sample, method, reference))
            if reference
            else describe(average(sample, method, "length"), 1)
        )
        y = share(sample, method)
        ends = [d[key] for d in (x, y) for key in ("value", "low", "high")]
        rows[method] = dict(zip(ENDS, ends, strict=True)) | {"n": sum(sample.items.values())}
    return pd.DataFrame.from_dict(rows, orient="index")


def xlabel(reference: str | None) -> str:
    return (
        f"length reduction against {reference}, % (mean over tasks)"
        if reference
        else "length, tokens (mean over tasks)"
    )


def extremes(rows: pd.DataFrame) -> list[tuple[str, dict]]:
    """(what it is, record) of the shortest and longest right and wrong responses; ties go to the first. One that is both is named once."""
    found = []
    for word, part in (("right", rows[rows["correct"] == 1]), ("wrong", rows[rows["correct"] == 0])):
        if part.empty:
            continue
        low, high = part["length"].idxmin(), part["length"].idxmax()
        found += [(f"the only {word}", part.loc[low].to_dict())] if len(part) == 1 else [
            (f"shortest {word}", part.loc[low].to_dict()), (f"longest {word}", part.loc[high].to_dict())]  # fmt: skip
    return found


def draw(
    shown_points: Points, size: tuple[float, float] = (10.5, 5.6)
) -> tuple[Figure, dict[str, tuple[float, float]]]:
    """The picture, and where each method's point lies on it: fractions of its width from the left, of its height from the top."""
    table = shown_points.table
    names = [m for m in table.index if m not in shown_points.frontier or m in shown_points.parents]
    with plt.rc_context({"text.parse_math": False}):  # names are text, whatever they hold
        figure = Figure(figsize=size, layout="constrained")  # without pyplot, which no second thread may use
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw_points(axes, table, names, shown_points.parents, shown_points.frontier, names)
        axes.set(xlabel=shown_points.xlabel, ylabel="accuracy, % (mean over tasks)")
        axes.margins(0.06)
        label_points(axes)
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the places hold for the layout that is now
    places = axes.transData.transform(table[["x", "y"]].to_numpy(float)) / (figure.bbox.width, figure.bbox.height)
    return figure, {name: (float(x), float(1 - y)) for name, (x, y) in zip(table.index, places, strict=True)}
