"""Records from elsewhere: ours, or lm-eval's own ``samples_<task>_<date>.jsonl``; checked, then stored whole or not at all.

Taken are the profile's models and methods, and those that the paper's tables print for it and the pipeline does not run. Beside each
``records/<method>.parquet`` an ``<method>.imported.json`` says where it came from; the runner takes such records as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pandas as pd

from acm.checkpoints import identity
from acm.errors import UserError, unknown
from acm.files import write_json
from acm.paper import paper_name, printed_methods
from acm.profiles import Profile
from acm.records import RECORD_COLUMNS, provenance, write_records
from acm.running.budget import ITEMS

LOG = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl")
KEY = ["task", "item", "repeat"]
LOG_ENGINE = "lm-eval's log"
TASKS_PROMPT = "qwen25-math-cot"  # what the tasks that let one choose a prompt ask where none is named
# of a setting that does not name them
DEFAULTS = {"temperature": 0.0, "top_p": 1.0, "backend": "transformers", "prompt": TASKS_PROMPT, "model_args": {}}
TEXT_ONLY = (
    "skip_special_tokens",
    "add_special_tokens",
)  # of a server's requests: how text is handed over, not what is generated
NEUTRAL = {
    "top_k": (-1, 0),
    "min_p": (0,),
    "repetition_penalty": (1,),
}  # of a server's requests: what leaves sampling as the profile says


def import_records(
    profile: Profile, experiment: str, sources: list[Path], method: str | None = None, tokenizer: Path | None = None
) -> str:
    """Check all sources against the profile, then store them; one line on what came in. UserError, and nothing stored, otherwise.

    method, tokenizer: of lm-eval's logs, which name no method and hold no token counts.
    """
    setting = profile.experiment(experiment)
    tables, logs = gather(sources)
    frames = [read_table(path, profile, experiment) for path in tables]
    if logs:
        from acm.running.imported_logs import log_records

        frames.append(log_records(profile, experiment, logs, method, tokenizer))
    records = pd.concat(frames, ignore_index=True)
    names = list(dict.fromkeys(records["method"]))
    takes = [*setting.parents, *setting.method_names, *other_methods(profile, experiment)]
    if odd := [name for name in names if name not in takes]:
        raise unknown(f"method of {experiment}", str(odd[0]), takes)
    folder = profile.folder / experiment / "records"
    fresh = {}
    for name in names:
        own = records[records["method"] == name]
        check_method(profile, experiment, name, own)
        check_against(folder, name, own)
        if not same_as_stored(folder / f"{name}.parquet", own):
            fresh[name] = own
    check_golds(records, f"the sources for {experiment}")
    store(folder, fresh, [*tables, *logs])
    known = [name for name in names if name not in fresh]
    return f"{experiment}: {len(fresh)} imported ({', '.join(fresh) or 'none'}), {len(known)} already here ({', '.join(known) or 'none'})."


def other_methods(profile: Profile, experiment: str) -> list[str]:
    """Methods that the paper's tables print for a profile of this name and that it does not run itself, such as AIM."""
    setting = profile.experiment(experiment)
    own = {*map(paper_name, setting.parents), *setting.method_names}
    return [method for method in printed_methods(profile.name.partition("+")[0]) if method not in own]


def gather(sources: list[Path]) -> tuple[list[Path], list[Path]]:
    """The parquet files and lm-eval logs among the sources and below their folders."""
    tables, logs = [], []
    for source in sources:
        if source.is_dir():
            whole, inner = source / "records.parquet", source / "records"
            found = [whole] if whole.is_file() else sorted((inner if inner.is_dir() else source).glob("*.parquet"))
            samples = sorted(source.rglob("samples_*.jsonl"))
            if not found and not samples:
                raise UserError(
                    f"{source} holds no records: neither records.parquet or *.parquet, nor lm-eval's samples_*.jsonl."
                )
            tables, logs = tables + found, logs + samples
        elif not source.is_file():
            raise UserError(
                f"{source} does not exist; name a records file, lm-eval's samples_*.jsonl, or a folder of them."
            )
        elif source.suffix == ".parquet":
            tables.append(source)
        elif LOG.fullmatch(source.name):
            logs.append(source)
        else:
            raise UserError(
                f"{source} is neither a records file (.parquet) nor a log of lm-eval (samples_<task>_<date>.jsonl)."
            )
    return tables, logs


def read_table(path: Path, profile: Profile, experiment: str) -> pd.DataFrame:
    """Our records, made with this profile and experiment."""
    try:
        records = pd.read_parquet(path)
    except Exception as error:  # of many kinds, by engine
        raise UserError(f"{path} is not a readable parquet file ({type(error).__name__}); copy it again.") from None
    if missing := [column for column in RECORD_COLUMNS if column not in records]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; is it a table of records?")
    if records.empty:
        raise UserError(f"{path} holds no record.")
    for column, wanted in (("profile", profile.name), ("experiment", experiment)):
        if other := sorted({str(value) for value in records[column]} - {wanted}):
            raise UserError(f"{path} has records of {column} {other[0]}, not {wanted}; import them there.")
    check_manifests(path, profile, experiment)
    return records


def check_manifests(path: Path, profile: Profile, experiment: str) -> None:
    """UserError where a manifest beside the records (a run's, or a report's) was written for another content of the profile."""
    general = json.loads(profile.model_dump_json(exclude={"experiments", "title"}))
    own = json.loads(profile.experiment(experiment).model_dump_json())
    for manifest in (folder / "manifest.json" for folder in (path.parent, path.parent.parent)):
        if not manifest.is_file():
            continue
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            raise UserError(f"{manifest} is not readable JSON; copy it again.") from None
        theirs = found if "experiment" in found else {}
        pairs = [*zip([general, own], [theirs.get("profile"), theirs.get("experiment")], strict=True)] if theirs else []
        differing = [
            key
            for ours, other in pairs
            for key in ours.keys() | (other or {}).keys()
            if ours.get(key) != (other or {}).get(key)
        ]
        if differing or found.get("profile_hash", profile.hash) != profile.hash:
            what = f" in {', '.join(sorted(differing))}" if differing else ""
            raise UserError(
                f"{manifest}: made with another content of profile {profile.name}{what}; use that profile here."
            )


def check_method(profile: Profile, experiment: str, name: str, records: pd.DataFrame) -> None:
    """UserError for records of one method that are incomplete, double or of another setting."""
    place, setting = f"records of {name}", profile.experiment(experiment)
    tasks = list(dict.fromkeys(records["task"]))
    if odd := [task for task in tasks if task not in setting.tasks]:
        raise UserError(f"{place}: {unknown(f'task of {experiment}', str(odd[0]), setting.tasks)}")
    if lacking := [task for task in setting.tasks if task not in tasks]:
        raise UserError(f"{place} lack the task {lacking[0]}; import all tasks of a method together.")
    if (twice := records.duplicated(KEY)).any():
        task, item, repeat = records.loc[twice.idxmax(), KEY]
        raise UserError(f"{place}: item {item} of {task} (repeat {repeat}) comes twice; name each file once.")
    for task, own in records.groupby("task"):
        if set(own["repeat"]) != set(range(setting.repeats)):
            found, wanted = (
                ", ".join(map(str, repeats)) for repeats in (own["repeat"].unique(), range(setting.repeats))
            )
            raise UserError(
                f"{place} hold the repeats {found} of {task}, and the profile asks for {wanted}; import just these, together."
            )
        check_items(profile, place, str(task), own)
    check_values(place, records, profile.cap(experiment, name))
    check_setting(profile, experiment, name, records)


def check_items(profile: Profile, place: str, task: str, records: pd.DataFrame) -> None:
    """All items of the task, in every repeat, and no other."""
    size = ITEMS.get(task, records["item"].nunique())  # of an unknown task, all that there are
    size = min(size, profile.items or size)
    for repeat, own in records.groupby("repeat"):
        if wrong := sorted(set(own["item"]) ^ set(range(size))):
            what = "lack" if wrong[0] in range(size) else "hold the unknown"
            raise UserError(
                f"{place} {what} item {wrong[0]} of {task} (repeat {repeat}); the profile asks for {size}, numbered from 0."
            )


def check_values(place: str, records: pd.DataFrame, cap: int) -> None:
    """Every number within its range."""
    tests = {
        "correct": records["correct"].between(0, 1),
        "length": records["length"].between(0, cap),
        "truncated": records["truncated"].isin([True, False]),
        "reflections": records["reflections"].ge(0),
        "response": records["response"].map(lambda text: isinstance(text, str)),
    }
    for column, good in tests.items():
        if not good.all():
            row = records.loc[good.eq(False).idxmax()]
            limit = f", and the profile's cap is {cap}" if column == "length" else ""
            raise UserError(f"{place}: {column} of item {row['item']} of {row['task']} is {row[column]!s:.60}{limit}.")


def check_setting(profile: Profile, experiment: str, name: str, records: pd.DataFrame) -> None:
    """One setting for all, the profile's; where the model is a folder here, of that model. Logs state only a part of it."""
    try:  # each task and repeat may have been a call of its own
        settings = [
            {k: v for k, v in json.loads(text).items() if k not in ("tasks", "repeat")}
            for text in records["setting"].unique()
        ]
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"records of {name}: their setting is not JSON.") from None
    found = settings[0]
    if different := sum(other != found for other in settings):
        raise UserError(f"records of {name} were made with {different + 1} settings; make all tasks with one.")
    wanted = DEFAULTS | {
        key: value
        for key, value in profile.evaluation(experiment, name).items()
        if key != "items" and value is not None
    }
    stated = DEFAULTS | found if found.get("engine") != LOG_ENGINE else found
    if stated.get("backend") == "server":  # whose own engine is not known
        wanted |= {"backend": "server", "model_args": {}}
        stated |= {"model_args": sampling_arguments(stated["model_args"])}
    for key, value in (wanted | {"profile_hash": profile.hash}).items():
        if key in stated and stated[key] != value:
            raise UserError(
                f"records of {name} were made with {key} {stated[key]}, and profile {profile.name} says {value}."
            )
    folder = profile.experiment(experiment).parents.get(name)
    if folder and folder.is_dir() and found.get("engine") != LOG_ENGINE and found.get("model") != identity(folder):
        theirs = found.get("model")
        raise UserError(
            f"records of {name} were made with another model than {folder}: its hash is {identity(folder)}, not {theirs}."
        )


def sampling_arguments(arguments: object) -> object:
    """Of a server's model_args those that change what is generated; what is no mapping as it is."""
    if not isinstance(arguments, dict):
        return arguments
    return {
        key: value for key, value in arguments.items() if key not in TEXT_ONLY and value not in NEUTRAL.get(key, ())
    }


def check_against(folder: Path, name: str, records: pd.DataFrame) -> None:
    """UserError where what is stored already of other methods was asked other questions."""
    for path in sorted(folder.glob("*.parquet")):
        if path.stem != name:
            stored = pd.read_parquet(path, columns=["task", "item", "gold"])
            check_golds(
                pd.concat([stored, records[["task", "item", "gold"]]]),
                f"records of {name}, compared with those of {path.stem},",
            )


def check_golds(records: pd.DataFrame, place: str) -> None:
    """Each item of a task has one reference answer, whoever answers."""
    golds = records.groupby(["task", "item"])["gold"].nunique()
    if (golds > 1).any():
        task, item = golds.idxmax()
        raise UserError(
            f"{place} have another reference answer for item {item} of {task}: the benchmark's items or their order differ."
        )


def same_as_stored(path: Path, records: pd.DataFrame) -> bool:
    """Whether these very responses are stored already; UserError where others are."""
    if not path.is_file():
        return False
    columns = [*KEY, "response", "length", "correct"]
    stored, new = (frame[columns].sort_values(KEY).reset_index(drop=True) for frame in (pd.read_parquet(path), records))
    if not stored.equals(new.astype(stored.dtypes)):
        raise UserError(f"{path} holds other records of this method; remove it first if these are to replace it.")
    return True


def store(folder: Path, fresh: dict[str, pd.DataFrame], sources: list[Path]) -> None:
    """All files, each with its origin, written aside first and then moved in."""
    aside = folder / ".importing"
    shutil.rmtree(aside, ignore_errors=True)
    origin = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sources}
    try:
        for name, records in fresh.items():
            write_records(records.reset_index(drop=True), aside / f"{name}.parquet")
            write_json(aside / f"{name}.imported.json", provenance("evaluation", imported_from=origin))
        for path in sorted(aside.glob("*")):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
