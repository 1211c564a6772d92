"""The command line: ``acm --help``, or ``python -m acm --help``."""

from __future__ import annotations

import errno
import os
import sys

from acm.commands import (  # noqa: F401  (each adds commands)
    comparing,
    inspecting,
    measuring,
    merging,
    pipeline,
    searching,
    sharing,
    tasks,
    teaching,
)
from acm.commands.app import app
from acm.errors import UserError, absent, os_refusal


def main() -> None:
    """Run a command. A user's mistake, a refusal of the system or an absent package ends it with one sentence.

    ACM_TRACEBACK=1 shows where the error arose.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal of few characters, and names that are no UTF-8
    try:
        app()
    except Exception as error:
        if os.environ.get("ACM_TRACEBACK") or not (said := sentence(error)):
            raise
        sys.exit(f"error: {said}")


def sentence(error: Exception) -> UserError | None:
    """An error in one sentence; None for a fault of the program."""
    if isinstance(error, ModuleNotFoundError):
        return absent(error)
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, "")
    elif not isinstance(error, OSError) and os.strerror(errno.ENOSPC) in str(error):  # as safetensors says it
        error = OSError(errno.ENOSPC, "")
    if isinstance(error, OSError):
        return os_refusal(error)
    return error if isinstance(error, UserError) else None


if __name__ == "__main__":
    main()
