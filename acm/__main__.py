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
from acm.calibration import defaults
from acm.calibration.registry import COEFFICIENT_CONTROLS, SHIFTS, STATISTICS
from acm.errors import UserError, absent, check_distinct, unknown
from acm.evaluation.prompts import PROMPTS
from acm.evaluation.settings import MAX_TOKENS, Engine, Sampling, Server, chosen_engine
from acm.merging.defaults import ALLOW_NAN, DEVICE, HASH_INPUTS, KERNELS, THREADS
from acm.paths import require_clone
from acm.running.machine import Machine

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
        float | None, typer.Option(min=0, help="GB of the GPU; refuses what cannot fit")
    ] = Machine.gpu_memory,
    disk: Annotated[float | None, typer.Option(min=0, help="GB that are free; refuses what cannot fit")] = Machine.disk,
    tokens: Annotated[int, typer.Option(min=1, help="mean length of a response, assumed")] = Machine.tokens,
    bandwidth: Annotated[
        float, typer.Option(min=1, help="of memory, GB/s, assumed (L40S 864, H100 3350)")
    ] = Machine.bandwidth,
    cores: Annotated[int, typer.Option(min=1, help="CORES of `make reproduce`")] = Machine.cores,
) -> None:
    """What a profile would take: downloads, disk, memory, hours and jobs, estimated from the profile alone."""
    from acm.profiles import load_profile
    from acm.running.budget_text import describe

    typer.echo(describe(load_profile(profile), Machine(gpu_memory, disk, tokens, bandwidth, cores)))


@app.command(name="import")
def import_(
    profile: str,
    experiment: str,
    source: Annotated[
        list[Path], typer.Argument(help="records (parquet), lm-eval's samples_*.jsonl, or folders of them")
    ],
    method: Annotated[str | None, typer.Option(help="whose responses lm-eval's logs are; records name it")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="the model's folder, to count the tokens of logs")] = None,
) -> None:
    """Take in records made elsewhere: checked against the profile, and stored whole or not at all."""
    from acm.profiles import load_profile
    from acm.running.imported import import_records

    typer.echo(import_records(load_profile(profile), experiment, source, method, tokenizer))


def planned(recipe: Path, out: Path | None):
    """The plan of a recipe file."""
    from acm.merging.plan import make_plan
    from acm.merging.recipe import load_recipe

    return make_plan(*load_recipe(recipe), out)


@app.command()
def merge(
    recipe: Path,
    out: Path,
    dry_run: Annotated[bool, typer.Option(help="show what would be done, and do nothing")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = DEVICE,
    threads: Annotated[int | None, typer.Option(help="tensors at a time (default: one per core)", min=1)] = THREADS,
    kernels: Annotated[bool, typer.Option(help="fused loops; without them plain torch, slower, same bytes")] = KERNELS,
    allow_nan: Annotated[bool, typer.Option(help="merge inputs with NaN or infinity instead of stopping")] = ALLOW_NAN,
    hash_inputs: Annotated[
        bool, typer.Option("--hash", help="SHA-256 of every input into the model card")
    ] = HASH_INPUTS,
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
    from acm.files import write_text
    from acm.merging.export import mergekit_recipe

    if to != "mergekit":
        raise unknown("format", to, ["mergekit"])
    text = mergekit_recipe(planned(recipe, None).check(), recipe.parent)
    if out:
        write_text(out, text)
    else:
        typer.echo(text, nl=False)


@app.command()
def methods() -> None:
    """The merge methods: formula, parameters, an example, paper, and whether mergekit gives the same."""
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
    field: Annotated[str, typer.Option(help="field of the JSONL file; several joined by +")] = defaults.FIELD,
    clusters: Annotated[int, typer.Option(min=1, help="K-means clusters of the texts")] = defaults.CLUSTERS,
    per_cluster: Annotated[int, typer.Option(min=1, help="texts drawn from each")] = defaults.PER_CLUSTER,
    text_seed: Annotated[int, typer.Option(help="seed of the choice of texts")] = defaults.TEXT_SEED,
    encoder: Annotated[
        str | None, typer.Option(help="sentence-transformers model for the clusters (default: TF-IDF)")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="cut texts there (default: whole)")] = None,
    estimator: Annotated[
        list[str],
        typer.Option(help="repeatable; the first gives the coefficients"),
    ] = [defaults.ESTIMATOR],  # noqa: B006 (nobody changes it)
    control: Annotated[
        list[str],
        typer.Option(help="repeatable; `none` is the real pair"),
    ] = [*COEFFICIENT_CONTROLS],  # noqa: B006
    statistic: Annotated[list[str] | None, typer.Option(help=f"repeatable: {', '.join(STATISTICS)}")] = None,
    t: Annotated[float, typer.Option(help="temperature of Eq. 2")] = defaults.T,
    shift: Annotated[str, typer.Option(help=", ".join(SHIFTS))] = defaults.SHIFT,
    seed: Annotated[int, typer.Option(help="seed of the controls")] = defaults.SEED,
    dtype: Annotated[str, typer.Option(help="of the computation: float32 or bfloat16")] = defaults.DTYPE,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto; several GPUs share the models")] = defaults.DEVICE,
    threads: Annotated[int, typer.Option(min=1, help="for the estimates")] = defaults.THREADS,
) -> None:
    """Mutual information of BASE and each FINETUNED model, and the layer coefficients that follow from it.

    Models are run layer by layer, so any size fits; interrupted, the same command continues with the next layer.
    """
    from acm.calibration.coefficients import check_mapping, write_coefficients
    from acm.calibration.texts import read_texts, select_texts
    from acm.calibration.walk import calibrate as run
    from acm.records import provenance, write_parquet

    check_mapping(t, shift)
    check_distinct((path.name for path in finetuned), "fine-tuned models by their folder name")
    if "none" not in control:
        raise UserError("the coefficients come from the control `none`; name it too.")
    chosen = select_texts(read_texts(texts, field), clusters, per_cluster, text_seed, encoder)
    out.mkdir(parents=True, exist_ok=True)
    table = run(
        base,
        {path.name: path for path in finetuned},
        chosen,
        controls=control,
        estimators=estimator,
        seed=seed,
        dtype=dtype,
        device=device,
        threads=threads,
        max_tokens=max_tokens,
        keep=out / "calibration",
        statistics=out / "statistics" if statistic else None,
        kinds=statistic or (),
    )
    write_parquet(table, out / "mutual_information.parquet")
    facts = provenance("calibration", texts=texts, field=field, n=len(chosen), dtype=dtype)
    write_coefficients(out / "coefficients.json", table, facts, t, shift, estimator=estimator[0])
    typer.echo(f"coefficients: {out / 'coefficients.json'}")


@app.command()
def evaluate(
    model: Path,
    task: Annotated[list[str], typer.Option(help="ours or lm-eval's, repeatable")],
    out: Annotated[Path, typer.Option(help="parquet file for the records")] = Path("records.parquet"),
    items: Annotated[int | None, typer.Option(help="items of each task (default: all)")] = None,
    batch_size: Annotated[int, typer.Option(help="items generated together")] = Engine.batch_size,
    max_tokens: Annotated[int, typer.Option(help="token cap of a response")] = MAX_TOKENS,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = Engine.dtype,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1")] = Engine.device,
    seed: int = Sampling.seed,
    prompt: Annotated[str | None, typer.Option(help=f"of tasks that take one: {', '.join(PROMPTS)}")] = None,
    repeat: Annotated[int, typer.Option(help="number of this repeat, from 0")] = Sampling.repeat,
    temperature: Annotated[float, typer.Option(help="0 is greedy; above, responses are drawn")] = Sampling.temperature,
    top_p: Annotated[float, typer.Option(help="draw from the likeliest tokens of this probability")] = Sampling.top_p,
    backend: Annotated[str, typer.Option(help="transformers, vllm or server")] = Engine.backend,
    url: Annotated[str | None, typer.Option(help="of a server, such as http://localhost:8000/v1")] = None,
    served: Annotated[str | None, typer.Option(help="the model's name there (default: the listed)")] = Server.served,
    concurrency: Annotated[int, typer.Option(help="requests at a time to a server")] = Server.concurrency,
    model_args: Annotated[str, typer.Option(help="of vllm or a server's requests: '{top_k: -1}'")] = "{}",
    profile: Annotated[str | None, typer.Option(help="label, by which `acm import` takes the records")] = None,
    experiment: Annotated[str | None, typer.Option(help="label of the records")] = None,
    method: Annotated[str | None, typer.Option(help="label of the records (default: the folder's name)")] = None,
) -> None:
    """Evaluate a model folder on tasks; one record for each response, with its length in tokens."""
    if not isinstance(arguments := literal("model_args", model_args), dict):
        raise UserError(f"model_args: '{model_args}' is no mapping; write it like {{tensor_parallel_size: 2}}.")
    engine = chosen_engine(backend, url, served, concurrency, arguments, batch_size, dtype=dtype, device=device)
    sampling = Sampling(temperature, top_p, repeat, seed)
    labels = {"profile": profile, "experiment": experiment, "method": method}
    from acm.evaluation.harness import evaluate as run
    from acm.records import write_records

    given = {name: value for name, value in labels.items() if value}
    records = run(model, task, items=items, max_tokens=max_tokens, prompt=prompt, sampling=sampling, engine=engine,
                  keep=out.with_suffix(".batches"), labels=given)  # fmt: skip
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
