"""Activation-Guided Consensus Merging (ACM): calibrate two models, weigh their layers, merge them, evaluate the merge.

The public names are listed below: six functions, and the classes that :func:`evaluate` takes as arguments. Each name
is imported on first use, so ``import acm`` takes no time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from acm.lazy import first_use

if TYPE_CHECKING:
    from acm.calibration.coefficients import layer_coefficients as layer_coefficients
    from acm.calibration.information import mutual_information as mutual_information
    from acm.calibration.walk import calibrate as calibrate
    from acm.evaluation.harness import evaluate as evaluate
    from acm.evaluation.settings import Engine as Engine
    from acm.evaluation.settings import Sampling as Sampling
    from acm.evaluation.settings import Server as Server
    from acm.merging.engine import merge as merge
    from acm.reporting.show import show as show

__version__ = "0.1.0"
HOMES = {
    "mutual_information": "acm.calibration.information",
    "layer_coefficients": "acm.calibration.coefficients",
    "calibrate": "acm.calibration.walk",
    "merge": "acm.merging.engine",
    "evaluate": "acm.evaluation.harness",
    "show": "acm.reporting.show",
    "Engine": "acm.evaluation.settings",
    "Sampling": "acm.evaluation.settings",
    "Server": "acm.evaluation.settings",
}
__all__ = list(HOMES)

# For a user without a home, libraries would make a folder of that name where they run.
if os.path.expanduser("~") == "~":  # noqa: PTH111 (Path raises)
    os.environ["HOME"] = "/nonexistent"


def __getattr__(name: str) -> Any:
    return first_use(__name__, name, HOMES)
