"""Everything that client and server agree on: envelopes, JSON bodies, refusals."""
