"""Store of registered evaluation keys and the parts that they are made of."""

import time
from typing import Any

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.quota import check_quota
from he_infer.server.metadata.records import Caller, KeyPart, KeyRecord
from he_infer.server.metadata.schema import KEY_PARTS, KEYS
from he_infer.wire.refusals import Code, Refused


class Keys:
    """Evaluation keys by client, plan and key set. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def add(self, client_id: str, record: KeyRecord, *, quota: int | None = None) -> KeyRecord:
        """Store a key set for a plan; nothing is ever replaced.

        Returns:
            The record given, or the one that is there already with the same parts.

        Raises:
            Refused: `keys_exist` where the set is there with other parts, `quota` where the client would store more
                than `quota` bytes.
        """
        with self._transaction() as sql:
            lock_client(sql, client_id)
            row = (
                sql.execute(sa.select(KEYS).where(_match_key(client_id, record.plan, record.key_set)))
                .mappings()
                .first()
            )
            if row is not None:
                found = _read(sql, row)
                if (found.parts, found.seal) == (record.parts, record.seal):
                    return found
                raise Refused(
                    Code.KEYS_EXIST,
                    f"The key set {record.key_set} is registered for this plan with other bytes, and is never "
                    "replaced. Delete it first, or make a new key file.",
                )
            check_quota(sql, client_id, quota, sum(part.size for part in record.parts), blobs=len(record.parts))
            sql.execute(
                KEYS.insert().values(
                    client_id=client_id,
                    plan=record.plan,
                    key_set=record.key_set,
                    key_id=record.key_id,
                    seal=record.seal,
                    created=record.created,
                )
            )
            for part in record.parts:
                sql.execute(
                    KEY_PARTS.insert().values(key_id=record.key_id, name=part.name, size=part.size, sha256=part.sha256)
                )
            return record

    def check_room(self, caller: Caller, size: int) -> int | None:
        """Check that a client may store so many bytes more; returns its room, or None where it has no quota.

        Raises:
            Refused: `quota`.
        """
        with self._transaction(write=False) as sql:
            return check_quota(sql, caller.client_id, caller.quotas.storage_quota, size)

    def ban(self, key_id: str) -> None:
        """Refuse these keys from now on: they ended a process of the server."""
        with self._transaction() as sql:
            sql.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(banned=time.time()))

    def find(self, client_id: str, plan: str, key_set: str) -> KeyRecord | None:
        """The evaluation keys of one set for one plan."""
        # The parts belong to the row, so both are read as of one moment.
        with self._transaction(write=False, snapshot=True) as sql:
            row = sql.execute(sa.select(KEYS).where(_match_key(client_id, plan, key_set))).mappings().first()
            return None if row is None else _read(sql, row)

    def list_all(self, client_id: str) -> list[KeyRecord]:
        """The client's evaluation keys, oldest first."""
        query = sa.select(KEYS).where(KEYS.c.client_id == client_id).order_by(KEYS.c.created)
        with self._transaction(write=False, snapshot=True) as sql:
            return [_read(sql, row) for row in sql.execute(query).mappings().all()]

    def delete(self, client_id: str, plan: str, key_set: str) -> str | None:
        """Forget a key set for a plan; returns the id of its parts, or None where there is none."""
        with self._transaction() as sql:
            lock_client(sql, client_id)
            here = _match_key(client_id, plan, key_set)
            key_id = sql.scalar(sa.select(KEYS.c.key_id).where(here))
            sql.execute(KEYS.delete().where(here))
            sql.execute(KEY_PARTS.delete().where(KEY_PARTS.c.key_id == key_id))
            return None if key_id is None else str(key_id)


def _match_key(client_id: str, plan: str, key_set: str) -> sa.ColumnElement[bool]:
    return (KEYS.c.client_id == client_id) & (KEYS.c.plan == plan) & (KEYS.c.key_set == key_set)


def _read(sql: sa.Connection, row: Any) -> KeyRecord:
    listing = sa.select(KEY_PARTS).where(KEY_PARTS.c.key_id == row["key_id"]).order_by(KEY_PARTS.c.name)
    parts = tuple(KeyPart(part["name"], part["size"], part["sha256"]) for part in sql.execute(listing).mappings())
    banned = row["banned"] is not None
    return KeyRecord(row["key_id"], row["plan"], row["seal"], row["created"], parts, row["key_set"], banned)
