"""Training of extractors and heads."""
