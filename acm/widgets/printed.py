"""The numbers that papers printed, as the trade-off explorer takes them: without intervals and without responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from acm.errors import UserError
from acm.hypertext import shown
from acm.paper import load
from acm.reporting.paper_numbers import ITEMS
from acm.widgets.trade_off import ENDS, Points, checked, xlabel


@dataclass
class Printed:
    """The numbers that a paper printed for models of one size, as a :class:`~acm.widgets.trade_off.Source`.

    They have no intervals and no responses. source, size: as in the CSV files of :mod:`acm.paper`.
    """

    source: str
    size: str
    cap: int | None = None

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The rows that have a length."""
        scores = load("published_scores")
        return scores[(scores["source"] == self.source) & (scores["size"] == self.size)].dropna(subset=["length"])

    @property
    def methods(self) -> list[str]:
        return list(self.scores["method"].unique())

    @property
    def tasks(self) -> list[str]:
        return list(self.scores["task"].unique())

    @property
    def reference(self) -> str | None:
        return next((m for m in self.methods if m.startswith("DeepSeek-R1")), None)

    @property
    def parents(self) -> list[str]:
        return [method for method in self.methods if method.startswith(("DeepSeek-R1", "Qwen"))]

    @property
    def swept(self) -> list[str]:
        return []

    def cells(self, reduction: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Accuracy (percent) and length (as the picture shows it) of each method (rows) and task (columns)."""
        accuracy, length = (self.scores.pivot(index="method", columns="task", values=v) for v in ("accuracy", "length"))
        if reduction and self.reference:
            length = 100 * (1 - length / length.loc[self.reference])
        return accuracy, length

    def points(
        self, methods: Sequence[str], tasks: Sequence[str], cap: int | None = None, reduction: bool = True
    ) -> Points:
        methods, tasks = checked(methods, self.methods, "method"), checked(tasks, self.tasks, "task")
        accuracy, lengths = self.cells(reduction)
        accuracy, x = accuracy.loc[methods, tasks], lengths.loc[:, tasks]
        table = pd.DataFrame(index=methods, columns=ENDS, dtype=float)
        table["x"], table["y"] = (cells.to_numpy(float).mean(axis=1) for cells in (x.loc[methods], accuracy))
        table["n"] = sum(ITEMS[task] for task in tasks)
        whole = table.dropna(subset=["x", "y"])
        if whole.empty:
            raise UserError("no chosen method has printed numbers for all chosen tasks; choose fewer tasks.")
        parents, left_out = [m for m in self.parents if m in whole.index], [m for m in methods if m not in whole.index]
        return Points(whole, xlabel(self.reference if reduction else None), parents, left_out=left_out)

    def ends(self, cap: int | None = None, reduction: bool = True) -> pd.DataFrame:
        accuracy, length = self.cells(reduction)
        return pd.DataFrame({"x": length.to_numpy(float).ravel(), "y": accuracy.to_numpy(float).ravel()})

    def behind(self, method: str, tasks: Sequence[str], cap: int | None = None) -> str:
        return (
            f"<p><strong>{shown(method)}</strong>: printed numbers; the responses behind them were not published.</p>"
        )


def printed() -> dict[str, Printed]:
    """Title → printed numbers, for each source and size that has lengths."""
    scores = load("published_scores").dropna(subset=["length"])
    pairs = scores[["source", "size"]].drop_duplicates().itertuples(index=False)
    return {f"printed / {source} / {size}": Printed(source, size) for source, size in pairs}
