"""Imports a package's public names on their first use, so that importing the package itself takes no time."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def first_use(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """What ``name`` is in the module where it lives; a package's ``__getattr__`` calls this.

    homes: name → module. Raises AttributeError for a name that is none of them, as Python does.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
