"""Progress where there is no terminal: plain lines, and none for short work."""

import io
import sys
import time
from functools import partial

import pytest

from acm import progress


@pytest.mark.parametrize("every", [0.1, None])
def test_progress_without_a_terminal_is_plain_lines(monkeypatch, every):
    monkeypatch.setattr(sys, "stderr", stderr := io.StringIO())
    monkeypatch.setattr(progress, "SECONDS", every or progress.SECONDS)
    with progress.Progress(1000, 250, "merging (ties)") as bar:
        for _ in range(15):
            time.sleep(0.1)
            bar.update(50)
    lines = stderr.getvalue().splitlines()
    assert lines and all(line.startswith("merging (ties): ") and "%|" in line and "B/s" in line for line in lines)
    assert "\r" not in stderr.getvalue() and stderr.getvalue().endswith("\n") and "100%" in lines[-1]


def test_progress_of_short_work_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr := io.StringIO())
    with progress.Progress(1000, 0, "merging") as bar:
        bar.update(1000)
    assert not stderr.getvalue()


def test_progress_that_tqdm_disables_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr := io.StringIO())
    monkeypatch.setattr(progress, "tqdm", partial(progress.tqdm, disable=True))  # as TQDM_DISABLE=1 does
    with progress.Progress(1000, 0, "merging") as bar:
        bar.update(1000)
    assert not stderr.getvalue()
