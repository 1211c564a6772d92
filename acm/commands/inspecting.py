"""The command that scores task vectors before any merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from acm.commands.app import app, names_options, say
from acm.errors import UserError

MODELS = "abacus/checkpoints"


@app.command(epilog=f"Example: acm inspect {MODELS}/abacus-base {MODELS}/abacus-sums {MODELS}/abacus-words")
@names_options
def inspect(
    base: Annotated[str, typer.Argument(help="base model: a folder, a hub id, or either with + and an adapter")],
    finetuned: Annotated[list[str], typer.Argument(help="models that were fine-tuned from it, likewise")],
    top: Annotated[float, typer.Option(help="fraction of singular directions whose overlap is measured")] = 0.1,
    fast: Annotated[bool, typer.Option("--fast", help="leave out what needs decompositions")] = False,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="decompose embedding and head too")] = False,
    threads: Annotated[int | None, typer.Option(help="tensors at a time (default: one per core)", min=1)] = None,
    format: Annotated[Literal["text", "markdown", "json"], typer.Option(help="of the result")] = "text",
    out: Annotated[Path | None, typer.Option(help="file for the result (default: it is printed)")] = None,
) -> None:
    """Score the task vectors of FINETUNED models from the weights alone: size, ranks, kinship, conflicts, overlap."""
    from acm.files import not_a_file, write_text
    from acm.merging.inspection import inspect as run
    from acm.reporting.inspection import as_json, as_text, read_worth

    if out and (not out.name or not_a_file(out)):
        raise UserError(f"out: '{out}' is no file; name one.")
    found, worth = run(base, finetuned, top, fast, embeddings, threads), read_worth()
    if format == "json":
        text = json.dumps(as_json(found, worth), indent=1, ensure_ascii=False)
    else:
        text = as_text(found, worth, markdown=format == "markdown")
    if out:
        write_text(out, f"{text}\n")
        say(f"inspection: {out}")
    else:
        say(text)
