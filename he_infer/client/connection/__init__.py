"""The connection to a server: HTTP, envelopes, handshake, session."""
