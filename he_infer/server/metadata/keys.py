"""Which evaluation keys a client has registered, and of which parts they are made."""

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.quota import check_quota
from he_infer.server.metadata.records import KeyPart, KeyRecord
from he_infer.server.metadata.schema import KEY_PARTS, KEYS


class Keys:
    """Evaluation keys: one set for each client and plan. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def put(self, client_id: str, record: KeyRecord, *, quota: int | None = None) -> str | None:
        """Make these the client's keys for the plan; returns the id of those that they replace.

        Raises:
            Refused: `quota` where the client would store more than `quota` bytes.
        """
        with self._transaction() as sql:
            lock_client(sql, client_id)
            here = (KEYS.c.client_id == client_id) & (KEYS.c.plan == record.plan)
            old = sql.scalar(sa.select(KEYS.c.key_id).where(here))
            sql.execute(KEYS.delete().where(here))
            if old is not None:
                sql.execute(KEY_PARTS.delete().where(KEY_PARTS.c.key_id == old))
            check_quota(sql, client_id, quota, sum(part.size for part in record.parts))
            sql.execute(
                KEYS.insert().values(
                    client_id=client_id,
                    plan=record.plan,
                    key_id=record.key_id,
                    seal=record.seal,
                    created=record.created,
                )
            )
            for part in record.parts:
                sql.execute(
                    KEY_PARTS.insert().values(key_id=record.key_id, name=part.name, size=part.size, sha256=part.sha256)
                )
            return None if old is None else str(old)

    def list_all(self, client_id: str, plan: str | None = None) -> list[KeyRecord]:
        """The client's keys, of one plan or of all."""
        query = sa.select(KEYS).where(KEYS.c.client_id == client_id)
        if plan is not None:
            query = query.where(KEYS.c.plan == plan)
        records = []
        # The parts belong to the row, so both are read as of one moment.
        with self._transaction(write=False, snapshot=True) as sql:
            for row in sql.execute(query.order_by(KEYS.c.created)).mappings().all():
                listing = sa.select(KEY_PARTS).where(KEY_PARTS.c.key_id == row["key_id"]).order_by(KEY_PARTS.c.name)
                parts = tuple(
                    KeyPart(part["name"], part["size"], part["sha256"]) for part in sql.execute(listing).mappings()
                )
                records.append(KeyRecord(row["key_id"], row["plan"], row["seal"], row["created"], parts))
        return records

    def delete(self, client_id: str, plan: str) -> str | None:
        """Forget the client's keys for a plan; returns their id, or None where there were none."""
        with self._transaction() as sql:
            lock_client(sql, client_id)
            here = (KEYS.c.client_id == client_id) & (KEYS.c.plan == plan)
            key_id = sql.scalar(sa.select(KEYS.c.key_id).where(here))
            sql.execute(KEYS.delete().where(here))
            sql.execute(KEY_PARTS.delete().where(KEY_PARTS.c.key_id == key_id))
            return None if key_id is None else str(key_id)
