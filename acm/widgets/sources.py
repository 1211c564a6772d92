"""Finds the results that can be explored: first the results of your own runs, then the committed results."""

from __future__ import annotations

from acm.errors import UserError
from acm.paths import REPORTS, RUNS
from acm.profiles import load_profile
from acm.reporting.results import Results

KINDS = {"runs": (RUNS, "your run"), "reports": (REPORTS, "committed")}


def results_with(name: str) -> dict[str, Results]:
    """Title → results, of each experiment that has a file or folder of this name; your runs come first.

    A title reads ``profile / experiment (your run)`` or ``(committed)``.
    """
    found = {}
    for kind, (root, words) in KINDS.items():
        for path in sorted(root.glob(f"*/*/{name}")):
            try:
                results = Results(load_profile(path.parts[-3]), path.parts[-2], kind)
            except UserError:
                continue  # the folder of a profile that lies elsewhere, or of no profile
            found[f"{results.profile.name} / {results.name} ({words})"] = results
    return found


def preferred(titles: list[str], profile: str, experiment: str) -> str:
    """The title of this profile and experiment; UserError if there is none."""
    if own := [title for title in titles if title.startswith(f"{profile} / {experiment} (")]:
        return own[0]
    known = ", ".join(titles) or "none"
    told = f"no results of profile {profile}, experiment {experiment}. Run `make reproduce PROFILE={profile}`"
    raise UserError(f"{told}, or choose of: {known}.")
