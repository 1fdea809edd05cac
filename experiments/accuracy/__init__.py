"""Does encryption cost accuracy? Training, evaluation in clear and encrypted, grids, cross-validation."""
