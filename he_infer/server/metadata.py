"""Everything the server must remember and find again, in SQL: the only module that speaks it.

SQLite in WAL mode by default, any other database of SQLAlchemy by URL. Every public method is one transaction, and
what it has returned from survives the end of the process. Times are Unix seconds.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from he_infer.errors import UnsupportedVersion, UsageError
from he_infer.refusals import Code, Refused
from he_infer.server.tokens import NewToken, Scope

SCHEMA_VERSION = 1

_META = sa.MetaData()
_SCHEMA = sa.Table("schema_version", _META, sa.Column("version", sa.Integer, primary_key=True))
_CLIENTS = sa.Table(
    "clients",
    _META,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("storage_quota", sa.BigInteger),
    sa.Column("daily_queries", sa.BigInteger),
)
_TOKENS = sa.Table(
    "tokens",
    _META,
    sa.Column("token_id", sa.String(16), primary_key=True),
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("scopes", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float),
    sa.Column("revoked", sa.Float),
)
_KEYS = sa.Table(
    "keys",
    _META,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("plan", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(32), nullable=False),
    sa.Column("seal", sa.String(32), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
_KEY_PARTS = sa.Table(
    "key_parts",
    _META,
    sa.Column("key_id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)
_NONCES = sa.Table(
    "nonces",
    _META,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("nonce", sa.String(32), primary_key=True),
    sa.Column("expires", sa.Float, nullable=False, index=True),
)
_QUERIES = sa.Table(
    "queries",
    _META,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(96), primary_key=True),
    sa.Column("images", sa.BigInteger, nullable=False),
)
_OBJECTS = sa.Table(
    "objects",
    _META,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("object_id", sa.String(32), primary_key=True),
    sa.Column("blob", sa.String(128), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class Caller:
    """Who a valid token speaks for."""

    client_id: str
    client: str
    token_id: str
    scopes: frozenset[Scope]
    storage_quota: int | None
    """Bytes of sealed objects; None: no limit of its own."""
    daily_queries: int | None
    """Images classified a UTC day; None: no limit of its own."""


@dataclass(frozen=True)
class TokenRecord:
    """A token as the operator sees it: never the token itself."""

    token_id: str
    client: str
    scopes: frozenset[Scope]
    created: float
    expires: float | None
    revoked: float | None
    digest: str
    client_id: str


@dataclass(frozen=True)
class KeyPart:
    """One stored part of a client's evaluation keys."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class KeyRecord:
    """A client's evaluation keys for one plan."""

    key_id: str
    plan: str
    seal: str
    created: float
    parts: tuple[KeyPart, ...]


@dataclass(frozen=True)
class ObjectRecord:
    """A stored sealed object."""

    object_id: str
    blob: str
    size: int
    sha256: str
    created: float


class Metadata:
    """The database.

    Args:
        url: an SQLAlchemy URL; `Metadata.sqlite(path)` builds the one of the default.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
        with self._transaction() as sql:
            _META.create_all(sql)
            version = sql.scalar(sa.select(sa.func.max(_SCHEMA.c.version)))
            if version is None:
                sql.execute(_SCHEMA.insert().values(version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                raise UnsupportedVersion(
                    f"The database has schema version {version}; this release reads version {SCHEMA_VERSION}."
                )

    @staticmethod
    def sqlite(path: Path) -> "Metadata":
        """Open or create a SQLite file."""
        return Metadata(f"sqlite:///{path}")

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def ping(self) -> None:
        """Check that the database answers.

        Raises:
            Refused: `storage`.
        """
        with self._transaction() as sql:
            sql.execute(sa.select(1))

    # Clients and tokens

    def add_token(
        self,
        client: str,
        token: NewToken,
        scopes: frozenset[Scope],
        *,
        expires: float | None = None,
        storage_quota: int | None = None,
        daily_queries: int | None = None,
    ) -> None:
        """Store a token's digest under a client, which is created where it is new. Quotas given replace the client's.

        Raises:
            Refused: `exists` where this very token is stored already.
        """
        quotas = {"storage_quota": storage_quota, "daily_queries": daily_queries}
        given = {name: value for name, value in quotas.items() if value is not None}
        with self._transaction() as sql:
            client_id = sql.scalar(sa.select(_CLIENTS.c.client_id).where(_CLIENTS.c.name == client))
            if client_id is None:
                client_id = secrets.token_hex(16)
                sql.execute(_CLIENTS.insert().values(client_id=client_id, name=client, created=time.time(), **given))
            elif given:
                sql.execute(_CLIENTS.update().where(_CLIENTS.c.client_id == client_id).values(**given))
            if sql.scalar(sa.select(_TOKENS.c.token_id).where(_TOKENS.c.token_id == token.token_id)) is not None:
                raise Refused(Code.EXISTS, "A token of this id exists already.")
            sql.execute(
                _TOKENS.insert().values(
                    token_id=token.token_id,
                    client_id=client_id,
                    digest=token.digest,
                    scopes=" ".join(sorted(scope.value for scope in scopes)),
                    created=time.time(),
                    expires=expires,
                )
            )

    def find_token(self, token_id: str) -> tuple[TokenRecord, Caller] | None:
        """Look a token up by its id. The caller of this method still has to compare digests and times."""
        query = sa.select(_TOKENS, _CLIENTS.c.name, _CLIENTS.c.storage_quota, _CLIENTS.c.daily_queries).join(_CLIENTS)
        with self._transaction(write=False) as sql:
            row = sql.execute(query.where(_TOKENS.c.token_id == token_id)).mappings().one_or_none()
        if row is None:
            return None
        record = _token_record(row)
        caller = Caller(
            client_id=row["client_id"],
            client=row["name"],
            token_id=token_id,
            scopes=record.scopes,
            storage_quota=row["storage_quota"],
            daily_queries=row["daily_queries"],
        )
        return record, caller

    def list_tokens(self) -> list[TokenRecord]:
        """All tokens, oldest first."""
        query = sa.select(_TOKENS, _CLIENTS.c.name).join(_CLIENTS).order_by(_TOKENS.c.created)
        with self._transaction(write=False) as sql:
            return [_token_record(row) for row in sql.execute(query).mappings()]

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token: from this moment no request with it is accepted.

        Raises:
            UsageError: no such token.
        """
        with self._transaction() as sql:
            update = _TOKENS.update().where(_TOKENS.c.token_id == token_id)
            if sql.execute(update.values(revoked=sa.func.coalesce(_TOKENS.c.revoked, time.time()))).rowcount == 0:
                raise UsageError(f"There is no token of id {token_id!r}; 'he-infer tokens list' shows those there are.")

    # Evaluation keys

    def put_keys(self, client_id: str, record: KeyRecord) -> str | None:
        """Make these the client's keys for the plan; returns the id of those that they replace."""
        with self._transaction() as sql:
            here = (_KEYS.c.client_id == client_id) & (_KEYS.c.plan == record.plan)
            old = sql.scalar(sa.select(_KEYS.c.key_id).where(here))
            sql.execute(_KEYS.delete().where(here))
            if old is not None:
                sql.execute(_KEY_PARTS.delete().where(_KEY_PARTS.c.key_id == old))
            sql.execute(
                _KEYS.insert().values(
                    client_id=client_id,
                    plan=record.plan,
                    key_id=record.key_id,
                    seal=record.seal,
                    created=record.created,
                )
            )
            for part in record.parts:
                sql.execute(
                    _KEY_PARTS.insert().values(key_id=record.key_id, name=part.name, size=part.size, sha256=part.sha256)
                )
            return None if old is None else str(old)

    def keys(self, client_id: str, plan: str | None = None) -> list[KeyRecord]:
        """The client's keys, of one plan or of all."""
        query = sa.select(_KEYS).where(_KEYS.c.client_id == client_id)
        if plan is not None:
            query = query.where(_KEYS.c.plan == plan)
        records = []
        with self._transaction(write=False) as sql:
            for row in sql.execute(query.order_by(_KEYS.c.created)).mappings().all():
                listing = sa.select(_KEY_PARTS).where(_KEY_PARTS.c.key_id == row["key_id"]).order_by(_KEY_PARTS.c.name)
                parts = tuple(
                    KeyPart(part["name"], part["size"], part["sha256"]) for part in sql.execute(listing).mappings()
                )
                records.append(KeyRecord(row["key_id"], row["plan"], row["seal"], row["created"], parts))
        return records

    def delete_keys(self, client_id: str, plan: str) -> str | None:
        """Forget the client's keys for a plan; returns their id, or None where there were none."""
        with self._transaction() as sql:
            here = (_KEYS.c.client_id == client_id) & (_KEYS.c.plan == plan)
            key_id = sql.scalar(sa.select(_KEYS.c.key_id).where(here))
            sql.execute(_KEYS.delete().where(here))
            sql.execute(_KEY_PARTS.delete().where(_KEY_PARTS.c.key_id == key_id))
            return None if key_id is None else str(key_id)

    def key_ids(self) -> set[str]:
        """The ids of all clients' keys, to tell live blobs from orphans."""
        with self._transaction(write=False) as sql:
            return set(sql.scalars(sa.select(_KEYS.c.key_id)))

    # Requests

    def use_nonce(self, client_id: str, nonce: str, expires: float) -> None:
        """Accept a nonce once.

        Raises:
            Refused: `replayed`.
        """
        with self._transaction() as sql:
            _insert_nonce(sql, client_id, nonce, expires)

    def admit_query(self, caller: Caller, nonce: str, expires: float, model: str, images: int) -> None:
        """Accept a nonce once, and count images against the client's daily limit, both or neither.

        Raises:
            Refused: `replayed`, `query_limit`.
        """
        now = time.time()
        day = int(now // 86400)
        with self._transaction() as sql:
            _insert_nonce(sql, caller.client_id, nonce, expires)
            today = (_QUERIES.c.client_id == caller.client_id) & (_QUERIES.c.day == day)
            if caller.daily_queries is not None:
                used = sql.scalar(sa.select(sa.func.coalesce(sa.func.sum(_QUERIES.c.images), 0)).where(today)) or 0
                if used + images > caller.daily_queries:
                    raise Refused(
                        Code.QUERY_LIMIT,
                        f"This client may classify {caller.daily_queries} images a day; {used} are used.",
                        retry_after=(day + 1) * 86400 - now,
                    )
            _count(sql, caller.client_id, day, model, images)

    def refund_query(self, client_id: str, model: str, images: int) -> None:
        """Take back a count for a request that was admitted and then not evaluated."""
        with self._transaction() as sql:
            _count(sql, client_id, int(time.time() // 86400), model, -images)

    def queries(self, client_id: str, day: int) -> int:
        """Images that the client had classified on a day (days since 1970, UTC)."""
        here = (_QUERIES.c.client_id == client_id) & (_QUERIES.c.day == day)
        with self._transaction(write=False) as sql:
            return int(sql.scalar(sa.select(sa.func.coalesce(sa.func.sum(_QUERIES.c.images), 0)).where(here)) or 0)

    def forget_nonces(self, now: float) -> int:
        """Drop the nonces whose envelopes are stale by now anyway; returns how many."""
        with self._transaction() as sql:
            return int(sql.execute(_NONCES.delete().where(_NONCES.c.expires < now)).rowcount)

    # Sealed objects

    def check_room(self, caller: Caller, object_id: str, size: int) -> None:
        """Check that an object of this id and size would be accepted.

        Raises:
            Refused: `exists`, `quota`.
        """
        with self._transaction(write=False) as sql:
            _check_room(sql, caller, object_id, size)

    def add_object(self, caller: Caller, record: ObjectRecord) -> None:
        """Record an object whose blob is stored.

        Raises:
            Refused: `exists`, `quota`.
        """
        with self._transaction() as sql:
            _check_room(sql, caller, record.object_id, record.size)
            sql.execute(
                _OBJECTS.insert().values(
                    client_id=caller.client_id,
                    object_id=record.object_id,
                    blob=record.blob,
                    size=record.size,
                    sha256=record.sha256,
                    created=record.created,
                )
            )

    def find_object(self, client_id: str, object_id: str) -> ObjectRecord | None:
        """The client's object of this id."""
        here = (_OBJECTS.c.client_id == client_id) & (_OBJECTS.c.object_id == object_id)
        with self._transaction(write=False) as sql:
            row = sql.execute(sa.select(_OBJECTS).where(here)).mappings().one_or_none()
        return None if row is None else _object_record(row)

    def list_objects(self, client_id: str, after: str, limit: int) -> list[ObjectRecord]:
        """The client's objects in the order of their ids, from the first one after `after`."""
        query = sa.select(_OBJECTS).where(_OBJECTS.c.client_id == client_id, _OBJECTS.c.object_id > after)
        with self._transaction(write=False) as sql:
            rows = sql.execute(query.order_by(_OBJECTS.c.object_id).limit(limit)).mappings()
            return [_object_record(row) for row in rows]

    def delete_object(self, client_id: str, object_id: str) -> str | None:
        """Forget an object; returns the path of its blob, or None where there was none."""
        with self._transaction() as sql:
            here = (_OBJECTS.c.client_id == client_id) & (_OBJECTS.c.object_id == object_id)
            blob = sql.scalar(sa.select(_OBJECTS.c.blob).where(here))
            sql.execute(_OBJECTS.delete().where(here))
            return None if blob is None else str(blob)

    def object_blobs(self) -> set[str]:
        """The blob paths of all clients' objects, to tell live blobs from orphans."""
        with self._transaction(write=False) as sql:
            return set(sql.scalars(sa.select(_OBJECTS.c.blob)))

    def all_objects(self) -> list[ObjectRecord]:
        """Every client's objects, for a scrub."""
        with self._transaction(write=False) as sql:
            return [_object_record(row) for row in sql.execute(sa.select(_OBJECTS)).mappings()]

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[sa.Connection]:
        """One transaction; failures of the database itself become a documented refusal."""
        try:
            with self._engine.connect() as connection:
                sql = connection.execution_options(he_infer_write=write)
                with sql.begin():
                    yield sql
        except IntegrityError as error:
            raise Refused(
                Code.EXISTS, "Another request stored this at the same moment; nothing was changed."
            ) from error
        except DBAPIError as error:
            raise Refused(
                Code.STORAGE, "The database cannot be used at the moment; try again later.", retry_after=5.0
            ) from error


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that will write takes the write lock at once: one that read first and then wants to write
        # fails as "locked" when another wrote in between.
        write = connection.get_execution_options().get("he_infer_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _insert_nonce(sql: sa.Connection, client_id: str, nonce: str, expires: float) -> None:
    here = (_NONCES.c.client_id == client_id) & (_NONCES.c.nonce == nonce)
    if sql.scalar(sa.select(_NONCES.c.nonce).where(here)) is not None:
        raise Refused(Code.REPLAYED, "This envelope was accepted before; seal a new one for each request.")
    sql.execute(_NONCES.insert().values(client_id=client_id, nonce=nonce, expires=expires))


def _count(sql: sa.Connection, client_id: str, day: int, model: str, images: int) -> None:
    here = (_QUERIES.c.client_id == client_id) & (_QUERIES.c.day == day) & (_QUERIES.c.model == model)
    if sql.execute(_QUERIES.update().where(here).values(images=_QUERIES.c.images + images)).rowcount == 0:
        sql.execute(_QUERIES.insert().values(client_id=client_id, day=day, model=model, images=images))


def _check_room(sql: sa.Connection, caller: Caller, object_id: str, size: int) -> None:
    here = (_OBJECTS.c.client_id == caller.client_id) & (_OBJECTS.c.object_id == object_id)
    if sql.scalar(sa.select(_OBJECTS.c.object_id).where(here)) is not None:
        raise Refused(Code.EXISTS, "An object of this id exists already; objects are never overwritten.")
    if caller.storage_quota is not None:
        total = sa.select(sa.func.coalesce(sa.func.sum(_OBJECTS.c.size), 0))
        used = int(sql.scalar(total.where(_OBJECTS.c.client_id == caller.client_id)) or 0)
        if used + size > caller.storage_quota:
            raise Refused(
                Code.QUOTA,
                f"This client may store {caller.storage_quota} bytes; {used} are used and {size} more were sent. "
                "Delete objects, or ask the operator for a larger quota.",
            )


def _token_record(row: sa.RowMapping) -> TokenRecord:
    return TokenRecord(
        token_id=row["token_id"],
        client=row["name"],
        scopes=frozenset(Scope(name) for name in row["scopes"].split()),
        created=row["created"],
        expires=row["expires"],
        revoked=row["revoked"],
        digest=row["digest"],
        client_id=row["client_id"],
    )


def _object_record(row: sa.RowMapping) -> ObjectRecord:
    return ObjectRecord(row["object_id"], row["blob"], row["size"], row["sha256"], row["created"])
