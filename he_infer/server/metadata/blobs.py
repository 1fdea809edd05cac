"""Blobs by their rows: the paths that the database names, and those that it does not."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from he_infer.server.metadata.database import Database
from he_infer.server.metadata.records import BlobRecord
from he_infer.server.metadata.schema import KEY_PARTS, KEYS, OBJECTS

_PAGE = 1000


class BlobNames:
    """The blobs that objects and evaluation keys name."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def unnamed(self, paths: Sequence[str]) -> list[str]:
        """Return those of the given paths that no row names."""
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

    def named(self) -> Iterator[BlobRecord]:
        """Yield a record of every row's blob, page by page; rows that come or go meanwhile may be missing."""
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
