"""What can be known to be wrong before any work: models, calibration texts and tasks of a profile."""

from __future__ import annotations

import json
from pathlib import Path

from acm.checkpoints import check_same_shape, model_folder
from acm.errors import UserError
from acm.paths import TASKS
from acm.profiles import Profile
from acm.texts import read_texts


def check(profile: Profile) -> str:
    """UserError for the first thing that would stop the run; else one line on what will run."""
    for name, experiment in profile.experiments.items():
        base, *finetuned = (model_folder(path) for path in experiment.parents.values())
        for model in finetuned:
            check_same_shape(base, model)
        check_cap(base, profile.cap(name), profile.name)
        read_texts(experiment.calibration.source, experiment.calibration.field)
        if not all((TASKS / f"{task}.yaml").is_file() for task in experiment.tasks):
            from acm.evaluation import task_manager  # seconds to import, so only for tasks that are not ours

            task_manager(experiment.tasks)
    models = sum(len(e.parents) + len(e.method_names) for e in profile.experiments.values())
    return f"profile {profile.name}: {models} models to evaluate, {profile.items or 'all'} items per task."


def check_cap(base: Path, cap: int, profile: str) -> None:
    """The token cap must leave room for a prompt within the model's positions; merges keep the base's config."""
    positions = json.loads((base / "config.json").read_text()).get("max_position_embeddings")
    if positions and cap >= positions:
        raise UserError(
            f"max_tokens {cap} of profile {profile} leaves no room for a prompt: {base} has {positions} positions. Lower max_tokens."
        )
