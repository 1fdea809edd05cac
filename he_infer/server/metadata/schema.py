"""The tables as they are now. Migrations of older databases are in `migrations/versions`."""

import sqlalchemy as sa

HEAD = "0003"
"""The newest migration; a test compares it, and the tables below, with what `migrations/versions` makes."""

META = sa.MetaData()

# Alembic's table with the database's revision.
REVISION = sa.Table("alembic_version", META, sa.Column("version_num", sa.String(32), primary_key=True))

CLIENTS = sa.Table(
    "clients",
    META,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("storage_quota", sa.BigInteger),
    sa.Column("daily_queries", sa.BigInteger),
    sa.Column("total_queries", sa.BigInteger),
    sa.Column("requests_per_minute", sa.BigInteger),
)
TOKENS = sa.Table(
    "tokens",
    META,
    sa.Column("token_id", sa.String(16), primary_key=True),
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("scopes", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float),
    sa.Column("revoked", sa.Float),
)
KEYS = sa.Table(
    "keys",
    META,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("plan", sa.String(64), primary_key=True),
    sa.Column("key_set", sa.String(32), primary_key=True),
    sa.Column("key_id", sa.String(32), nullable=False, unique=True),
    sa.Column("seal", sa.String(32), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    # Time from which the set is refused, because it ended a process of the server.
    sa.Column("banned", sa.Float),
)
KEY_PARTS = sa.Table(
    "key_parts",
    META,
    sa.Column("key_id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)
NONCES = sa.Table(
    "nonces",
    META,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("nonce", sa.String(32), primary_key=True),
    sa.Column("expires", sa.Float, nullable=False, index=True),
)
QUERIES = sa.Table(
    "queries",
    META,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(96), primary_key=True),
    sa.Column("images", sa.BigInteger, nullable=False),
)
# Token bucket of a client: requests that it may still send at once (`level`) at a time (`updated`).
BUCKETS = sa.Table(
    "buckets",
    META,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("level", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
)
OBJECTS = sa.Table(
    "object_versions",
    META,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("object_id", sa.String(32), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("blob", sa.String(128), nullable=False, unique=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
