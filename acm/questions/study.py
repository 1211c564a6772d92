"""One question, asked of one experiment of a profile: its merges and their records, its files, its verdict."""

from __future__ import annotations

import math
import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from acm import evaluate, merge
from acm.files import write_json
from acm.profiles import Profile, load_profile
from acm.records import provenance, write_parquet
from acm.reporting import statistics
from acm.reporting.plotting import save_figure, use_theme
from acm.reporting.results import Results
from acm.reporting.statistics import bootstrap

Coefficients = dict[str, dict[str, float]]  # finetuned → layer → λ
SLIM = ["method", "task", "item", "repeat", "correct", "length", "truncated"]


class Study:
    """``runs/<profile>/questions/<name>``; the frontier and the parents come from the pipeline's records."""

    def __init__(self, profile: str, experiment: str, name: str) -> None:
        use_theme()
        self.profile: Profile = load_profile(profile)
        self.experiment, self.name = experiment, name
        self.setting = self.profile.experiment(experiment)
        self.results = Results(self.profile, experiment)
        self.folder = self.profile.folder / "questions" / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def models(self) -> tuple[Path, dict[str, Path]]:
        """Base, and the fine-tuned models by name."""
        (_, base), *finetuned = self.setting.parents.items()
        return base, dict(finetuned)

    @cached_property
    def known(self) -> pd.DataFrame:
        """The pipeline's records of the parents and the frontier."""
        records = self.results.records
        return records[records["method"].isin([*self.setting.parents, *self.results.frontier])][SLIM]

    def evaluate(self, variants: dict[str, dict]) -> pd.DataFrame:
        """Records of merges, with those of parents and frontier; stored with the merges beside the verdict.

        variants: name → what the recipe says beside base and models; task arithmetic where it names no method. Finished batches are kept, so
        an interrupted call continues.
        """
        found = [
            self.one(name, variants[name]) for name in tqdm(variants, desc=self.name, unit="merge", mininterval=10)
        ]
        records = pd.concat([self.known, *found], ignore_index=True)
        write_parquet(records[SLIM], self.folder / "records.parquet")
        write_json(self.folder / "merges.json", variants)
        return records

    def one(self, name: str, variant: dict) -> pd.DataFrame:
        base, finetuned = self.models
        models = {"base_model": str(base), "models": [{"model": str(path)} for path in finetuned.values()]}
        return evaluate_merge(
            {"merge_method": "task_arithmetic", **models, **variant}, self.profile, self.experiment, self.folder, name
        )

    def sample(self, records: pd.DataFrame):
        """Bootstrap of the records, paired across methods, on the items of the pipeline's."""
        return bootstrap(records, list(records["method"].unique()), self.setting.tasks, seed=self.profile.seed)

    def save_figure(self, figure: Figure, name: str, caption: str) -> None:
        setting = f"Profile {self.profile.name} ({self.profile.hash}), experiment {self.experiment}."
        save_figure(figure, self.folder / "figures" / name, f"{caption} {setting}", self.provenance)

    def save_verdict(self, question: str, verdict: str, numbers: dict) -> str:
        """Store ``verdict.json`` and return the verdict, which every reader of the numbers can compute again."""
        content = {"question": question, "verdict": verdict, "numbers": numbers, "provenance": self.provenance}
        write_json(self.folder / "verdict.json", plain(content), allow_nan=False)
        return verdict

    @property
    def provenance(self) -> dict:
        return provenance(
            "questions",
            profile=self.profile.name,
            profile_hash=self.profile.hash,
            experiment=self.experiment,
            items=self.profile.items,
        )


def evaluate_merge(recipe: dict, profile: Profile, experiment: str, folder: Path, name: str) -> pd.DataFrame:
    """Merge into a folder that is gone afterwards, and evaluate on the experiment's tasks in all repeats, with the profile's settings."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        model = merge(recipe, Path(place) / "merged")
        setting = profile.evaluation(experiment) | {"keep": folder / "batches", "labels": {"method": name}}
        return pd.concat(
            [
                evaluate(model, tasks, repeat=repeat, **setting)
                for tasks, repeat in profile.experiment(experiment).calls()
            ]
        )


def plain(value: object) -> object:
    """What JSON cannot hold, as what it can: NumPy's numbers as Python's, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def inside(values: np.ndarray) -> np.ndarray:
    """Bootstrap values (draws + 1,) of points above the frontier, all NaN where :func:`acm.reporting.statistics.verdict` says 'outside'.

    What is left of such values holds only the draws that lie inside, so neither an estimate nor an interval is shown of them.
    """
    return np.full_like(values, np.nan) if statistics.verdict(values) == "outside" else values


def counted(number: int, noun: str) -> str:
    """``1 draw``, ``5 draws``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
