"""The budget of a profile as text: what `acm plan` prints."""

from __future__ import annotations

from acm.profiles import Profile
from acm.running import budget
from acm.running.budget import Cost, check_fits, check_possible, cost, downloads
from acm.running.budget_searches import search_lines
from acm.running.machine import Machine
from acm.shapes import SHAPES


def describe(profile: Profile, machine: Machine) -> str:
    """The plan as text. UserError for what cannot fit."""
    costs, fetched = {name: cost(profile, name, machine) for name in profile.experiments}, downloads(profile)
    together = machine.merged_at_once(profile)
    kept = max(c.merged for c in costs.values()) * together
    disk = sum(fetched.values()) + kept
    check_possible(profile)
    check_fits(profile, costs, disk, machine)
    lines = [f"profile {profile.name} ({profile.hash}): {profile.title}", ""]
    lines += [f"downloads  {sum(fetched.values()):.1f} GB"]
    for model, size in fetched.items():
        lines += [f"  {size:6.1f} GB  {model}{', pickled: convert it first' if SHAPES[model].pickled else ''}"]
    lines += [f"disk       {disk:.1f} GB: downloads, and {kept:.1f} GB of merged models, at most {together} at once"]
    for name, c in costs.items():
        lines += ["", f"{name}, on {profile.device}", *table(profile, name, c)]
    lines += search_lines(profile, machine)
    return "\n".join([*lines, "", job_line(profile, costs), *assumed(profile, machine)])


def job_line(profile: Profile, costs: dict[str, Cost]) -> str:
    """The number of all jobs, and their order."""
    total = sum(sum(c.counts.values()) for c in costs.values()) + 1
    models = {"several": "merge and evaluate", "model": "merge → evaluate", "task": "merge → evaluate → gather"}
    return f"jobs       {total}: calibrate → coefficients → {models[profile.jobs]} → tables, figures → publish"


def table(profile: Profile, name: str, c: Cost) -> list[str]:
    """One line for each kind of job: how many, the memory of each, and the hours of all."""
    gpu, repeats = profile.device != "cpu", profile.experiments[name].repeats
    memory = f"{c.gpu:5.1f} GB of GPU, {budget.EVALUATION_MEMORY:g} GB of CPU" if gpu else f"{c.gpu:5.1f} GB of CPU"
    capped = f" ({c.capped_hours:.0f} if every batch runs to the cap of {profile.cap(name)})"
    repeated = f", {repeats} responses an item" if repeats > 1 else ""
    shares = c.counts.get("share", 0)  # jobs that do both
    merges, evaluations = shares or c.counts["merge"], shares or c.counts["evaluate"]
    others = sum(c.counts.values()) - 1 - (shares or merges + evaluations)
    return [
        f"  calibrate     {1:3d} × {c.calibrate_memory:5.1f} GB of CPU{'':20s}{c.calibrate_hours:9.2f} hours",
        f"  merge         {merges:3d} × {budget.MERGE_MEMORY:5.1f} GB of CPU{'':20s}{c.merge_hours:9.2f} hours",
        f"  evaluate      {evaluations:3d} × {memory:34s}{c.evaluate_hours:9.1f} {'GPU-hours' if gpu else 'hours'}"
        f"{capped}{repeated}",
        f"  others        {others:3d} × {max(1, budget.COPIES * c.text):5.1f} GB of CPU{'':23s}minutes",
    ]


def assumed(profile: Profile, machine: Machine) -> list[str]:
    """What the hours assume."""
    engine = f"as transformers generates them{'; vLLM is quicker' if profile.backend == 'vllm' else ''}"
    share, least = f"{budget.EFFICIENCY:.0%}", f"{budget.LAUNCH * 1e3:g} ms a layer and token"
    return [
        f"assumed    {machine.tokens} tokens a response (--tokens), the longest of a batch {budget.STRAGGLER:g} times "
        f"that, prompts of {budget.PROMPT_TOKENS}; {machine.bandwidth:g} GB/s",
        f"           of memory bandwidth (--bandwidth) at {share}, at least {least}; batches of {profile.batch_size}, "
        f"{engine};",
        f"           calibration texts of {budget.CALIBRATION_TOKENS} tokens; merging at "
        f"{budget.merge_speed(profile):g} GB/s.",
        *([] if profile.device == "cpu" else measured(profile)),
    ]


def measured(profile: Profile) -> list[str]:
    """Which of these figures were measured on a GPU, and which engine is the way there."""
    first = "measured   on one H100: the least time of a layer, calibration, merging (benchmarks/gpu.md);"
    if profile.backend == "vllm":
        return [first, "           vLLM was not measured"]
    advice = "a step took no longer with 128 responses than with 1: take large batches, and from 7B on vLLM"
    return [first, f"           {advice}"]
