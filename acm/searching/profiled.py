"""The searches of a profile, with its models, tasks and engine."""

from __future__ import annotations

from pathlib import Path

from acm.errors import unknown
from acm.paths import ROOT
from acm.profiles import Profile
from acm.searching.run import Items, Search


def folder_of(profile: Profile, name: str) -> Path:
    """Where a search of a profile works."""
    return profile.folder / "searches" / name


def search_of(profile: Profile, name: str) -> Search:
    """A search by its name in the profile. UserError for an unknown one, and for settings that do not go together."""
    if name not in profile.searches:
        raise unknown(f"search of profile {profile.name}", name, profile.searches)
    block = profile.searches[name]
    experiment = block.experiment or next(iter(profile.experiments))
    e = profile.experiment(experiment)
    tasks = tuple(block.tasks or e.tasks)
    recipe = {
        "merge_method": block.merge_method, "base_model": block.base or e.path(e.base),
        "models": [{"model": model} for model in block.finetuned or map(e.path, e.finetuned)],
        "parameters": block.parameters,
    }  # fmt: skip
    return Search(
        recipe, Items(tasks, *block.items), home=ROOT, engine=profile.engine, max_tokens=profile.cap(experiment),
        fresh=Items(tuple(block.fresh_tasks or tasks), *block.fresh_items) if block.fresh_items else None, **block.how,
    )  # fmt: skip
