"""Data sets, the CNN feature extractor, the classifier heads, and the bundle that carries a trained model."""

from he_infer._origin import check_siblings

check_siblings()
