"""Clients, their use and their limits."""

import time
from collections.abc import Mapping

import sqlalchemy as sa

from he_infer.errors import UsageError
from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.quota import read_quotas
from he_infer.server.metadata.records import ClientRecord
from he_infer.server.metadata.schema import CLIENTS, KEY_PARTS, KEYS, META, NONCES, OBJECTS, QUERIES
from he_infer.server.metadata.token_cache import count_generation


class Clients:
    """The server's tenants as the operator sees them. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def list_all(self) -> list[ClientRecord]:
        """All clients with their bounds and what they use, by name."""
        today = int(time.time() // 86400)
        with self._transaction(write=False, snapshot=True) as sql:
            rows = sql.execute(sa.select(CLIENTS).order_by(CLIENTS.c.name)).mappings().all()
            return [_client_record(sql, row, today) for row in rows]

    def set_quotas(self, client: str, changes: Mapping[str, int | None]) -> None:
        """Change a client's bounds; None takes one away. They hold from the next request on.

        Raises:
            UsageError: no such client.
        """
        with self._transaction() as sql:
            update = CLIENTS.update().where(CLIENTS.c.client_id == _client_id(sql, client))
            if changes:
                sql.execute(update.values(**changes))
                count_generation(sql)

    def remove(self, client: str) -> list[str]:
        """Forget a client: its tokens, keys, objects and counts, at once.

        Returns:
            The paths of its blobs, which are no longer named by anything and remain to be deleted.

        Raises:
            UsageError: no such client.
        """
        with self._transaction() as sql:
            client_id = _client_id(sql, client)
            lock_client(sql, client_id)
            blobs = list(sql.scalars(sa.select(OBJECTS.c.blob).where(OBJECTS.c.client_id == client_id)))
            parts = sa.select(KEY_PARTS.c.key_id, KEY_PARTS.c.name).join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
            for key_id, name in sql.execute(parts.where(KEYS.c.client_id == client_id)):
                blobs.append(f"keys/{client_id}/{key_id}/{name}")
            own = sa.select(KEYS.c.key_id).where(KEYS.c.client_id == client_id)
            sql.execute(KEY_PARTS.delete().where(KEY_PARTS.c.key_id.in_(own)))
            for table in (NONCES, QUERIES, *reversed(META.sorted_tables)):
                if "client_id" in table.c:
                    sql.execute(table.delete().where(table.c.client_id == client_id))
            count_generation(sql)
            return blobs


def _client_id(sql: sa.Connection, name: str) -> str:
    client_id = sql.scalar(sa.select(CLIENTS.c.client_id).where(CLIENTS.c.name == name))
    if client_id is None:
        raise UsageError(f"There is no client named {name!r}; 'he-infer clients list' shows those there are.")
    return str(client_id)


def _client_record(sql: sa.Connection, row: sa.RowMapping, today: int) -> ClientRecord:
    client_id = row["client_id"]
    objects = sa.select(
        sa.func.count(sa.distinct(OBJECTS.c.object_id)),
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(OBJECTS.c.size), 0),
    ).where(OBJECTS.c.client_id == client_id)
    keys = sa.select(sa.func.coalesce(sa.func.sum(KEY_PARTS.c.size), 0)).join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
    images = sa.select(sa.func.coalesce(sa.func.sum(QUERIES.c.images), 0)).where(QUERIES.c.client_id == client_id)
    count, versions, size = sql.execute(objects).one()
    return ClientRecord(
        client_id=client_id,
        name=row["name"],
        created=row["created"],
        quotas=read_quotas(row),
        objects=int(count),
        versions=int(versions),
        object_bytes=int(size),
        key_bytes=int(sql.scalar(keys.where(KEYS.c.client_id == client_id)) or 0),
        images_today=int(sql.scalar(images.where(QUERIES.c.day == today)) or 0),
        images_ever=int(sql.scalar(images) or 0),
    )
