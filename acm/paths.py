"""The folders that the code reads and writes, in a clone of the repository and in an installed package.

ROOT      the folder that holds the packages acm, abacus and smol: the clone, or site-packages. The relative paths of a
          profile start here.
CLONE     whether ROOT is a clone. A clone has the Snakefile, notebooks, reports and figures beside the packages.
RUNS      the folder for everything that is made. In a clone: ``runs`` in ROOT. Elsewhere: ``runs`` in the working
          directory of the command.
"""

import os
from importlib.resources import files
from pathlib import Path

from acm.errors import UserError

PACKAGE = Path(str(files("acm")))
ROOT = PACKAGE.parent
CLONE = (ROOT / "Snakefile").is_file() and (ROOT / "notebooks").is_dir()
PROFILES = ROOT / "profiles" if CLONE else PACKAGE / "profile_files"  # pyproject.toml puts them there in a wheel
WEB = ROOT / "web" if CLONE else PACKAGE / "web_files"  # as well
RUNS = (ROOT if CLONE else Path.cwd()) / "runs"
REPORTS = ROOT / "reports"
FIGURES = ROOT / "figures"
TASKS = PACKAGE / "tasks"


def require_clone(what: str, writes: bool = True) -> None:
    """UserError outside a clone. ``what``: a command or function, as its user knows it.

    writes: whether it writes into the clone; UserError where this user may not.
    """
    if not CLONE:
        raise UserError(
            f"{what} needs a clone of the repository, which has the notebooks and the committed results. "
            f"This acm is an installed package ({PACKAGE}): clone the repository, and give the command there."
        )
    if writes and not os.access(ROOT, os.W_OK):
        raise UserError(f"{what} writes into {ROOT}, where you may not write: give it in a clone of your own.")
