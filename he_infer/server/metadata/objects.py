"""Sealed objects and their versions: which blob holds which, and how much a client stores."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.records import BlobRecord, Caller, ObjectRecord
from he_infer.server.metadata.schema import KEY_PARTS, KEYS, OBJECTS
from he_infer.wire.refusals import Code, Refused

_PAGE = 1000


class Objects(Database):
    """Sealed objects. A version is created once and never changed; it follows the newest one, without a gap."""

    def check_room(self, caller: Caller, object_id: str, size: int, version: int = 1) -> None:
        """Check that a version of an object of this size would be accepted.

        Raises:
            Refused: `exists`, `version_gap`, `quota`.
        """
        with self._transaction(write=False) as sql:
            _check_room(sql, caller, object_id, size, version)

    def add_object(self, caller: Caller, record: ObjectRecord) -> None:
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

    def find_object(self, client_id: str, object_id: str, version: int | None = None) -> ObjectRecord | None:
        """A version of the client's object of this id; the newest one where none is named."""
        query = sa.select(OBJECTS).where(_of(client_id, object_id)).order_by(OBJECTS.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(OBJECTS.c.version == version)
        with self._transaction(write=False) as sql:
            row = sql.execute(query).mappings().one_or_none()
        return None if row is None else _object_record(row)

    def list_objects(self, client_id: str, after: str, limit: int) -> list[ObjectRecord]:
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

    def delete_object(self, client_id: str, object_id: str) -> list[str]:
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
                raise Refused(Code.INVALID, "The newest version goes only with the object; delete the object.")
            here = _of(client_id, object_id) & (OBJECTS.c.version == version)
            blob = sql.scalar(sa.select(OBJECTS.c.blob).where(here))
            sql.execute(OBJECTS.delete().where(here))
            return None if blob is None else str(blob)

    def unnamed_blobs(self, paths: Sequence[str]) -> list[str]:
        """Those of some blobs' paths that no row names."""
        keys = {path: path.split("/")[2] for path in paths if path.startswith("keys/") and path.count("/") == 3}
        named: set[str] = set()
        with self._transaction(write=False) as sql:
            for start in range(0, len(paths), _PAGE):
                some = list(paths[start : start + _PAGE])
                named.update(sql.scalars(sa.select(OBJECTS.c.blob).where(OBJECTS.c.blob.in_(some))))
            ids = sorted(set(keys.values()))
            live: set[str] = set()
            for start in range(0, len(ids), _PAGE):
                live.update(sql.scalars(sa.select(KEYS.c.key_id).where(KEYS.c.key_id.in_(ids[start : start + _PAGE]))))
        named.update(path for path, key_id in keys.items() if key_id in live)
        return [path for path in paths if path not in named]

    def named_blobs(self) -> Iterator[BlobRecord]:
        """What every row says of its blob, page by page: rows that come and go meanwhile may be among them or not."""
        after = ""
        objects = sa.select(OBJECTS).order_by(OBJECTS.c.blob).limit(_PAGE)
        while True:
            with self._transaction(write=False) as sql:
                rows = sql.execute(objects.where(OBJECTS.c.blob > after)).mappings().all()
            for row in rows:
                what = f"object {row['object_id']} version {row['version']}"
                yield BlobRecord(row["blob"], row["size"], row["sha256"], what)
            if len(rows) < _PAGE:
                break
            after = rows[-1]["blob"]
        keys = sa.select(KEYS.c.client_id, KEY_PARTS).join(KEY_PARTS, KEYS.c.key_id == KEY_PARTS.c.key_id)
        with self._transaction(write=False) as sql:
            parts = sql.execute(keys.order_by(KEY_PARTS.c.key_id, KEY_PARTS.c.name)).mappings().all()
        for row in parts:
            path = f"keys/{row['client_id']}/{row['key_id']}/{row['name']}"
            yield BlobRecord(path, row["size"], row["sha256"], f"keys {row['key_id']} part {row['name']}")


def check_quota(sql: sa.Connection, client_id: str, quota: int | None, size: int) -> None:
    """Check that a client may store so many bytes more.

    Raises:
        Refused: `quota`.
    """
    if quota is None:
        return
    objects = sa.select(sa.func.coalesce(sa.func.sum(OBJECTS.c.size), 0)).where(OBJECTS.c.client_id == client_id)
    keys = sa.select(sa.func.coalesce(sa.func.sum(KEY_PARTS.c.size), 0)).join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
    used = int(sql.scalar(objects) or 0) + int(sql.scalar(keys.where(KEYS.c.client_id == client_id)) or 0)
    if used + size > quota:
        raise Refused(
            Code.QUOTA,
            f"This client may store {quota} bytes; {used} are used and {size} more were sent. "
            "Delete objects, or ask the operator for a larger quota.",
        )


def _check_room(sql: sa.Connection, caller: Caller, object_id: str, size: int, version: int) -> None:
    newest = sa.select(sa.func.coalesce(sa.func.max(OBJECTS.c.version), 0)).where(_of(caller.client_id, object_id))
    found = int(sql.scalar(newest) or 0)
    if version <= found:
        raise Refused(Code.EXISTS, "This version of the object exists already; nothing is ever overwritten.")
    if version > found + 1:
        raise Refused(Code.VERSION_GAP, f"The object's newest version is {found}; the next one is {found + 1}.")
    check_quota(sql, caller.client_id, caller.quotas.storage_quota, size)


def _of(client_id: str, object_id: str) -> sa.ColumnElement[bool]:
    return (OBJECTS.c.client_id == client_id) & (OBJECTS.c.object_id == object_id)


def _object_record(row: sa.RowMapping) -> ObjectRecord:
    return ObjectRecord(row["object_id"], row["blob"], row["size"], row["sha256"], row["created"], row["version"])
