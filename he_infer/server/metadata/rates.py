"""Rate limits of each client, on requests and on registrations of keys: token buckets that outlive a restart."""

import time
from enum import StrEnum

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.records import Caller
from he_infer.server.metadata.schema import BUCKETS
from he_infer.wire.refusals import Code, Refused


class Kind(StrEnum):
    """What a token bucket counts."""

    REQUESTS = "requests"
    REGISTRATIONS = "registrations"


class Rates:
    """The rate limits of each client. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def admit_request(self, caller: Caller) -> None:
        """Count a request against the client's limit a minute.

        Raises:
            Refused: `rate_limit`.
        """
        limit = caller.quotas.requests_per_minute
        if limit is not None and (wait := self._take(caller.client_id, Kind.REQUESTS, limit, 60.0)):
            raise Refused(
                Code.RATE_LIMIT, f"This client may send {limit} requests a minute; try again later.", retry_after=wait
            )

    def admit_registration(self, caller: Caller) -> None:
        """Count a registration of evaluation keys against the client's limit an hour.

        Raises:
            Refused: `rate_limit`.
        """
        limit = caller.quotas.registrations_per_hour
        if limit is not None and (wait := self._take(caller.client_id, Kind.REGISTRATIONS, limit, 3600.0)):
            raise Refused(
                Code.RATE_LIMIT,
                f"This client may register {limit} key sets an hour, one for each plan; the next one is accepted in "
                f"{wait:.0f} s. Keep registered key sets instead of making new ones, or ask the operator for a higher "
                "limit.",
                retry_after=wait,
            )

    def _take(self, client_id: str, kind: Kind, limit: int, period: float) -> float:
        """Take one token from a bucket that holds `limit` and refills in `period` seconds.

        Returns:
            0 where there was a token, otherwise the seconds until there is one.
        """
        now = time.time()
        here = (BUCKETS.c.client_id == client_id) & (BUCKETS.c.kind == kind.value)
        with self._transaction() as sql:
            lock_client(sql, client_id)
            row = sql.execute(sa.select(BUCKETS.c.level, BUCKETS.c.updated).where(here)).one_or_none()
            # A clock that was set back refills nothing, and one that was set ahead fills the bucket once.
            level = limit if row is None else min(limit, row.level + max(0.0, now - row.updated) * limit / period)
            admitted = level >= 1
            values = {"level": float(level - 1 if admitted else level), "updated": now}
            if row is None:
                sql.execute(BUCKETS.insert().values(client_id=client_id, kind=kind.value, **values))
            elif admitted or now < row.updated:  # a flood of refused requests writes nothing
                sql.execute(BUCKETS.update().where(here).values(**values))
        if admitted:
            return 0.0
        return (1 - level) * period / limit if limit else period
