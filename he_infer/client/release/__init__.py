"""What may leave the client: labels and rounded probabilities."""
