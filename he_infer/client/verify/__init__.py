"""Checks of a server's answers: decryption range, receipts, canaries."""
