"""What can be known to be wrong before any work: models, calibration texts and tasks of a profile."""

from __future__ import annotations

import json
from pathlib import Path

from acm.checkpoints import check_same_shape, model_folder
from acm.errors import UserError
from acm.paths import ROOT, TASKS
from acm.profiles import Profile


def check(profile: Profile) -> str:
    """UserError for the first thing that would stop the run; else one line on what will run."""
    for name, experiment in profile.experiments.items():
        base, *finetuned = (model_folder(path) for path in experiment.parents.values())
        for model in finetuned:
            check_same_shape(base, model)
        check_cap(base, profile.cap(name), profile.name)
        read_texts(ROOT / experiment.calibration.texts, experiment.calibration.field)
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


def read_texts(path: Path, field: str = "question") -> list[str]:
    """Calibration texts: a JSONL file's ``field``, or the lines of a text file. Empty input is an error."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"calibration file {path} does not exist; set `calibration.texts` in the profile.")
    lines = [(i, line) for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.strip()]
    if path.suffix == ".jsonl":
        return check_texts([field_of(line, field, f"{path}, line {i}") for i, line in lines], str(path))
    return check_texts([line for _, line in lines], str(path))


def field_of(line: str, field: str, place: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place} is not JSON: {error}.") from None
    if not isinstance(row, dict):
        raise UserError(f'{place} is not a JSON object such as {{"{field}": "…"}}.')
    if not isinstance(row.get(field), str):
        raise UserError(f"{place}: no field '{field}' that is text; it has {', '.join(row)}.")
    return row[field]


def check_texts(texts: list[str], source: str) -> list[str]:
    if not texts:
        raise UserError(f"{source} holds no calibration text; give at least one.")
    if empty := [i for i, text in enumerate(texts, 1) if not str(text).strip()]:
        raise UserError(f"{source}: calibration text {empty[0]} is empty; remove it or fill it.")
    return texts
