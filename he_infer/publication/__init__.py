"""A published model as files: its two signed parts, and which plans it has. Read by client and server alike."""
