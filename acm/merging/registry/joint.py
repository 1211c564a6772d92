"""The rows of the methods of `methods/joint.py`, which decompose several task vectors together."""

from acm.merging.registry.row import MergeMethod

ROWS: tuple[MergeMethod, ...] = ()
