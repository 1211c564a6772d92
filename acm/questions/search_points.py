"""Question 8: where finished searches lie, and what their points are. Nothing here needs the sampler or a model.

The best point of a target is the sampler's of the highest value on the items that chose; the shorter of equals.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from acm.calibration.nulls import Layers
from acm.errors import UserError, unknown
from acm.paths import REPORTS, RUNS
from acm.profiles import Profile
from acm.profiles.experiment import Experiment

FRONT, FACTS, RECORDS, LAYERS = "front.csv", "trials.csv", "trials.parquet", "layers.parquet"
RANKS, MOVED = "ranks of ", ", moved"  # before and after the names of trials
CONTROLS = ("one", "random")  # arms that are no sampler's


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


def experiment_of(profile: Profile, search: str) -> Experiment:
    """The experiment of a search."""
    return profile.experiment(profile.searches[search].experiment or next(iter(profile.experiments)))


def models_of(profile: Profile, search: str) -> tuple[str, list[str]]:
    """Base and fine-tuned models of a search. UserError for a search that the profile does not have."""
    if search not in profile.searches:
        raise unknown(f"search of profile {profile.name}", search, profile.searches)
    block, experiment = profile.searches[search], experiment_of(profile, search)
    return block.base or experiment.base, block.finetuned or experiment.finetuned


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


def parts_of(arm: str) -> tuple[str, str, int]:
    """Sampler, target (empty where the sampler needs none) and seed of an arm's name."""
    sampler, *target, seed = arm.split("-")
    return sampler, "".join(target), int(seed)


def best_points(front: pd.DataFrame) -> dict[str, list[pd.Series]]:
    """Target → the best point of each seed of the sampler, the one of the highest value first.

    Targets are in their order in the front.
    """
    rows = front[(front["role"] == "best") & ~front["arm"].str.partition("-")[0].isin(CONTROLS)]
    found: dict[str, list[pd.Series]] = {parts_of(arm)[1]: [] for arm in rows["arm"]}
    for _, row in rows.sort_values(["value", "tokens"], ascending=[False, True], kind="stable").iterrows():
        found[parts_of(row["arm"])[1]].append(row)
    return found


def point_of(row: pd.Series) -> str:
    """The name of a judged point."""
    return f"{row['arm']}-{row['candidate']}"


def named_layers(name: str, front: pd.DataFrame) -> dict[str, Layers]:
    """λ by layer of a search's best point of each target, ``<name>-best-<target>``, and of the mean of its seeds."""
    found: dict[str, Layers] = {}
    for target, rows in best_points(front).items():
        found |= {f"{name}-best-{target}": layers_of(rows[0]), f"{name}-mean-{target}": mean_layers(rows)}
    return found


def layers_of(row: pd.Series) -> Layers:
    """λ by layer of a judged point; the λ of a group of blocks stands for each of them."""
    found: Layers = {}
    for gene, value in row.items():
        first, _, last = str(gene).partition("–")
        if (gene in ("embed", "norm", "lm_head") or first.isdecimal()) and np.isfinite(value):
            layers = [first] if not last else map(str, range(int(first), int(last) + 1))
            found |= dict.fromkeys(layers, float(value))
    return found


def mean_layers(rows: Iterable[pd.Series]) -> Layers:
    """The mean λ by layer of several points."""
    return {str(k): float(v) for k, v in pd.DataFrame([layers_of(row) for row in rows]).mean().items()}
