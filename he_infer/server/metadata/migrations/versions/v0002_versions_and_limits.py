"""Objects have versions; clients have a limit a model and one of requests; alembic keeps the schema's version."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Every existing object becomes version 1; no client gets a new limit."""
    op.add_column("clients", sa.Column("total_queries", sa.BigInteger))
    op.add_column("clients", sa.Column("requests_per_minute", sa.BigInteger))
    op.create_table(
        "buckets",
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), primary_key=True),
        sa.Column("level", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
    )
    versions = op.create_table(
        "object_versions",
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), primary_key=True),
        sa.Column("object_id", sa.String(32), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("blob", sa.String(128), nullable=False, unique=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    kept = ("client_id", "object_id", "blob", "size", "sha256", "created")
    objects = sa.table("objects", *(sa.column(name) for name in kept))
    copied = sa.select(*(objects.c[name] for name in kept), sa.literal(1))
    op.execute(versions.insert().from_select([*kept, "version"], copied))
    op.drop_table("objects")
    op.drop_table("schema_version")
