"""λ by search: genomes, samplers, the objective, and the loop that asks one loaded model for every candidate."""
