"""Copies of tokens and their clients, which are believed only while the database says that nothing was changed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from he_infer.server.metadata.records import Caller, TokenRecord
from he_infer.server.metadata.schema import STATE

_SECONDS = 10.0
"""Longest use of a copy: a row that an operator changes by hand, without the generation, is seen after this time."""
_MOST = 4096

Found = tuple[TokenRecord, Caller]


@dataclass(frozen=True)
class _Copy:
    generation: int
    until: float
    found: Found


class TokenCache:
    """Tokens by id, with the generation that they were read in. Threads may share it."""

    def __init__(self) -> None:
        self._copies: dict[str, _Copy] = {}

    def keep(self, token_id: str, generation: int, found: Found) -> None:
        """Remember a token that was read in this generation or later."""
        if len(self._copies) >= _MOST:
            self._copies = {}
        self._copies[token_id] = _Copy(generation, time.monotonic() + _SECONDS, found)

    def get(self, token_id: str, read_generation: Callable[[], Any | None]) -> Found | None:
        """Return a token if the generation is still the same.

        Args:
            token_id: id of the token.
            read_generation: reads the row that holds the generation; None where it cannot.
        """
        copy = self._copies.get(token_id)
        if copy is None or time.monotonic() > copy.until:
            return None
        row = read_generation()
        return copy.found if row is not None and row[0] == copy.generation else None


def count_generation(sql: sa.Connection) -> None:
    """Let no server believe a copy from before this transaction; to be called where tokens or clients change."""
    sql.execute(STATE.update().values(generation=STATE.c.generation + 1))
