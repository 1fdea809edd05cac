"""Stored bytes: blobs, objects, integrity scrub, backup."""
