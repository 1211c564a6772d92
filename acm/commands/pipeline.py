"""The commands that take a profile: plan a run, run it, publish its results. Also the commands that run notebooks."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from acm.commands.app import app, literal, names_options, say
from acm.errors import UserError
from acm.paths import require_clone
from acm.running.machine import Machine

UNSTATED, COUNTS = (
    partial(typer.Option, rich_help_panel=title) for title in ("What a log does not state", "What counts")
)
ProfileName = Annotated[str, typer.Option(help="a profile, with variants if any")]


@app.command(epilog="Example: acm plan --profile qwen-7b --gpu-memory 80")
def plan(
    profile: ProfileName = "tiny",
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

    say(describe(load_profile(profile), Machine(gpu_memory, disk, tokens, bandwidth, cores)))


@app.command(epilog="Example: acm fetch --profile smol")
@names_options
def fetch(
    profile: ProfileName = "tiny",
    records: Annotated[
        bool, typer.Option("--records", help="its deposited records instead, from which tables and figures redraw")
    ] = False,
    url: Annotated[str | None, typer.Option(help="of the deposit, or its DOI (default: reports/deposits.yml)")] = None,
    sha256: Annotated[str | None, typer.Option(help="of the deposit at --url")] = None,
) -> None:
    """Download what a profile takes from the hub, models, texts and benchmarks, into its usual caches."""
    from acm.profiles import load_profile

    if (url or sha256) and not records:
        raise UserError("--url and --sha256 name a deposit of records: add --records.")
    if records:
        from acm.sharing.deposits import fetch_records

        return say(fetch_records(load_profile(profile), url, sha256))
    from acm.running.preflight import fetch as run

    say(run(load_profile(profile)))


@app.command(
    epilog="Example: acm reproduce --profile tiny --cores 2",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def reproduce(
    context: typer.Context,
    profile: ProfileName = "tiny",
    cores: Annotated[int | None, typer.Option(min=1, help="jobs at a time (default: one for each core)")] = None,
    questions: Annotated[bool, typer.Option("--questions", help="ask the questions to the method too")] = False,
    search: Annotated[
        bool, typer.Option("--search", help="make the profile's searches of coefficients, alone")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the jobs, and why each would run")] = False,
    unlock: Annotated[bool, typer.Option("--unlock", help="release the lock of a killed run")] = False,
) -> None:
    """Run a profile's whole pipeline, as `make reproduce` does. What follows `--` goes to Snakemake."""
    require_clone("acm reproduce")
    from acm.running import reproduce as running

    if unlock:
        return running.unlock(profile)
    if questions and search:
        raise UserError("--questions and --search: give one at a time.")
    target = "searches" if search else "questions" if questions else "summary"
    cores = cores or os.cpu_count() or 1
    say(running.reproduce(profile, target, cores, dry_run, context.args))


@app.command(epilog="Example: acm publish --profile tiny")
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
        say(message)


@app.command(epilog="Example: acm keep --profile tiny --page README.md")
def keep(
    profile: Annotated[str, typer.Option(help="a profile whose results were assembled")] = "tiny",
    page: Annotated[list[Path] | None, typer.Option(help="a Markdown page that shows results; repeatable")] = None,
    searches: Annotated[bool, typer.Option("--searches", help="the searches of the run alone")] = False,
) -> None:
    """Copy runs/PROFILE/results over reports/PROFILE and figures/PROFILE, and fill the pages that ask for results."""
    require_clone("acm keep")
    from acm.reporting.publish import keep as run
    from acm.reporting.publish import keep_searches

    say(keep_searches(profile) if searches else run(profile, page or []))


@app.command(
    name="import",
    epilog="Example: acm import tiny long-to-short my-logs --method TA --tokenizer abacus/checkpoints/abacus-fast",
)
def import_(
    profile: Annotated[str, typer.Argument(help="the profile that the records are of")],
    experiment: Annotated[str, typer.Argument(help="its experiment")],
    source: Annotated[
        list[Path], typer.Argument(help="records (parquet), lm-eval's samples_*.jsonl, or folders of them")
    ],
    method: Annotated[str | None, typer.Option(help="whose responses lm-eval's logs are; records name it")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="the model's folder, to count the tokens of responses")] = None,
    max_tokens: Annotated[int | None, UNSTATED(min=1, help="token cap of logs that state none")] = None,
    temperature: Annotated[float | None, UNSTATED(min=0, help="of logs that state none; 0 is greedy")] = None,
    top_p: Annotated[float | None, UNSTATED(help="of sampled logs that state none")] = None,
    top_k: Annotated[int | None, UNSTATED(help="of sampled logs that state none; 0 is off")] = None,
    prompt: Annotated[str | None, UNSTATED(help="of logs that state none; `own`: the task's, as it stands")] = None,
    items: Annotated[
        list[str] | None, UNSTATED(help="task=N, how many items a task of lm-eval has; repeatable")
    ] = None,
    metric: Annotated[list[str] | None, COUNTS(help="which counts, where logs have several; repeatable")] = None,
    filter_: Annotated[
        list[str] | None, COUNTS("--filter", help="which counts, where logs have several; repeatable")
    ] = None,
    recompute: Annotated[bool, COUNTS("--recompute", help="replace what differs when computed anew")] = False,
) -> None:
    """Take in records made elsewhere: checked against the profile, and stored whole or not at all."""
    from acm.profiles import load_profile
    from acm.running.imported import import_records
    from acm.running.imported_given import Given

    pairs = [pair.partition("=")[::2] for pair in items or []]
    if bad := [task for task, number in pairs if not (task and number.isdecimal() and 0 < int(number) < 10**9)]:
        raise UserError(f"--items {bad[0]}: give task=N, such as gsm8k=1319.")
    given = Given(
        max_tokens, temperature, top_p, top_k, prompt, {task: int(number) for task, number in pairs},
        tuple(metric or ()), tuple(filter_ or ()), recompute,
    )  # fmt: skip
    say(import_records(load_profile(profile), experiment, source, method, tokenizer, given))


@app.command(epilog="Example: acm notebook notebooks/1-calibrate.ipynb runs/1.ipynb -p profile=tiny")
def notebook(
    source: Annotated[Path, typer.Argument(help="the notebook")],
    out: Annotated[Path, typer.Argument(help="file for the executed copy")],
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value, repeatable")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of numerical libraries (default: theirs)")] = None,
    log: Annotated[Path | None, typer.Option(help="file for what the cells print (default: shown)")] = None,
) -> None:
    """Run a notebook through papermill, from the repository's root; refuses unknown or mistyped parameters."""
    require_clone("acm notebook", writes=False)
    from acm.running.jobs import limit_threads, logged, share_lock

    share_lock()
    with logged(log):
        if threads:
            limit_threads(threads)
        from acm.running.notebooks import run_notebook

        logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the cells print, progress bars included
        given = dict(item.split("=", 1) for item in parameter or [] if "=" in item)
        if bad := [item for item in parameter or [] if "=" not in item]:
            raise UserError(f"parameter '{bad[0]}' must be name=value.")
        run_notebook(source, out, {name: literal(name, value) for name, value in given.items()})


@app.command(epilog="Example: acm several tiny runs/tiny/general/records/TA.parquet")
def several(
    profile: Annotated[str, typer.Argument(help="a profile, with variants if any")],
    records: Annotated[list[Path], typer.Argument(help="runs/PROFILE/EXPERIMENT/records/MODEL.parquet")],
    threads: Annotated[int | None, typer.Option(min=1, help="of numerical libraries (default: theirs)")] = None,
) -> None:
    """Merge and evaluate several models in one process: notebooks 3 and 4 of each, in one kernel."""
    require_clone("acm several")
    from acm.running.jobs import limit_threads, share_lock

    share_lock()
    if threads:
        limit_threads(threads)
    from acm.profiles import load_profile
    from acm.running.several import make_records

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_records(profile, load_profile(profile), records)
