"""Reads the results of one experiment from its folder: records, mutual information, coefficients.

Tables, figures and the report are made from a :class:`Results` alone. No model is run here.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.errors import UserError
from acm.paths import REPORTS
from acm.profiles import Profile
from acm.profiles.experiment import Experiment, frontier_name
from acm.records import coefficients_name, provenance, read_coefficients, read_records
from acm.reporting.statistics import DRAWS, Sample, bootstrap

PLAIN_MERGES = {"Average", "TA", "TIES"}  # methods that a short table shows beside those whose names begin with ACM


class Results:
    """What an experiment of a profile gave, read on first use.

    results: where it lies. ``runs`` is your own run (``runs/<profile>``), ``reports`` the committed results
    (``reports/<profile>``), and a path any other folder that holds a folder for each experiment. UserError for another
    word, for an experiment that the profile has not, and, once something is read, for a file that is not there.
    """

    def __init__(self, profile: Profile, experiment: str, results: str | Path = "runs") -> None:
        self.profile, self.name = profile, experiment
        self.experiment = profile.experiment(experiment)
        self.folder = folder_of(profile, results) / experiment

    @cached_property
    def records(self) -> pd.DataFrame:
        """All records, one row for each response."""
        together = self.folder / "records.parquet"
        if together.is_file():
            return read_records([together])
        return read_records([self.folder / "records" / f"{name}.parquet" for name in self.methods])

    @property
    def methods(self) -> list[str]:
        """Parents, methods and points of the frontier, in the order of the tables."""
        return [*self.experiment.parents, *self.experiment.method_names]

    @property
    def frontier(self) -> list[str]:
        """The curve of plain interpolation: the base, λ swept and, with one fine-tuned model, that model."""
        base, *finetuned = self.experiment.parents
        return [base, *self.swept.values(), *(finetuned if self.pair else [])]

    @property
    def swept(self) -> dict[float, str]:
        """λ → name of that point of the frontier."""
        return {value: frontier_name(value) for value in self.experiment.frontier}

    @property
    def selected(self) -> list[str]:
        """Parents, plain merges and the ACM methods: for figures and tables that cannot show all."""
        chosen = [m for m in self.experiment.methods if m in PLAIN_MERGES or m.startswith("ACM")]
        return [*self.experiment.parents, *chosen]

    @property
    def pair(self) -> bool:
        """Whether one model is merged into the base. Then λ swept is plain interpolation between two parents."""
        return len(self.experiment.finetuned) == 1

    @cached_property
    def sample(self) -> Sample:
        """Bootstrap of the records, paired across methods."""
        return bootstrap(self.records, self.methods, self.experiment.tasks, seed=self.profile.seed)

    @cached_property
    def information(self) -> pd.DataFrame:
        """The table of mutual information."""
        return pd.read_parquet(self.path("mutual_information.parquet"))

    @cached_property
    def coefficients(self) -> dict[str, dict[str, dict[str, float]]]:
        """Control → fine-tuned model → layer → λ."""
        return {c: read_coefficients(self.path(coefficients_name(c))) for c in COEFFICIENT_CONTROLS}

    def path(self, name: str) -> Path:
        """A file of the experiment; UserError if it is not there."""
        if not (self.folder / name).is_file():
            raise UserError(f"no {self.folder / name}; run `make reproduce PROFILE={self.profile.name}` first.")
        return self.folder / name

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from; stored beside each figure."""
        settings = [json.loads(text) for text in sorted(set(self.records["setting"]))]
        common = {key: value for key, value in settings[0].items() if key not in ("model", "repeat")}
        if tasks := {task: data for setting in settings for task, data in setting.get("tasks", {}).items()}:
            common["tasks"] = tasks
        return {
            "profile": self.profile.name,
            "profile_hash": self.profile.hash,
            "experiment": self.name,
            "n": self.sample.items,
            "models": sorted({setting["model"] for setting in settings}),
            "evaluated_with": common,
            "drawn_with": provenance("reporting"),
        }

    def caption(self, text: str) -> str:
        """``text`` with the number of items, what the intervals are, and how responses were generated."""
        profile = self.profile
        counts = ", ".join(f"{task} n = {n}" for task, n in self.sample.items.items())
        intervals = f"95 % intervals by bootstrap over items ({DRAWS} draws, paired across methods)"
        return (
            f"{text} {counts}; {intervals}, of shares by Wilson. Profile {profile.name} ({profile.hash}), "
            f"{profile.dtype} on {profile.device}, batch size {profile.batch_size}, cap {profile.cap(self.name)} "
            "tokens, "
            f"{sampling(self.experiment)}{exceptions(self.experiment)}."
        )

    def calibration_caption(self, text: str) -> str:
        """``text`` with what calibration saw. Coefficients of one calibration set have no interval."""
        n, calibration = self.information["sample"].nunique(), self.experiment.calibration
        return (
            f"{text} n = {n} calibration texts from {Path(calibration.texts).name} (seed {calibration.seed}); "
            f"shift '{self.experiment.shift}', {self.experiment.estimator} MI of bf16 values; one calibration set, so "
            "no "
            f"interval. Profile {self.profile.name} ({self.profile.hash})."
        )


def folder_of(profile: Profile, results: str | Path) -> Path:
    """The folder that holds a profile's experiments: of ``runs``, of ``reports``, or the path given."""
    if isinstance(results, Path):
        return results
    if results not in ("runs", "reports"):
        raise UserError(f"results must be 'runs' or 'reports', not '{results}'.")
    return profile.folder if results == "runs" else REPORTS / profile.name


def sampling(experiment: Experiment) -> str:
    """How responses are generated, and how many of each item a mean is over."""
    how = f"temperature {experiment.temperature:g}, top_p {experiment.top_p:g}" if experiment.temperature else "greedy"
    return how + (f", mean of {experiment.repeats} responses an item" if experiment.repeats > 1 else "")


def exceptions(experiment: Experiment) -> str:
    """The prompts that are not the tasks' own, and the lower token caps, each with whose they are."""
    by_prompt: dict[str, list[str]] = {}
    for method, prompt in experiment.prompts.items():
        by_prompt.setdefault(prompt, []).append(method)
    said = [f"; {', '.join(methods)}: {prompt} prompt" for prompt, methods in by_prompt.items()]
    if experiment.prompt:
        said.append(f"; {'all others' if said else 'all'}: {experiment.prompt} prompt")
    return "".join([*said, *(f"; {method}: cap {cap}" for method, cap in experiment.caps.items())])
