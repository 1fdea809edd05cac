"""Engines that carry out CKKS operations: the protocol, SEAL, and a simulation in clear."""
