"""Holds a submission against the repository: its profile of the same name, and its committed records."""

from __future__ import annotations

import pandas as pd

from acm.errors import UserError
from acm.paths import PROFILES, REPORTS
from acm.profiles import Profile, load_profile
from acm.running.imported import read_own, same_responses
from acm.sharing.untrusted import RECORDS


def repository_hash(name: str) -> str | None:
    """Hash of the repository's profile of this name, variants included. None where it has none."""
    if not (PROFILES / f"{name.partition('+')[0]}.yaml").is_file():
        return None
    try:
        return load_profile(name).hash
    except UserError:  # a variant that is unknown
        return None


def check_name(profile: Profile) -> None:
    """UserError for a profile that has the name of one of the repository, and another content."""
    if repository_hash(profile.name) not in (None, profile.hash):
        raise UserError(
            f"profile {profile.name} has another content than the repository's profile of this name; give it a name of "
            "its own or, where the repository's has changed since, submit again."
        )


def is_own(profile: Profile) -> bool:
    """Whether this very profile is the repository's."""
    return repository_hash(profile.name) == profile.hash


def committed_records(profile: Profile, experiment: str) -> pd.DataFrame | None:
    """The committed records of an experiment. None where the repository has none of this very profile."""
    path = REPORTS / profile.name / experiment / RECORDS
    if not path.is_file() or not is_own(profile):
        return None
    try:
        return read_own(path, profile, experiment)
    except UserError:  # made before the profile changed
        return None


def same_as_committed(found: dict[str, pd.DataFrame], committed: pd.DataFrame | None, names: list[str]) -> list[str]:
    """Those of the names whose records are the committed ones, response by response."""
    if committed is None:
        return []
    theirs = dict(list(committed.groupby("method")))
    return [name for name in names if name in found and name in theirs and same_responses(found[name], theirs[name])]
