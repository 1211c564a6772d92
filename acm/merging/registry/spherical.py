"""The rows of the methods of `methods/spherical.py`, which walk on spheres."""

from acm.merging.registry.row import MergeMethod

ROWS: tuple[MergeMethod, ...] = ()
