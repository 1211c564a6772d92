"""What a profile would take, from the profile alone: downloads, disk, memory, hours, jobs. No network, no model, no torch.

Sizes follow from the models' shapes. Hours are estimates: what they assume is in the constants below, and printed.

    weights      parameters × bytes of the dtype
    cache        batch × (prompt + cap) × 2 · layers · kv_heads · head_dim × bytes of the dtype       keys and values
    step         max(layers × LAUNCH, (weights + half the cache) / (bandwidth × EFFICIENCY))          seconds a token of the whole batch;
                 on a CPU at least 2 × parameters × batch / CPU_SPEED
    evaluation   repeats × batches × min(cap, tokens × STRAGGLER) × step                              a batch ends with its longest response
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.errors import UserError
from acm.evaluation.benchmarks import BENCHMARKS
from acm.evaluation.code_benchmarks import RELEASES, SELF_INVOKING
from acm.merging.registry import METHODS
from acm.paths import ROOT
from acm.profiles import Experiment, Profile
from acm.shapes import BYTES, SHAPES, Shape, merged_positions, shape_of

LAUNCH = 0.001  # seconds a layer: transformers' own overhead, which bounds small models
EFFICIENCY = 0.6  # of the memory bandwidth that decoding reaches
STRAGGLER = 3.0  # the longest response of a batch against the mean one
PROMPT = 300  # tokens
CALIBRATION_TOKENS = 150  # of a text; s1K's questions
ESTIMATE = 6e7  # entries a second of plug-in MI on one core (400 × 3584 in 0.023 s)
CPU_SPEED = 3e10  # float32 operations a second on one core
READ = 1e9  # bytes a second from disk, when calibration walks through the layers
SLOWEST_MERGE = min(METHODS[m].speed or 0 for m in ("ties", "slerp"))  # GB/s on two cores, of the methods that a profile usually has
MERGE_MEMORY, EVALUATION_MEMORY, WORKSPACE = (
    0.5,
    6.0,
    1.1,
)  # GB, GB of CPU memory beside a GPU, factor for what else the GPU holds
NOTEBOOK_MEMORY, COPIES, CHARACTERS = 1.5, 3, 4  # GB of the interpreters; of the records, in the tables; of a token
MARGIN, START, UNKNOWN = (
    1.3,
    15,
    {"mem_mb": 16000, "runtime": 1440},
)  # on what a cluster is asked for; minutes; where the size is not known
EMBEDDED = ("abacus_easy", "abacus_medium", "abacus_hard", "abacus_sums", "abacus_words")
ITEMS = {f"acm_{name}": benchmark.items for name, benchmark in (BENCHMARKS | SELF_INVOKING).items()} | dict.fromkeys(
    EMBEDDED, 500
)
ITEMS |= {"acm_livecodebench": RELEASES["release_v5"], "smol_words": 200}  # as many as `make smol-models` writes


@dataclass(frozen=True)
class Machine:
    """What there is, and what is assumed. gpu_memory, disk: GB, None: unchecked. tokens: mean response. bandwidth: GB/s."""

    gpu_memory: float | None = None
    disk: float | None = None
    tokens: int = 2500
    bandwidth: float = 864
    cores: int = 1

    def merged_at_once(self, profile: Profile) -> int:
        """Evaluations on a GPU take all cores: with several, all merges run ahead of them."""
        merges = [len(e.method_names) for e in profile.experiments.values()]
        return sum(merges) if self.cores > 1 and profile.device != "cpu" else min(self.cores, sum(merges))


def shapes_of(e: Experiment) -> list[Shape]:
    """Of the base and the fine-tuned models, base first; UserError for a model whose shape is not known."""
    folders = zip([e.base, *e.finetuned], e.parents.values(), strict=True)
    return [e.shape if e.shape and not folder.is_dir() else shape_of(model, folder) for model, folder in folders]


def items_of(profile: Profile, task: str) -> int:
    """How many items of a task are evaluated; UserError where neither the profile nor the table says."""
    if task not in ITEMS and profile.items is None:
        raise UserError(
            f"the number of items of task {task} is not known here; set `items` in the profile for the plan."
        )
    return min(ITEMS.get(task, profile.items or 0), profile.items or ITEMS[task])


@dataclass(frozen=True)
class Cost:
    """What one experiment takes. GB and hours; ``gpu`` is the largest evaluation's memory (of the CPU where that is the device).

    batch_hours: of one batch that runs to the cap. text: of all responses.
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
        return (self.weights + self.batch * self.cache_each) * WORKSPACE


def cost(profile: Profile, name: str, machine: Machine) -> Cost:
    """The estimate of one experiment, from its largest model."""
    e = profile.experiments[name]
    shapes = shapes_of(e)
    largest = max(shapes, key=lambda s: s.parameters)
    width, cap = BYTES[profile.dtype], profile.cap(name)
    sizes = call_sizes(profile, e)
    weights, cache = largest.parameters * width / 1e9, (PROMPT + cap) * largest.cache(profile.dtype) / 1e9
    batch, bandwidth = min(profile.batch_size, max(sizes)), machine.bandwidth * EFFICIENCY
    step = max(largest.layers * LAUNCH, (weights + batch * cache / 2) / bandwidth)
    if profile.device == "cpu":
        step = max(step, 2 * largest.parameters * batch / CPU_SPEED)
    models, tokens = len(e.parents) + len(e.method_names), min(cap, machine.tokens * STRAGGLER)
    batches = models * sum(math.ceil(size / profile.batch_size) for size in sizes)
    merged = largest.parameters * shapes[0].stored / 1e9  # stored as the base is
    return Cost(
        jobs(profile, e),
        calibration_hours(e, shapes),
        calibration_memory(e, largest, width),
        len(e.method_names) * merged / SLOWEST_MERGE / 3600,
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
    """Items of each call of evaluate: of one job, or of all jobs of a model."""
    parts = e.parts if profile.jobs == "task" and not part else [part]
    return [sum(items_of(profile, task) for task in tasks) for name in parts for tasks, _ in e.calls(name)]


def texts_of(e: Experiment) -> int:
    return e.calibration.clusters * e.calibration.per_cluster


def calibration_hours(e: Experiment, shapes: list[Shape]) -> float:
    """Reading every model once, and an estimate for each layer, text, pair and control, on one core."""
    entries = (
        shapes[0].layers
        * shapes[0].hidden
        * texts_of(e)
        * CALIBRATION_TOKENS
        * len(e.finetuned)
        * len(COEFFICIENT_CONTROLS)
    )
    return (sum(s.parameters * s.stored for s in shapes) / READ + entries / ESTIMATE) / 3600


def calibration_memory(e: Experiment, shape: Shape, width: int) -> float:
    """GB: a block or the head of two models, and the texts' hidden states of every model. width: bytes of the dtype."""
    block = max(
        (shape.parameters - 2 * shape.vocabulary * shape.hidden) / shape.layers, shape.vocabulary * shape.hidden
    )
    states = texts_of(e) * CALIBRATION_TOKENS * shape.hidden * (1 + len(e.finetuned))
    return 1 + width * (2 * block + states) / 1e9


def jobs(profile: Profile, e: Experiment) -> dict[str, int]:
    """Rule of the Snakefile → number of its jobs, in one experiment."""
    merges, models = len(e.method_names), len(e.parents) + len(e.method_names)
    evaluations = (
        {"evaluate": models * len(e.parts), "gather": models} if profile.jobs == "task" else {"evaluate": models}
    )
    return {"calibrate": 1, "coefficients": 1, "merge": merges, **evaluations, "tables": 1, "figures": 1}


def request(profile: Profile, name: str, rule: str, part: str = "") -> dict[str, int]:
    """What one job of a rule asks a cluster for: ``mem_mb`` of the host, and ``runtime`` in minutes, both with a margin.

    An evaluation's time is that of all its batches at the cap. part: of the experiment, where `jobs` says task. rule: of the Snakefile.
    """
    try:
        c, e = cost(profile, name, Machine()), profile.experiments[name]
        batches = sum(math.ceil(size / profile.batch_size) for size in call_sizes(profile, e, part))
    except UserError:  # a model or task whose size the plan does not know
        return UNKNOWN
    memory, hours = {
        "calibrate": (c.calibrate_memory, c.calibrate_hours),
        "merge": (MERGE_MEMORY, c.merge_hours / len(e.method_names)),
        "evaluate": (c.gpu if profile.device == "cpu" else EVALUATION_MEMORY, batches * c.batch_hours),
        "question": (
            max(c.gpu if profile.device == "cpu" else EVALUATION_MEMORY, c.calibrate_memory),
            UNKNOWN["runtime"] / 60,
        ),
        "coefficients": (0.0, 0.0),
        "gather": (COPIES * c.text / c.counts.get("gather", 1), 0.0),
    }.get(rule, (COPIES * c.text, 0.0))
    return {
        "mem_mb": math.ceil(1000 * MARGIN * (memory + NOTEBOOK_MEMORY)),
        "runtime": math.ceil(START + 60 * MARGIN * hours),
    }


def downloads(profile: Profile) -> dict[str, float]:
    """Hub model → GB, of those that are not here yet."""
    found = {}
    for e in profile.experiments.values():
        for model in e.hub_models:
            folder = ROOT / e.path(model)
            if not folder.is_dir():
                shape = shape_of(model, folder)
                found[model] = shape.parameters * shape.stored / 1e9
    return found


def check_possible(profile: Profile) -> None:
    """UserError for what `acm check` would refuse of the models, as far as their shapes tell: caps, and the merges' head.

    An experiment with a model whose shape is not known is passed over.
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
    """UserError where the token cap leaves no room for a prompt within the model's positions (None: not known)."""
    if positions and cap >= positions:
        raise UserError(
            f"max_tokens {cap} of profile {profile.name} leaves no room for a prompt: {model} has {positions} positions. Lower max_tokens, "
            f"or this model's own with `caps: {{{model}: …}}`; the variant cap2048 lowers it for all."
        )


def check_head(profile: Profile, e: Experiment, shapes: list[Shape]) -> None:
    """UserError where the merges are to tie or untie a head, and all models agree on the opposite."""
    wanted, tied = e.tie_word_embeddings, {shape.tied for shape in shapes}
    if wanted is not None and tied == {not wanted}:
        raise UserError(
            f"profile {profile.name}: tie_word_embeddings {str(wanted).lower()} is for models that disagree, and {', '.join(e.parents)} all "
            f"{'untie' if wanted else 'tie'} their heads. Leave it out (it is set by the variants head-dropped and head-kept)."
        )


def check_fits(profile: Profile, costs: dict[str, Cost], disk: float, machine: Machine) -> None:
    """UserError for the first thing that cannot fit."""
    for name, c in costs.items():
        if machine.gpu_memory is not None and c.gpu > machine.gpu_memory:
            room = int((machine.gpu_memory / WORKSPACE - c.weights) / c.cache_each)
            remedy = (
                f"lower batch_size to {room}"
                if room > 0
                else "no batch fits: take a GPU with more memory, or lower max_tokens"
            )
            raise UserError(
                f"{name} of {profile.name} needs {c.gpu:.0f} GB of GPU memory to evaluate (weights {c.weights:.1f}, keys and values "
                f"{c.batch} × {c.cache_each:.2f}), more than the {machine.gpu_memory:.4g} there are: {remedy}."
            )
    if machine.disk is not None and disk > machine.disk:
        raise UserError(
            f"{profile.name} needs {disk:.0f} GB of disk, more than the {machine.disk:g} there are: run on one core (with several, more "
            "merged models exist at once), or put the hub's cache on another disk (HF_HOME)."
        )


def describe(profile: Profile, machine: Machine) -> str:
    """The plan as text; UserError for what cannot fit."""
    costs, fetched = {name: cost(profile, name, machine) for name in profile.experiments}, downloads(profile)
    kept = max(c.merged for c in costs.values()) * machine.merged_at_once(profile)
    disk = sum(fetched.values()) + kept
    check_possible(profile)
    check_fits(profile, costs, disk, machine)
    lines = [
        f"profile {profile.name} ({profile.hash}): {profile.title}",
        "",
        f"downloads  {sum(fetched.values()):.1f} GB",
    ]
    lines += [
        f"  {size:6.1f} GB  {model}{', pickled: convert it first' if SHAPES[model].pickled else ''}"
        for model, size in fetched.items()
    ]
    lines += [
        f"disk       {disk:.1f} GB: downloads, and {kept:.1f} GB of merged models, at most {machine.merged_at_once(profile)} at once"
    ]
    for name, c in costs.items():
        lines += ["", f"{name}, on {profile.device}", *table(profile, name, c)]
    total = sum(sum(c.counts.values()) for c in costs.values()) + 1
    graph = f"calibrate → coefficients → merge → evaluate → {'gather → ' if profile.jobs == 'task' else ''}tables, figures → publish"
    return "\n".join([*lines, "", f"jobs       {total}: {graph}", *assumed(profile, machine)])


def table(profile: Profile, name: str, c: Cost) -> list[str]:
    """One line a kind of job: how many, memory of each, hours of all."""
    gpu = profile.device != "cpu"
    repeats = profile.experiments[name].repeats
    repeated = f", {repeats} responses an item" if repeats > 1 else ""
    memory = f"{c.gpu:5.1f} GB of GPU, {EVALUATION_MEMORY:g} GB of CPU" if gpu else f"{c.gpu:5.1f} GB of CPU"
    return [
        f"  calibrate     {1:3d} × {c.calibrate_memory:5.1f} GB of CPU{'':20s}{c.calibrate_hours:9.2f} hours",
        f"  merge         {c.counts['merge']:3d} × {MERGE_MEMORY:5.1f} GB of CPU{'':20s}{c.merge_hours:9.2f} hours",
        f"  evaluate      {c.counts['evaluate']:3d} × {memory:34s}{c.evaluate_hours:9.1f} {'GPU-hours' if gpu else 'hours'}"
        f" ({c.capped_hours:.0f} if every batch runs to the cap of {profile.cap(name)}){repeated}",
        f"  others        {sum(c.counts.values()) - 1 - c.counts['merge'] - c.counts['evaluate']:3d} × {max(1, COPIES * c.text):5.1f} GB of CPU{'':23s}minutes",
    ]


def assumed(profile: Profile, machine: Machine) -> list[str]:
    return [
        f"assumed    {machine.tokens} tokens a response (--tokens), the longest of a batch {STRAGGLER:g} times that, prompts of {PROMPT}; "
        f"{machine.bandwidth:g} GB/s",
        f"           of memory bandwidth (--bandwidth) at {EFFICIENCY:.0%}, at least {LAUNCH * 1e3:g} ms a layer and token; batches of "
        f"{profile.batch_size}, as transformers generates them{'; vLLM is quicker' if profile.backend == 'vllm' else ''};",
        f"           calibration texts of {CALIBRATION_TOKENS} tokens; merging at {SLOWEST_MERGE:g} GB/s. Nothing was measured on a GPU.",
    ]
