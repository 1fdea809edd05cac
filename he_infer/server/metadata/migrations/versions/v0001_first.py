"""The first schema, as releases before the migrations made it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True))
    op.create_table(
        "clients",
        sa.Column("client_id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("storage_quota", sa.BigInteger),
        sa.Column("daily_queries", sa.BigInteger),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(16), primary_key=True),
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("revoked", sa.Float),
    )
    op.create_table(
        "keys",
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), primary_key=True),
        sa.Column("plan", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("seal", sa.String(32), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "key_parts",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.create_table(
        "nonces",
        sa.Column("client_id", sa.String(32), primary_key=True),
        sa.Column("nonce", sa.String(32), primary_key=True),
        sa.Column("expires", sa.Float, nullable=False, index=True),
    )
    op.create_table(
        "queries",
        sa.Column("client_id", sa.String(32), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("model", sa.String(96), primary_key=True),
        sa.Column("images", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "objects",
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), primary_key=True),
        sa.Column("object_id", sa.String(32), primary_key=True),
        sa.Column("blob", sa.String(128), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
