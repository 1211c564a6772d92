"""The commands for results that travel: submit records, check all that others submitted, pack a deposit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from acm.commands.app import app, names_options, say


@app.command(epilog="Example: acm submit runs/tiny/long-to-short --profile tiny --experiment long-to-short --dry-run")
@names_options
def submit(
    folder: Annotated[Path, typer.Argument(help="records, submission.yml, and recipe and coefficients if any")],
    profile: Annotated[str, typer.Option(help="the profile that the records are of, a name or a YAML file")],
    experiment: Annotated[str, typer.Option(help="its experiment")],
    name: Annotated[str | None, typer.Option(help="of the entry (default: from the method and who submits)")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="the model's folder, to count the tokens of responses")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the entry (default: reports/community)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and compute, write nothing")] = False,
) -> None:
    """Check records of a merged model, compute their row and verdict, and write what a pull request needs."""
    from acm.profiles import load_profile
    from acm.sharing.submit import submit as run

    say(run(folder, load_profile(profile), experiment, name, out, tokenizer, dry_run))


@app.command(epilog="Example: acm community --check")
@names_options
def community(
    check: Annotated[bool, typer.Option("--check", help="write nothing; refuse what is not up to date")] = False,
    tokenizers: Annotated[
        bool, typer.Option("--tokenizers", help="fetch from the hub the tokenizers that lengths are counted with")
    ] = False,
) -> None:
    """Compute every row of reports/community anew from its records, and write their table."""
    from acm.paths import require_clone

    require_clone("acm community", writes=not check)
    from acm.sharing.community import community as run

    say(run(check=check, tokenizers=tokenizers))


@app.command(epilog="Example: acm deposit runs/tiny.tar.gz --profile tiny --results reports")
def deposit(
    archive: Annotated[Path, typer.Argument(help="the .tar.gz to write")],
    profile: Annotated[str, typer.Option(help="a profile whose run has finished")],
    results: Annotated[Literal["runs", "reports"], typer.Option(help="your run, or the committed results")] = "runs",
) -> None:
    """Pack the records of a profile for a deposit: the same results give the same bytes. Prints the hash to list."""
    from acm.profiles import load_profile
    from acm.sharing.deposits import deposit as run

    say(run(load_profile(profile), archive, results))
