"""The one dial: a profile names models, calibration texts, methods, tasks and generation settings.

Relative paths start from the repository's root. Unknown keys are refused. ``name+variant`` lays a variant over a profile.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from acm import hub
from acm.calibration.registry import COEFFICIENT_CONTROLS, ESTIMATORS, SHIFTS
from acm.errors import UserError, check_distinct, explain, unknown
from acm.merging.recipe import Recipe, read_yaml
from acm.paths import PROFILES, ROOT, RUNS
from acm.records import coefficients_name

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of experiments and methods, which name files
PROFILE_NAME = rf"{NAME[:-1]}(\+[A-Za-z0-9][A-Za-z0-9._-]*)*$"
COMMIT = r"^[0-9a-f]{40}$"
VARIANTS = PROFILES / "variants"


def one_of(what: str, names: Iterable[str]) -> AfterValidator:
    """Refuses a name that is not among these, with the nearest as a hint."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(str(unknown(what, name, names)))
        return name

    return AfterValidator(check)


Control = Annotated[str, one_of("control that gives coefficients", COEFFICIENT_CONTROLS)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def optional(default: Any, **bounds: float) -> Any:
    """A field that a profile which does not use it does not show, so that its hash stays what it was."""
    return Field(default, exclude_if=lambda value: value == default, **bounds)


class Calibration(Strict):
    """Which texts, and how many: K-means into ``clusters``, ``per_cluster`` of each (the paper: 20 × 5).

    texts: a file, or a hub dataset such as simplescaling/s1K. revision: commit of that dataset (None: the newest). field: of a JSONL file, or
    several joined by ``+``. max_tokens: texts are cut there (None: whole, as in the paper).
    """

    texts: str
    revision: Annotated[str, Field(pattern=COMMIT)] | None = optional(None)
    field: str = "question"
    clusters: int = Field(20, ge=1)
    per_cluster: int = Field(5, ge=1)
    seed: int = 54
    max_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def revision_of_a_dataset(self) -> Calibration:
        if self.revision and not hub.HUB_ID.fullmatch(self.texts):
            raise ValueError(
                f"`revision` pins a dataset of the hub (owner/name), and texts is the file {self.texts}; leave it out"
            )
        return self

    @property
    def source(self) -> str:
        """The file, seen from the repository's root; or a hub dataset's name and ``@commit``, where there is no such file."""
        if (ROOT / self.texts).exists() or not hub.HUB_ID.fullmatch(self.texts):
            return str(ROOT / self.texts)
        return f"{self.texts}@{self.revision}" if self.revision else self.texts


class EngineArguments(Strict):
    """What :func:`acm.evaluate` takes for vLLM (docs/backends.md); None: vLLM's default, of ``max_model_len`` (tokens) what the cap needs."""

    tensor_parallel_size: int | None = optional(None, ge=1)
    gpu_memory_utilization: float | None = optional(None, gt=0, le=1)
    max_model_len: int | None = optional(None, ge=1)
    max_num_seqs: int | None = optional(None, ge=1)
    quantization: str | None = optional(None)
    enforce_eager: bool | None = optional(None)


class Method(Strict):
    """A row of the table. ``coefficients``: ACM with the λ of this control of the MI table (``none``: the real one)."""

    merge_method: str
    parameters: dict[str, float | bool] = {}
    include_base: bool = False
    coefficients: Control | None = None
    seed: int = 0


class Experiment(Strict):
    """One base with its fine-tuned models, tasks and methods; ``reference`` is the model that lengths compare with.

    base, finetuned: folders, or ids of the model hub (``owner/name``), which `python -m acm fetch` downloads.
    revisions: hub id → commit; without one, fetch takes the newest and prints it.
    max_tokens: token cap of a response; None: the profile's. caps: model or method → its lower one. prompts: model or method → its prompt,
    where it is not the tasks' own.
    temperature, top_p: of sampling; 0 is greedy. repeats: responses to each item, each with a seed of its own (avg@k).
    compatibility, tie_word_embeddings: of all merges, as in a recipe.
    """

    base: str
    finetuned: list[str] = Field(min_length=1)
    revisions: dict[str, Annotated[str, Field(pattern=COMMIT)]] = optional({})
    reference: str
    tasks: list[str] = Field(min_length=1)
    calibration: Calibration
    max_tokens: int | None = Field(None, ge=1)
    caps: dict[str, Annotated[int, Field(ge=1)]] = optional({})
    prompts: dict[str, Literal["qwen25-math-cot", "few-shot", "chat-template"]] = optional({})
    temperature: float = optional(0.0, ge=0, allow_inf_nan=False)
    top_p: float = optional(1.0, gt=0, le=1)
    repeats: int = optional(1, ge=1)
    compatibility: Literal["own", "paper"] | None = optional(None)
    tie_word_embeddings: bool | None = optional(None)
    t: float = 0.7
    shift: Annotated[str, one_of("shift", SHIFTS)] = "layer"
    estimator: Annotated[str, one_of("estimator", ESTIMATORS)] = "plug-in"
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
        check_distinct(self.tasks, "tasks")
        if self.top_p < 1 and not self.temperature:
            raise ValueError(
                f"top_p {self.top_p:g} has no effect at temperature 0; set a temperature, or leave top_p out"
            )
        if bad := [n for n in self.methods if not re.fullmatch(NAME, n)]:
            raise ValueError(f"method name '{bad[0]}' must be of letters, digits, '.', '_' and '-': it names files")
        if self.reference not in self.parents:
            raise ValueError(str(unknown("reference model", self.reference, self.parents)))
        for key in ("caps", "prompts"):
            if odd := set(getattr(self, key)) - {*self.parents, *self.method_names}:
                raise ValueError(f"{key}: {unknown('model or method', min(odd), [*self.parents, *self.method_names])}")
        if odd := set(self.revisions) - {self.base, *self.finetuned}:
            raise ValueError(f"revisions: {unknown('model', min(odd), [self.base, *self.finetuned])}")
        for name in self.method_names:
            self.recipe(name, Path())  # raises for a bad method
        return self

    @property
    def parents(self) -> dict[str, Path]:
        """Folder name → path of the base and the fine-tuned models, base first."""
        return {Path(p).name: ROOT / self.path(p) for p in (self.base, *self.finetuned)}

    @property
    def hub_models(self) -> dict[str, str | None]:
        """Hub id → commit of the models that are no folders here."""
        return {p: self.revisions.get(p) for p in (self.base, *self.finetuned) if hub.is_hub(p)}

    def path(self, model: str) -> str:
        """A model's folder, seen from the repository's root: as the profile says; of a hub model, where fetch puts it."""
        if not hub.is_hub(model):
            return model
        link = hub.link(model, self.revisions.get(model))
        return str(link.relative_to(ROOT) if link.is_relative_to(ROOT) else link)  # outside a clone it lies elsewhere

    @property
    def method_names(self) -> list[str]:
        """Everything to merge: the methods, then the points of the frontier."""
        return [*self.methods, *(frontier_name(c) for c in self.frontier)]

    @property
    def parts(self) -> dict[str, tuple[str, int]]:
        """``<task>-<repeat>`` → task and repeat, in the order of the records: what one job evaluates where `jobs` says task."""
        return {f"{task}-{repeat}": (task, repeat) for task in self.tasks for repeat in range(self.repeats)}

    def calls(self, part: str = "") -> list[tuple[list[str], int]]:
        """Tasks and repeat of each call of :func:`acm.evaluate`: of one part; without one, all tasks once for each repeat."""
        if not part:
            return [(self.tasks, repeat) for repeat in range(self.repeats)]
        if part not in self.parts:
            raise unknown("part", part, self.parts)
        task, repeat = self.parts[part]
        return [([task], repeat)]

    def recipe(self, name: str, coefficients: Path) -> Recipe:
        """The recipe of a method, its paths as in the profile; ``coefficients`` is the folder with the coefficient files."""
        frontier = {frontier_name(c): c for c in self.frontier}
        if name not in self.methods and name not in frontier:
            raise unknown("method", name, self.method_names)
        method = self.methods.get(name) or Method(merge_method="task_arithmetic", parameters={"weight": frontier[name]})
        content = {
            "merge_method": method.merge_method,
            "base_model": None if method.merge_method == "linear" and not method.include_base else self.path(self.base),
            "models": [{"model": self.path(m)} for m in self.finetuned],
            "parameters": method.parameters,
            "seed": method.seed,
            "tie_word_embeddings": self.tie_word_embeddings,
        }
        if self.compatibility:
            content["compatibility"] = self.compatibility
        if method.coefficients:
            content["coefficients"] = str(coefficients / coefficients_name(method.coefficients))
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            raise ValueError(str(explain(error, f"method {name}"))) from None


class Profile(Strict):
    """Everything that a run depends on. ``name``: the file's; ``items``: how many of each task, from its start (none: all).

    backend: what generates, and its model_args. jobs: one process evaluates a model, or one of its tasks in one repeat: then batches hold one
    task's items.
    """

    name: str = Field(pattern=PROFILE_NAME)
    title: str = ""
    items: int | None = Field(None, ge=1)
    batch_size: int = Field(64, ge=1)
    max_tokens: int = Field(10240, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: str = "cpu"
    seed: int = 0
    backend: Literal["transformers", "vllm"] = optional("transformers")
    model_args: EngineArguments = optional(EngineArguments())
    jobs: Literal["model", "task"] = optional("model")
    experiments: dict[Annotated[str, Field(pattern=NAME)], Experiment] = Field(min_length=1)

    @model_validator(mode="after")
    def coherent(self) -> Profile:
        if taken := {"logs", "notebooks", "tables", "figures"} & set(self.experiments):
            raise ValueError(f"no experiment can be called '{min(taken)}': a folder of the run has that name")
        given, cap = self.model_args.model_dump(), max(map(self.cap, self.experiments))
        if given and self.backend != "vllm":
            raise ValueError(
                f"model_args: {', '.join(given)} are of vLLM's engine, and backend is {self.backend}; set `backend: vllm`"
            )
        if (room := given.get("max_model_len", cap + 1)) <= cap:
            raise ValueError(
                f"model_args: max_model_len {room} leaves no room for a prompt beside max_tokens {cap}; raise it"
            )
        return self

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where the run works: ``runs/<profile>``."""
        return RUNS / self.name

    def cap(self, experiment: str, method: str = "") -> int:
        """Token cap of an experiment's responses; of a model or method with a lower one, that."""
        setting = self.experiment(experiment)
        general = setting.max_tokens or self.max_tokens
        return min(general, setting.caps.get(method, general))

    def evaluation(self, experiment: str, method: str = "") -> dict[str, Any]:
        """Keywords of :func:`acm.evaluate` for a model or method, but for `repeat`; without ``method``, those of any that has none of its own."""
        e, arguments = self.experiment(experiment), self.model_args.model_dump()
        return {"items": self.items, "batch_size": self.batch_size, "max_tokens": self.cap(experiment, method), "dtype": self.dtype,
                "device": self.device, "seed": self.seed, "prompt": e.prompts.get(method), "temperature": e.temperature, "top_p": e.top_p,
                "backend": self.backend, **({"model_args": arguments} if arguments else {})}  # fmt: skip

    def experiment(self, name: str) -> Experiment:
        if name not in self.experiments:
            raise unknown(f"experiment of profile {self.name}", name, self.experiments)
        return self.experiments[name]


def frontier_name(coefficient: float) -> str:
    return f"frontier-{coefficient:g}"


def load_profile(name: str) -> Profile:
    """The profile ``profiles/<name>.yaml``, or the YAML file at that path; each ``+variant`` after it is laid over it."""
    path, variants = parse_name(name)
    if not path.is_file():
        raise unknown("profile", name.partition("+")[0], (p.stem for p in PROFILES.glob("*.yaml")))
    try:
        content = read_yaml(path)
        if content.get("name", path.stem) != path.stem:
            raise UserError(f"{path}: the profile's name is its file's; remove `name` or rename the file.")
        return Profile.model_validate(with_variants(content, variants) | {"name": "+".join([path.stem, *variants])})
    except ValidationError as error:
        raise explain(error, "+".join([str(path), *variants])) from None


def parse_name(name: str) -> tuple[Path, list[str]]:
    """The file of a profile, and the variants asked for."""
    folder, slash, last = name.rpartition("/")
    stem, *variants = last.split("+")
    check_distinct(variants, "variants")
    return (
        Path(folder + slash + stem) if stem.endswith((".yaml", ".yml")) else PROFILES / f"{folder}{slash}{stem}.yaml"
    ), variants


def with_variants(content: dict, variants: list[str]) -> dict:
    """A profile's content with each variant's keys laid over every experiment; UserError where two variants disagree."""
    if not variants or not isinstance(content.get("experiments"), dict):
        return content
    set_by: dict[str, str] = {}
    titles, experiments = [content.get("title") or ""], content["experiments"]
    for variant in variants:
        path = VARIANTS / f"{variant}.yaml"
        if not path.is_file():
            raise unknown("variant", variant, (p.stem for p in VARIANTS.glob("*.yaml")))
        change = read_yaml(path)
        titles.append(change.pop("title", variant))
        for key in change:
            if set_by.setdefault(key, variant) != variant:
                raise UserError(f"variants {set_by[key]} and {variant} both set {key}; name one of them.")
        experiments = {name: e | change if isinstance(e, dict) else e for name, e in experiments.items()}
    return content | {"title": ", ".join(filter(None, titles)), "experiments": experiments}


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
