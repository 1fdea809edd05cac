"""Measurements of the inner cipher: correlation, NPCR, UACI, entropy and the rest."""
