"""Merge methods that choose which entries or columns of task vectors to take."""
