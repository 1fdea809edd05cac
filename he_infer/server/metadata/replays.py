"""Nonces of accepted envelopes, so that each is accepted once, also after a crash of the process or of the machine.

A nonce's row outlives the server's process in any case. On SQLite most rows are not synced to the disk, so a crash of
the machine may lose the newest. Therefore a window of time is written ahead and synced, and an envelope whose time lies
in it is accepted without a sync. An envelope dated after the window either moves it on, by a synced transaction that
also saves all rows before it, or is synced itself. The first server that opens the database after a restart of the
machine closes the window: envelopes of its time are refused from then on, since they may have been accepted already.
"""

import time

import sqlalchemy as sa

from he_infer.machine import find_boot_id
from he_infer.server.metadata.database import Database
from he_infer.server.metadata.plain_sql import PlainSql
from he_infer.server.metadata.schema import QUERIES, STATE
from he_infer.wire.refusals import Code, Refused

AHEAD_SECONDS = 10.0
"""The window reaches so far beyond the clock: one sync in that time, and the longest refusal after a crash."""

_NONCE = "INSERT INTO nonces (client_id, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_COVERS = "SELECT 1 FROM state WHERE since < ? AND covered >= ?"
_MOVE = "UPDATE state SET since = ?, covered = ?"


class NeedsSync(Exception):
    """The transaction is to be run again as a durable one."""


class Replays:
    """The memory of nonces, over one database."""

    def __init__(self, database: Database) -> None:
        boot = find_boot_id()
        with database.transaction(write=False) as sql:
            state = sql.execute(sa.select(STATE)).mappings().one()
        # PostgreSQL syncs every transaction, and its servers run on machines of their own.
        if database.is_sqlite and state["boot"] != boot:
            with database.transaction() as sql:
                # The clause lets one of several servers that start at once do this.
                crashed = STATE.update().where(STATE.c.boot == state["boot"])
                values = {"boot": boot, "refused_from": STATE.c.since, "refused_until": STATE.c.covered}
                if sql.execute(crashed.values(values)).rowcount:
                    sql.execute(
                        QUERIES.update().where(QUERIES.c.images < QUERIES.c.ahead).values(images=QUERIES.c.ahead)
                    )
                state = sql.execute(sa.select(STATE)).mappings().one()
        self._refused_from, self._refused_until = state["refused_from"], state["refused_until"]

    def accept(self, sql: PlainSql, client_id: str, nonce: str, sent: float, expires: float, *, durable: bool) -> None:
        """Accept an envelope's nonce within a transaction, once.

        Args:
            sql: the transaction.
            client_id: the client that sent the envelope.
            nonce: the envelope's nonce.
            sent: the envelope's time, Unix seconds.
            expires: Unix time from which envelopes of that time are refused anyway.
            durable: whether the transaction is synced.

        Raises:
            NeedsSync: the transaction is not durable, and must be.
            Refused: `replayed`; `stale` or, for a short time after the machine's restart, `busy`.
        """
        if not durable and not sql.ask(_COVERS, sent, sent):
            raise NeedsSync
        if sql.run(_NONCE, client_id, nonce, expires) == 0:
            raise Refused(Code.REPLAYED, "This envelope was accepted before; seal a new one for each request.")
        now = time.time()
        if self._refused_from < sent <= self._refused_until:
            self._refuse(now)
        if durable and sent <= now + AHEAD_SECONDS:
            # All rows of before are saved with this transaction, so the window begins with the oldest time that is
            # still fresh.
            sql.run(_MOVE, 2 * now - expires, now + AHEAD_SECONDS)

    def _refuse(self, now: float) -> None:
        wait = self._refused_until - now
        if 0 < wait <= AHEAD_SECONDS:
            raise Refused(
                Code.BUSY,
                "The server's machine was restarted, and requests of before are not accepted; send a new one later.",
                retry_after=wait,
            )
        raise Refused(
            Code.STALE,
            "The envelope is from before the restart of the server's machine, and may have been accepted then; seal a "
            "new one.",
        )
