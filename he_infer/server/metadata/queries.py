"""Store of past requests: nonces against replays, and counts of images against the extraction of a model."""

import time

import sqlalchemy as sa

from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.schema import NONCES, QUERIES
from he_infer.wire.refusals import Code, Refused

DAY = 86400


class Queries:
    """Nonces and counts of admitted requests. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def use_nonce(self, client_id: str, nonce: str, expires: float) -> None:
        """Accept a nonce once, whichever server on this database is asked.

        Raises:
            Refused: `replayed`.
        """
        with self._transaction() as sql:
            lock_client(sql, client_id)
            _insert_nonce(sql, client_id, nonce, expires)

    def refund(self, client_id: str, model: str, images: int) -> None:
        """Take back a count for a request that was admitted and then not evaluated.

        A count from before midnight stays, so that a refund never gains queries.
        """
        here = (QUERIES.c.client_id == client_id) & (QUERIES.c.day == int(time.time() // DAY))
        with self._transaction() as sql:
            update = QUERIES.update().where(here, QUERIES.c.model == model, QUERIES.c.images >= images)
            sql.execute(update.values(images=QUERIES.c.images - images))

    def count(self, client_id: str, day: int) -> int:
        """Images that the client had classified on a day (days since 1970, UTC)."""
        with self._transaction(write=False) as sql:
            return _sum(sql, (QUERIES.c.client_id == client_id) & (QUERIES.c.day == day))

    def forget_nonces(self, now: float) -> int:
        """Drop the nonces whose envelopes are stale by now anyway; returns how many."""
        with self._transaction() as sql:
            return int(sql.execute(NONCES.delete().where(NONCES.c.expires < now)).rowcount)


def _sum(sql: sa.Connection, where: sa.ColumnElement[bool]) -> int:
    return int(sql.scalar(sa.select(sa.func.coalesce(sa.func.sum(QUERIES.c.images), 0)).where(where)) or 0)


def _insert_nonce(sql: sa.Connection, client_id: str, nonce: str, expires: float) -> None:
    here = (NONCES.c.client_id == client_id) & (NONCES.c.nonce == nonce)
    if sql.scalar(sa.select(NONCES.c.nonce).where(here)) is not None:
        raise Refused(Code.REPLAYED, "This envelope was accepted before; seal a new one for each request.")
    sql.execute(NONCES.insert().values(client_id=client_id, nonce=nonce, expires=expires))
