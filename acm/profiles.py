"""The one dial: a profile names models, calibration texts, methods, tasks and generation settings.

Relative paths start from the repository's root. Unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acm.errors import UserError, check_distinct, explain, unknown
from acm.merging.recipe import Recipe, read_yaml
from acm.paths import PROFILES, ROOT, RUNS
from acm.texts import HUB_ID

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of profiles, experiments and methods, which name files
Control = Literal["none", "shuffled", "gaussian"]
Estimator = Literal[
    "plug-in", "miller-madow", "shuffle-corrected", "equal-width", "equal-frequency", "kraskov", "gaussian", "cka", "cosine"
]
NULLS = get_args(Control)  # what coefficients are computed from: the real pair, and the controls that methods may name


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(Strict):
    """Which texts, and how many: K-means into ``clusters``, ``per_cluster`` of each (the paper: 20 × 5).

    texts: a file, or a hub dataset such as simplescaling/s1K. field: of a JSONL file, or several joined by ``+``. max_tokens: texts are
    cut there (None: whole, as in the paper).
    """

    texts: str
    field: str = "question"
    clusters: int = Field(20, ge=1)
    per_cluster: int = Field(5, ge=1)
    seed: int = 54
    max_tokens: int | None = Field(None, ge=1)

    @property
    def source(self) -> str:
        """The file, seen from the repository's root; or a hub dataset's name, where there is no such file."""
        return str(ROOT / self.texts) if (ROOT / self.texts).exists() or not HUB_ID.fullmatch(self.texts) else self.texts


class Method(Strict):
    """A row of the table. ``coefficients``: ACM with the λ of this control of the MI table (``none``: the real one)."""

    merge_method: str
    parameters: dict[str, float | bool] = {}
    include_base: bool = False
    coefficients: Control | None = None
    seed: int = 0


class Experiment(Strict):
    """One base with its fine-tuned models, tasks and methods; ``reference`` is the model that lengths compare with.

    max_tokens: token cap of a response; None: the profile's.
    """

    base: str
    finetuned: list[str] = Field(min_length=1)
    reference: str
    tasks: list[str] = Field(min_length=1)
    calibration: Calibration
    max_tokens: int | None = Field(None, ge=1)
    t: float = 0.7
    shift: Literal["layer", "global", "none"] = "layer"
    estimator: Estimator = "plug-in"
    frontier: list[float] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    methods: dict[str, Method] = {}

    @model_validator(mode="before")
    @classmethod
    def standard_methods(cls, values: dict) -> dict:
        return values if not isinstance(values, dict) or "methods" in values else values | {"methods": STANDARD_METHODS}

    @model_validator(mode="after")
    def coherent(self) -> Experiment:
        folders = [Path(p).name for p in (self.base, *self.finetuned)]
        if not self.methods or not self.frontier:
            raise ValueError("`methods` and `frontier` must each have at least one entry")
        check_distinct([*folders, *self.method_names], "of the models' folders, methods and frontier points")
        if bad := [n for n in self.methods if not re.fullmatch(NAME, n)]:
            raise ValueError(f"method name '{bad[0]}' must be of letters, digits, '.', '_' and '-': it names files")
        if self.reference not in self.parents:
            raise ValueError(str(unknown("reference model", self.reference, self.parents)))
        for name in self.method_names:
            self.recipe(name, Path())  # raises for a bad method
        return self

    @property
    def parents(self) -> dict[str, Path]:
        """Folder name → path of the base and the fine-tuned models, base first."""
        return {Path(p).name: ROOT / p for p in (self.base, *self.finetuned)}

    @property
    def method_names(self) -> list[str]:
        """Everything to merge: the methods, then the points of the frontier."""
        return [*self.methods, *(frontier_name(c) for c in self.frontier)]

    def recipe(self, name: str, coefficients: Path) -> Recipe:
        """The recipe of a method, its paths as in the profile; ``coefficients`` is the folder with the coefficient files."""
        frontier = {frontier_name(c): c for c in self.frontier}
        if name not in self.methods and name not in frontier:
            raise unknown("method", name, self.method_names)
        method = self.methods.get(name) or Method(merge_method="task_arithmetic", parameters={"weight": frontier[name]})
        content = {
            "merge_method": method.merge_method,
            "base_model": None if method.merge_method == "linear" and not method.include_base else self.base,
            "models": [{"model": m} for m in self.finetuned],
            "parameters": method.parameters,
            "seed": method.seed,
        }
        if method.coefficients:
            content["coefficients"] = str(coefficients / coefficients_name(method.coefficients))
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            raise ValueError(str(explain(error, f"method {name}"))) from None


class Profile(Strict):
    """Everything that a run depends on. ``name``: the file's; ``items``: how many of each task, from its start (none: all)."""

    name: str = Field(pattern=NAME)
    title: str = ""
    items: int | None = Field(None, ge=1)
    batch_size: int = Field(64, ge=1)
    max_tokens: int = Field(10240, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: str = "cpu"
    seed: int = 0
    experiments: dict[Annotated[str, Field(pattern=NAME)], Experiment] = Field(min_length=1)

    @model_validator(mode="after")
    def free_names(self) -> Profile:
        if taken := {"logs", "notebooks", "tables", "figures"} & set(self.experiments):
            raise ValueError(f"no experiment can be called '{min(taken)}': a folder of the run has that name")
        return self

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where the run works: ``runs/<profile>``."""
        return RUNS / self.name

    def cap(self, experiment: str) -> int:
        """Token cap of an experiment's responses."""
        return self.experiment(experiment).max_tokens or self.max_tokens

    def experiment(self, name: str) -> Experiment:
        if name not in self.experiments:
            raise unknown(f"experiment of profile {self.name}", name, self.experiments)
        return self.experiments[name]


def frontier_name(coefficient: float) -> str:
    return f"frontier-{coefficient:g}"


def coefficients_name(control: str) -> str:
    return "coefficients.json" if control == "none" else f"coefficients-{control}.json"


def load_profile(name: str) -> Profile:
    """The profile ``profiles/<name>.yaml``, or the YAML file at that path."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not path.is_file():
        raise unknown("profile", name, (p.stem for p in PROFILES.glob("*.yaml")))
    try:
        content = read_yaml(path)
        if content.get("name", path.stem) != path.stem:
            raise UserError(f"{path}: the profile's name is its file's; remove `name` or rename the file.")
        return Profile.model_validate(content | {"name": path.stem})
    except ValidationError as error:
        raise explain(error, str(path)) from None


# The paper's hyper-parameters at 1.5B and 7B (arXiv 2505.14009, experimental setup; its k is 1 − density), for one fine-tuned
# model: DARE's 0.5 is the mean of two models. In ACM, λ replaces the weight; where TIES has an α, whether the paper kept it is unstated.
STANDARD_METHODS = {
    "Average": {"merge_method": "linear", "include_base": True, "parameters": {"weight": 1.0}},
    "TA": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}},
    "TIES": {"merge_method": "ties", "parameters": {"weight": 1.0, "density": 0.2}},
    "DARE": {"merge_method": "dare_linear", "parameters": {"weight": 0.5, "density": 0.7}},
    "DARE-TA": {"merge_method": "dare_linear", "parameters": {"weight": 0.7, "density": 0.7}},
    "DARE-TIES": {"merge_method": "dare_ties", "parameters": {"weight": 0.7, "density": 0.7}},
    "ACM-TA": {"merge_method": "task_arithmetic", "coefficients": "none"},
    "ACM-TIES": {"merge_method": "ties", "parameters": {"density": 0.2}, "coefficients": "none"},
    "Null-TA": {"merge_method": "task_arithmetic", "coefficients": "gaussian"},
    "Null-TIES": {"merge_method": "ties", "parameters": {"density": 0.2}, "coefficients": "gaussian"},
}
