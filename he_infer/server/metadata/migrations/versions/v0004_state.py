"""Nonces and counts that need no sync of their own, and copies of tokens that are known to be the newest."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """All nonces and counts there are were synced, so nothing is refused for their sake."""
    op.add_column("queries", sa.Column("ahead", sa.BigInteger, nullable=False, server_default="0"))
    state = op.create_table(
        "state",
        sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("boot", sa.String(64), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("covered", sa.Float, nullable=False),
        sa.Column("refused_from", sa.Float, nullable=False),
        sa.Column("refused_until", sa.Float, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(
        state,
        [
            {
                "only": 1,
                "boot": "",
                "since": 0.0,
                "covered": 0.0,
                "refused_from": 0.0,
                "refused_until": 0.0,
                "generation": 0,
            }
        ],
    )
