"""Transactions of plain SQL for the hot path.

On SQLite they run on connections of their own, without SQLAlchemy's layers, which cost several times the database's own
work. One connection syncs each commit to the disk, the other leaves that to the next commit that does: its changes
outlive the process in any case, and the machine only once something was synced after them.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import sqlalchemy as sa

from he_infer.wire.refusals import Code, Refused

_PATIENCE_SECONDS = 10.0
_CLIENT = "SELECT client_id FROM clients WHERE client_id = ?"

Rows = Sequence[Any]


class PlainSql(Protocol):
    """Statements within one transaction. Their parameters are question marks."""

    def ask(self, statement: str, *values: Any) -> Rows:
        """Return all rows that a statement selects."""

    def run(self, statement: str, *values: Any) -> int:
        """Return how many rows a statement changed."""

    @property
    def row_locks(self) -> bool:
        """Whether other transactions may write at the same time, so that rows need locks."""


class DriverSql:
    """Plain SQL on a connection of SQLAlchemy's to PostgreSQL."""

    row_locks = True

    def __init__(self, sql: sa.Connection) -> None:
        self._sql = sql

    def ask(self, statement: str, *values: Any) -> Rows:
        """See `PlainSql`."""
        return self._sql.exec_driver_sql(statement.replace("?", "%s"), values).fetchall()

    def run(self, statement: str, *values: Any) -> int:
        """See `PlainSql`."""
        return int(self._sql.exec_driver_sql(statement.replace("?", "%s"), values).rowcount)


class _SqliteSql:
    row_locks = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ask(self, statement: str, *values: Any) -> Rows:
        return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, *values: Any) -> int:
        return self._connection.execute(statement, values).rowcount


class SqliteConnections:
    """Three connections to a SQLite file: for synced writes, for unsynced writes, and for single reads.

    Args:
        connect: makes a connection with the database's own settings.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._open: dict[str, sqlite3.Connection] = {}
        # SQLite has one writer at a time anyway; those that wait here need not poll the file's lock.
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[PlainSql]:
        """Run one transaction that writes; `durable` syncs it, and all that was not synced before it.

        Raises:
            Refused: `storage`, `exists`.
        """
        if not self._writing.acquire(timeout=_PATIENCE_SECONDS):
            raise _away()
        try:
            connection = self._get("FULL" if durable else "NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteSql(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.IntegrityError as error:
            raise Refused(
                Code.EXISTS, "Another request stored this at the same moment; nothing was changed."
            ) from error
        except sqlite3.Error as error:
            raise _away() from error
        finally:
            self._writing.release()

    def peek(self, statement: str) -> Any | None:
        """Read one row without waiting for anybody; None where that cannot be done now."""
        if not self._reading.acquire(blocking=False):
            return None
        try:
            return self._get("OFF").execute(statement).fetchone()
        except sqlite3.Error:
            return None
        finally:
            self._reading.release()

    def close(self) -> None:
        """Close the connections there are; a later call opens new ones."""
        with self._writing, self._reading:
            while self._open:
                self._open.popitem()[1].close()

    def _get(self, synchronous: str) -> sqlite3.Connection:
        connection = self._open.get(synchronous)
        if connection is None:
            connection = self._connect()
            connection.execute(f"PRAGMA synchronous={synchronous}")
            if synchronous == "OFF":
                connection.execute("PRAGMA busy_timeout=0")
                connection.execute("PRAGMA query_only=ON")
            self._open[synchronous] = connection
        return connection


def lock_row(sql: PlainSql, client_id: str) -> None:
    """Let no other transaction count for this client until this one ends.

    Raises:
        Refused: `unauthorised` where the client was removed since its token was checked.
    """
    if not sql.ask(_CLIENT + (" FOR NO KEY UPDATE" if sql.row_locks else ""), client_id):
        raise Refused(Code.UNAUTHORISED, "This client was removed; ask the operator for a new token.")


def _away() -> Refused:
    return Refused(Code.STORAGE, "The database cannot be used at the moment; try again later.", retry_after=5.0)
