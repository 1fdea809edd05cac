"""Files on disk: atomic writes, locks, bounded windows into large files."""
