"""How a merge is run where its caller does not say: the defaults of :func:`acm.merge` and of the command line."""

from __future__ import annotations

DEVICE = "auto"
THREADS: int | None = None  # as many as there are cores
KERNELS = True
ALLOW_NAN = False
HASH_INPUTS = False
