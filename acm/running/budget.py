"""Estimates the budget of a profile: its jobs, and the downloads, disk, memory and hours that they take.

The estimate needs the profile alone: no network, no model, no torch. Sizes follow from the models' shapes. Hours rest
on the assumptions in the constants below, which are printed with the budget.

    weights      parameters × bytes of the dtype
    cache        keys and values: batch × (prompt + cap) × 2 · layers · kv_heads · head_dim × bytes of the dtype
    step         seconds in which each response of a batch grows by one token:
                 max(layers × LAUNCH, (weights + half the cache) / (bandwidth × EFFICIENCY)),
                 on a CPU at least 2 × parameters × batch / CPU_SPEED
    evaluation   repeats × batches × min(cap, tokens × STRAGGLER) × step: a batch ends with its longest response
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.errors import UserError
from acm.evaluation.task_files import count_items
from acm.merging.registry import METHODS
from acm.paths import ROOT
from acm.profiles import Profile
from acm.profiles.experiment import Experiment
from acm.running.machine import Machine
from acm.shapes import BYTES, Shape, merged_positions, shape_of

# Seconds per layer: transformers' own overhead, which bounds a step. At 28 layers on an H100 a step took 80 to 104 ms,
# with 1 response to 128 (benchmarks/gpu.md). On a CPU what is computed takes longer.
LAUNCH = 0.003
EFFICIENCY = 0.6  # the fraction of the memory bandwidth that decoding reaches
STRAGGLER = 3.0  # length of the longest response of a batch / mean length
PROMPT_TOKENS = 300  # length of a prompt
CALIBRATION_TOKENS = 150  # length of a calibration text, as of s1K's questions
ESTIMATE = 6e7  # entries per second of the plug-in estimate of MI on one core (400 × 3584 in 0.023 s)
# Seconds on an H100, at 7B: a text through a layer of one model; an estimate of MI (benchmarks/gpu.md)
GPU_WALK, GPU_ESTIMATE = 0.0021, 0.0025
CPU_SPEED = 3e10  # float32 operations per second on one core
READ = 1e9  # bytes per second from disk, when calibration loads the layers
# GB/s on two cores, of the slower of the methods that a profile usually has
SLOWEST_MERGE = min(METHODS[m].speed or 0 for m in ("ties", "slerp"))
GPU_MACHINE_MERGE = 1.0  # the same on the 16 cores beside an H100, of `ties` (benchmarks/gpu.md)
MERGE_MEMORY = 0.5  # GB that a merge takes
EVALUATION_MEMORY = 6.0  # GB of CPU memory that an evaluation takes beside a GPU
WORKSPACE = 1.1  # factor on the GPU memory of weights and cache, for whatever else the GPU holds
NOTEBOOK_MEMORY = 1.5  # GB that a notebook's interpreters take
COPIES = 3  # copies of the records in memory while tables are made
CHARACTERS = 4  # characters per token
MARGIN = 1.3  # a cluster is asked for the estimate times this
START = 15  # minutes that a job on a cluster may take to start
UNKNOWN = {"mem_mb": 16000, "runtime": 1440}  # what a cluster is asked for where the plan does not know a size


def shapes_of(e: Experiment) -> list[Shape]:
    """Shapes of the base and the fine-tuned models, base first. UserError for a model whose shape is not known."""
    folders = zip([e.base, *e.finetuned], e.parents.values(), strict=True)
    return [e.shape if e.shape and not folder.is_dir() else shape_of(model, folder) for model, folder in folders]


def items_of(profile: Profile, task: str) -> int:
    """How many items of a task are evaluated. UserError where neither the task nor the profile says."""
    known = [count for count in (count_items(task), profile.items) if count is not None]
    if not known:
        raise UserError(
            f"the number of items of task {task} is not known here; set `items` in the profile for the plan."
        )
    return min(known)


@dataclass(frozen=True)
class Cost:
    """What one experiment takes. Memory and sizes are in GB, times in hours of all jobs of a kind.

    counts: jobs by rule. merged: size of a merged model. capped_hours: of the evaluations, if every batch runs to the
    cap. batch_hours: of one such batch. weights: of the largest model. cache_each: keys and values of one response.
    batch: items. text: of all responses.
    """

    counts: dict[str, int]
    calibrate_hours: float
    calibrate_memory: float
    merge_hours: float
    merged: float
    evaluate_hours: float
    capped_hours: float
    batch_hours: float
    weights: float
    cache_each: float
    batch: int
    text: float

    @property
    def gpu(self) -> float:
        """Memory of the largest evaluation, in GB; of the CPU where that is the device."""
        return (self.weights + self.batch * self.cache_each) * WORKSPACE


def cost(profile: Profile, name: str, machine: Machine) -> Cost:
    """The estimate of one experiment, from its largest model."""
    e = profile.experiments[name]
    shapes = shapes_of(e)
    largest = max(shapes, key=lambda s: s.parameters)
    width, cap = BYTES[profile.dtype], profile.cap(name)
    sizes = call_sizes(profile, e)
    weights, cache = largest.parameters * width / 1e9, (PROMPT_TOKENS + cap) * largest.cache(profile.dtype) / 1e9
    batch, bandwidth = min(profile.batch_size, max(sizes)), machine.bandwidth * EFFICIENCY
    step = max(largest.layers * LAUNCH, (weights + batch * cache / 2) / bandwidth)
    if profile.device == "cpu":
        step = max(step, 2 * largest.parameters * batch / CPU_SPEED)
    models, tokens = len(e.parents) + len(e.method_names), min(cap, machine.tokens * STRAGGLER)
    batches = models * sum(math.ceil(size / profile.batch_size) for size in sizes)
    merged = largest.parameters * shapes[0].stored / 1e9  # stored as the base is
    return Cost(
        jobs(profile, name),
        calibration_hours(e, shapes, profile.device == "cpu"),
        calibration_memory(e, largest, width),
        len(e.method_names) * merged / merge_speed(profile) / 3600,
        merged,
        batches * tokens * step / 3600,
        batches * cap * step / 3600,
        cap * step / 3600,
        weights,
        cache,
        batch,
        models * sum(sizes) * min(cap, machine.tokens) * CHARACTERS / 1e9,
    )


def call_sizes(profile: Profile, e: Experiment, part: str = "") -> list[int]:
    """Items of each call of :func:`acm.evaluate`: in one job, which evaluates a part, or in all jobs of a model."""
    parts = e.parts if profile.jobs == "task" and not part else [part]
    return [sum(items_of(profile, task) for task in tasks) for name in parts for tasks, _ in e.calls(name)]


def texts_of(e: Experiment) -> int:
    """How many calibration texts are chosen."""
    return e.calibration.clusters * e.calibration.per_cluster


def merge_speed(profile: Profile) -> float:
    """GB/s of the slower of a profile's usual methods."""
    return SLOWEST_MERGE if profile.device == "cpu" else GPU_MACHINE_MERGE


def calibration_hours(e: Experiment, shapes: list[Shape], on_cpu: bool) -> float:
    """Hours of a calibration: reading every model once, and an MI estimate for each layer, text, pair and control.

    On a GPU the walk through the layers and the estimates have a cost for each call, whatever the text's length.
    """
    layers, compared = shapes[0].layers + 3, len(e.finetuned) * len(COEFFICIENT_CONTROLS)  # embed, norm, head
    reading = sum(s.parameters * s.stored for s in shapes) / READ
    if on_cpu:
        channels = (shapes[0].layers + 2) * shapes[0].hidden + shapes[0].vocabulary
        return (reading + texts_of(e) * CALIBRATION_TOKENS * channels * compared / ESTIMATE) / 3600
    return (reading + texts_of(e) * layers * (len(shapes) * GPU_WALK + compared * GPU_ESTIMATE)) / 3600


def calibration_memory(e: Experiment, shape: Shape, width: int) -> float:
    """GB of a calibration: a block or the head of two models, and the hidden states of every model.

    width: bytes of the dtype.
    """
    head = shape.vocabulary * shape.hidden
    block = max((shape.parameters - 2 * head) / shape.layers, head)
    states = texts_of(e) * CALIBRATION_TOKENS * shape.hidden * (1 + len(e.finetuned))
    return 1 + width * (2 * block + states) / 1e9


def jobs(profile: Profile, name: str) -> dict[str, int]:
    """The number of jobs of each rule of the Snakefile, in one experiment."""
    e = profile.experiments[name]
    merges, models = len(e.method_names), len(e.parents) + len(e.method_names)
    of_models = {
        "several": {"share": len(profile.shares(name))},
        "model": {"merge": merges, "evaluate": models},
        "task": {"merge": merges, "evaluate": models * len(e.parts), "gather": models},
    }[profile.jobs]
    return {"calibrate": 1, "coefficients": 1, **of_models, "tables": 1, "figures": 1}


def request(profile: Profile, name: str, rule: str, part: str = "", models: int = 1) -> dict[str, int]:
    """What one job asks a cluster for: ``mem_mb`` of the host, and ``runtime`` in minutes, both with a margin.

    The time of an evaluation is that of all its batches at the cap. name: the experiment's. rule: of the Snakefile.
    part: of the experiment, where `jobs` says task. models: of a share.
    """
    try:
        c, e = cost(profile, name, Machine()), profile.experiments[name]
        batches = sum(math.ceil(size / profile.batch_size) for size in call_sizes(profile, e, part))
    except UserError:  # a model or task whose size the plan does not know
        return UNKNOWN
    evaluating = c.gpu if profile.device == "cpu" else EVALUATION_MEMORY
    merging = c.merge_hours / len(e.method_names)
    beside = MERGE_MEMORY + largest_tensor(e) if profile.in_memory else 0.0  # the model stays while the next is merged
    memory, hours = {
        "calibrate": (c.calibrate_memory, c.calibrate_hours),
        "merge": (MERGE_MEMORY, merging),
        "evaluate": (evaluating, batches * c.batch_hours),
        "share": (max(MERGE_MEMORY, evaluating + beside), models * (merging + batches * c.batch_hours)),
        "question": (max(evaluating, c.calibrate_memory), UNKNOWN["runtime"] / 60),
        "coefficients": (0.0, 0.0),
        "gather": (COPIES * c.text / c.counts.get("gather", 1), 0.0),
    }.get(rule, (COPIES * c.text, 0.0))
    return {
        "mem_mb": math.ceil(1000 * MARGIN * (memory + NOTEBOOK_MEMORY)),
        "runtime": math.ceil(START + 60 * MARGIN * hours),
    }


def largest_tensor(e: Experiment) -> float:
    """GB of a merge's largest tensor, an embedding, on its way into a loaded model: as stored, and in float32."""
    shapes = shapes_of(e)
    return max(s.vocabulary * s.hidden for s in shapes) * (shapes[0].stored + BYTES["float32"]) / 1e9


def downloads(profile: Profile) -> dict[str, float]:
    """The hub's models that are not here yet, and the GB of each."""
    found = {}
    for e in profile.experiments.values():
        for model in e.hub_models:
            folder = ROOT / e.path(model)
            if not folder.is_dir():
                shape = shape_of(model, folder)
                found[model] = shape.parameters * shape.stored / 1e9
    return found


def check_possible(profile: Profile) -> None:
    """UserError for what `acm check` would refuse of the models, as far as their shapes tell.

    That is caps, and the head of the merges. An experiment with a model whose shape is not known is passed over.
    """
    for name, e in profile.experiments.items():
        try:
            shapes = shapes_of(e)
        except UserError:
            continue
        check_head(profile, e, shapes)
        for model, shape in zip(e.parents, shapes, strict=True):
            check_cap(profile, model, shape.positions, profile.cap(name, model))
        positions = merged_positions(shapes, e.compatibility == "paper")
        for method in e.method_names:
            check_cap(profile, method, positions, profile.cap(name, method))


def check_cap(profile: Profile, model: str, positions: int | None, cap: int) -> None:
    """UserError where the token cap leaves no room for a prompt within the model's positions. None: not known."""
    if positions and cap >= positions:
        raise UserError(
            f"max_tokens {cap} of profile {profile.name} leaves no room for a prompt: "
            f"{model} has {positions} positions. Lower max_tokens, or this model's own with `caps: {{{model}: …}}`; "
            "the variant cap2048 lowers it for all."
        )


def check_head(profile: Profile, e: Experiment, shapes: list[Shape]) -> None:
    """UserError where the merges are to tie or untie a head, and all models agree on the opposite."""
    wanted, tied = e.tie_word_embeddings, {shape.tied for shape in shapes}
    if wanted is not None and tied == {not wanted}:
        raise UserError(
            f"profile {profile.name}: tie_word_embeddings {str(wanted).lower()} is for models that disagree, and "
            f"{', '.join(e.parents)} all {'untie' if wanted else 'tie'} their heads. Leave it out (it is set by the "
            "variants head-dropped and head-kept)."
        )


def check_fits(profile: Profile, costs: dict[str, Cost], disk: float, machine: Machine) -> None:
    """UserError for the first thing that cannot fit. disk: GB that the run takes."""
    for name, c in costs.items():
        if machine.gpu_memory is not None and c.gpu > machine.gpu_memory:
            room = int((machine.gpu_memory / WORKSPACE - c.weights) / c.cache_each)
            none = "no batch fits: take a GPU with more memory, or lower max_tokens"
            raise UserError(
                f"{name} of {profile.name} needs {c.gpu:.0f} GB of GPU memory to evaluate (weights {c.weights:.1f}, "
                f"keys and values {c.batch} × {c.cache_each:.2f}), more than the {machine.gpu_memory:.4g} there are: "
                f"{f'lower batch_size to {room}' if room > 0 else none}."
            )
    if machine.disk is not None and disk > machine.disk:
        raise UserError(
            f"{profile.name} needs {disk:.0f} GB of disk, more than the {machine.disk:g} there are: run on one core "
            "(with several, more merged models exist at once), or put the hub's cache on another disk (HF_HOME)."
        )
