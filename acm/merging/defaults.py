"""The defaults of a merge. :func:`acm.merge` and the command line share them."""

from __future__ import annotations

DEVICE = "auto"
THREADS: int | None = None  # as many as there are cores
KERNELS = True
ALLOW_NAN = False
HASH_INPUTS = False
