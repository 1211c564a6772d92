"""Merge methods that weigh or mask entries and columns by what all models, or all tensors, say together."""
