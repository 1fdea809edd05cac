"""Attacks on scores, features and ciphertexts: extraction, inversion, membership."""
