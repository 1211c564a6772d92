"""Running: estimates what a run of a profile takes, checks whether it would work, and runs its notebooks."""
