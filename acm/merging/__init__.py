"""Merging: pure tensor methods, recipes in mergekit's format, and the engine that runs them over checkpoints."""
