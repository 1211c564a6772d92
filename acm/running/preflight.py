"""The preflight check: finds what is wrong with a profile before any work is done.

It checks the models, calibration texts, tasks, prompts and the GPU.
"""

from __future__ import annotations

from pathlib import Path

from acm import hub
from acm.calibration.texts import read_texts
from acm.checkpoints import Checkpoint, check_same_shape, model_folder
from acm.errors import UserError
from acm.evaluation.task_files import check_grader, check_prompt, is_ours, load_items
from acm.merging.plan import make_plan
from acm.paths import ROOT
from acm.profiles import Profile
from acm.profiles.experiment import Experiment, frontier_name
from acm.reading import read_json
from acm.running.budget import check_cap, check_fits, check_possible, cost
from acm.running.machine import Machine


def check(profile: Profile) -> str:
    """One line on what will run. UserError for the first thing that would stop the run."""
    for experiment in profile.experiments.values():
        for model, revision in experiment.hub_models.items():
            hub.require(model, revision, profile.name)
    for name, experiment in profile.experiments.items():
        check_models(profile, name, experiment)
        check_tasks(experiment)
        load_data(experiment)
        check_prompts(experiment)
    check_gpu(profile)
    models = sum(len(e.parents) + len(e.method_names) for e in profile.experiments.values())
    return f"profile {profile.name}: {models} models to evaluate, {profile.items or 'all'} items per task."


def check_tasks(experiment: Experiment) -> None:
    """UserError for a task that does not exist, that generates no text, or whose grader is not here."""
    if not all(map(is_ours, experiment.tasks)):
        from acm.evaluation.harness import task_manager  # takes seconds

        task_manager(experiment.tasks)
    check_grader(experiment.tasks)


def load_data(experiment: Experiment) -> None:
    """Read the calibration texts and the items of our tasks once. UserError for what cannot be had.

    What comes from the hub is in its caches afterwards.
    """
    read_texts(experiment.calibration.source, experiment.calibration.field)
    for task in experiment.tasks:
        load_items(task)


def check_prompts(experiment: Experiment) -> None:
    """UserError where a task does not take a prompt that the experiment gives."""
    for prompt in (experiment.prompt, *experiment.prompts.values()):
        check_prompt(prompt, experiment.tasks)


def check_models(profile: Profile, name: str, experiment: Experiment) -> None:
    """UserError where the models do not fit together, cannot be merged, or have no room for prompt and response."""
    base, *finetuned = (present(experiment, path) for path in experiment.parents.values())
    for folder in finetuned:
        check_same_shape(
            Checkpoint(base), Checkpoint(folder), vocabulary=False
        )  # heads and rows that differ are the merge's to judge
    point = experiment.recipe(frontier_name(experiment.frontier[0]), Path())  # the others read the same models
    plan = make_plan(point, ROOT, profile.folder / name / "models", not profile.folderless).check()
    for model, folder in experiment.parents.items():
        positions = read_json(folder / "config.json").get("max_position_embeddings")
        check_cap(profile, model, positions, profile.cap(name, model))
    for method in experiment.method_names:
        check_cap(profile, method, plan.config.get("max_position_embeddings"), profile.cap(name, method))


def present(experiment: Experiment, folder: Path) -> Path:
    """A model's folder, once it is known to hold one. UserError otherwise, with the command that makes the model."""
    if experiment.made_by and not folder.is_dir():
        raise UserError(f"model folder {folder} does not exist; `{experiment.made_by}` makes it.")
    return model_folder(folder)


def gpu_memory(device: str) -> float | None:
    """GB of the GPU that an evaluation would take.

    None on the CPU, and where torch sees no GPU, as on a cluster's login node.
    """
    if not device.startswith("cuda"):
        return None
    import torch  # takes a second

    if not torch.cuda.is_available():
        return None
    from acm.devices import devices

    return torch.cuda.get_device_properties(devices(device)[0]).total_memory / 1e9


def check_gpu(profile: Profile) -> None:
    """UserError where the evaluations do not fit this machine's GPU, by the profile's budget.

    Nothing is compared where there is no GPU here, for vLLM, which fits its batches to the memory itself, and where the
    size of a model or task is not known.
    """
    memory = gpu_memory(profile.device) if profile.backend == "transformers" else None
    if memory is None:
        return
    try:
        costs = {name: cost(profile, name, Machine()) for name in profile.experiments}
    except UserError:
        return
    check_fits(profile, costs, 0, Machine(gpu_memory=memory))


def fetch(profile: Profile) -> str:
    """Download all that a profile takes from the hub into its caches: models, calibration texts and benchmarks.

    What would be refused comes first: by the shapes, by the hub, and of the data. The models are downloaded last.
    Returns one line for each model, with its commit. UserError with the remedy for what cannot be had.
    """
    for experiment in profile.experiments.values():
        for model in (experiment.base, *experiment.finetuned):
            if model not in experiment.hub_models:
                present(experiment, ROOT / model)
    check_possible(profile)
    try:
        check_gpu(profile)
    except UserError as error:
        raise UserError(
            f"{error} To fetch for another machine, hide this GPU: "
            f"`CUDA_VISIBLE_DEVICES= python -m acm fetch --profile {profile.name}`."
        ) from None
    wanted = {model: revision for e in profile.experiments.values() for model, revision in e.hub_models.items()}
    hub.check_all(wanted)
    for experiment in profile.experiments.values():
        load_data(experiment)
    lines = [f"{model}: {hub.fetch(model, revision).resolve().name}" for model, revision in wanted.items()]
    head = "fetched, by commit (as `revisions` in the profile they pin the models):" if lines else "no model to fetch."
    return "\n".join([head, *lines, "calibration texts and benchmarks: here."])
