"""The tables as they are now. Migrations of older databases are in `migrations/versions`."""

import sqlalchemy as sa

HEAD = "0005"
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
    sa.Column("registrations_per_hour", sa.BigInteger),
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
    # Synced to the disk before `images` reaches it: what counts where the machine's crash lost newer rows.
    sa.Column("ahead", sa.BigInteger, nullable=False, server_default="0"),
)
# One row: what all servers on this database must agree on. See `replays` and `tokens`.
STATE = sa.Table(
    "state",
    META,
    sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),
    # The machine's boot id when a server last opened the database.
    sa.Column("boot", sa.String(64), nullable=False),
    # Envelopes dated within (since, covered] may be accepted without a sync.
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("covered", sa.Float, nullable=False),
    # Envelopes dated within (refused_from, refused_until] are refused.
    sa.Column("refused_from", sa.Float, nullable=False),
    sa.Column("refused_until", sa.Float, nullable=False),
    # Grows with each change to tokens and clients, so that no server believes an old copy of them.
    sa.Column("generation", sa.BigInteger, nullable=False),
)
FIRST_STATE = {
    "only": 1,
    "boot": "",
    "since": 0.0,
    "covered": 0.0,
    "refused_from": 0.0,
    "refused_until": 0.0,
    "generation": 0,
}
# Token buckets of a client: requests, or registrations, that it may still send at once (`level`) at a time (`updated`).
BUCKETS = sa.Table(
    "rate_buckets",
    META,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
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
