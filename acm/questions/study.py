"""A study asks one question of one experiment of a profile. All questions share this module.

A study makes merges and their records, saves figures, and saves the verdict with its numbers.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from acm.calibration.texts import read_texts, select_texts
from acm.evaluation.harness import evaluate
from acm.files import write_json
from acm.merging.engine import merge
from acm.profiles import Profile, load_profile
from acm.profiles.calibration import Calibration
from acm.records import provenance, write_parquet
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import save_figure, use_theme
from acm.reporting.report import first_sentence
from acm.reporting.results import Results
from acm.reporting.statistics import Sample, average, bootstrap, describe, over_draws, paired_shares

LEAST = "smallest true difference that this design would find with 80 % power"  # what detectable is, in sentences
Coefficients = dict[str, dict[str, float]]  # fine-tuned model → layer → λ
SLIM = ["method", "task", "item", "repeat", "correct", "length", "truncated"]


class Study:
    """One question's folder, ``runs/<profile>/questions/<name>``, and what is put there.

    profile, experiment: of which it is asked. items: of each task, from its start, if these are fewer than the
    profile's. The records of parents and frontier come from the pipeline.
    """

    def __init__(self, profile: str, experiment: str, name: str, items: int | None = None) -> None:
        use_theme()
        dial = load_profile(profile)
        fewer = items and items < (dial.items or math.inf)
        self.profile: Profile = dial.model_copy(update={"items": items}) if fewer else dial
        self.hash = dial.hash  # fewer items make no other profile
        self.experiment, self.name = experiment, name
        self.setting = self.profile.experiment(experiment)
        self.results = Results(self.profile, experiment)
        self.folder = self.profile.folder / "questions" / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def models(self) -> tuple[Path, dict[str, Path]]:
        """The base, and the fine-tuned models by name."""
        (_, base), *finetuned = self.setting.parents.items()
        return base, dict(finetuned)

    @cached_property
    def known(self) -> pd.DataFrame:
        """The pipeline's records of the parents and the frontier."""
        return yardstick(self.results)

    def evaluate(self, variants: dict[str, dict[str, Any]]) -> pd.DataFrame:
        """Records of merges, and those of parents and frontier. They are stored, and the merges too.

        variants: name → what the recipe says beside base and models; it is task arithmetic where it names no method.
        Finished batches are kept, so an interrupted call continues.
        """
        names = tqdm(variants, desc=self.name, unit="merge", mininterval=10)
        found = [self.one(name, variants[name]) for name in names]
        records = pd.concat([self.known, *found], ignore_index=True)
        write_parquet(records[SLIM], self.folder / "records.parquet")
        write_json(self.folder / "merges.json", variants)
        return records

    def one(self, name: str, variant: dict[str, Any], tasks: list[str] | None = None) -> pd.DataFrame:
        """Records of one merge. tasks: others than the experiment's, as in :func:`evaluate_model`."""
        base, finetuned = self.models
        models = {"base_model": str(base), "models": [{"model": str(path)} for path in finetuned.values()]}
        recipe = {"merge_method": "task_arithmetic", **models, **variant}
        return evaluate_merge(recipe, self.profile, self.experiment, self.folder, name, tasks)

    def sample(self, records: pd.DataFrame, tasks: list[str] | None = None, draws: int = statistics.DRAWS) -> Sample:
        """Bootstrap of the records, paired across methods. tasks: others than the experiment's."""
        methods = list(records["method"].unique())
        return bootstrap(records, methods, tasks or self.setting.tasks, draws, self.profile.seed)

    def save_figure(self, figure: Figure, name: str, caption: str) -> None:
        """Save a figure with its caption, to which profile and experiment are added."""
        setting = f"Profile {self.profile.name} ({self.hash}), experiment {self.experiment}."
        save_figure(figure, self.folder / "figures" / name, f"{caption} {setting}", self.provenance)

    def save_verdict(self, question: str, verdict: str, numbers: dict[str, Any], answer: str | None = None) -> str:
        """Store ``verdict.json`` and return the verdict.

        numbers: what the verdict was computed from. answer: what the verdict begins with, the one plain sentence that a
        reader should take away; None: its first sentence. Raises ValueError where the verdict begins otherwise.
        """
        answer = first_sentence(verdict) if answer is None else answer
        if not verdict.startswith(answer):
            raise ValueError(f"the verdict does not begin with its answer: {answer}")
        content = {"question": question, "answer": answer, "verdict": verdict, "numbers": numbers}
        write_json(self.folder / "verdict.json", plain(content | {"provenance": self.provenance}), allow_nan=False)
        return verdict

    @property
    def provenance(self) -> dict[str, Any]:
        """Where figures and verdict come from; stored with them."""
        facts: dict[str, Any] = {"profile": self.profile.name, "profile_hash": self.hash, "experiment": self.experiment}
        if own := (self.profile.questions or {}).get(self.name):
            facts["parameters"] = own
        return provenance("questions", **facts, items=self.profile.items)


def yardstick(results: Results) -> pd.DataFrame:
    """The pipeline's records of an experiment's parents and frontier, on the items of its profile."""
    records = results.records
    asked = records["item"] < (results.profile.items or math.inf)
    return records[asked & records["method"].isin([*results.experiment.parents, *results.frontier])][SLIM]


def texts_of(chosen: Calibration) -> list[str]:
    """The calibration texts that a profile chooses."""
    return select_texts(read_texts(chosen.source, chosen.field), chosen.clusters, chosen.per_cluster, chosen.seed)


def evaluate_merge(
    recipe: dict[str, Any], profile: Profile, experiment: str, folder: Path, name: str, tasks: list[str] | None = None
) -> pd.DataFrame:
    """:func:`evaluate_model` of a merge, which lies in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return evaluate_model(merge(recipe, Path(place) / "merged"), profile, experiment, folder, name, tasks)


def evaluate_model(
    model: Path, profile: Profile, experiment: str, folder: Path, name: str, tasks: list[str] | None = None
) -> pd.DataFrame:
    """Records of a model on the experiment's tasks, in all repeats, with the profile's settings.

    folder: where finished batches are kept. name: of the method in the records. tasks: others than the experiment's;
    all of their items are asked.
    """
    own: dict[str, Any] = {"keep": folder / "batches", "labels": {"method": name}}
    changed = {"items": None} if tasks else {}
    return pd.concat([
        evaluate(model, tasks or usual, **own, **(profile.evaluation(experiment, repeat=repeat) | changed))
        for usual, repeat in profile.experiment(experiment).calls()
    ])  # fmt: skip


def plain(value: object) -> object:
    """A value as JSON can hold it: NumPy's numbers as Python's, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def inside(values: np.ndarray) -> np.ndarray:
    """Bootstrap values (draws + 1,) above the frontier, or NaN where the verdict on them is 'outside'.

    Values outside the frontier's range are NaN in some draws. What is left would be the draws that lie inside, of which
    neither an estimate nor an interval may be shown.
    """
    return np.full_like(values, np.nan) if statistics.verdict(values) == "outside" else values


# column → what is compared on the same items, and its scale: accuracy in points, length in tokens
APART = {"righter": ("accuracy", 100.0), "longer": ("length", 1.0)}


@dataclass(frozen=True)
class Apart:
    """What the first method of each pair has more than the second, on the same items.

    drawn: a column of :data:`APART` → (pairs, draws + 1). grades: of each task (pairs, items), fractions.
    """

    drawn: dict[str, np.ndarray]
    grades: tuple[np.ndarray, ...]

    def columns(self) -> dict[str, float]:
        """Means over the pairs with 95 % intervals: righter (points) and longer (tokens), with ``_low`` and ``_high``.

        Those of one pair's accuracies are Bonett and Price's (:func:`acm.reporting.statistics.paired_shares`), which
        have a width where all items are graded alike. Of several pairs, such as calibration draws or families, the
        bootstrap draws items and pairs; it has no width where no item of any pair differs. So the interval reaches as
        far as either this or Bonett and Price's for the items' means over pairs. Lengths have the bootstrap's alone:
        no width means that every item is longer by the same number of tokens.
        """
        found: dict[str, float] = {}
        for column, values in self.drawn.items():
            found |= interval_columns(column, describe(over_draws(values), APART[column][1]))
        sure, _ = paired_shares([(np.zeros(part.shape[1]), part.mean(axis=0)) for part in self.grades])
        several = len(self.grades[0]) > 1
        low, high = (found["righter_low"], found["righter_high"]) if several else (sure["low"], sure["high"])
        return found | {"righter_low": min(low, sure["low"]), "righter_high": max(high, sure["high"])}


def apart(sample: Sample, pairs: list[tuple[str, str]]) -> Apart:
    """The first method of each pair less the second."""
    ours, theirs = ([sample.row(name) for name in names] for names in zip(*pairs, strict=True))
    drawn = {
        column: np.array([average(sample, one, what) - average(sample, other, what) for one, other in pairs])
        for column, (what, _) in APART.items()
    }
    return Apart(drawn, tuple(part[ours] - part[theirs] for part in sample.grades))


def joined(parts: Sequence[Apart]) -> Apart:
    """All pairs of several parts together; these must have equally many items of each task."""
    grades = zip(*(part.grades for part in parts), strict=True)
    drawn = {column: np.concatenate([part.drawn[column] for part in parts]) for column in APART}
    return Apart(drawn, tuple(np.concatenate(task) for task in grades))


def counted(number: int, noun: str) -> str:
    """``1 draw``, ``5 draws``, ``6 groups of blocks``."""
    what, of, rest = noun.partition(" of ")
    return f"{number} {what}{'' if number == 1 else 's'}{of}{rest}"
