"""The command line: ``python -m acm --help``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from acm.errors import UserError, check_distinct

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def check(profile: str = "tiny") -> None:
    """Check a profile's models, texts and tasks before any work."""
    from acm.preflight import check as run
    from acm.profiles import load_profile

    typer.echo(run(load_profile(profile)))


@app.command()
def merge(recipe: Path, out: Path) -> None:
    """Merge models as a recipe (mergekit's YAML, plus `coefficients`) says, into the folder OUT."""
    from acm.merging.engine import merge as run

    typer.echo(f"merged model: {run(recipe, out)}")


@app.command()
def calibrate(
    base: Path,
    finetuned: list[Path],
    texts: Annotated[Path, typer.Option(help="JSONL or text file of calibration texts")],
    out: Annotated[Path, typer.Option(help="folder for the MI table and coefficients.json")] = Path(),
    field: Annotated[str, typer.Option(help="field of the JSONL file")] = "question",
    t: Annotated[float, typer.Option(help="temperature of Eq. 2")] = 0.7,
    shift: Annotated[str, typer.Option(help="layer, global or none")] = "layer",
) -> None:
    """Mutual information of BASE and each FINETUNED model, and the layer coefficients that follow from it."""
    from acm.calibration import calibrate as run
    from acm.calibration import read_texts, select_texts
    from acm.coefficients import check_mapping, write_coefficients
    from acm.records import provenance

    check_mapping(t, shift)
    check_distinct((path.name for path in finetuned), "fine-tuned models by their folder name")
    table = run(base, {path.name: path for path in finetuned}, select_texts(read_texts(texts, field)))
    out.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out / "mutual_information.parquet", index=False)
    write_coefficients(out / "coefficients.json", table, provenance(texts=str(texts)), t, shift)
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
) -> None:
    """Evaluate a model folder on lm-eval tasks; one record for each response, with its length in tokens."""
    from acm.evaluation import evaluate as run
    from acm.records import write_records

    records = run(model, task, items=items, batch_size=batch_size, max_tokens=max_tokens, dtype=dtype, device=device,
                  keep=out.with_suffix(".batches"))  # fmt: skip
    write_records(records, out)
    typer.echo(records.groupby("task")[["correct", "length", "truncated"]].mean().to_string())


@app.command()
def notebook(
    source: Path,
    out: Path,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value, repeatable")] = None,
) -> None:
    """Run a notebook through papermill, from the repository's root; refuses unknown or mistyped parameters."""
    from acm.notebooks import run_notebook

    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the cells print, progress bars included
    given = dict(item.split("=", 1) for item in parameter or [] if "=" in item)
    if bad := [item for item in parameter or [] if "=" not in item]:
        raise UserError(f"parameter '{bad[0]}' must be name=value.")
    run_notebook(source, out, {name: literal(name, value) for name, value in given.items()})


def literal(name: str, value: str) -> object:
    """A parameter's value, read as YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"parameter {name}: '{value}' is not readable as YAML.") from None


@app.command()
def publish(profile: str = "tiny") -> None:
    """Regenerate reports/PROFILE and figures/PROFILE from runs/PROFILE, and print what differs from the committed."""
    from acm.publish import publish as run

    typer.echo(run(profile))


def main() -> None:
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
