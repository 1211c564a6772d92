"""A whole search: plain interpolation, the sampler, as many random candidates, and their winners on fresh items.

out/
  one/journal.log                 plain interpolation: one λ, a grid
  cmaes-85-0/journal.log          the sampler at the target of 85 %, seed 0
  random-85-0/journal.log         random candidates, as many, at the same target
  candidates.parquet              one row for each candidate of every arm
  judged/                         the same of each point, so that a stopped judgement goes on
  fresh.parquet                   records of the judged points on fresh items
  front.csv                       the judged points: validation, fresh, and their difference, the optimism
  recipes/cmaes-85-0-17.yml       the recipe of each judged point, in mergekit's format
  coefficients/cmaes-85-0-17.json the same as λ by layer; not of the genome `depth`
  search.json                     settings and provenance
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import xxhash
import yaml

from acm.errors import UserError, check_distinct
from acm.evaluation.harness import check_tasks
from acm.evaluation.settings import MAX_TOKENS, Engine, check_count
from acm.files import alone, write_json, write_text
from acm.identity import identity
from acm.merging.plan import Plan
from acm.merging.recipe import Recipe, load_recipe
from acm.merging.tensors import merged_tensors, planned
from acm.profiles.searches import CANDIDATES
from acm.records import provenance, versions, write_parquet
from acm.searching.arm import Arm
from acm.searching.front import chosen, length_at
from acm.searching.objective import PRICE, Objective
from acm.searching.resident import Items, Resident, check_apart
from acm.searching.samplers import EVEN, check_sampler
from acm.searching.spaces import HIGH, LOW, Space
from acm.searching.workers import Each, own_model, workers
from acm.sources import source_hash

ONE, RANDOM = "one", "random"
REFINED = EVEN + 10  # candidates of plain interpolation, whatever the sampler's number: the targets come from them
UNSAID = ("recipe", "engine", "home")  # settings that are no part of the written ones
PACKAGES = ("torch", "transformers", "lm-eval", "optuna", "cmaes")


@dataclass(frozen=True)
class Search:
    """The settings of a search. UserError for what does not go together.

    recipe: path, or a mapping in mergekit's format, whose paths start from ``home``; its coefficients are what is
    searched. validation, fresh: items that choose, and other items that judge. genome, low, high, group, terms, also:
    as of :class:`Space`. sampler: as of ``samplers.py``. candidates: of the sampler, and of random search. targets:
    lengths in tokens, or shares (at most 1) of plain interpolation's best accuracy on the validation items; the target
    is then its length there. None: a share of 0.85, and none for nsga2. price: points for a token above the target.
    seeds: of the samplers. racing: whether hopeless candidates are stopped. engine, max_tokens, prompt: as
    of :func:`acm.evaluate`.
    """

    recipe: str | Path | Mapping[str, Any]
    validation: Items
    fresh: Items | None = None
    genome: str = "layer"
    low: float = LOW
    high: float = HIGH
    group: int = 1
    terms: int = 3
    also: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sampler: str = "cmaes"
    candidates: int = CANDIDATES
    targets: Sequence[float] | None = None
    price: float = PRICE
    seeds: Sequence[int] = (0,)
    racing: bool = True
    engine: Engine = field(default_factory=Engine)
    max_tokens: int = MAX_TOKENS
    prompt: str | None = None
    home: Path = Path()

    def __post_init__(self) -> None:
        check_count("candidates", self.candidates)
        check_count("max_tokens", self.max_tokens)
        if not 0 < self.price < math.inf:
            raise UserError(f"price: is {self.price}; give points for a token, above 0.")
        if not self.seeds:
            raise UserError("seeds: there are none; give at least one.")
        if bad := [target for target in self.goals if not 0 < target < math.inf]:
            raise UserError(f"target: {bad[0]} is no length; give tokens, or a share of at most 1, above 0.")
        check_distinct([*map(str, self.seeds)], "seeds")
        check_distinct([*map(label, self.goals)], "targets")
        for items in filter(None, (self.validation, self.fresh)):
            check_tasks(list(items.tasks))
        both = set(self.fresh.tasks) & set(self.validation.tasks) if self.fresh else set()
        if self.fresh and both and self.fresh.first < self.validation.end and self.validation.first < self.fresh.end:
            raise UserError(f"items: fresh ones of {min(both)} are validation items too; give others.")
        check_sampler(self.sampler, self.space, self.goals)

    @property
    def goals(self) -> Sequence[float]:
        """The targets as given, or the usual one; none for a sampler that needs none."""
        usual = () if self.sampler == "nsga2" else (0.85,)
        return usual if self.targets is None else self.targets

    @cached_property
    def loaded(self) -> tuple[Recipe, Path]:
        """The recipe, and where its relative paths start."""
        recipe, folder = load_recipe(self.recipe)
        return recipe, self.home / folder

    @cached_property
    def plan(self) -> Plan:
        """The plan of the recipe as it stands."""
        return planned(*self.loaded)

    @cached_property
    def space(self) -> Space:
        """The genes that the sampler and its control choose."""
        return Space(self.plan, self.genome, self.low, self.high, self.group, self.terms, self.also)

    def model(self) -> Resident:
        """The loaded model."""
        ends: dict[str, int] = {}
        for items in filter(None, (self.validation, self.fresh)):
            ends |= {task: max(items.end, ends.get(task, 0)) for task in items.tasks}
        return Resident(*self.loaded, ends, self.engine, self.max_tokens, self.prompt)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides the result beside the settings of an arm."""
        folders = sorted({folder for found in self.plan.models for folder in found.folders})
        engine = vars(self.engine) | {"max_tokens": self.max_tokens, "prompt": self.prompt}
        return {
            "recipe": self.loaded[0].model_dump(mode="json"), "models": [identity(folder) for folder in folders],
            "engine": engine, "source": source_hash("searching"), "versions": versions(PACKAGES),
        }  # fmt: skip

    def arm(self, out: Path, name: str, sampler: str, objective: Objective, seed: int = 0) -> Arm:
        """One arm. name: of its folder in ``out``."""
        space = Space(self.plan, "one", self.low, self.high) if name == ONE else self.space
        home = self.loaded[1]
        budget = REFINED if name == ONE else self.candidates
        rows = self.validation.rows
        return Arm(name, space, sampler, objective, rows, seed, out / name, home, self.key, budget, self.racing)

    def arms(self, out: Path, one: pd.DataFrame) -> list[Arm]:
        """The sampler and its control at each target and seed. one: the candidates of plain interpolation."""
        found = []
        targets: Sequence[float | None] = self.goals or (None,)
        for target in targets:
            goal = length_at(one, target) if target is not None and target <= 1 else target
            for seed in self.seeds:
                for sampler in dict.fromkeys([self.sampler, RANDOM]):
                    name = "-".join([sampler, *([] if target is None else [label(target)]), str(seed)])
                    found.append(self.arm(out, name, sampler, Objective(goal, self.price), seed))
        return found

    def run(self, out: Path, jobs: int = 1) -> pd.DataFrame:
        """Search, judge, and write what the module's text lists. Returns ``front.csv`` as a table.

        jobs: processes that work side by side, each with a model of its own. Where there are more of them than arms,
        several work on one arm, and the order of its candidates is chance.
        """
        if self.fresh:
            check_apart(self.validation.rows, self.fresh.rows, self.prompt)
        with alone(out, "another search"), workers(jobs) as each:
            return self.judged(out, *self.searched(out, jobs, each), each)

    def judged(self, out: Path, arms: Mapping[str, Arm], candidates: pd.DataFrame, each: Each) -> pd.DataFrame:
        """Write all candidates, and judge the points of :func:`chosen`."""
        write_parquet(candidates, out / "candidates.parquet")
        points = chosen(candidates, [arm.objective for arm in arms.values()])
        recipes = {}
        for folder in ("recipes", "coefficients"):
            shutil.rmtree(out / folder, ignore_errors=True)
        for row in points:
            name, space = f"{row['arm']}-{row['candidate']}", arms[row["arm"]].space
            point = {gene: row[gene] for gene in space.genes}
            recipes[name] = space.recipe(point)
            if layers := space.layers(point):
                write_json(out / "coefficients" / f"{name}.json", provenance("searching", coefficients=layers))
        for name, recipe in recipes.items():
            content = placed(recipe, self.loaded[1], out / "recipes").model_dump(mode="json", exclude_defaults=True)
            write_text(out / "recipes" / f"{name}.yml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        if self.fresh:
            found = each(judge, [(self, merge, out / "judged" / name) for name, merge in recipes.items()], "judging")
            for row, (records, weights) in zip(points, found, strict=True):
                if weights != row["weights"]:
                    raise UserError(f"a model of the recipe changed during the search; remove {out} and search anew.")
                accuracy, tokens, _ = Objective(None).of(records)
                row |= {"fresh_accuracy": accuracy, "fresh_tokens": tokens, "fresh_asked": len(records),
                        "optimism": row["accuracy"] - accuracy}  # fmt: skip
            parts = [records.assign(point=name) for name, (records, _) in zip(recipes, found, strict=True)]
            write_parquet(pd.concat(parts, ignore_index=True), out / "fresh.parquet")
        front = pd.DataFrame(points).drop(columns="records")
        front.to_csv(out / "front.csv", index=False)
        facts = provenance("searching", settings=self.settings) | self.key  # its versions name the sampler's too
        write_json(out / "search.json", facts)
        return front

    def searched(self, out: Path, jobs: int, each: Each) -> tuple[dict[str, Arm], pd.DataFrame]:
        """All arms by name, and their candidates."""
        one = self.arm(out, ONE, "grid", Objective(None, self.price))
        each(work, [(self, one)] * min(jobs, EVEN // 2))
        arms = self.arms(out, one.table())
        each(work, [(self, arm) for arm in arms for _ in range(max(1, jobs // len(arms)))])
        everything = {arm.name: arm for arm in (one, *arms)}
        return everything, pd.concat([arm.table() for arm in everything.values()], ignore_index=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as JSON can hold them, without :data:`UNSAID`."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in UNSAID}
        return facts | {
            "validation": vars(self.validation), "fresh": vars(self.fresh) if self.fresh else None,
            "targets": [*self.goals], "seeds": [*self.seeds], "also": dict(self.also),
        }  # fmt: skip


def placed(recipe: Recipe, home: Path, folder: Path) -> Recipe:
    """The recipe for another folder: models that are folders, given from ``home``, are given from there."""

    def moved(name: str) -> str:
        parts = [
            os.path.relpath(home / part, folder) if (home / part).exists() and not Path(part).is_absolute() else part
            for part in name.split("+")
        ]
        return "+".join(parts)

    models = [entry.model_copy(update={"model": moved(entry.model)}) for entry in recipe.models]
    base = None if recipe.base_model is None else moved(recipe.base_model)
    return recipe.model_copy(update={"models": models, "base_model": base})


def label(target: float) -> str:
    """A target in the name of an arm: ``85`` for a share of 85 %, ``52t`` for 52 tokens."""
    return f"{100 * target:g}" if target <= 1 else f"{target:g}t"


def work(search: Search, arm: Arm) -> None:
    """Ask until an arm has its candidates. Other processes may work on the same arm."""
    arm.run(own_model(search))


def judge(search: Search, recipe: Recipe, place: Path) -> tuple[pd.DataFrame, str]:
    """The records of a merge on the fresh items, and the checksum of its weights.

    place: of the file, without its ending, that keeps them for when the judgement is stopped and goes on.
    """
    assert search.fresh
    model = own_model(search)
    weights = model.take(merged_tensors(planned(recipe, search.loaded[1]), device="cpu"))
    settled = xxhash.xxh3_64_hexdigest(json.dumps([search.key, vars(search.fresh), weights], sort_keys=True).encode())
    kept = place.with_name(f"{place.name}-{settled}.parquet")
    if kept.is_file():
        return pd.read_parquet(kept), weights
    records = model.ask(search.fresh.rows)
    kept.parent.mkdir(exist_ok=True)
    write_parquet(records, kept)
    return records, weights
