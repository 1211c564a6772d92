"""Merge methods that walk on the spheres of tensors, as mergekit's do."""
