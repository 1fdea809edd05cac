"""Measurements of the inner cipher: correlation, NPCR, UACI, entropy and the rest. Needs scipy (extra `experiments`).

Rule zero: a cipher is measured with its salt fixed and its keys fresh; with a fresh salt even XOR looks ideal.
"""
