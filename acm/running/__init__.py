"""Running: what a run takes, whether it would work, and the notebooks that it is made of."""
