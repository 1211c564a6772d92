"""The command line: ``acm --help``, or ``python -m acm --help``."""

from __future__ import annotations

import sys

from acm.commands import measuring, merging, pipeline  # noqa: F401  (each adds its commands to the app)
from acm.commands.app import app
from acm.errors import UserError, absent


def main() -> None:
    """Run a command. A user's mistake, or a package that is not installed, ends it with one sentence."""
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
