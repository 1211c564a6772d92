"""Question 8: merges that are tried beside a search, on the fresh items that judged it.

kind     the merge
one      points of plain interpolation's front that the search did not judge
back     the best point, with one layer's λ (or attention's, or MLP's) back at the mean of its λ: how flat it is
mean     the mean of the λ that the seeds found
moved    the λ that were found on another pair, by relative depth: the best point's, and the mean of the seeds
rule     λ by a layer rule, ACM's among them
ranks    λ = a + b · rank of a quantity, with a and b from the pair on which the λ were found
control  null merges of the best point, of moved λ and of fixed ranks; see ``search_nulls.py``
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from acm.files import digest
from acm.merging.recipe import Recipe
from acm.questions.search_nulls import null_layers
from acm.questions.search_points import FACTS, RECORDS
from acm.questions.variants import Layers
from acm.records import write_parquet
from acm.searching.points import FRONT
from acm.searching.run import Search, judge
from acm.searching.spaces import PARTS, Space
from acm.searching.workers import workers


@dataclass(frozen=True)
class Trial:
    """One merge. name: in tables. kind: as above. target: share or tokens, of its arm; empty where it has none.

    layers: λ by layer. recipe: of the merge. of, null: of a null merge, what it is made from and its null.
    """

    name: str
    kind: str
    target: str
    layers: Layers
    recipe: Recipe
    of: str = ""
    null: str = ""


class Trials:
    """Makes the trials of one search, and judges them. folder: of the search. nulls: whether null merges are made."""

    def __init__(self, search: Search, folder: Path, nulls: bool = True) -> None:
        self.search, self.folder, self.nulls = search, folder, nulls
        self.space = Space(search.plan, "layer", search.low, search.high)
        self.found: list[Trial] = []

    def add(
        self, name: str, kind: str, layers: Layers, target: str = "", part: tuple[str, float] | None = None
    ) -> None:
        """A trial with these λ. part: a word in tensors' names, and the λ of these tensors."""
        point = {gene: float(layers[gene]) for gene in self.space.genes}
        recipe = self.space.recipe(point)
        self.found.append(Trial(name, kind, target, point, with_part(recipe, *part) if part else recipe))

    def add_back(self, target: str, layers: Layers) -> None:
        """Each layer of a point back at the mean of its λ, then attention and MLP of all blocks."""
        mean = float(np.mean([layers[gene] for gene in self.space.genes]))
        for gene in self.space.genes:
            self.add(f"{gene} back at {target}", "back", layers | {gene: mean}, target)
        for title, word in PARTS.items():
            self.add(f"{title} back at {target}", "back", layers, target, (word, mean))

    def add_nulls(self, name: str, layers: Layers, target: str = "") -> None:
        """The null merges of λ by layer, cut at the search's bounds first."""
        for i, (null, other) in enumerate(null_layers(self.within(layers), self.folder.name) if self.nulls else ()):
            self.add(f"{name}: {null} {i}", "control", other, target)
            self.found[-1] = replace(self.found[-1], of=name, null=null)

    def within(self, layers: Layers) -> Layers:
        """λ of the search's genes, cut at its bounds."""
        return {gene: float(np.clip(layers[gene], self.space.low, self.space.high)) for gene in self.space.genes}

    def run(self, jobs: int = 1) -> pd.DataFrame:
        """Judge all; write and return their facts: trial, kind, target, λ by layer, accuracy (percent), tokens.

        front: the hash of the search's front, to which they belong.
        """
        place = self.folder / "tried" / "merge"
        with workers(jobs) as each:
            judged = each(judge, [(self.search, trial.recipe, place) for trial in self.found], "trials")
        rows, parts = [], []
        for trial, (records, weights) in zip(self.found, judged, strict=True):
            means = records.groupby("task")[["correct", "length"]].mean().mean()
            names = {"trial": trial.name, "kind": trial.kind, "target": trial.target}
            facts = names | {"of": trial.of, "null": trial.null, **trial.layers}
            rows.append(facts | {"accuracy": 100 * means["correct"], "tokens": means["length"], "weights": weights})
            parts.append(records.assign(trial=trial.name))
        write_parquet(pd.concat(parts, ignore_index=True), self.folder / RECORDS)
        table = pd.DataFrame(rows).assign(front=digest(self.folder / FRONT))
        table.to_csv(self.folder / FACTS, index=False)
        return table


def with_part(recipe: Recipe, word: str, value: float) -> Recipe:
    """The recipe with one λ for the tensors of all blocks that have the word in their names."""
    assert recipe.method.coefficient
    name = recipe.method.coefficient.name
    models = []
    for entry in recipe.models:
        if own := entry.parameters.get(name):
            own = [*own[:-1], {"filter": word, "value": value}, own[-1]]  # before what holds for whole blocks
            entry = entry.model_copy(update={"parameters": entry.parameters | {name: own}})
        models.append(entry)
    return recipe.model_copy(update={"models": models})
