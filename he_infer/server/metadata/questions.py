"""Admission of a classification request: its keys, nonce and count, in one transaction of plain SQL.

This is the hot path, so the statements are SQL text: building them from SQLAlchemy expressions costs several times the
database's own work.
"""

from dataclasses import dataclass, field
from typing import Any

from he_infer.server.metadata.database import Database
from he_infer.server.metadata.plain_sql import PlainSql, lock_row
from he_infer.server.metadata.queries import DAY
from he_infer.server.metadata.records import Caller, KeyPart, KeyRecord
from he_infer.server.metadata.replays import NeedsSync, Replays
from he_infer.wire.refusals import Code, Refused

_KEYS = """SELECT keys.key_id, keys.seal, keys.created, keys.banned, key_parts.name, key_parts.size, key_parts.sha256
FROM keys JOIN key_parts ON key_parts.key_id = keys.key_id
WHERE keys.client_id = ? AND keys.plan = ? AND keys.key_set = ? ORDER BY key_parts.name"""
_DAY = "SELECT COALESCE(SUM(images), 0) FROM queries WHERE client_id = ? AND day = ?"
_DAY_OF_MODEL = _DAY + " AND model = ?"
_EVER = "SELECT COALESCE(SUM(images), 0) FROM queries WHERE client_id = ? AND model = ?"
_COUNT_WITHIN = """UPDATE queries SET images = images + ?
WHERE client_id = ? AND day = ? AND model = ? AND images + ? <= ahead"""
_COUNT_AHEAD = """INSERT INTO queries (client_id, day, model, images, ahead) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (client_id, day, model) DO UPDATE
SET images = queries.images + excluded.images, ahead = queries.images + excluded.ahead"""
AHEAD_IMAGES = 100
"""Images that are counted on the disk before they are asked for: one sync for so many, and the most that a crash of the
machine takes from a client's limit."""


@dataclass(frozen=True)
class Question:
    """A classification request to be admitted."""

    model: str
    plan: str
    images: int
    nonce: str
    sent: float
    """Unix time of the envelope."""
    expires: float
    """Unix time until which the nonce is remembered."""
    key_set: str | None
    """None where the plan needs no keys."""
    seal: str = ""
    """HE library and wire format that the evaluation keys must have."""
    daily_default: int | None = None
    """Images a day with this model for a client that has no daily limit."""
    asked: float = field(kw_only=True)
    """Unix time on whose day the images are counted."""


class Questions:
    """Admits classification requests; each is accepted and counted as a whole, or not at all."""

    def __init__(self, database: Database, replays: Replays) -> None:
        self._plain = database.plain
        self._unsynced = database.is_sqlite
        self._replays = replays

    def admit(self, caller: Caller, question: Question) -> KeyRecord | None:
        """Accept a nonce once, and count images against the client's limits.

        Returns:
            The evaluation keys; None where the plan needs none, or where the set is not registered. Where there are
            no keys to compute with (no set, a banned one, one of another HE library), nothing was counted.

        Raises:
            Refused: `replayed`, `stale`, `busy`, `query_limit`, `unauthorised` where the client was removed since its
                token was checked.
        """
        if self._unsynced:
            try:
                with self._plain(durable=False) as sql:
                    return self._admit(sql, caller, question, durable=False)
            except NeedsSync:
                pass
        with self._plain(durable=True) as sql:
            return self._admit(sql, caller, question, durable=True)

    def _admit(self, sql: PlainSql, caller: Caller, question: Question, *, durable: bool) -> KeyRecord | None:
        now, who = question.asked, caller.client_id
        day = int(now // DAY)
        lock_row(sql, who)
        record = None
        if question.key_set is not None:
            record = _read_keys(sql.ask(_KEYS, who, question.plan, question.key_set), question)
            if record is None or record.banned or record.seal != question.seal:
                return record
        self._replays.accept(sql, who, question.nonce, question.sent, question.expires, durable=durable)
        self._check_limits(sql, caller, question, now, day)
        model, images = question.model, question.images
        if durable:
            sql.run(_COUNT_AHEAD, who, day, model, images, images + AHEAD_IMAGES)
        elif sql.run(_COUNT_WITHIN, images, who, day, model, images) == 0:
            raise NeedsSync
        return record

    def _check_limits(self, sql: PlainSql, caller: Caller, question: Question, now: float, day: int) -> None:
        who, images = caller.client_id, question.images
        daily, total = caller.quotas.daily_queries, caller.quotas.total_queries
        midnight = (day + 1) * DAY - now
        if daily is not None and (used := sql.ask(_DAY, who, day)[0][0]) + images > daily:
            raise Refused(
                Code.QUERY_LIMIT,
                f"This client may classify {daily} images a day; {used} are used.",
                retry_after=midnight,
            )
        if daily is None and (bound := question.daily_default) is not None:
            used = sql.ask(_DAY_OF_MODEL, who, day, question.model)[0][0]
            if used + images > bound:
                raise Refused(
                    Code.QUERY_LIMIT,
                    f"A client without a limit of its own may classify {bound} images a day with this model; {used} "
                    "are used. The operator can set another limit.",
                    retry_after=midnight,
                )
        if total is not None and (used := sql.ask(_EVER, who, question.model)[0][0]) + images > total:
            raise Refused(
                Code.QUERY_LIMIT,
                f"This client may classify {total} images with this model; {used} are used. The operator can raise the "
                "limit.",
            )


def _read_keys(rows: Any, question: Question) -> KeyRecord | None:
    if not rows:
        return None
    key_id, seal, created, banned, *_ = rows[0]
    parts = tuple(KeyPart(name, int(size), sha256) for *_, name, size, sha256 in rows)
    return KeyRecord(key_id, question.plan, seal, created, parts, str(question.key_set), banned is not None)
