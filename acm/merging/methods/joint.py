"""Merge methods that decompose several task vectors together, or one in the basis of another."""
