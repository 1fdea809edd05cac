"""A model in two signed parts: what the owner publishes, what client and server hold of it."""
