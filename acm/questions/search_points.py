"""Question 8: where finished searches lie, and which are of one pair. Nothing here needs the sampler or a model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from acm.calibration.nulls import Layers
from acm.errors import UserError
from acm.paths import REPORTS, RUNS
from acm.profiles import Profile
from acm.searching.points import FRONT, best_points, layers_of, mean_layers, models_of

FACTS, RECORDS, LAYERS = "trials.csv", "trials.parquet", "layers.parquet"
RANKS, MOVED = "ranks of ", ", moved"  # before and after the names of trials


def home_of(profile: str, search: str) -> Path:
    """Where a search with its trials lies: in ``runs``, else among the committed results. UserError for neither.

    A committed search without trials will do.
    """
    mine, committed = (root / profile / "searches" / search for root in (RUNS, REPORTS))
    if (mine / FACTS).is_file() and (mine / FRONT).is_file():
        return mine
    if (committed / FRONT).is_file():
        return committed
    raise UserError(f"search {search} of profile {profile} was not run: `make search PROFILE={profile}` does it.")


def was_run(profile: str, search: str) -> bool:
    """Whether :func:`home_of` finds it."""
    try:
        return home_of(profile, search).is_dir()
    except UserError:
        return False


def same_pair(profile: Profile, search: str, source: str) -> bool:
    """Whether a search merges the models of ``source``, a ``profile/search``."""
    home, other = source.split("/")
    return profile.name == home and models_of(profile, search) == models_of(profile, other)


def coarser(profile: Profile, source: str) -> list[str]:
    """The searches of the source's pair that have fewer λ by layer, since more blocks in a row share one."""
    if profile.name != source.split("/")[0]:
        return []
    group = profile.searches[source.split("/")[1]].group or 1
    return [
        name
        for name, block in profile.searches.items()
        if same_pair(profile, name, source) and block.genome in (None, "layer") and (block.group or 1) > group
    ]


def named_layers(name: str, front: pd.DataFrame) -> dict[str, Layers]:
    """λ by layer of a search's best point of each target, ``<name>-best-<target>``, and of the mean of its seeds."""
    found: dict[str, Layers] = {}
    for target, rows in best_points(front).items():
        found |= {f"{name}-best-{target}": layers_of(rows[0]), f"{name}-mean-{target}": mean_layers(rows)}
    return found
