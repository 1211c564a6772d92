"""Where the merges of a run go: into folders, or into a model that stays loaded. Notebooks 3 and 4 ask here."""

from __future__ import annotations

import shutil
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acm.checkpoints import Checkpoint
from acm.errors import unknown
from acm.merging.engine import merge
from acm.paths import ROOT
from acm.profiles import Profile

if TYPE_CHECKING:
    from acm.evaluation.loaded import Loaded
    from acm.running.resident import Resident

FOLDER, MEMORY = "folder", "memory"


@dataclass(frozen=True)
class Made:
    """A merge that was made. place: in words. card: its model card. tensors: their names. bytes: of all, as stored."""

    place: str
    card: str
    tensors: Set[str]
    bytes: int


def merged(profile: Profile, experiment: str, method: str, merges: str = FOLDER) -> Made:
    """Merge by a method of a profile. merges: ``folder``, in which it replaces an earlier merge, or ``memory``.

    Raises UserError as :func:`acm.merge`; for ``memory`` as :func:`acm.evaluate` too.
    """
    if in_memory(merges):
        held = resident()
        held.hold(profile, experiment, method)
        return Made("memory", held.card, held.shapes.keys(), held.bytes)
    recipe, target = profile.recipe(experiment, method), profile.folder / experiment / "models" / method
    shutil.rmtree(target, ignore_errors=True)
    found = Checkpoint(merge(recipe, target, ROOT))
    size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    return Made(f"the folder {method}", (target / "README.md").read_text(encoding="utf-8"), found.tensors.keys(), size)


def model_of(profile: Profile, experiment: str, method: str, merges: str = FOLDER) -> Path | Loaded:
    """A parent or merge, as :func:`acm.evaluate` takes it. merges: where it is, as of :func:`merged`."""
    if in_memory(merges):
        return resident().hold(profile, experiment, method)
    return profile.experiment(experiment).parents.get(method, profile.folder / experiment / "models" / method)


def in_memory(merges: str) -> bool:
    """Whether this names memory. UserError for a word that names no place."""
    if merges not in (FOLDER, MEMORY):
        raise unknown("place of merges", merges, (FOLDER, MEMORY))
    return merges == MEMORY


def resident() -> Resident:
    """The model that this process has loaded."""
    from acm.running.resident import RESIDENT  # needs lm-evaluation-harness, and a merge into a folder does not

    return RESIDENT
