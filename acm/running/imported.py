"""Imports records that were made elsewhere: checks them against the profile, and stores them whole or not at all.

The input is our own records, or logs of lm-evaluation-harness (``samples_<task>_<date>.jsonl``). Records of the
profile's models and methods are accepted. So are records of methods that the paper's tables print for the profile and
that the pipeline does not run. Beside each ``records/<method>.parquet`` a file ``<method>.imported.json`` says where
the records came from. The pipeline uses imported records as they are.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pandas as pd

from acm.errors import UserError, unknown
from acm.files import write_json
from acm.paper import paper_name, printed_methods
from acm.profiles import Profile
from acm.records import RECORD_COLUMNS, provenance, write_records
from acm.running.imported_checks import KEY, check_golds, check_manifests, check_method
from acm.running.imported_logs import LOG, log_records


def import_records(
    profile: Profile, experiment: str, sources: list[Path], method: str | None = None, tokenizer: Path | None = None
) -> str:
    """Check all sources against the profile, then store them. Returns one line on what came in.

    sources: parquet files, logs, or folders of them. method, tokenizer: of logs, which name no method and hold no token
    counts. Raises UserError for the first thing that does not fit; then nothing is stored.
    """
    setting = profile.experiment(experiment)
    tables, logs = gather(sources)
    frames = [read_table(path, profile, experiment) for path in tables]
    if logs:
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
    return f"{experiment}: {listed(list(fresh), 'imported')}, {listed(known, 'already here')}."


def listed(names: list[str], what: str) -> str:
    """``2 imported (TA, TIES)``."""
    return f"{len(names)} {what} ({', '.join(names) or 'none'})"


def other_methods(profile: Profile, experiment: str) -> list[str]:
    """Methods such as AIM, which the paper's tables print for a profile of this name and the profile does not run."""
    setting = profile.experiment(experiment)
    own = {*map(paper_name, setting.parents), *setting.method_names}
    return [method for method in printed_methods(profile.name.partition("+")[0]) if method not in own]


def gather(sources: list[Path]) -> tuple[list[Path], list[Path]]:
    """The parquet files and the logs among the sources and below their folders. UserError for any other source."""
    tables: list[Path] = []
    logs: list[Path] = []
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
    """Our records from a parquet file. UserError where they were made with another profile or experiment."""
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


def check_against(folder: Path, name: str, records: pd.DataFrame) -> None:
    """UserError where what is stored already of other methods was asked other questions."""
    for path in sorted(folder.glob("*.parquet")):
        if path.stem != name:
            stored = pd.read_parquet(path, columns=["task", "item", "gold"])
            check_golds(
                pd.concat([stored, records[["task", "item", "gold"]]]),
                f"records of {name}, compared with those of {path.stem},",
            )


def same_as_stored(path: Path, records: pd.DataFrame) -> bool:
    """Whether these very responses are stored already. UserError where others are."""
    if not path.is_file():
        return False
    columns = [*KEY, "response", "length", "correct"]
    stored, new = (frame[columns].sort_values(KEY).reset_index(drop=True) for frame in (pd.read_parquet(path), records))
    if not stored.equals(new.astype(stored.dtypes)):
        raise UserError(f"{path} holds other records of this method; remove it first if these are to replace it.")
    return True


def store(folder: Path, fresh: dict[str, pd.DataFrame], sources: list[Path]) -> None:
    """Write the records of each method and their origin. All files are written aside first, and then moved in."""
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
