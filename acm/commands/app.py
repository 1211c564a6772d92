"""The app of the command line. The other modules of this folder add their commands to it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
import yaml

from acm import __version__, escaping
from acm.errors import UserError, shown

# Each example stands below what it does, on lines of at most 78 characters. tests/test_help.py runs them.
EXAMPLES = """
# merge two models, as a recipe in mergekit's format says
acm merge docs/recipe.yml runs/merged
# ask the merge: how often is it right, in how many tokens?
acm evaluate runs/merged --task abacus_easy --max-tokens 320
# compare two methods on the same problems, from the committed records
acm compare reports/tiny/long-to-short#TA reports/tiny/long-to-short#ACM-TA
# one coefficient for each layer, by ACM's rule
acm calibrate abacus/checkpoints/abacus-fast abacus/checkpoints/abacus-slow \\
  --texts abacus/benchmarks/calibration_problems.jsonl --out runs/calibration
# the tables and figures of the report, in six minutes on two cores
acm reproduce
"""
HELP = f"""Merge language models layer by layer, and measure what it gains.

Try these in a clone. COMMAND --help has an example for each command.

\b{EXAMPLES}"""  # \b: what follows is shown line by line
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def show_version(wanted: bool) -> None:
    """Print the version and stop, where it is asked for."""
    if wanted:
        typer.echo(f"acm {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    """What all commands take."""


def say(text: object, err: bool = False) -> None:
    """Print a text, in which no name can steer the terminal. err: to standard error."""
    typer.echo("\n".join(escaping.literal(line) for line in str(text).split("\n")), err=err)


def names_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors name its options as they are typed: ``--max-tokens``, not ``max_tokens`` as in Python."""
    names = inspect.signature(command).parameters
    long = "|".join(name for name in names if "_" in name) or "(?!)"  # which nothing matches
    said = re.compile(rf"(?<![\w./-])(?:{long})(?![\w./=-])|^(?:{'|'.join(names)})(?=: )")

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        try:
            command(*args, **given)
        except UserError as error:
            raise UserError(said.sub(lambda match: f"--{match[0].replace('_', '-')}", str(error))) from error

    return run


def literal(name: str, value: str) -> object:
    """A parameter's value, read as YAML."""
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"parameter {name}: '{shown(value)}' is not readable as YAML.") from None
