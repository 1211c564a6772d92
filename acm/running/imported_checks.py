"""Checks whether records made elsewhere fit a profile: complete, in range, and made with the profile's settings.

Every check raises UserError for the first thing that does not fit, and says what would fit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from acm.errors import UserError, shown, unknown
from acm.evaluation.benchmarks import BENCHMARKS, FOLDER
from acm.evaluation.prompts import USUAL_PROMPT
from acm.evaluation.settings import USUAL, stated
from acm.evaluation.task_files import Item, arguments_of, count_items, load_items
from acm.identity import identity
from acm.profiles import Profile
from acm.reading import read_json
from acm.running.imported_logs import LOG_ENGINE

KEY = ["task", "item", "repeat"]
LOG_STATES = ("max_tokens", "temperature", "top_p")  # what the setting of records from logs always has
OWN = ("repeat", "concurrency")  # belong to one call: a record's setting may have them, a profile does not
# Fields of a server's requests that affect how text is handed over, not what is generated.
TEXT_ONLY = ("skip_special_tokens", "add_special_tokens")
# Field of a server's requests → the values that leave sampling as the profile says.
NEUTRAL: dict[str, tuple[float, ...]] = {"top_k": (-1, 0), "min_p": (0,), "repetition_penalty": (1,)}


def check_manifests(path: Path, profile: Profile, experiment: str) -> None:
    """A manifest beside the records, of a run or a report, was written for this content of the profile."""
    general = json.loads(profile.model_dump_json(exclude={"experiments", "title"}))
    own = json.loads(profile.experiment(experiment).model_dump_json())
    for manifest in (folder / "manifest.json" for folder in (path.parent, path.parent.parent)):
        if not manifest.is_file():
            continue
        found = read_json(manifest)
        theirs = [found.get("profile"), found.get("experiment")] if "experiment" in found else [general, own]
        if any(other is not None and not isinstance(other, dict) for other in theirs):
            raise UserError(f"{manifest}: profile or experiment is no object; copy it again.")
        differing = [
            key
            for ours, other in zip([general, own], theirs, strict=True)
            for key in ours.keys() | (other or {}).keys()
            if ours.get(key) != (other or {}).get(key)
        ]
        if differing or found.get("profile_hash", profile.hash) != profile.hash:
            what = f" in {', '.join(sorted(differing))}" if differing else ""
            raise UserError(
                f"{manifest}: made with another content of profile {profile.name}{what}; use that profile here."
            )


def check_method(profile: Profile, experiment: str, name: str, records: pd.DataFrame, sizes: Mapping[str, int]) -> None:
    """The records of one method are complete, come once, and are of the profile's setting.

    sizes: task → number of its items, where results or the user state it.
    """
    place, setting = f"records of {name}", profile.experiment(experiment)
    tasks = list(dict.fromkeys(records["task"]))
    if odd := [task for task in tasks if task not in setting.tasks]:
        raise UserError(f"{place}: {unknown(f'task of {experiment}', str(odd[0]), setting.tasks)}")
    if lacking := [task for task in setting.tasks if task not in tasks]:
        raise UserError(f"{place} lack the task {lacking[0]}; import all tasks of a method together.")
    if (twice := records.duplicated(KEY)).any():
        task, item, repeat = records.loc[twice, KEY].iloc[0]
        raise UserError(f"{place}: item {item} of {task} (repeat {repeat}) comes twice; name each file once.")
    for task, own in records.groupby("task"):
        check_repeats(place, str(task), list(own["repeat"].unique()), setting.repeats)
        check_items(profile, place, str(task), own, sizes.get(str(task)))
    check_values(place, records, profile.cap(experiment, name))
    check_setting(profile, experiment, name, records)


def check_repeats(place: str, task: str, repeats: list[int], wanted: int) -> None:
    """The repeats of a task are those that the profile asks for."""
    if set(repeats) != set(range(wanted)):
        found, asked = (", ".join(map(str, numbers)) for numbers in (repeats, range(wanted)))
        raise UserError(
            f"{place} hold the repeats {found} of {task}, and the profile asks for {asked}; "
            "import just these, together."
        )


def check_items(profile: Profile, place: str, task: str, records: pd.DataFrame, stated: int | None) -> None:
    """All items of the task are there in every repeat, and no other. stated: how many the task has, as others say."""
    known = count_items(task)
    if None not in (known, stated) and known != stated:
        raise UserError(f"{place} are of an edition of {task} with {stated} items, and the profile's has {known}.")
    size, asked = known or stated, profile.items
    if size is None and records["item"].nunique() != asked:
        raise UserError(
            f"{place} hold {records['item'].nunique()} items of {task}, and nothing here says how many it has; "
            f"give --items {task}=N, the number of all its items."
        )
    size = min(size or asked or 0, asked or size or 0)
    for repeat, own in records.groupby("repeat"):
        if wrong := sorted(set(own["item"]) ^ set(range(size))):
            what = "lack" if wrong[0] in range(size) else "hold the unknown"
            raise UserError(
                f"{place} {what} item {wrong[0]} of {task} (repeat {repeat}); "
                f"the profile asks for {size}, numbered from 0."
            )


def check_data(name: str, records: pd.DataFrame) -> None:
    """Reference answers, and questions where they were kept, are those of the tasks whose data is at hand."""
    for task, own in records.groupby("task"):
        items = items_at_hand(str(task))
        for row in own.to_dict("records") if items else []:
            item, asked = items[row["item"]], row.get("question")
            if row["gold"] != str(item["gold"]):
                what, theirs, ours = "reference answer", row["gold"], item["gold"]
            elif isinstance(asked, str) and str(item["question"]) not in asked:
                what, theirs, ours = "question", asked, item["question"]
            else:
                continue
            raise UserError(
                f"records of {name}: the {what} of item {row['item']} of {task} is {shown(theirs)!r}, and the task's "
                f"own data has {shown(str(ours))!r}; another edition or order of items was evaluated."
            )


def items_at_hand(task: str) -> list[Item]:
    """The items of a task of ours; none of a task whose data would have to be fetched, or whose data is amiss."""
    if arguments_of(task).get("name") in BENCHMARKS and not os.environ.get(FOLDER):
        return []
    try:
        return load_items(task)
    except UserError:
        return []


def check_values(place: str, records: pd.DataFrame, cap: int) -> None:
    """Grades and lengths are within their ranges. cap: tokens."""
    for column, most in (("correct", 1), ("length", cap)):
        good = records[column].between(0, most)
        if not good.all():
            row = records[~good].iloc[0]
            limit = f", and the profile's cap is {cap}" if column == "length" else ""
            raise UserError(f"{place}: {column} of item {row['item']} of {row['task']} is {row[column]!s:.60}{limit}.")


def check_setting(profile: Profile, experiment: str, name: str, records: pd.DataFrame) -> None:
    """One setting for all, the profile's. Where the model is a folder here, the setting names that model.

    Logs state only a part of their setting, and only that part is compared.
    """
    found = one_setting(f"records of {name}", records)
    of_log = found.get("engine") == LOG_ENGINE
    wanted, given = asked_setting(profile, experiment, name), found if of_log else USUAL | found
    if given.get("prompt", "") is None:
        given = given | {"prompt": USUAL_PROMPT}
    if given.get("backend") == "server":  # whose own engine is not known
        wanted |= {"backend": "server", "model_args": {}}
        given = given | {"model_args": sampling_arguments(given.get("model_args"))}
    served = given.get("backend") == "server"
    for key in LOG_STATES if of_log else [key for key in wanted if not (served and key in ("dtype", "device"))]:
        if key not in given:
            raise UserError(f"records of {name} do not state their {key}; make them with `acm evaluate`.")
    for key, value in (wanted | {"profile_hash": profile.hash}).items():
        if key in given and given[key] != value:
            raise UserError(
                f"records of {name} were made with {key} {shown(given[key])}, and profile {profile.name} says {value}."
            )
    folder, model = profile.experiment(experiment).parents.get(name), found.get("model")
    if folder and folder.is_dir() and not of_log and model != (own := identity(folder)):
        raise UserError(
            f"records of {name} were made with another model than {folder}: its hash is {own}, not {shown(model)}."
        )


def one_setting(place: str, records: pd.DataFrame) -> dict[str, Any]:
    """The setting that all records share. Each task and repeat may have been a call of its own, so these may differ."""
    try:
        settings = [
            {key: value for key, value in json.loads(text).items() if key not in ("tasks", "repeat", "gpu")}
            for text in records["setting"].unique()
        ]
    except (TypeError, ValueError, AttributeError, RecursionError):
        raise UserError(f"{place}: their setting is not JSON.") from None
    if different := sum(other != settings[0] for other in settings):
        raise UserError(f"{place} were made with {different + 1} settings; make all tasks with one.")
    return settings[0]


def asked_setting(profile: Profile, experiment: str, name: str) -> dict[str, Any]:
    """The setting with which the profile evaluates a model or method, as records state it."""
    asked = profile.evaluation(experiment, name)
    said = stated(asked["engine"], asked["sampling"], asked["max_tokens"], asked["prompt"] or USUAL_PROMPT)
    return {key: value for key, value in said.items() if key not in OWN}


def sampling_arguments(arguments: object) -> object:
    """Of a server's model_args those that change what is generated. What is no mapping stays as it is."""
    if not isinstance(arguments, dict):
        return arguments
    return {
        key: value for key, value in arguments.items() if key not in TEXT_ONLY and value not in NEUTRAL.get(key, ())
    }


def check_same_rule(stored: pd.DataFrame, records: pd.DataFrame, place: str) -> None:
    """Methods that came from logs were graded by the same metric and filter, with as many examples in the prompt."""
    old, new = (one_setting(place, frame) for frame in (stored, records))
    for key, what in (("graded_by", "graded by"), ("shots", "prompted with examples")):
        theirs, ours = (found[key] if isinstance(found.get(key), dict) else {} for found in (old, new))
        if odd := [task for task in theirs.keys() & ours.keys() if theirs[task] != ours[task]]:
            one, other = (shown(json.dumps(found[odd[0]])) for found in (ours, theirs))
            raise UserError(f"{place} were {what} {one} in {odd[0]}, and those {other}; import logs of one rule.")


def check_golds(records: pd.DataFrame, place: str) -> None:
    """Each item of a task has one reference answer, whoever answers."""
    golds = records.groupby(["task", "item"])["gold"].nunique()
    if (golds > 1).any():
        task, item = golds[golds > 1].index[0]
        raise UserError(
            f"{place} have another reference answer for item {item} of {task}: "
            "the benchmark's items or their order differ."
        )
