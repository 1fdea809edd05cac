"""Formats shared by client and server: envelopes, JSON bodies, refusals."""
