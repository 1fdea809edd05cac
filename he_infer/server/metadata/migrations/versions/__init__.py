"""Migrations of the database, one a file; `alembic` finds them by their folder."""
