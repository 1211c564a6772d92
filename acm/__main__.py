"""The command line: ``acm --help``, or ``python -m acm --help``."""

from __future__ import annotations

import os
import sys

from acm.commands import comparing, measuring, merging, pipeline  # noqa: F401  (each adds its commands to the app)
from acm.commands.app import app
from acm.errors import UserError, absent, os_refusal

INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended


def main() -> None:
    """Run a command. A user's mistake, a refusal of the system or an absent package ends it with one sentence.

    ACM_TRACEBACK=1 shows where the error arose.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal of few characters, and names that are no UTF-8
    try:
        app()
    except BrokenPipeError:  # whoever read the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UserError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("ACM_TRACEBACK") or not (said := sentence(error)):
            raise
        sys.exit(f"error: {said}")


def sentence(error: UserError | OSError | ModuleNotFoundError) -> UserError | None:
    """An error in one sentence; None where it is none of the user's."""
    if isinstance(error, ModuleNotFoundError):
        return absent(error)
    return os_refusal(error) if isinstance(error, OSError) else error


if __name__ == "__main__":
    main()
