"""Requests of each client a minute: a token bucket that outlives a restart."""

import time

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.records import Caller
from he_infer.server.metadata.schema import BUCKETS
from he_infer.wire.refusals import Code, Refused


class Requests:
    """The rate limit of each client."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def admit(self, caller: Caller) -> None:
        """Count a request against the client's limit a minute: a token bucket, kept over restarts.

        Raises:
            Refused: `rate_limit`.
        """
        limit = caller.quotas.requests_per_minute
        if limit is None:
            return
        now = time.time()
        here = BUCKETS.c.client_id == caller.client_id
        with self._transaction() as sql:
            lock_client(sql, caller.client_id)
            row = sql.execute(sa.select(BUCKETS.c.level, BUCKETS.c.updated).where(here)).one_or_none()
            # A clock that was set back refills nothing, and one that was set ahead fills the bucket once.
            level = limit if row is None else min(limit, row.level + max(0.0, now - row.updated) * limit / 60)
            admitted = level >= 1
            values = {"level": float(level - 1 if admitted else level), "updated": now}
            if row is None:
                sql.execute(BUCKETS.insert().values(client_id=caller.client_id, **values))
            elif admitted or now < row.updated:  # a flood of refused requests writes nothing
                sql.execute(BUCKETS.update().where(here).values(**values))
        if not admitted:
            wait = (1 - level) * 60 / limit if limit else 60.0
            raise Refused(
                Code.RATE_LIMIT, f"This client may send {limit} requests a minute; try again later.", retry_after=wait
            )
