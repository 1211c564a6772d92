"""Activation-guided consensus merging: calibrate, weigh, merge, evaluate. COMMAND --help says more of each."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from acm import __version__
from acm.errors import UserError, absent, check_distinct, unknown
from acm.paths import require_clone

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"acm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    """What stands before a command."""


@app.command()
def check(
    recipe: Annotated[Path | None, typer.Argument(help="a merge recipe; without it, a profile is checked")] = None,
    profile: str = "tiny",
) -> None:
    """Check a recipe, or a profile's models, texts and tasks, before any work: errors, warnings and notes with their remedies."""
    if recipe is None:
        from acm.profiles import load_profile
        from acm.running.preflight import check as run

        typer.echo(run(load_profile(profile)))
        return
    plan = planned(recipe, None)
    typer.echo("\n".join(map(str, plan.findings)))
    plan.check()
    typer.echo(f"ready: {len(plan.jobs)} tensors by {plan.recipe.method.title}.")


@app.command()
def fetch(profile: Annotated[str, typer.Option(help="a profile, with variants if any")] = "tiny") -> None:
    """Download what a profile takes from the hub, models, texts and benchmarks, into its usual caches."""
    from acm.profiles import load_profile
    from acm.running.preflight import fetch as run

    typer.echo(run(load_profile(profile)))


@app.command()
def plan(
    profile: Annotated[str, typer.Option(help="a profile, with variants if any")] = "tiny",
    gpu_memory: Annotated[
        float | None, typer.Option(min=0, help="GB that the GPU has; refuses what cannot fit")
    ] = None,
    disk: Annotated[float | None, typer.Option(min=0, help="GB that are free; refuses what cannot fit")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="mean length of a response, assumed")] = 2500,
    bandwidth: Annotated[
        float, typer.Option(min=1, help="memory bandwidth, GB/s, assumed (L40S 864, H100 3350)")
    ] = 864,
    cores: Annotated[int, typer.Option(min=1, help="CORES of `make reproduce`")] = 1,
) -> None:
    """What a profile would take: downloads, disk, memory, hours and jobs, estimated from the profile alone."""
    from acm.profiles import load_profile
    from acm.running.budget import Machine, describe

    typer.echo(describe(load_profile(profile), Machine(gpu_memory, disk, tokens, bandwidth, cores)))


@app.command(name="import")
def import_(
    profile: str,
    experiment: str,
    source: Annotated[
        list[Path], typer.Argument(help="records (parquet), lm-eval's samples_*.jsonl, or folders of them")
    ],
    method: Annotated[
        str | None, typer.Option(help="whose responses lm-eval's logs are; records name it themselves")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="the model's folder, to count the tokens of lm-eval's logs")
    ] = None,
) -> None:
    """Take in records made elsewhere: checked against the profile, and stored whole or not at all."""
    from acm.profiles import load_profile
    from acm.running.imported import import_records

    typer.echo(import_records(load_profile(profile), experiment, source, method, tokenizer))


def planned(recipe: Path, out: Path | None):
    from acm.merging.plan import make_plan
    from acm.merging.recipe import load_recipe

    return make_plan(*load_recipe(recipe), out)


@app.command()
def merge(
    recipe: Path,
    out: Path,
    dry_run: Annotated[bool, typer.Option(help="show what would be done, and do nothing")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int | None, typer.Option(help="tensors at a time (default: one per core)", min=1)] = None,
    kernels: Annotated[bool, typer.Option(help="fused loops; without them plain torch, slower, same bytes")] = True,
    allow_nan: Annotated[bool, typer.Option(help="merge inputs that hold NaN or infinity instead of stopping")] = False,
    hash_inputs: Annotated[bool, typer.Option("--hash", help="SHA-256 of every input into the model card")] = False,
) -> None:
    """Merge models as a recipe (mergekit's YAML, plus `coefficients`) says, into the folder OUT. Interrupted, run it again."""
    if dry_run:
        plan = planned(recipe, out).check()
        rows = (f"{job.name}  {list(job.shape)}  {job.dtype}  {job.shard}" for job in plan.jobs)
        typer.echo("\n".join([*map(str, plan.findings), *rows]))
        return
    from acm.merging.engine import merge as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    made = run(
        recipe, out, device=device, threads=threads, kernels=kernels, allow_nan=allow_nan, hash_inputs=hash_inputs
    )
    typer.echo(f"merged model: {made}")


@app.command()
def export(
    recipe: Path,
    to: Annotated[str, typer.Option(help="format; mergekit is the one known")] = "mergekit",
    out: Annotated[Path | None, typer.Option(help="file (default: standard output)")] = None,
) -> None:
    """Write a recipe, its ACM coefficients included, as a file that mergekit runs to the same result."""
    from acm.merging.export import mergekit_recipe

    if to != "mergekit":
        raise unknown("format", to, ["mergekit"])
    text = mergekit_recipe(planned(recipe, None).check(), recipe.parent)
    out.write_text(text) if out else typer.echo(text, nl=False)


@app.command()
def methods() -> None:
    """The merge methods: formula, parameters, paper, and whether mergekit gives the same."""
    from acm.merging.registry import table

    typer.echo(table())


@app.command()
def calibrate(
    base: Path,
    finetuned: list[Path],
    texts: Annotated[
        str,
        typer.Option(help="JSONL or text file of texts, or a hub dataset such as simplescaling/s1K, also s1K@COMMIT"),
    ],
    out: Annotated[Path, typer.Option(help="folder for the MI table, coefficients.json and statistics")] = Path(),
    field: Annotated[str, typer.Option(help="field of the JSONL file; several joined by +")] = "question",
    clusters: Annotated[int, typer.Option(min=1, help="K-means clusters of the texts")] = 20,
    per_cluster: Annotated[int, typer.Option(min=1, help="texts drawn from each")] = 5,
    text_seed: Annotated[int, typer.Option(help="seed of the choice of texts")] = 54,
    encoder: Annotated[
        str | None, typer.Option(help="sentence-transformers model for the clusters (default: TF-IDF)")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="cut texts there (default: whole)")] = None,
    estimator: Annotated[list[str], typer.Option(help="repeatable; the first gives the coefficients")] = ["plug-in"],  # noqa: B006
    control: Annotated[list[str], typer.Option(help="repeatable; `none` is the real pair")] = [  # noqa: B006
        "none",
        "shuffled",
        "gaussian",
    ],
    statistic: Annotated[list[str] | None, typer.Option(help="repeatable: aim, regmean, fisher, sensitivity")] = None,
    t: Annotated[float, typer.Option(help="temperature of Eq. 2")] = 0.7,
    shift: Annotated[str, typer.Option(help="layer, global or none")] = "layer",
    seed: Annotated[int, typer.Option(help="seed of the controls")] = 0,
    dtype: Annotated[str, typer.Option(help="of the computation: float32 or bfloat16")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto; several GPUs share the models")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="for the estimates")] = 1,
) -> None:
    """Mutual information of BASE and each FINETUNED model, and the layer coefficients that follow from it.

    Models are run layer by layer, so any size fits; interrupted, the same command continues with the next layer.
    """
    from acm.calibration.coefficients import check_mapping, write_coefficients
    from acm.calibration.walk import calibrate as run
    from acm.calibration.walk import read_texts, select_texts
    from acm.records import provenance, write_parquet

    check_mapping(t, shift)
    check_distinct((path.name for path in finetuned), "fine-tuned models by their folder name")
    if "none" not in control:
        raise UserError("the coefficients come from the control `none`; name it too.")
    chosen = select_texts(read_texts(texts, field), clusters, per_cluster, text_seed, encoder)
    out.mkdir(parents=True, exist_ok=True)
    table = run(base, {path.name: path for path in finetuned}, chosen, tuple(control), tuple(estimator), seed, dtype, device, threads,
                max_tokens, keep=out / "calibration", statistics=out / "statistics" if statistic else None, kinds=tuple(statistic or ()))  # fmt: skip
    write_parquet(table, out / "mutual_information.parquet")
    facts = provenance("calibration", texts=texts, field=field, n=len(chosen), dtype=dtype)
    write_coefficients(out / "coefficients.json", table, facts, t, shift, estimator=estimator[0])
    typer.echo(f"coefficients: {out / 'coefficients.json'}")


@app.command()
def evaluate(
    model: Path,
    task: Annotated[list[str], typer.Option(help="lm-eval task, repeatable")],
    out: Annotated[Path, typer.Option(help="parquet file for the records")] = Path("records.parquet"),
    items: Annotated[int | None, typer.Option(help="items of each task (default: all)")] = None,
    batch_size: int = 64,
    max_tokens: Annotated[int, typer.Option(help="token cap of a response")] = 10240,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    prompt: Annotated[
        str | None, typer.Option(help="of the mathematics tasks: qwen25-math-cot, few-shot, chat-template")
    ] = None,
    repeat: Annotated[int, typer.Option(help="number of this repeat, from 0")] = 0,
    temperature: Annotated[float, typer.Option(help="0 is greedy; above, responses are sampled")] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="when sampling: the likeliest tokens that have this probability together")
    ] = 1.0,
    backend: Annotated[str, typer.Option(help="transformers, vllm or server")] = "transformers",
    url: Annotated[str | None, typer.Option(help="of a server: its address, such as http://localhost:8000/v1")] = None,
    served: Annotated[
        str | None, typer.Option(help="of a server: the model's name there (default: the one that it lists)")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="of a server: requests at a time")] = 1,
    model_args: Annotated[
        str, typer.Option(help="of vllm's engine or a server's requests, as YAML: '{tensor_parallel_size: 2}'")
    ] = "{}",
    profile: Annotated[
        str | None, typer.Option(help="label of the records, with which `acm import` takes them")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="label of the records")] = None,
    method: Annotated[str | None, typer.Option(help="label of the records (default: the folder's name)")] = None,
) -> None:
    """Evaluate a model folder on lm-eval tasks; one record for each response, with its length in tokens."""
    from acm.evaluation.harness import evaluate as run
    from acm.records import write_records

    labels = {"profile": profile, "experiment": experiment, "method": method}
    if not isinstance(extra := literal("model_args", model_args), dict):
        raise UserError(f"model_args: '{model_args}' is no mapping; write it like {{tensor_parallel_size: 2}}.")
    records = run(model, task, items=items, batch_size=batch_size, max_tokens=max_tokens, dtype=dtype, device=device, seed=seed,
                  keep=out.with_suffix(".batches"), labels={name: value for name, value in labels.items() if value}, prompt=prompt,
                  repeat=repeat, temperature=temperature, top_p=top_p, backend=backend, url=url, served=served,
                  concurrency=concurrency, model_args=extra)  # fmt: skip
    write_records(records, out)
    typer.echo(records.groupby("task")[["correct", "length", "truncated"]].mean().to_string())


@app.command()
def notebook(
    source: Path,
    out: Path,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value, repeatable")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of numerical libraries (default: theirs)")] = None,
    log: Annotated[Path | None, typer.Option(help="file for what the cells print (default: shown)")] = None,
) -> None:
    """Run a notebook through papermill, from the repository's root; refuses unknown or mistyped parameters."""
    require_clone("acm notebook")
    from acm.running.jobs import limit_threads, logged

    with logged(log):
        if threads:
            limit_threads(threads)
        from acm.running.notebooks import run_notebook

        logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the cells print, progress bars included
        given = dict(item.split("=", 1) for item in parameter or [] if "=" in item)
        if bad := [item for item in parameter or [] if "=" not in item]:
            raise UserError(f"parameter '{bad[0]}' must be name=value.")
        run_notebook(source, out, {name: literal(name, value) for name, value in given.items()})


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def reproduce(
    context: typer.Context,
    profile: Annotated[str, typer.Option(help="a profile, with variants if any")] = "tiny",
    cores: Annotated[int | None, typer.Option(min=1, help="jobs at a time (default: one for each core)")] = None,
    questions: Annotated[bool, typer.Option("--questions", help="ask the five questions too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the jobs, and why each would run")] = False,
    unlock: Annotated[bool, typer.Option("--unlock", help="release the lock of a killed run")] = False,
) -> None:
    """Run a profile's whole pipeline, as `make reproduce` does. What follows `--` goes to Snakemake."""
    require_clone("acm reproduce")
    from acm.running import reproduce as running

    if unlock:
        return running.unlock(profile)
    target, cores = "questions" if questions else "summary", cores or os.cpu_count() or 1
    typer.echo(running.reproduce(profile, target, cores, dry_run, context.args))


def literal(name: str, value: str) -> object:
    """A parameter's value, read as YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"parameter {name}: '{value}' is not readable as YAML.") from None


@app.command()
def course(
    overwrite: Annotated[
        bool, typer.Option(help="start student copies anew even where someone has worked in them")
    ] = False,
) -> None:
    """Write the course's student copies into notebooks/course, and its solutions into runs/course/solutions."""
    require_clone("acm course")
    from acm.course.copies import build

    typer.echo(build(overwrite=overwrite))


@app.command()
def publish(
    profile: Annotated[str, typer.Option(help="a profile whose run has finished")] = "tiny",
    summary: Annotated[Path | None, typer.Option(help="file for the closing message (default: it is printed)")] = None,
) -> None:
    """Assemble a run's results in runs/PROFILE/results, and say what differs from the committed ones."""
    require_clone("acm publish")
    from acm.files import write_text
    from acm.reporting.publish import publish as run

    message = run(profile)
    if summary:
        write_text(summary, f"{message}\n")
    else:
        typer.echo(message)


@app.command()
def keep(
    profile: Annotated[str, typer.Option(help="a profile whose results were assembled")] = "tiny",
    page: Annotated[list[Path] | None, typer.Option(help="a Markdown page that shows results; repeatable")] = None,
) -> None:
    """Copy runs/PROFILE/results over reports/PROFILE and figures/PROFILE, and fill the pages that ask for results."""
    require_clone("acm keep")
    from acm.reporting.publish import keep as run

    typer.echo(run(profile, page or []))


def main() -> None:
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        if not (said := absent(error)):
            raise
        sys.exit(f"error: {said}")


if __name__ == "__main__":
    main()
