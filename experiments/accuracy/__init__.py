"""Measures whether encryption costs accuracy: training, evaluation in clear and encrypted, grids, cross-validation."""
