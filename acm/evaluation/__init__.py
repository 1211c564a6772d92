"""Evaluation: a model → records, one for each response."""
