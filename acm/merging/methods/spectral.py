"""Merge methods that work on the singular values and directions of task vectors."""
