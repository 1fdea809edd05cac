"""Commands of the server's operator: serve, tokens, clients, store."""
