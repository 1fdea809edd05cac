"""Store of past requests: nonces against replays, and counts of images against the extraction of a model."""

import sqlalchemy as sa

from he_infer.server.metadata.database import Database
from he_infer.server.metadata.plain_sql import lock_row
from he_infer.server.metadata.replays import Replays
from he_infer.server.metadata.schema import NONCES, QUERIES

DAY = 86400


class Queries:
    """Nonces and counts of admitted requests. Each method is one transaction."""

    def __init__(self, database: Database, replays: Replays) -> None:
        self._transaction = database.transaction
        self._plain = database.plain
        self._replays = replays

    def use_nonce(self, client_id: str, nonce: str, sent: float, expires: float) -> None:
        """Accept a nonce once, whichever server on this database is asked; see `Replays.accept`.

        Raises:
            Refused: `replayed`, `stale`, `busy`, `unauthorised` where the client was removed since its token was
                checked.
        """
        with self._plain() as sql:
            lock_row(sql, client_id)
            self._replays.accept(sql, client_id, nonce, sent, expires, durable=True)

    def refund(self, client_id: str, model: str, images: int, asked: float) -> None:
        """Take back a count for a request that was admitted at a Unix time and then not evaluated.

        It is taken from the day on which it was counted: taken from the next one, it would gain queries there.
        """
        here = (QUERIES.c.client_id == client_id) & (QUERIES.c.day == int(asked // DAY))
        with self._transaction() as sql:
            update = QUERIES.update().where(here, QUERIES.c.model == model, QUERIES.c.images >= images)
            sql.execute(update.values(images=QUERIES.c.images - images))

    def count(self, client_id: str, day: int) -> int:
        """Images that the client had classified on a day (days since 1970, UTC)."""
        with self._transaction(write=False) as sql:
            return _sum(sql, (QUERIES.c.client_id == client_id) & (QUERIES.c.day == day))

    def settle(self) -> None:
        """Count no images ahead: for a server that ends, after which the machine's restart loses nothing."""
        with self._transaction() as sql:
            sql.execute(QUERIES.update().where(QUERIES.c.ahead > QUERIES.c.images).values(ahead=QUERIES.c.images))

    def forget_nonces(self, now: float) -> int:
        """Drop the nonces whose envelopes are stale by now anyway; returns how many."""
        with self._transaction() as sql:
            return int(sql.execute(NONCES.delete().where(NONCES.c.expires < now)).rowcount)


def _sum(sql: sa.Connection, where: sa.ColumnElement[bool]) -> int:
    return int(sql.scalar(sa.select(sa.func.coalesce(sa.func.sum(QUERIES.c.images), 0)).where(where)) or 0)
