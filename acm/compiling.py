"""Compiles loops with numba. Compiled code is kept on disk where that works, else in memory alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class DiskCache(FunctionCache):
    """numba's cache, which a full disk or a damaged file does not stop: the loop is compiled anew."""

    def load_overload(self, *arguments: Any) -> Any:
        with contextlib.suppress(Exception):  # whatever reading a damaged file raises
            return super().load_overload(*arguments)

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(Exception):  # it reads too
            super().save_overload(*arguments)


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """A decorator that compiles a loop at its first call and releases the GIL in it. options: further ones of njit."""

    def compile_(function: Callable) -> Any:
        loop = njit(nogil=True, **options)(function)
        with contextlib.suppress(RuntimeError):  # neither the package's folder nor a user's cache can be written
            loop._cache = DiskCache(function)
        return loop

    return compile_
