"""The results of one experiment of a profile, as the tables, figures and report read them."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import pandas as pd

from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.errors import UserError
from acm.paths import REPORTS
from acm.profiles import Experiment, Profile, frontier_name
from acm.records import coefficients_name, provenance, read_coefficients, read_records
from acm.reporting.statistics import DRAWS, Sample, bootstrap


class Results:
    """Lazy views on ``runs/<profile>/<experiment>`` (your run) or ``reports/<profile>/<experiment>`` (the committed one)."""

    def __init__(self, profile: Profile, experiment: str, results: str = "runs") -> None:
        if results not in {"runs", "reports"}:
            raise UserError(f"results must be 'runs' or 'reports', not '{results}'.")
        self.profile, self.name = profile, experiment
        self.experiment = profile.experiment(experiment)
        self.folder = (profile.folder if results == "runs" else REPORTS / profile.name) / experiment

    @cached_property
    def records(self) -> pd.DataFrame:
        """All records, one row per response."""
        whole = self.folder / "records.parquet"
        if whole.is_file():
            return read_records([whole])
        return read_records([self.folder / "records" / f"{name}.parquet" for name in self.methods])

    @property
    def methods(self) -> list[str]:
        """Parents, methods and frontier points, in the order of the tables."""
        return [*self.experiment.parents, *self.experiment.method_names]

    @property
    def frontier(self) -> list[str]:
        """The curve of plain interpolation: base, λ swept and, with one fine-tuned model, that model."""
        parents = list(self.experiment.parents)
        return [parents[0], *self.swept.values(), *(parents[1:] if self.pair else [])]

    @property
    def swept(self) -> dict[float, str]:
        """Scaling λ → name of the frontier point."""
        return {value: frontier_name(value) for value in self.experiment.frontier}

    @property
    def selected(self) -> list[str]:
        """Parents, plain merges and the ACM methods, for figures and tables that cannot show all."""
        chosen = [m for m in self.experiment.methods if m in {"Average", "TA", "TIES"} or m.startswith("ACM")]
        return [*self.experiment.parents, *chosen]

    @property
    def pair(self) -> bool:
        """Whether one model is merged into the base: then λ swept is plain interpolation between two parents."""
        return len(self.experiment.finetuned) == 1

    @property
    def temperatures(self) -> list[float]:
        """The paper's t of Figure 4, and this experiment's own."""
        return sorted({0.5, 0.7, 0.9, self.experiment.t})

    @cached_property
    def sample(self) -> Sample:
        return bootstrap(self.records, self.methods, self.experiment.tasks, seed=self.profile.seed)

    @cached_property
    def information(self) -> pd.DataFrame:
        """The table of mutual information."""
        return pd.read_parquet(self.path("mutual_information.parquet"))

    @cached_property
    def coefficients(self) -> dict[str, dict[str, dict[str, float]]]:
        """control → finetuned → layer → λ."""
        return {c: read_coefficients(self.path(coefficients_name(c))) for c in COEFFICIENT_CONTROLS}

    def path(self, name: str) -> Path:
        if not (self.folder / name).is_file():
            raise UserError(f"no {self.folder / name}; run `make reproduce PROFILE={self.profile.name}` first.")
        return self.folder / name

    @property
    def provenance(self) -> dict:
        """Where the numbers come from; for each table and figure."""
        settings = sorted(set(self.records["setting"]))
        models = {json.loads(s)["model"] for s in settings}
        tasks = {task: data for s in settings for task, data in json.loads(s).get("tasks", {}).items()}
        common = {k: v for k, v in json.loads(settings[0]).items() if k not in ("model", "repeat")} | (
            {"tasks": tasks} if tasks else {}
        )
        return {"profile": self.profile.name, "profile_hash": self.profile.hash, "experiment": self.name, "n": self.sample.items,
                "models": sorted(models), "evaluated_with": common, "drawn_with": provenance("reporting")}  # fmt: skip

    def caption(self, text: str) -> str:
        """``text`` with n, what the intervals are, and the setting."""
        p, e, tasks = (
            self.profile,
            self.experiment,
            ", ".join(f"{task} n = {n}" for task, n in self.sample.items.items()),
        )
        asked = {
            prompt: [m for m, p in e.prompts.items() if p == prompt] for prompt in dict.fromkeys(e.prompts.values())
        }
        own = "".join(f"; {', '.join(names)}: {prompt} prompt" for prompt, names in asked.items()) + "".join(
            f"; {m}: cap {c}" for m, c in e.caps.items()
        )
        return (
            f"{text} {tasks}; 95 % intervals by bootstrap over items ({DRAWS} draws, paired across methods), of one task's shares by Wilson. Profile "
            f"{p.name} ({p.hash}), {p.dtype} on {p.device}, batch size {p.batch_size}, cap {p.cap(self.name)} tokens, {sampling(e)}{own}."
        )

    def calibration_caption(self, text: str) -> str:
        """``text`` with what calibration saw; coefficients of one calibration set have no interval."""
        n, c = self.information["sample"].nunique(), self.experiment.calibration
        return (
            f"{text} n = {n} calibration texts from {Path(c.texts).name} (seed {c.seed}); shift '{self.experiment.shift}', "
            f"{self.experiment.estimator} MI of bf16 values; one calibration set, so no interval. Profile {self.profile.name} ({self.profile.hash})."
        )


def sampling(experiment: Experiment) -> str:
    """How responses are generated, and how many of each item a mean is over."""
    how = f"temperature {experiment.temperature:g}, top_p {experiment.top_p:g}" if experiment.temperature else "greedy"
    return how + (f", mean of {experiment.repeats} responses an item" if experiment.repeats > 1 else "")
