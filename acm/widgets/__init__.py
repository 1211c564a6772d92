"""Explorers for JupyterLab: widgets to explore results and merges. As the last line of a cell an explorer shows itself.

Each explorer has two modules. One holds plain functions that compute what is shown (coefficients, playground,
trade_off, responses); they are tested without a browser. The other holds the widget, which connects these functions to
controls. ``registry.py`` lists the explorers.
"""

from __future__ import annotations

from typing import Any

from acm.lazy import first_use
from acm.widgets.registry import EXPLORERS

__all__ = list(EXPLORERS)


def __getattr__(name: str) -> Any:
    return first_use(__name__, name, {row.widget: row.module for row in EXPLORERS.values()})
