"""Explorers for JupyterLab. Each is a widget: as the last line of a cell it shows itself.

What an explorer shows is computed by plain functions in a module of its own (coefficients, playground, trade_off,
responses), which are tested without a browser. The explorer wires them to controls. ``registry.py`` lists them.
"""

from __future__ import annotations

from typing import Any

from acm.lazy import first_use
from acm.widgets.registry import EXPLORERS

__all__ = list(EXPLORERS)


def __getattr__(name: str) -> Any:
    return first_use(__name__, name, {row.widget: row.module for row in EXPLORERS.values()})
