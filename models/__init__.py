"""Data sets, the CNN feature extractor, the classifier heads, and the bundle that carries a trained model."""
