"""Activation-Guided Consensus Merging: calibrate, weigh, merge, evaluate. See README.md.

The names below are loaded on first use, so that ``import acm`` is instant.
"""

from importlib import import_module

__version__ = "0.1.0"
_HOMES = {
    "mutual_information": "acm.calibration.information",
    "layer_coefficients": "acm.calibration.coefficients",
    "calibrate": "acm.calibration.walk",
    "merge": "acm.merging.engine",
    "evaluate": "acm.evaluation.harness",
    "Engine": "acm.evaluation.settings",
    "Sampling": "acm.evaluation.settings",
    "Server": "acm.evaluation.settings",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'acm' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
