"""The command that lists tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from acm.commands.app import app, say


@app.command(epilog="Example: acm tasks gsm8k")
def tasks(text: Annotated[str, typer.Argument(help="a part of the name, such as gsm8k")] = "") -> None:
    """List our tasks; with TEXT, those of ours and of lm-evaluation-harness that have it in their name.

    Tasks that score choices are left out: they generate no text, so they have no length.
    """
    if not text:
        from acm.evaluation.task_files import our_tasks

        say("\n".join(our_tasks()))
        say("lm-evaluation-harness has thousands more: `acm tasks TEXT` lists those with TEXT in the name.", err=True)
        return
    from acm.errors import UserError
    from acm.evaluation.harness import find_tasks

    if not (found := find_tasks(text)):
        raise UserError(f"no task that generates text has '{text}' in its name; try a shorter part of it.")
    say("\n".join(found))
