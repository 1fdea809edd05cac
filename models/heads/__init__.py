"""Heads under training, and conversion of heads from scikit-learn and torch."""
