"""The commands that take a recipe: check, merge and export. Also the command that lists the merge methods."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acm.commands.app import app, say
from acm.errors import unknown
from acm.merging.defaults import ALLOW_NAN, DEVICE, HASH_INPUTS, KERNELS, THREADS

if TYPE_CHECKING:
    from acm.merging.plan import Plan


RecipeFile = Annotated[Path, typer.Argument(help="recipe: a YAML file in mergekit's format")]
SPEED = partial(typer.Option, rich_help_panel="Speed and checks")


@app.command(epilog="Example: acm check docs/recipe.yml")
def check(
    recipe: Annotated[Path | None, typer.Argument(help="a merge recipe; without it, a profile is checked")] = None,
    profile: Annotated[str, typer.Option(help="the profile, where no recipe is given")] = "tiny",
) -> None:
    """Check a recipe, or a profile's models, texts and tasks, before any work.

    Shows errors, warnings and notes, each with its remedy.
    """
    if recipe is None:
        from acm.profiles import load_profile
        from acm.running.preflight import check as run
        from acm.running.preflight import gpu_memory

        dial = load_profile(profile)
        say(run(dial))
        if dial.device.startswith("cuda") and gpu_memory(dial.device) is None:
            said = "torch finds no GPU here: a run needs one, and a torch that was built for it."
            say(f"note: the profile's device is {dial.device}, and {said}")
        return
    plan = planned(recipe, None)
    say("\n".join(map(str, plan.findings)))
    plan.check()
    say(f"ready: {len(plan.jobs)} tensors by {plan.recipe.method.title}.")


def planned(recipe: Path, out: Path | None) -> Plan:
    """The plan of a recipe file."""
    from acm.merging.plan import make_plan
    from acm.merging.recipe import load_recipe

    return make_plan(*load_recipe(recipe), out)


@app.command(epilog="Example: acm merge docs/recipe.yml runs/merged")
def merge(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Argument(help="folder for the merged model, which must not exist yet")],
    dry_run: Annotated[bool, typer.Option(help="show what would be done, and do nothing")] = False,
    device: Annotated[str, SPEED(help="auto, cpu or cuda")] = DEVICE,
    threads: Annotated[int | None, SPEED(help="tensors at a time (default: one per core)", min=1)] = THREADS,
    kernels: Annotated[bool, SPEED(help="fused loops; without them plain torch, slower, same bytes")] = KERNELS,
    allow_nan: Annotated[bool, SPEED(help="merge inputs with NaN or infinity instead of stopping")] = ALLOW_NAN,
    hash_inputs: Annotated[bool, SPEED("--hash", help="SHA-256 of every input into the model card")] = HASH_INPUTS,
) -> None:
    """Merge models as a recipe (mergekit's YAML, plus `coefficients`) says, into the folder OUT.

    Interrupted, run it again.
    """
    if dry_run:
        plan = planned(recipe, out).check()
        rows = (f"{job.name}  {list(job.shape)}  {job.dtype}  {job.shard}" for job in plan.jobs)
        say("\n".join([*map(str, plan.findings), *rows]))
        return
    from acm.merging.engine import merge as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    made = run(
        recipe, out, device=device, threads=threads, kernels=kernels, allow_nan=allow_nan, hash_inputs=hash_inputs
    )
    say(f"merged model: {made}")


@app.command(epilog="Example: acm export docs/recipe.yml --out mergekit.yml")
def export(
    recipe: RecipeFile,
    to: Annotated[str, typer.Option(help="format; mergekit is the one known")] = "mergekit",
    out: Annotated[Path | None, typer.Option(help="file (default: standard output)")] = None,
) -> None:
    """Write a recipe, its ACM coefficients included, as a file that mergekit runs to the same result."""
    from acm.files import write_text
    from acm.merging.export import mergekit_recipe

    if to != "mergekit":
        raise unknown("format", to, ["mergekit"])
    text = mergekit_recipe(planned(recipe, None).check(), recipe.parent)
    if out:
        write_text(out, text)
    else:
        say(text.removesuffix("\n"))


@app.command(epilog="Example: acm methods")
def methods() -> None:
    """The merge methods: formula, parameters, an example, paper, and whether mergekit gives the same."""
    from acm.merging.registry import table

    say(table())
