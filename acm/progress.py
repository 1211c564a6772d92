"""A progress bar that counts bytes. Without a terminal it is a plain line every few seconds."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from tqdm import tqdm

SECONDS = 3  # time between two plain lines
DELAY = 1.0  # seconds of work before anything is shown


class Progress:
    """tqdm's bar with rate and time left, updated from several threads; work of less than a second shows none."""

    def __init__(self, total: int, done: int, title: str) -> None:
        look: dict[str, Any] = {"mininterval": 0.1}
        if not sys.stderr.isatty():
            look = {"mininterval": SECONDS, "file": Lines(), "ascii": True, "ncols": 100}
        self.lock = threading.Lock()
        self.bar = tqdm(
            total=total, initial=done, desc=title, unit="B", unit_scale=True, miniters=1, delay=DELAY, **look
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        shown = not self.bar.disable  # by TQDM_DISABLE; such a bar keeps no times
        if shown and self.bar.last_print_t < self.bar.start_t + DELAY <= time.time():  # too short for a line on the way
            self.bar.refresh()
        self.bar.close()

    def update(self, count: int) -> None:
        with self.lock:
            self.bar.update(count)


class Lines:
    """Writes tqdm's redrawn bar as lines of their own."""

    def write(self, text: str) -> None:
        if shown := text.strip("\r\n"):
            print(shown, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()
