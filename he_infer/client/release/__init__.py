"""Release from the client: labels and rounded probabilities."""
