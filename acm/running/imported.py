"""Imports records that were made elsewhere: checks them against the profile, and stores them whole or not at all.

The input is our own records, or logs of lm-evaluation-harness (``samples_<task>_<date>.jsonl``). Records of the
profile's models and methods are accepted. So are records of methods that the paper's tables print for the profile and
that the pipeline does not run. Beside each ``records/<method>.parquet`` a file ``<method>.imported.json`` says where
the records came from. What a response's text decides is computed anew. The pipeline uses imported records as they are.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from acm.errors import UserError, shown, unknown
from acm.files import alone, write_json
from acm.paper import paper_name, printed_methods
from acm.paths import ROOT
from acm.profiles import Profile
from acm.records import provenance, write_records
from acm.running.imported_checks import (
    KEY,
    check_data,
    check_golds,
    check_manifests,
    check_method,
    check_same_rule,
    check_values,
)
from acm.running.imported_given import Given, settled
from acm.running.imported_logs import digest_of, log_records, token_counter
from acm.running.imported_recompute import rechecked
from acm.running.imported_results import LOG
from acm.running.imported_tables import read_table

Counting = Callable[[str], Callable[[str], int] | None]
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def import_records(
    profile: Profile, experiment: str, sources: list[Path], method: str | None = None, tokenizer: Path | None = None,
    given: Given = Given(),
) -> str:  # fmt: skip
    """Check all sources against the profile, then store them. Returns a line on what came in, and on what was replaced.

    sources: parquet files, logs, or folders of them. method: of logs, which name none. tokenizer: the folder of the
    model that answered, or of its tokenizer; the profile's own folders are taken for records where they are here.
    given: what the sources do not state. Raises UserError for the first thing that does not fit; then nothing is
    stored.
    """
    setting = profile.experiment(experiment)
    tables, logs = gather(sources)
    check_given(given, method, setting.tasks, bool(logs))
    frames, sizes = [read_own(path, profile, experiment) for path in tables], dict(given.items)
    if logs:
        frame, stated = log_records(profile, experiment, logs, method, tokenizer, given)
        frames.append(frame)
        sizes = agreed_sizes(stated, given.items)
    records = pd.concat(frames, ignore_index=True)
    takes = [*setting.parents, *setting.method_names, *other_methods(profile, experiment)]

    def counting(name: str) -> Callable[[str], int] | None:
        return None if logs and name == method else counter(profile, experiment, name, tokenizer)

    found, notes = checked(profile, experiment, records, takes, counting, sizes, given.recompute)
    fresh = put(profile, experiment, found, [*tables, *logs])
    known = [name for name in found if name not in fresh]
    return "\n".join([f"{experiment}: {listed(fresh, 'imported')}, {listed(known, 'already here')}.", *notes])


def checked(
    profile: Profile, experiment: str, records: pd.DataFrame, takes: list[str], counting: Counting,
    sizes: Mapping[str, int] = MappingProxyType({}), recompute: bool = False,
) -> tuple[dict[str, pd.DataFrame], list[str]]:  # fmt: skip
    """Method → its records, and a line on each column that was replaced.

    takes: the methods that may come. counting: method → what counts the tokens of a text; None leaves its lengths as
    they are. sizes: task → number of its items, where others state it. recompute: replace what differs when it is
    computed anew. UserError for the first record that does not fit the profile or its own text.
    """
    found, notes = {}, list[str]()
    names = list(dict.fromkeys(records["method"]))
    if odd := [name for name in names if name not in takes]:
        raise unknown(f"method of {experiment}", str(odd[0]), takes)
    for name in names:
        own = records[records["method"] == name].reset_index(drop=True)
        check_method(profile, experiment, name, own, sizes)
        check_data(name, own)
        cap, prompt = profile.cap(experiment, name), profile.evaluation(experiment, name)["prompt"]
        found[name], lines = rechecked(name, own, cap, prompt, counting(name), recompute)
        check_values(f"records of {name}", found[name], cap)
        notes += [f"{name}: replaced {line}" for line in lines]
    check_golds(records, f"the sources for {experiment}")
    return found, notes


def put(profile: Profile, experiment: str, found: dict[str, pd.DataFrame], sources: list[Path]) -> list[str]:
    """Store records that were checked, whole or not at all; returns the methods that were not there yet.

    UserError where other records of a method, or records of other questions, are there.
    """
    with undisturbed(profile.folder / experiment / "records") as folder:
        fresh = fresh_ones(folder, found)
        store(folder, fresh, sources)
    return list(fresh)


def fresh_ones(folder: Path, found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Those of the methods that a folder of records lacks. UserError as :func:`put`."""
    fresh = {name: own for name, own in found.items() if not same_as_stored(folder / f"{name}.parquet", own)}
    for name, own in found.items():
        check_against(folder, name, own)
    return fresh


def check_given(given: Given, method: str | None, tasks: list[str], logs: bool) -> None:
    """UserError for an option that would have no effect."""
    if odd := [task for task in given.items if task not in tasks]:
        raise UserError(f"--items: {unknown('task of the experiment', odd[0], tasks)}")
    said = {"method": method, "metric": given.metrics, "filter": given.filters} | given.stated()
    said.pop("items", None)
    if not logs and (idle := [name for name, value in said.items() if value not in (None, ())]):
        raise UserError(
            f"--{idle[0].replace('_', '-')} is for logs of lm-eval, and the sources hold none; "
            "records say it themselves."
        )


def agreed_sizes(stated: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
    """Task → number of its items. UserError where results and user differ."""
    for task in stated.keys() & given.keys():
        settled("items", stated[task], given[task], f"the results file of {task}")
    return {**stated, **given}


def counter(profile: Profile, experiment: str, name: str, tokenizer: Path | None) -> Callable[[str], int]:
    """A function from a text to its number of tokens, by the model's tokenizer. UserError where none is here.

    A merge has its base's tokenizer.
    """
    parents = profile.experiment(experiment).parents
    here = [folder for folder in (tokenizer, parents.get(name), *parents.values()) if folder and folder.is_dir()]
    if not here and tokenizer is None:
        raise UserError(
            f"the lengths of {name} cannot be counted again, since no model of {experiment} is here; give --tokenizer, "
            "the folder of the model that answered or of its tokenizer."
        )
    return token_counter(tokenizer or here[0])


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
            if packed := sorted(p for p in source.rglob("samples_*.jsonl.*") if p.suffix in PACKED):
                raise UserError(f"{packed[0]} is packed; unpack it first, or name the files that count.")
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
        elif source.suffix in PACKED:
            raise UserError(f"{source} is packed; unpack it first.")
        else:
            raise UserError(
                f"{source} is neither a records file (.parquet) nor a log of lm-eval (samples_<task>_<date>.jsonl)."
            )
    return tables, logs


def read_own(path: Path, profile: Profile, experiment: str) -> pd.DataFrame:
    """Our records from a parquet file. UserError where they were made with another profile or experiment."""
    records = read_table(path)
    for column, wanted in (("profile", profile.name), ("experiment", experiment)):
        if other := sorted({str(value) for value in records[column]} - {wanted}):
            raise UserError(f"{path} has records of {column} {shown(other[0])}, not {wanted}; import them there.")
    check_manifests(path, profile, experiment)
    return records


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[Path]:
    """The folder of the records, locked. UserError where another import or a run is writing there."""
    for lock in sorted((ROOT / ".snakemake" / "locks").glob("*.output.lock")):
        if any(Path(line).is_relative_to(shown_path(folder)) for line in lock.read_text(encoding="utf-8").splitlines()):
            raise UserError(
                f"a run is writing {folder} right now ({lock}); wait for it. Where a killed run left the lock behind, "
                "`acm reproduce --unlock` releases it."
            )
    with alone(folder, "another import"):
        yield folder


def shown_path(folder: Path) -> Path:
    """A folder as Snakemake writes it: from the repository's root."""
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def check_against(folder: Path, name: str, records: pd.DataFrame) -> None:
    """UserError where what is stored already of other methods was asked other questions."""
    for path in sorted(folder.glob("*.parquet")):
        if path.stem != name:
            stored, place = read_table(path), f"records of {name}, compared with those of {path.stem},"
            check_golds(pd.concat([stored, records])[["task", "item", "gold"]], place)
            check_same_rule(stored, records, place)


def same_as_stored(path: Path, records: pd.DataFrame) -> bool:
    """Whether these very responses are stored already. UserError where others are."""
    if not path.is_file():
        return False
    if not same_responses(read_table(path), records):
        raise UserError(f"{path} holds other records of this method; remove it first if these are to replace it.")
    return True


def same_responses(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables of one method hold the same responses, lengths and grades, in whatever order."""
    columns = [*KEY, "response", "length", "correct"]
    first, second = (frame[columns].sort_values(KEY).reset_index(drop=True) for frame in (one, other))
    return first.equals(second)


def store(folder: Path, fresh: dict[str, pd.DataFrame], sources: list[Path]) -> None:
    """Write the records of each method and their origin. All files are written aside first, and then moved in."""
    aside = folder / ".importing"
    shutil.rmtree(aside, ignore_errors=True)
    origin = {str(path): digest_of(path).hex() for path in sources}
    try:
        for name, records in fresh.items():
            write_records(records.reset_index(drop=True), aside / f"{name}.parquet")
            write_json(aside / f"{name}.imported.json", provenance("evaluation", imported_from=origin))
        for path in sorted(aside.glob("*")):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
