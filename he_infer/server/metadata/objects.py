"""Sealed objects, their versions, the blobs that hold them, and the bytes that a client stores."""

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.quota import check_quota
from he_infer.server.metadata.records import Caller, ObjectRecord
from he_infer.server.metadata.schema import OBJECTS
from he_infer.wire.refusals import Code, Refused


class Objects:
    """Sealed objects. A version is created once and never changed; it follows the newest one, without a gap.

    Each method is one transaction.
    """

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def check_room(self, caller: Caller, object_id: str, size: int, version: int = 1) -> int | None:
        """Check that a version of an object of this size would be accepted.

        Returns:
            Bytes that the client may store beside what it has, or None where it has no quota.

        Raises:
            Refused: `exists`, `version_gap`, `quota`.
        """
        with self._transaction(write=False) as sql:
            return _check_room(sql, caller, object_id, size, version)

    def add(self, caller: Caller, record: ObjectRecord) -> None:
        """Record a version whose blob is stored.

        Raises:
            Refused: `exists`, `version_gap`, `quota`, and `unauthorised` where the client was removed meanwhile.
        """
        with self._transaction() as sql:
            lock_client(sql, caller.client_id)
            _check_room(sql, caller, record.object_id, record.size, record.version)
            sql.execute(
                OBJECTS.insert().values(
                    client_id=caller.client_id,
                    object_id=record.object_id,
                    version=record.version,
                    blob=record.blob,
                    size=record.size,
                    sha256=record.sha256,
                    created=record.created,
                )
            )

    def find(self, client_id: str, object_id: str, version: int | None = None) -> ObjectRecord | None:
        """Find a version of a client's object; without `version`, the newest one."""
        query = sa.select(OBJECTS).where(_of(client_id, object_id)).order_by(OBJECTS.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(OBJECTS.c.version == version)
        with self._transaction(write=False) as sql:
            row = sql.execute(query).mappings().one_or_none()
        return None if row is None else _object_record(row)

    def list_page(self, client_id: str, after: str, limit: int) -> list[ObjectRecord]:
        """The client's objects after `after` in the order of their ids, each in its newest version."""
        newest = (
            sa.select(OBJECTS.c.object_id, sa.func.max(OBJECTS.c.version).label("version"))
            .where(OBJECTS.c.client_id == client_id, OBJECTS.c.object_id > after)
            .group_by(OBJECTS.c.object_id)
            .order_by(OBJECTS.c.object_id)
            .limit(limit)
            .subquery()
        )
        same = (OBJECTS.c.object_id == newest.c.object_id) & (OBJECTS.c.version == newest.c.version)
        query = sa.select(OBJECTS).join(newest, same).where(OBJECTS.c.client_id == client_id)
        with self._transaction(write=False) as sql:
            return [_object_record(row) for row in sql.execute(query.order_by(OBJECTS.c.object_id)).mappings()]

    def list_versions(self, client_id: str, object_id: str) -> list[ObjectRecord]:
        """All versions of an object that there are, oldest first."""
        query = sa.select(OBJECTS).where(_of(client_id, object_id)).order_by(OBJECTS.c.version)
        with self._transaction(write=False) as sql:
            return [_object_record(row) for row in sql.execute(query).mappings()]

    def delete(self, client_id: str, object_id: str) -> list[str]:
        """Forget an object with all its versions; returns the paths of their blobs, none where there was no object."""
        with self._transaction() as sql:
            lock_client(sql, client_id)
            blobs = list(sql.scalars(sa.select(OBJECTS.c.blob).where(_of(client_id, object_id))))
            sql.execute(OBJECTS.delete().where(_of(client_id, object_id)))
            return blobs

    def delete_version(self, client_id: str, object_id: str, version: int) -> str | None:
        """Forget one version that is not the newest; returns the path of its blob, or None where there was none.

        Raises:
            Refused: `invalid` for the newest version: without it, its number would be given twice.
        """
        with self._transaction() as sql:
            lock_client(sql, client_id)
            newest = sql.scalar(sa.select(sa.func.max(OBJECTS.c.version)).where(_of(client_id, object_id)))
            if newest == version:
                raise Refused(Code.INVALID, "The newest version cannot be deleted alone; delete the object.")
            here = _of(client_id, object_id) & (OBJECTS.c.version == version)
            blob = sql.scalar(sa.select(OBJECTS.c.blob).where(here))
            sql.execute(OBJECTS.delete().where(here))
            return None if blob is None else str(blob)


def _check_room(sql: sa.Connection, caller: Caller, object_id: str, size: int, version: int) -> int | None:
    newest = sa.select(sa.func.coalesce(sa.func.max(OBJECTS.c.version), 0)).where(_of(caller.client_id, object_id))
    found = int(sql.scalar(newest) or 0)
    if version <= found:
        raise Refused(Code.EXISTS, "This version of the object exists already; nothing is ever overwritten.")
    if version > found + 1:
        raise Refused(Code.VERSION_GAP, f"The object's newest version is {found}; the next one is {found + 1}.")
    return check_quota(sql, caller.client_id, caller.quotas.storage_quota, size)


def _of(client_id: str, object_id: str) -> sa.ColumnElement[bool]:
    return (OBJECTS.c.client_id == client_id) & (OBJECTS.c.object_id == object_id)


def _object_record(row: sa.RowMapping) -> ObjectRecord:
    return ObjectRecord(row["object_id"], row["blob"], row["size"], row["sha256"], row["created"], row["version"])
