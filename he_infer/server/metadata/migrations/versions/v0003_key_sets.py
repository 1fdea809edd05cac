"""Evaluation keys belong to a key set, whose id the client chose; several sets of one plan live side by side."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Delete the existing keys: without an id no request can name them. Their clients register new ones."""
    op.execute("DELETE FROM key_parts")
    op.drop_table("keys")
    op.create_table(
        "keys",
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), primary_key=True),
        sa.Column("plan", sa.String(64), primary_key=True),
        sa.Column("key_set", sa.String(32), primary_key=True),
        sa.Column("key_id", sa.String(32), nullable=False, unique=True),
        sa.Column("seal", sa.String(32), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("banned", sa.Float),
    )
