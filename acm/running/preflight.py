"""What can be known to be wrong before any work: models, calibration texts, tasks and GPU of a profile."""

from __future__ import annotations

from pathlib import Path

from acm import hub
from acm.calibration.texts import read_texts
from acm.checkpoints import check_same_shape, model_folder
from acm.errors import UserError
from acm.evaluation.benchmarks import BENCHMARKS, load_benchmark
from acm.evaluation.code_benchmarks import CODE_BENCHMARKS, load_code_benchmark
from acm.files import read_json
from acm.merging.plan import make_plan
from acm.paths import ROOT, TASKS
from acm.profiles import Experiment, Profile, frontier_name
from acm.running.budget import Machine, check_cap, check_fits, check_possible, cost


def check(profile: Profile) -> str:
    """UserError for the first thing that would stop the run; else one line on what will run."""
    for experiment in profile.experiments.values():
        for model, revision in experiment.hub_models.items():
            hub.require(model, revision, profile.name)
    for name, experiment in profile.experiments.items():
        check_models(profile, name, experiment)
        if not all((TASKS / f"{task}.yaml").is_file() for task in experiment.tasks):
            from acm.evaluation.harness import task_manager  # seconds to import, so only for tasks that are not ours

            task_manager(experiment.tasks)
        load_data(experiment)
        check_prompts(experiment)
    check_gpu(profile)
    models = sum(len(e.parents) + len(e.method_names) for e in profile.experiments.values())
    return f"profile {profile.name}: {models} models to evaluate, {profile.items or 'all'} items per task."


def load_data(experiment: Experiment) -> None:
    """Calibration texts and benchmarks, read once; what comes from the hub is in its caches afterwards. UserError for what cannot be had."""
    read_texts(experiment.calibration.source, experiment.calibration.field)
    for task in experiment.tasks:
        if (name := task.removeprefix("acm_")) in BENCHMARKS:
            load_benchmark(name)
        elif name in CODE_BENCHMARKS:
            load_code_benchmark(name)


def check_prompts(experiment: Experiment) -> None:
    """The tasks take the prompts."""
    if experiment.prompts:
        from acm.evaluation.harness import check_prompt

        for prompt in experiment.prompts.values():
            check_prompt(prompt, experiment.tasks)


def check_models(profile: Profile, name: str, experiment: Experiment) -> None:
    """The models fit together, merge, and have room for prompt and response."""
    base, *finetuned = (present(experiment, path) for path in experiment.parents.values())
    for model in finetuned:
        check_same_shape(base, model, vocabulary=False)  # heads and rows that differ are the merge's to judge
    point = experiment.recipe(frontier_name(experiment.frontier[0]), Path())  # the others read the same models
    plan = make_plan(point, ROOT, profile.folder / name / "models").check()
    for model, folder in experiment.parents.items():
        check_cap(
            profile, model, read_json(folder / "config.json").get("max_position_embeddings"), profile.cap(name, model)
        )
    for method in experiment.method_names:
        check_cap(profile, method, plan.config.get("max_position_embeddings"), profile.cap(name, method))


def present(experiment: Experiment, folder: Path) -> Path:
    """A model's folder, once it is known to hold one; UserError otherwise, with the command that makes it if there is one."""
    if experiment.made_by and not folder.is_dir():
        raise UserError(f"model folder {folder} does not exist; `{experiment.made_by}` makes it.")
    return model_folder(folder)


def gpu_memory(device: str) -> float | None:
    """GB of the GPU that an evaluation would take; None on the CPU, and where torch sees no GPU (as on a cluster's login node)."""
    if not device.startswith("cuda"):
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    from acm.devices import devices

    return torch.cuda.get_device_properties(devices(device)[0]).total_memory / 1e9


def check_gpu(profile: Profile) -> None:
    """UserError where the plan says that the evaluations do not fit this machine's GPU.

    Nothing is compared without a GPU here, for vLLM, which fits its batches to the memory itself, and where the plan does not know the size of
    a model or task.
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
    """All that a profile takes from the hub, into its caches: models, calibration texts and benchmarks.

    First comes everything that would be refused: what the shapes say, the models as the hub shows them, the data; the models themselves are
    downloaded last. Returns one line for each model, with the commit that was taken. UserError with the remedy otherwise.
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
            f"{error} To fetch for another machine, hide this GPU: `CUDA_VISIBLE_DEVICES= python -m acm fetch --profile {profile.name}`."
        ) from None
    wanted = {model: revision for e in profile.experiments.values() for model, revision in e.hub_models.items()}
    hub.check_all(wanted)
    for experiment in profile.experiments.values():
        load_data(experiment)
    lines = [f"{model}: {hub.fetch(model, revision).resolve().name}" for model, revision in wanted.items()]
    head = "fetched, by commit (as `revisions` in the profile they pin the models):" if lines else "no model to fetch."
    return "\n".join([head, *lines, "calibration texts and benchmarks: here."])
