"""Copies the whole database as of one moment into another: for backups, restores and moves to PostgreSQL."""

import time
from collections.abc import Sequence

import sqlalchemy as sa

from he_infer.errors import UsageError
from he_infer.server.metadata.database import Database
from he_infer.server.metadata.schema import CLIENTS, KEY_PARTS, KEYS, META, OBJECTS, REVISION, STATE

_ROWS = 1000


class Rows:
    """All rows of a database, to be copied to an empty one."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def copy_to(self, target: "Rows") -> dict[str, int]:
        """Copy every row as of this moment, while others go on writing here.

        Returns:
            How many rows each table has.

        Raises:
            UsageError: the target has clients already.
        """
        counts = {}
        with self._transaction(write=False, snapshot=True) as source, target._transaction() as sink:
            if sink.scalar(sa.select(sa.func.count()).select_from(CLIENTS)):
                raise UsageError("The database to write to holds clients already; expected an empty one.")
            for table in META.sorted_tables:
                if table in (REVISION, STATE):
                    continue
                counts[table.name] = 0
                for rows in source.execute(sa.select(table).execution_options(yield_per=_ROWS)).mappings().partitions():
                    sink.execute(table.insert(), [dict(row) for row in rows])
                    counts[table.name] += len(rows)
            # What the source accepted after this moment is unknown to the copy, so envelopes of before are refused.
            now = time.time()
            sink.execute(STATE.update().values(refused_from=0.0, refused_until=now, generation=STATE.c.generation + 1))
        return counts

    def drop_blobs(self, paths: Sequence[str]) -> None:
        """Forget the object versions and keys that name these blobs; for a copy whose blobs are gone."""
        key_ids = [path.split("/")[2] for path in paths if path.startswith("keys/")]
        with self._transaction() as sql:
            for path in paths:
                sql.execute(OBJECTS.delete().where(OBJECTS.c.blob == path))
            for key_id in key_ids:
                sql.execute(KEY_PARTS.delete().where(KEY_PARTS.c.key_id == key_id))
                sql.execute(KEYS.delete().where(KEYS.c.key_id == key_id))

    def is_empty(self) -> bool:
        """Tell whether the database has no client."""
        with self._transaction(write=False) as sql:
            return not sql.scalar(sa.select(sa.func.count()).select_from(CLIENTS))
