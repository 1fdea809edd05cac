"""Rounding of decrypted scores before they leave the client, as labels and probabilities."""
