"""Question 7: do the scores of `acm inspect` foretell what a merge does? The merges, their scores and their outcomes.

A score is read from the weights alone, before any merge. An outcome is measured after it. Three kinds of merge are
made, of the shipped family and of fresh ones:

    pairs     the plain average of two models of a family, from their common base
    members   each of the two models in such an average, where the two have unlike skills
    layers    the fast model with one layer of the slow one

`scores_worth.py` compares scores and outcomes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from abacus.families import FOLDER, FRESH
from acm.files import write_json
from acm.merging.engine import merge
from acm.merging.inspection import ALL, Inspection, inspect
from acm.paths import ROOT
from acm.questions.study import SLIM, Study, evaluate_merge, evaluate_model
from acm.questions.variants import chosen
from acm.records import write_parquet
from acm.reporting.inspection import SCORES, with_shares
from acm.reporting.statistics import DRAWS, Sample, average, bootstrap

QUESTION = "Do the scores of `acm inspect` foretell what a merge does?"
SHIPPED = "shipped"
BASE = "abacus-base"
MODELS = {"abacus-fast": "maths", "abacus-slow": "maths", "abacus-sums": "sums", "abacus-words": "words"}  # → its skill
OF_VECTORS, OF_PAIRS = (
    tuple(score.name for score in SCORES if (score.table == "vectors") == one) for one in (True, False)
)
OF_LAYERS = ("norm", "relative_norm", "effective_rank", "stable_rank")


def families(root: Path = FOLDER) -> dict[str, dict[str, Path]]:
    """The families that are trained: name → model → folder, the base first. The shipped one is always there."""
    places = {SHIPPED: ROOT / "abacus" / "checkpoints"} | {name: root / name for name in FRESH}
    found = {
        name: {model: folder / model for model in (BASE, *MODELS) if (folder / model / "config.json").is_file()}
        for name, folder in places.items()
    }
    return {name: models for name, models in found.items() if {BASE, "abacus-fast", "abacus-slow"} <= set(models)}


def tasks_of(study: Study, skills: str) -> dict[str, list[str]]:
    """Skill → its tasks. skills: the experiment that merges unlike skills, a task for each."""
    return {"maths": study.setting.tasks} | {
        task.removeprefix("abacus_"): [task] for task in study.profile.experiment(skills).tasks
    }


class Family:
    """One family, its merges, and their records. models: name → folder, the base first."""

    def __init__(self, study: Study, skills: str, name: str, models: dict[str, Path]) -> None:
        self.study, self.skills, self.name, self.models = study, skills, name, models
        self.records: list[pd.DataFrame] = []

    def evaluate(self, model: Path, label: str, skills: Iterable[str]) -> None:
        """Keep the records of a model on these skills."""
        asked = dict.fromkeys(self.study.experiment if skill == "maths" else self.skills for skill in skills)
        for experiment in asked:
            found = evaluate_model(model, self.study.profile, experiment, self.study.folder, label)
            self.records.append(found[SLIM].assign(family=self.name))

    def pairs(self) -> pd.DataFrame:
        """Merge and evaluate the average of each two models: one row each, with the scores of the pair.

        Columns: family, kind (the two names), first, second, :data:`OF_PAIRS`.
        """
        base, *finetuned = self.models
        trained = {MODELS[model] for model in finetuned}
        for model in finetuned:
            self.evaluate(self.models[model], model, trained)
        rows = []
        for first, second in combinations(finetuned, 2):
            label = f"{first} + {second}"
            self.average(label, first, second)
            found = inspect(self.models[base], [self.models[first], self.models[second]], threads=1)
            facts = {"family": self.name, "kind": label, "first": first, "second": second}
            rows.append(facts | pair_row(found))
        return pd.DataFrame(rows)

    def average(self, label: str, first: str, second: str) -> None:
        """Evaluate the plain average of two models on the skills of both."""
        models = [{"model": str(self.models[name])} for name in (first, second)]
        recipe = {"merge_method": "linear", "models": models, "parameters": {"weight": 0.5}, "out_dtype": "float32"}
        with tempfile.TemporaryDirectory(dir=self.study.folder) as place:
            merged = merge(recipe, Path(place) / "merged")
            self.evaluate(merged, label, sorted({MODELS[first], MODELS[second]}))

    def vectors(self) -> pd.DataFrame:
        """The scores of each model's task vector: columns model and :data:`OF_VECTORS`."""
        base, *finetuned = self.models.values()
        found = inspect(base, finetuned, threads=1)
        rows = [with_shares(part)[["model", *OF_VECTORS]] for _, part in found.vectors.groupby("model", sort=False)]
        return pd.DataFrame(rows).reset_index(drop=True)

    def layers(self) -> pd.DataFrame:
        """Merge and evaluate each layer of slow alone on fast: one row each, with the scores of the layer.

        Columns: family, layer, :data:`OF_LAYERS`.
        """
        fast, slow = (self.models[name] for name in ("abacus-fast", "abacus-slow"))
        scores = inspect(fast, [slow], embeddings=True, threads=1).vectors
        scores = scores[(scores["kind"] == ALL) & (scores["layer"] != ALL) & (scores["squares"] > 0)]
        names = [*scores["layer"]]
        models = {"base_model": str(fast), "models": [{"model": str(slow)}]}
        for layer in names:
            alone = {slow.name: chosen(dict.fromkeys(names, 0.0), [layer], 1.0, 0.0)}
            recipe = {"merge_method": "task_arithmetic", **models, "coefficients": alone, "out_dtype": "float32"}
            place = (self.study.profile, self.study.experiment, self.study.folder)
            found = evaluate_merge(recipe, *place, f"only {layer}")
            self.records.append(found[SLIM].assign(family=self.name))
        return scores[["layer", *OF_LAYERS]].assign(family=self.name).reset_index(drop=True)


def pair_row(found: Inspection) -> dict[str, float]:
    """The scores of a pair, over all tensors."""
    whole = [table[(table["layer"] == ALL) & (table["kind"] == ALL)].iloc[0] for table in (found.pairs, found.together)]
    return {name: float(row[name]) for row in whole for name in OF_PAIRS if name in row}


def merges(study: Study, skills: str, found: dict[str, dict[str, Path]]) -> dict[str, pd.DataFrame]:
    """Make and evaluate all merges of the families. Tables: records, pairs, vectors, layers; stored as parquet.

    found: of :func:`families`. Finished batches are kept, so an interrupted call continues.
    """
    made: dict[str, list[pd.DataFrame]] = {"records": [], "pairs": [], "vectors": [], "layers": []}
    for name, models in tqdm(found.items(), desc="scores", unit="family", mininterval=10):
        family = Family(study, skills, name, models)
        made["pairs"].append(family.pairs())
        made["vectors"].append(family.vectors().assign(family=name))
        made["layers"].append(family.layers())
        made["records"].append(pd.concat(family.records, ignore_index=True))
    tables = {kind: pd.concat(parts, ignore_index=True) for kind, parts in made.items()}
    for kind, table in tables.items():
        write_parquet(table, study.folder / f"{kind}.parquet")
    write_json(study.folder / "merges.json", {name: [*models] for name, models in found.items()})
    return tables


class Outcomes:
    """Outcomes of all merges, with bootstrap draws over items: arrays (merges, draws + 1), index 0 the data itself.

    records: of :func:`merges`. tasks: skill → tasks, of :func:`tasks_of`.
    """

    def __init__(self, records: pd.DataFrame, tasks: dict[str, list[str]], draws: int = DRAWS, seed: int = 0) -> None:
        self.tasks = tasks
        self.samples: dict[tuple[str, str], Sample] = {}
        for family, own in records.groupby("family", sort=False):
            for skill, names in tasks.items():
                part = own[own["task"].isin(names)]
                if len(part):
                    methods = [*part["method"].unique()]
                    self.samples[str(family), skill] = bootstrap(part, methods, names, draws, seed)

    def accuracy(self, family: str, skill: str, method: str, what: str = "accuracy") -> np.ndarray:
        """Mean accuracy (fraction) or length (tokens) of a method on a skill, (draws + 1,)."""
        return average(self.samples[family, skill], method, what)

    def kept(self, row: pd.Series) -> np.ndarray:
        """Points of the average of a pair less those of the better model, mean over the skills of both."""
        both = [row["first"], row["second"]]
        lost = []
        for skill in sorted({MODELS[model] for model in both}):
            alone = [self.accuracy(row["family"], skill, model) for model in both]
            better = alone[int(np.argmax([found[0] for found in alone]))]
            lost.append(100 * (self.accuracy(row["family"], skill, row["kind"]) - better))
        return np.round(np.mean(lost, axis=0), 9)  # type: ignore[return-value]  # equal outcomes are ties

    def pairs(self, table: pd.DataFrame) -> np.ndarray:
        """:meth:`kept` of each row of the pairs."""
        return np.array([self.kept(row) for _, row in table.iterrows()])

    def members(self, pairs: pd.DataFrame, vectors: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        """Of pairs of unlike skills one row for each model, and the points of its own skill that the average keeps.

        The rows have family, kind, model, and the scores of the model's task vector.
        """
        rows: list[dict[str, Any]] = []
        outcome = []
        for _, row in pairs.iterrows():
            both = [row["first"], row["second"]]
            for model in both if MODELS[both[0]] != MODELS[both[1]] else []:
                skill = MODELS[model]
                rows.append({"family": row["family"], "kind": row["kind"], "model": model})
                pair = (self.accuracy(row["family"], skill, name) for name in (row["kind"], model))
                outcome.append(np.round(100 * np.subtract(*pair), 9))
        found = pd.DataFrame(rows, columns=["family", "kind", "model"])
        return found.merge(vectors, on=["family", "model"], how="left"), np.array(outcome)

    def layers(self, table: pd.DataFrame, what: str) -> np.ndarray:
        """What a layer alone adds to the fast model. what: ``accuracy`` (points) or ``length`` (tokens)."""
        scale = 100 if what == "accuracy" else 1
        added = np.array([
            self.accuracy(row["family"], "maths", f"only {row['layer']}", what)
            - self.accuracy(row["family"], "maths", "abacus-fast", what)
            for _, row in table.iterrows()
        ])  # fmt: skip
        return np.round(scale * added, 9)
