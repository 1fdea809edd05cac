"""The connection to the database: SQLite or PostgreSQL, transactions, and the schema's version."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from he_infer.errors import UnsupportedVersion, UsageError
from he_infer.server.metadata import schema
from he_infer.server.metadata.plain_sql import DriverSql, PlainSql, SqliteConnections
from he_infer.wire.refusals import Code, Refused

# One process migrates at a time: PostgreSQL's advisory lock of this number ("HEIM"), SQLite's write lock.
_MIGRATION_LOCK = 0x4845494D
_PATIENCE_MS = 10_000
_STATEMENT_MS = 30_000


class Database:
    """A connection to one database, whose schema is brought up to date when it is opened.

    Args:
        url: `sqlite:///path` or `postgresql://user@host/name`, without a password: libpq takes one from the file that
            PGPASSFILE names, or from PGPASSWORD.

    Raises:
        UsageError: the URL has another form.
        UnsupportedVersion: the database was written by a release that this one does not know.
        Refused: `storage`.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._engine = _engine(url)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._plain = SqliteConnections(self._connect_sqlite) if self.is_sqlite else None
        try:
            self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        if self._plain is not None:
            self._plain.close()
        self._engine.dispose()

    def settle(self) -> None:
        """Merge SQLite's write-ahead log into the database file, so that the file alone is complete."""
        self.close()  # the log goes only where nobody else has the file open
        connection = self._engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode=DELETE")
        finally:
            connection.close()

    def ping(self) -> None:
        """Check that the database answers and would let a row be written.

        Raises:
            Refused: `storage`.
        """
        with self.transaction() as sql:
            sql.execute(sa.select(1))

    @property
    def revision(self) -> str:
        """The schema's version, such as `0002`."""
        return schema.HEAD

    def _bring_up_to_date(self) -> None:
        with self.transaction(write=False) as sql:
            if _revision(sql) == schema.HEAD:
                return
        with self.transaction() as sql:
            if sql.dialect.name == "postgresql":
                sql.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            current = _revision(sql)
            if current == schema.HEAD:  # another process was quicker
                return
            if current is None:  # an empty database: the current tables, which a test compares with the migrations
                schema.META.create_all(sql)
                sql.execute(schema.STATE.insert().values(schema.FIRST_STATE))
                sql.execute(schema.REVISION.insert().values(version_num=schema.HEAD))
                return
            from he_infer.server.metadata import migrate

            if current not in {step.revision for step in migrate.scripts().walk_revisions()}:
                raise UnsupportedVersion(
                    f"The database has schema {current}, which this release does not know; it reads up to "
                    f"{schema.HEAD}. Run the release that wrote it, or restore a backup."
                )
            migrate.upgrade(sql, current)

    @contextmanager
    def transaction(self, *, write: bool = True, snapshot: bool = False) -> Iterator[sa.Connection]:
        """Run one transaction; failures of the database itself become a documented refusal.

        With `snapshot`, all its reads see the database as of one moment.
        """
        options: dict[str, Any] = {"he_infer_write": write}
        if snapshot and self._engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        try:
            with self._engine.connect() as connection:
                sql = connection.execution_options(**options)
                with sql.begin():
                    yield sql
        except exc.IntegrityError as error:
            raise Refused(
                Code.EXISTS, "Another request stored this at the same moment; nothing was changed."
            ) from error
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise Refused(
                Code.STORAGE, "The database cannot be used at the moment; try again later.", retry_after=5.0
            ) from error

    @contextmanager
    def plain(self, *, durable: bool = True) -> Iterator[PlainSql]:
        """Run one transaction of plain SQL that writes.

        Without `durable`, SQLite does not sync it: it outlives this process, and the machine only with the next
        durable one. PostgreSQL always does.

        Raises:
            Refused: `storage`, `exists`.
        """
        if self._plain is not None:
            with self._plain.transaction(durable=durable) as plain:
                yield plain
        else:
            with self.transaction() as sql:
                yield DriverSql(sql)

    def peek(self, statement: str) -> Any | None:
        """Read one row where that takes microseconds and waits for nobody; None elsewhere, as on PostgreSQL."""
        return self._plain.peek(statement) if self._plain is not None else None

    def _connect_sqlite(self) -> sqlite3.Connection:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError("SQLAlchemy's driver for SQLite is not Python's own.")
        return connection


def lock_client(sql: sa.Connection, client_id: str) -> None:
    """Let no other transaction count or store for this client until this one ends.

    A SQLite transaction that writes is alone anyway.

    Raises:
        Refused: `unauthorised` where the client was removed since its token was checked.
    """
    row = sa.select(schema.CLIENTS.c.client_id).where(schema.CLIENTS.c.client_id == client_id)
    if sql.scalar(row.with_for_update(key_share=True)) is None:
        raise Refused(Code.UNAUTHORISED, "This client was removed; ask the operator for a new token.")


def _engine(text: str | sa.URL) -> sa.Engine:
    try:
        url = sa.make_url(text)
    except exc.ArgumentError as error:
        raise UsageError(
            "The database's URL cannot be read; expected sqlite:///path or postgresql://user@host/name."
        ) from error
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(f"No database of kind {backend!r} is supported; expected sqlite or postgresql.")
    if url.password is not None or "password" in url.query:
        raise UsageError(
            "The database's URL holds a password, and settings hold no secrets. Leave it out of the URL and put it "
            "into the file that PGPASSFILE names, or into PGPASSWORD."
        )
    if backend == "sqlite":
        engine = sa.create_engine(url, pool_size=16, max_overflow=16, pool_timeout=_PATIENCE_MS / 1000)
        _prepare_sqlite(engine)
        return engine
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=8,
        max_overflow=24,
        pool_timeout=_PATIENCE_MS / 1000,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "options": f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout={_PATIENCE_MS}",
            # A lost network connection is noticed within half a minute, not after two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 25_000,
            **url.query,
        },
    )


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (f"busy_timeout={_PATIENCE_MS}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        _use_wal(connection)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that will write takes the write lock at once: one that read first and then wants to write
        # fails as "locked" when another wrote in between.
        write = connection.get_execution_options().get("he_infer_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _use_wal(connection: Any) -> None:
    """Switch the file to its write-ahead log; SQLite does not wait by itself where two processes do so at once."""
    deadline = time.monotonic() + _PATIENCE_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except connection.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _revision(sql: sa.Connection) -> str | None:
    """The migration that the database is at, or None for an empty one."""
    tables = set(sa.inspect(sql).get_table_names())
    if "alembic_version" in tables:
        current = sql.scalar(sa.select(schema.REVISION.c.version_num))
        return None if current is None else str(current)
    if "schema_version" in tables:  # from before the migrations
        version = sql.scalar(sa.text("SELECT max(version) FROM schema_version"))
        if version != 1:
            raise UnsupportedVersion(f"The database has schema version {version}, which no release has written.")
        return "0001"
    return None
