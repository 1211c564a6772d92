"""Question 5: is there a better rule? One of our own, fixed on the shipped family, tested on fresh ones."""
