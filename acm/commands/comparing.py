"""The command that compares what two models answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from acm.commands.app import app, say

RECORDS = "reports/tiny/long-to-short"
EXAMPLE = f"Example: acm compare {RECORDS}#TA {RECORDS}#ACM-TA"


@app.command(epilog=EXAMPLE)
def compare(
    first: Annotated[str, typer.Argument(help="records (.parquet), a log of lm-eval (samples_*.jsonl), or a folder of "
                                              "either; #METHOD behind it where several methods lie there")],
    others: Annotated[list[str], typer.Argument(metavar="SECOND...", help="what is compared with it, likewise")],
    task: Annotated[list[str] | None, typer.Option(help="this task alone, repeatable (default: all)")] = None,
    common: Annotated[bool, typer.Option("--common", help="compare the items that all have, leave out others")] = False,
    metric: Annotated[list[str] | None, typer.Option(help="of logs with several metrics, repeatable")] = None,
    filter: Annotated[list[str] | None, typer.Option(help="of logs with several filters, repeatable")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="model folder, to count the tokens of lm-eval's logs")] = None,
    format: Annotated[Literal["text", "markdown", "json"], typer.Option(help="of the result")] = "text",
    out: Annotated[Path | None, typer.Option(help="file for the result (default: it is printed)")] = None,
) -> None:  # fmt: skip
    """Compare the answers of two or more models to the same items: paired differences of accuracy and length."""
    from acm.files import write_text
    from acm.reporting.comparison import as_json, as_text
    from acm.reporting.comparison import compare as run
    from acm.reporting.comparison_sources import Reading, read_sources

    records, labels, notes = read_sources(
        [first, *others], Reading(tuple(metric or ()), tuple(filter or ()), tokenizer), task, common
    )
    table = run(records, labels[0], labels[1:])
    if format == "json":
        text = json.dumps(as_json(table, labels, notes), indent=1, ensure_ascii=False)
    else:
        text = as_text(table, labels, notes, markdown=format == "markdown")
    if out:
        write_text(out, f"{text}\n")
    else:
        say(text)
