"""Reads a submission: a folder with the records of one merged model, and what cannot be computed from them.

    records.parquet      or records/<method>.parquet, or <method>.parquet: of the method, and of parents and frontier
    submission.yml       the fields of :class:`Submission`
    recipe.yml           how the model was merged; of a method that the profile names it may be left out
    coefficients.json    λ by layer, where the recipe has `coefficients`

The folder comes from a stranger. Only these files are read. They are no links, and have a size limit. Everything that
`acm import` computes anew from records is computed anew here, by the same functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from acm import hub
from acm.errors import UNSEEN, UserError, explain, listed, shown, unknown
from acm.evaluation.benchmarks import BENCHMARKS
from acm.evaluation.task_files import arguments_of
from acm.merging.recipe import Recipe, load_recipe
from acm.paths import ROOT, RUNS
from acm.profiles import Profile
from acm.profiles.experiment import NAME, OF_NAME, Experiment, Name
from acm.reading import parse_json, read_yaml
from acm.records import coefficients_name, read_coefficients
from acm.reporting.results import Results
from acm.running.imported import Counting, checked, read_own
from acm.running.imported_checks import check_same_rule
from acm.schema import Strict, like
from acm.sharing.committed import check_name, committed_records, is_own, same_as_committed
from acm.sharing.untrusted import RECORDS, SMALL, check_parquet, plain_file, record_files

STATED, RECIPE, COEFFICIENTS = "submission.yml", "recipe.yml", "coefficients.json"
REPEATS = 1000
LAYER, MOST = r"embed|0|[1-9]\d{0,3}|norm|lm_head", 100  # the size of a λ

Line = Annotated[str, Field(min_length=1, max_length=100), like(rf"[^{UNSEEN}\n]*\S[^{UNSEEN}\n]*", "one line of text")]
ADDRESS = r"https://[A-Za-z0-9.-]+/[A-Za-z0-9./_~%@:=-]*"


class Submission(Strict):
    """What nobody can compute.

    method: whose row it is. who: as the table shall name you. hardware: such as `1× H100 80 GB`. engine: what ran
    behind a server, with its version; other records say it themselves. hours: of generation, all records together.
    date: of the run. weights: address of the merged model. licence: of the records.
    """

    method: Name
    who: Line
    hardware: Line
    date: date
    licence: Literal["CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0"]
    engine: Line | None = None
    hours: float | None = Field(None, gt=0)
    weights: Annotated[str, Field(max_length=300), like(ADDRESS, "an https:// address")] | None = None
    note: Annotated[str, Field(max_length=300), like(rf"[^{UNSEEN}\n]*", "one line of text")] = ""


@dataclass(frozen=True)
class Submitted:
    """A submission that was checked.

    records: method → its records: the method's, and of the parents and the frontier those that are there. borrowed:
    those of parents and frontier that are the committed ones. coefficients: the file, where the recipe has any.
    """

    profile: Profile
    experiment: str
    stated: Submission
    records: dict[str, pd.DataFrame]
    borrowed: list[str]
    recipe: Recipe
    coefficients: Path | None

    @property
    def setting(self) -> Experiment:
        """The experiment of the profile."""
        return self.profile.experiment(self.experiment)

    @property
    def context(self) -> list[str]:
        """Parents and points of the frontier: what the method is held against."""
        return context_of(self.profile, self.experiment)

    @property
    def pair(self) -> str:
        """The models that were merged, base first, as a name of a folder."""
        return "+".join(self.setting.parents)


def context_of(profile: Profile, experiment: str) -> list[str]:
    """Parents and points of the frontier of an experiment."""
    results = Results(profile, experiment)
    return list(dict.fromkeys([*results.experiment.parents, *results.frontier, *results.swept.values()]))


def read_submission(
    folder: Path, profile: Profile, experiment: str, counting: Counting, committed: bool = True
) -> Submitted:
    """A folder's submission, once everything in it was checked against the profile and against its own texts.

    counting: as of :func:`acm.running.imported.checked`. committed: take parents and frontier that the folder lacks
    from the committed records of the profile. UserError for the first thing that does not fit.
    """
    check_name(profile)
    check_models(profile, experiment, is_own(profile))
    stated, setting = read_stated(folder), profile.experiment(experiment)
    context = context_of(profile, experiment)
    if stated.method in context:
        raise UserError(f"{folder / STATED}: {stated.method} is a parent or a point of the frontier, not a merge.")
    recipe = read_recipe(folder, setting, stated.method)
    coefficients = find_coefficients(folder, setting, recipe, stated.method)
    takes = [*context, stated.method]
    records = own_records(folder, profile, experiment, takes, committed)
    if stated.method not in set(records["method"]):
        raise UserError(f"{folder} holds no records of {stated.method}, which {STATED} names.")
    theirs = committed_records(profile, experiment)
    if committed and theirs is not None:
        lacking = theirs["method"].isin(set(context) - set(records["method"]))
        records = pd.concat([records, theirs[lacking]], ignore_index=True) if lacking.any() else records
    check_settings(folder, records)
    check_published(setting.tasks)
    found, _ = checked(profile, experiment, records, takes, counting)
    own = found[stated.method]
    check_engine(folder, stated, own)
    for name in found:
        check_same_rule(found[name], own, f"records of {stated.method}, compared with those of {name},")
    borrowed = same_as_committed(found, theirs, context)
    return Submitted(profile, experiment, stated, found, borrowed, recipe, coefficients)


def check_models(profile: Profile, experiment: str, own: bool = False) -> None:
    """UserError for models that nobody else could find, or whose names make no folder, and for far too many repeats.

    own: whether the profile is the repository's, whose commands make the models that are in `runs`.
    """
    setting = profile.experiment(experiment)
    if setting.repeats > REPEATS:
        raise UserError(f"profile {profile.name} asks for {setting.repeats:,} repeats, and the limit is {REPEATS}.")
    for model in (setting.base, *setting.finetuned):
        lies = (ROOT / model).is_dir() and Path(model).parts[0] != RUNS.name
        if Path(model).is_absolute() or ".." in Path(model).parts or not (own or lies or hub.is_hub(model)):
            raise UserError(
                f"profile {profile.name}: {model} is a folder of one machine alone; name the model by its hub id "
                "(owner/name), or by the path of a folder of the repository."
            )
    for name in setting.parents:
        like_name(name, f"profile {profile.name}: the model's name")


def like_name(name: str, what: str) -> str:
    """A name that can be a folder's. UserError for any other."""
    if not re.fullmatch(NAME, name) or len(name) > 100:
        raise UserError(f"{what} must be {OF_NAME}, and at most 100 characters, not '{shown(name)}'.")
    return name


def read_stated(folder: Path) -> Submission:
    """What the submission says of itself."""
    path = folder / STATED
    if not plain_file(path, SMALL):
        raise UserError(f"{folder} has no {STATED}; it says {', '.join(Submission.model_fields)}: see docs/submit.md.")
    try:
        return Submission.model_validate(read_yaml(path))
    except ValidationError as error:
        raise explain(error, str(path), Submission) from None


def read_recipe(folder: Path, setting: Experiment, method: str) -> Recipe:
    """The recipe of the folder or, of a method that the profile names, of the profile; where both are, they agree."""
    named = setting.recipe(method, Path()) if method in setting.methods else None
    if not plain_file(folder / RECIPE, SMALL):
        if named is None:
            raise unknown(f"method of the profile (any other needs a {RECIPE})", method, setting.methods)
        return portable(named)
    stated, models = load_recipe(folder / RECIPE)[0], [setting.base, *setting.finetuned]
    given = portable(stated)
    theirs = [model for model in (stated.base_model, *(e.model for e in stated.models)) if model]
    if odd := [m for m in theirs if m not in models and (hub.is_hub(m) or Path(m).name not in setting.parents)]:
        raise UserError(f"{folder / RECIPE} merges {shown(odd[0])}, which is none of {', '.join(models)}.")
    if named is not None and given != portable(named):
        raise UserError(
            f"{folder / RECIPE} is not the profile's {method}; give the method another name in {STATED}, or leave the "
            "recipe out."
        )
    return given


def portable(recipe: Recipe) -> Recipe:
    """The recipe with its models by name and its coefficients beside it, wherever they lay. Inline λ stay."""
    content = recipe.model_dump()
    content["base_model"] = content["base_model"] and Path(content["base_model"]).name
    content["models"] = [entry | {"model": Path(entry["model"]).name} for entry in content["models"]]
    if isinstance(content["coefficients"], str):
        content["coefficients"] = COEFFICIENTS
    return Recipe.model_validate(content)


def find_coefficients(folder: Path, setting: Experiment, recipe: Recipe, method: str) -> Path | None:
    """The file of the recipe's coefficients: numbers, for the models that are merged. None where it has none."""
    if not isinstance(recipe.coefficients, str):
        return None
    control = setting.methods[method].coefficients if method in setting.methods else None
    names = [*([coefficients_name(control)] if control else []), COEFFICIENTS]
    path = next((folder / name for name in names if plain_file(folder / name, SMALL)), None)
    if path is None:
        raise UserError(f"{folder} has no {names[0]}, and the recipe of {method} reads coefficients.")
    found = read_coefficients(path)
    if not found or set(found) - {*setting.parents}:
        raise UserError(f"{path} has coefficients of {listed(found)}, not of the models merged.")
    for model, layers in found.items():
        if not isinstance(layers, dict) or not layers or not all(map(is_coefficient, layers.values())):
            raise UserError(
                f"{path}: the coefficients of {model} are no numbers by layer, each from −{MOST} to {MOST}."
            )
        if odd := [layer for layer in layers if not re.fullmatch(LAYER, layer)]:
            raise UserError(
                f"{path}: {shown(odd[0])} is no layer of {model}; layers are embed, 0, 1, …, norm, lm_head."
            )
    return path


def is_coefficient(value: Any) -> bool:
    """Whether a value is a number of the size of a λ."""
    return type(value) in (int, float) and abs(value) <= MOST


def own_records(folder: Path, profile: Profile, experiment: str, takes: list[str], others: bool) -> pd.DataFrame:
    """The folder's records of these methods. UserError for records of none, and for a file that is unsafe to read.

    others: whether records of other methods may lie there, which are left out.
    """
    frames = []
    for path in record_files(folder):
        check_parquet(path)
        frames.append(read_own(path, profile, experiment))
    if not frames:
        raise UserError(
            f"{folder} holds no records: neither {RECORDS} nor records/*.parquet; logs come in by `acm import`."
        )
    records = pd.concat(frames, ignore_index=True)
    taken = records["method"].isin(takes)
    if not others and not taken.all():
        raise UserError(
            f"{folder} holds records of {shown(records['method'][~taken].iloc[0])}, which its row is not on."
        )
    return records[taken].reset_index(drop=True)


def check_settings(folder: Path, records: pd.DataFrame) -> None:
    """UserError for a setting that is no JSON, or holds a number that JSON has not, such as NaN."""
    for text in records["setting"].unique():
        try:
            parse_json(text, finite=True)
        except ValueError as error:
            raise UserError(f"{folder} has records with a setting that is no readable JSON: {error!s:.100}.") from None


def check_published(tasks: list[str]) -> None:
    """UserError for a task whose questions must not be published: the hub hands them out on terms."""
    for task in tasks:
        known = BENCHMARKS.get(str(arguments_of(task).get("name")))
        if known is not None and known.gated:
            raise UserError(
                f"records of {task} hold questions and answers of {known.dataset}, whose terms forbid to publish them; "
                "submit an experiment without this task, and deposit nothing of it."
            )


def check_engine(folder: Path, stated: Submission, records: pd.DataFrame) -> None:
    """UserError where a server answered and nobody says what ran behind it."""
    if stated.engine is None and records["setting"].str.contains('"backend": "server"', regex=False).any():
        raise UserError(f"{folder / STATED}: a server answered; say what ran behind it by `engine`, with its version.")


def plain(content: Any) -> dict[str, Any]:
    """A model of pydantic as a mapping for YAML or JSON, what is left at its default left out."""
    found: dict[str, Any] = content.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return found
