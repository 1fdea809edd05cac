"""The whole database as of one moment, copied into another: backups, restores, and the way from SQLite to PostgreSQL."""

import sqlalchemy as sa

from he_infer.errors import UsageError
from he_infer.server.metadata.database import Database
from he_infer.server.metadata.schema import CLIENTS, META

_ROWS = 1000


class Copying(Database):
    """Copies all rows to a database that has none."""

    def copy_to(self, target: "Copying") -> dict[str, int]:
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
                counts[table.name] = 0
                for rows in source.execute(sa.select(table).execution_options(yield_per=_ROWS)).mappings().partitions():
                    sink.execute(table.insert(), [dict(row) for row in rows])
                    counts[table.name] += len(rows)
        return counts

    def is_empty(self) -> bool:
        """Tell whether the database has no client."""
        with self._transaction(write=False) as sql:
            return not sql.scalar(sa.select(sa.func.count()).select_from(CLIENTS))
