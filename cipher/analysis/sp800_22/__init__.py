"""The fifteen tests of NIST SP 800-22 rev. 1a on scipy: bits in, P-values out. Section numbers are that document's.

A bit sequence is a one-dimensional array of uint8, each 0 or 1. The functions follow the document's definitions and
accept its short worked examples; the lengths it recommends are enforced where a battery is run (`battery`).
"""
