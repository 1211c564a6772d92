"""Sets up a job of the pipeline: limits the threads that its libraries use, and logs what it prints."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from acm.errors import os_refusal

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ALIVE = "ACM_RUN_LOCK"  # variable that names the file on which a run and its jobs hold a lock while they live
SHOWN = 8  # how many of the log's last lines an error shows


def limit_threads(count: int) -> None:
    """Numerical libraries that are loaded from now on, in this process and its children, use this many threads."""
    os.environ.update(dict.fromkeys(THREADS, str(count)), TOKENIZERS_PARALLELISM="false")


def share_lock() -> None:
    """Hold the lock of the run that started this job, if one did, until this process ends.

    So the next run knows of a job that has outlived its killed run.
    """
    if path := os.environ.get(ALIVE):
        import fcntl  # not on Windows, where no run sets the variable

        with contextlib.suppress(OSError):  # another machine of a cluster, or a disk without locks
            fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_SH)


@contextlib.contextmanager
def logged(path: Path | None) -> Iterator[None]:
    """Everything that is printed, child processes included, goes into the file. An error shows its last lines.

    Without a path nothing changes.
    """
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [os.dup(stream.fileno()) for stream in (sys.stdout, sys.stderr)]
    failed = True
    with path.open("wb") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
        try:
            yield
            failed = False
        except BaseException as error:
            print(f"error: {os_refusal(error) if isinstance(error, OSError) else error}", file=sys.stderr)
            raise SystemExit(1) from None
        finally:
            for stream, handle in zip((sys.stdout, sys.stderr), shown, strict=True):
                stream.flush()
                os.dup2(handle, stream.fileno())
                os.close(handle)
            if failed:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                print("\n".join(lines[-SHOWN:]), file=sys.stderr)
