"""Runs the whole pipeline of a profile: fetch, check, Snakemake, summary. `make reproduce` calls this module."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from acm.errors import UserError
from acm.paths import ROOT, RUNS
from acm.profiles import Profile, load_profile
from acm.running.jobs import ALIVE
from acm.running.preflight import check, fetch


def reproduce(name: str, target: str, cores: int, dry_run: bool = False, arguments: list[str] | None = None) -> str:
    """Run what is not up to date, and return the summary.

    name: the profile, with variants if any. target: ``summary`` is the pipeline, ``questions`` asks too, ``searches``
    makes the profile's searches alone.
    cores: jobs at a time. dry_run: show the jobs and run none. arguments: more of Snakemake's. The result is empty
    after a dry run, and where `--until` ended the run before. Raises UserError for what would stop the run, before any
    work, and where a job fails.
    """
    if name.partition("+")[0].endswith((".yaml", ".yml")):
        name = str(Path(name).resolve())  # Snakemake runs from another folder
    profile = load_profile(name)
    if target == "searches":
        check_searches(profile)
    if not dry_run:
        print(fetch(profile))
        print(check(profile))
        print(f"Running on {cores} cores; progress below, logs in {shown(profile.folder / 'logs')}.", flush=True)
    summary = profile.folder / f"{target}.txt"
    options = ["--dry-run"] if dry_run else ["--rerun-incomplete", "--quiet", "rules"]
    with alive(name):
        failed = snakemake(name, cores, [*options, *(arguments or []), "--", shown(summary)], target == "searches")
    if failed:
        raise UserError(f"the run of profile {profile.name} stopped, see above; the same command continues it.")
    return summary.read_text(encoding="utf-8") if summary.is_file() and not dry_run else ""


def check_searches(profile: Profile) -> None:
    """UserError for a profile without searches, and for one whose points no fresh items would judge."""
    if not profile.searches:
        raise UserError(f"profile {profile.name} has no `searches`; docs/search.md shows how to name one.")
    for name, search in profile.searches.items():
        if search.fresh_items is None:
            raise UserError(f"search {name} of profile {profile.name} has no `fresh_items`, which would judge it.")


@contextlib.contextmanager
def alive(name: str) -> Iterator[None]:
    """Hold a lock that says that a run is at work; release Snakemake's own where a killed run has left it.

    The jobs of a run hold the lock too (:func:`acm.running.jobs.share_lock`), so a killed run whose jobs go on is
    still at work. Then Snakemake's lock stays, and refuses what both would write.
    """
    import fcntl  # not on Windows

    RUNS.mkdir(exist_ok=True)
    with (RUNS / ".lock").open("w") as file:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if any((ROOT / ".snakemake" / "locks").glob("*")):
                unlock(name)
        fcntl.flock(file, fcntl.LOCK_SH)
        os.set_inheritable(file.fileno(), True)
        os.environ[ALIVE] = file.name
        yield


def snakemake(name: str, cores: int, arguments: list[str], search: bool = False) -> int:
    """Snakemake's exit status. It runs from the repository's root, where the Snakefile lies. search: with its rules."""
    config = [f"profile={name}", *(["search=yes"] if search else [])]
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--config", *config, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | stand_ins(), check=False, close_fds=False).returncode


def stand_ins() -> dict[str, str]:
    """What Snakemake needs of a user: a name, and a folder for its cache where the home cannot be written.

    The hub's cache stays where it is.
    """
    found = {}
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a user of whom the machine knows a number alone
        found["USER"] = str(os.getuid())
    usual = Path(os.environ.get("XDG_CACHE_HOME", Path("~/.cache").expanduser()))
    there = next(folder for folder in (usual, *usual.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        hub = os.environ.get("HF_HOME", str(usual / "huggingface"))
        found |= {"XDG_CACHE_HOME": str(RUNS / "cache"), "HF_HOME": hub}
    return found


def unlock(name: str) -> None:
    """Release the lock of a killed run. Raises UserError where Snakemake cannot."""
    if snakemake(name, 1, ["--unlock"]):
        raise UserError(f"the lock of profile {name} could not be released; is a run still at work?")


def shown(path: Path) -> str:
    """A path as Snakemake and a reader know it: from the repository's root."""
    return path.relative_to(ROOT).as_posix()
