"""Admission of a classification request: its keys, nonce and count, in one transaction of plain SQL.

This is the hot path, so the statements are SQL text: building them from SQLAlchemy expressions costs several times the
database's own work.
"""

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from he_infer.server.metadata.database import Database
from he_infer.server.metadata.queries import DAY
from he_infer.server.metadata.records import Caller, KeyPart, KeyRecord
from he_infer.wire.refusals import Code, Refused

_KEYS = """SELECT keys.key_id, keys.seal, keys.created, keys.banned, key_parts.name, key_parts.size, key_parts.sha256
FROM keys JOIN key_parts ON key_parts.key_id = keys.key_id
WHERE keys.client_id = ? AND keys.plan = ? AND keys.key_set = ? ORDER BY key_parts.name"""
_LOCK = "SELECT client_id FROM clients WHERE client_id = ?"
_NONCE = "INSERT INTO nonces (client_id, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_DAY = "SELECT COALESCE(SUM(images), 0) FROM queries WHERE client_id = ? AND day = ?"
_DAY_OF_MODEL = _DAY + " AND model = ?"
_EVER = "SELECT COALESCE(SUM(images), 0) FROM queries WHERE client_id = ? AND model = ?"
_COUNT = """INSERT INTO queries (client_id, day, model, images) VALUES (?, ?, ?, ?)
ON CONFLICT (client_id, day, model) DO UPDATE SET images = queries.images + excluded.images"""


@dataclass(frozen=True)
class Question:
    """A classification request to be admitted."""

    model: str
    plan: str
    images: int
    nonce: str
    expires: float
    """Unix time until which the nonce is remembered."""
    key_set: str | None
    """None where the plan needs no keys."""
    seal: str = ""
    """HE library and wire format that the evaluation keys must have."""
    daily_default: int | None = None
    """Images a day with this model for a client that has no daily limit."""


class Questions:
    """Admits classification requests; each is accepted and counted as a whole, or not at all."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction

    def admit(self, caller: Caller, question: Question) -> KeyRecord | None:
        """Accept a nonce once, and count images against the client's limits.

        Returns:
            The evaluation keys; None where the plan needs none, or where the set is not registered. Where there are
            no keys to compute with (no set, a banned one, one of another HE library), nothing was counted.

        Raises:
            Refused: `replayed`, `query_limit`, `unauthorised` where the client was removed since its token was checked.
        """
        now, who = time.time(), caller.client_id
        day = int(now // DAY)
        with self._transaction() as sql:
            if not _ask(sql, _LOCK + (" FOR NO KEY UPDATE" if sql.dialect.name == "postgresql" else ""), who):
                raise Refused(Code.UNAUTHORISED, "This client was removed.")
            record = None
            if question.key_set is not None:
                record = _read_keys(_ask(sql, _KEYS, who, question.plan, question.key_set), question)
                if record is None or record.banned or record.seal != question.seal:
                    return record
            if _run(sql, _NONCE, who, question.nonce, question.expires) == 0:
                raise Refused(Code.REPLAYED, "This envelope was accepted before; seal a new one for each request.")
            self._check_limits(sql, caller, question, now, day)
            _run(sql, _COUNT, who, day, question.model, question.images)
            return record

    def _check_limits(self, sql: sa.Connection, caller: Caller, question: Question, now: float, day: int) -> None:
        who, images = caller.client_id, question.images
        daily, total = caller.quotas.daily_queries, caller.quotas.total_queries
        midnight = (day + 1) * DAY - now
        if daily is not None and (used := _ask(sql, _DAY, who, day)[0][0]) + images > daily:
            raise Refused(
                Code.QUERY_LIMIT,
                f"This client may classify {daily} images a day; {used} are used.",
                retry_after=midnight,
            )
        if daily is None and (bound := question.daily_default) is not None:
            used = _ask(sql, _DAY_OF_MODEL, who, day, question.model)[0][0]
            if used + images > bound:
                raise Refused(
                    Code.QUERY_LIMIT,
                    f"A client without a limit of its own may classify {bound} images a day with this model; {used} "
                    "are used. The operator can set another limit.",
                    retry_after=midnight,
                )
        if total is not None and (used := _ask(sql, _EVER, who, question.model)[0][0]) + images > total:
            raise Refused(
                Code.QUERY_LIMIT,
                f"This client may classify {total} images with this model; {used} are used. The operator can raise the "
                "limit.",
            )


def _text(sql: sa.Connection, statement: str) -> str:
    return statement.replace("?", "%s") if sql.dialect.name == "postgresql" else statement


def _ask(sql: sa.Connection, statement: str, *values: Any) -> Any:
    return sql.exec_driver_sql(_text(sql, statement), values).fetchall()


def _run(sql: sa.Connection, statement: str, *values: Any) -> int:
    return int(sql.exec_driver_sql(_text(sql, statement), values).rowcount)


def _read_keys(rows: Any, question: Question) -> KeyRecord | None:
    if not rows:
        return None
    key_id, seal, created, banned, *_ = rows[0]
    parts = tuple(KeyPart(name, int(size), sha256) for *_, name, size, sha256 in rows)
    return KeyRecord(key_id, question.plan, seal, created, parts, str(question.key_set), banned is not None)
