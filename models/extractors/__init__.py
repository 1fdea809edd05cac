"""Feature extractors: networks that turn an image into a feature vector."""
