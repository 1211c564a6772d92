"""The rows of the methods of `methods/spectral.py`, which work on singular values and directions."""

from acm.merging.registry.row import MergeMethod

ROWS: tuple[MergeMethod, ...] = ()
