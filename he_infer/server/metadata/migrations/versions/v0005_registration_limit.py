"""Clients have a limit on registrations of keys; a client has a token bucket for each kind of rate limit."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """No client gets a limit of its own, and the buckets of requests keep their levels."""
    op.add_column("clients", sa.Column("registrations_per_hour", sa.BigInteger))
    buckets = op.create_table(
        "rate_buckets",
        sa.Column("client_id", sa.String(32), sa.ForeignKey("clients.client_id"), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("level", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
    )
    kept = ("client_id", "level", "updated")
    old = sa.table("buckets", *(sa.column(name) for name in kept))
    copied = sa.select(*(old.c[name] for name in kept), sa.literal("requests"))
    op.execute(buckets.insert().from_select([*kept, "kind"], copied))
    op.drop_table("buckets")
