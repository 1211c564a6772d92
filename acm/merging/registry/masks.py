"""The rows of the methods of `methods/masks.py`, which weigh entries or columns by all models together."""

from acm.merging.registry.row import MergeMethod

ROWS: tuple[MergeMethod, ...] = ()
