"""What do scores, features and ciphertexts give away? Extraction, inversion, membership."""
