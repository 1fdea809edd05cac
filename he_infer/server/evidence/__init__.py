"""Evidence of what the server did: audit log, signed receipts, telemetry."""
