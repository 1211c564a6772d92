"""Calibration: texts → activations → mutual information → one coefficient for each layer."""
