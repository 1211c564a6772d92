"""Bounds the memory of tensors that are merged side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets work in while what is within holds at most ``limit`` bytes. Work that holds more runs by itself."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.changed = limit, 0, threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Waits for room for ``size`` bytes, and keeps it for the time of the block."""
        with self.changed:
            self.changed.wait_for(lambda: not self.held or not size or self.held + size <= self.limit)
            self.held += size
        try:
            yield
        finally:
            with self.changed:
                self.held -= size
                self.changed.notify_all()
