"""The points of a finished search, from its tables. Nothing here needs the sampler or a model.

The best point of a target is the sampler's of the highest value on the items that chose; the shorter of equals.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from acm.calibration.nulls import Layers
from acm.errors import unknown
from acm.profiles import Profile
from acm.profiles.experiment import Experiment

FRONT = "front.csv"
CONTROLS = ("one", "random")  # arms that are no sampler's


def experiment_of(profile: Profile, search: str) -> Experiment:
    """The experiment of a search."""
    return profile.experiment(profile.searches[search].experiment or next(iter(profile.experiments)))


def models_of(profile: Profile, search: str) -> tuple[str, list[str]]:
    """Base and fine-tuned models of a search. UserError for a search that the profile does not have."""
    if search not in profile.searches:
        raise unknown(f"search of profile {profile.name}", search, profile.searches)
    block, experiment = profile.searches[search], experiment_of(profile, search)
    return block.base or experiment.base, block.finetuned or experiment.finetuned


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
