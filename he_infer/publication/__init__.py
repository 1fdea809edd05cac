"""A published model as files: its two signed parts, and the choice of its plans. Client and server both use it."""
