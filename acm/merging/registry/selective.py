"""The rows of the methods of `methods/selective.py`, which choose entries or columns."""

from acm.merging.registry.row import MergeMethod

ROWS: tuple[MergeMethod, ...] = ()
