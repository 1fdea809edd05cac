"""The cost of encryption: speed, bytes, and other libraries beside it."""
