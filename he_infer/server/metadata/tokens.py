"""Bearer tokens by their digests, and the clients that they belong to."""

import secrets
import time
from dataclasses import asdict

import sqlalchemy as sa

from he_infer.errors import UsageError
from he_infer.server.metadata.database import Database
from he_infer.server.metadata.quota import QUOTA_COLUMNS, read_quotas
from he_infer.server.metadata.records import Caller, Quotas, TokenRecord
from he_infer.server.metadata.schema import CLIENTS, STATE, TOKENS
from he_infer.server.metadata.token_cache import TokenCache, count_generation
from he_infer.server.tokens import NewToken, Scope
from he_infer.wire.refusals import Code, Refused

_GENERATION = "SELECT generation FROM state"


class Tokens:
    """Tokens that the server accepts, by client. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._transaction = database.transaction
        self._peek = database.peek
        self._cache = TokenCache()
        self.remembered = database.is_sqlite
        """Whether `recall` knows tokens, so that it gives None only where something was changed."""

    def add(
        self,
        client: str,
        token: NewToken,
        scopes: frozenset[Scope],
        *,
        expires: float | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        """Store a token's digest under a client, which is created where it is new. Quotas given replace the client's.

        Raises:
            Refused: `exists` where this very token is stored already.
        """
        given = _list_bounds(quotas)
        with self._transaction() as sql:
            client_id = sql.scalar(sa.select(CLIENTS.c.client_id).where(CLIENTS.c.name == client))
            if client_id is None:
                client_id = secrets.token_hex(16)
                sql.execute(CLIENTS.insert().values(client_id=client_id, name=client, created=time.time(), **given))
            elif given:
                sql.execute(CLIENTS.update().where(CLIENTS.c.client_id == client_id).values(**given))
            _insert_token(sql, client_id, token, scopes, expires)
            count_generation(sql)

    def find(self, token_id: str) -> tuple[TokenRecord, Caller] | None:
        """Look a token up by its id. The caller of this method still has to compare digests and times."""
        query = sa.select(TOKENS, CLIENTS.c.name, *QUOTA_COLUMNS).join(CLIENTS).where(TOKENS.c.token_id == token_id)
        with self._transaction(write=False) as sql:
            # First: a change between the two reads makes the copy look older than it is.
            generation = int(sql.scalar(sa.select(STATE.c.generation)) or 0)
            row = sql.execute(query).mappings().one_or_none()
        if row is None:
            return None
        record = _token_record(row)
        found = record, Caller(row["client_id"], row["name"], token_id, record.scopes, read_quotas(row))
        self._cache.keep(token_id, generation, found)
        return found

    def recall(self, token_id: str) -> tuple[TokenRecord, Caller] | None:
        """Return what `find` would, from memory and within microseconds; None where that cannot be told so quickly.

        No token or client was changed since, by whichever process: each change counts the generation on, which is read
        here. PostgreSQL is never asked, so it always gives None.
        """
        return self._cache.get(token_id, lambda: self._peek(_GENERATION))

    def list_all(self) -> list[TokenRecord]:
        """All tokens, oldest first."""
        query = sa.select(TOKENS, CLIENTS.c.name).join(CLIENTS).order_by(TOKENS.c.created)
        with self._transaction(write=False) as sql:
            return [_token_record(row) for row in sql.execute(query).mappings()]

    def revoke(self, token_id: str) -> None:
        """Revoke a token: from this moment no request with it is accepted, by any server on this database.

        Raises:
            UsageError: no such token.
        """
        with self._transaction() as sql:
            update = TOKENS.update().where(TOKENS.c.token_id == token_id)
            if sql.execute(update.values(revoked=sa.func.coalesce(TOKENS.c.revoked, time.time()))).rowcount == 0:
                raise _no_token(token_id)
            count_generation(sql)

    def revoke_all(self) -> None:
        """Revoke every token, so that nobody is admitted until the operator makes new ones."""
        with self._transaction() as sql:
            sql.execute(TOKENS.update().values(revoked=sa.func.coalesce(TOKENS.c.revoked, time.time())))
            count_generation(sql)

    def rotate(self, token_id: str, new: NewToken, *, grace: float, lifetime: float | None) -> TokenRecord:
        """Give a token's client a new one of the same scopes, and let the old one end.

        Args:
            token_id: the old token.
            new: the new one.
            grace: seconds for which the old one is still accepted; 0 revokes it with this transaction.
            lifetime: seconds that the new one is good for; None: as long as the old one was made for.

        Returns:
            The old token as it was.

        Raises:
            UsageError: no such token, or one that is revoked or expired.
        """
        now = time.time()
        with self._transaction() as sql:
            query = sa.select(TOKENS, CLIENTS.c.name).join(CLIENTS).where(TOKENS.c.token_id == token_id)
            row = sql.execute(query).mappings().one_or_none()
            if row is None:
                raise _no_token(token_id)
            old = _token_record(row)
            if old.revoked is not None or (old.expires is not None and old.expires <= now):
                raise UsageError(f"Token {token_id} is no longer valid; make a new one with 'he-infer tokens add'.")
            if lifetime is None and old.expires is not None:
                lifetime = old.expires - old.created
            _insert_token(sql, old.client_id, new, old.scopes, None if lifetime is None else now + lifetime)
            ends = now + grace if old.expires is None else min(now + grace, old.expires)
            change = {"expires": ends} if grace > 0 else {"revoked": now}
            sql.execute(TOKENS.update().where(TOKENS.c.token_id == token_id).values(**change))
            count_generation(sql)
            return old


def _list_bounds(quotas: Quotas | None) -> dict[str, int]:
    return {name: value for name, value in asdict(quotas or Quotas()).items() if value is not None}


def _insert_token(
    sql: sa.Connection, client_id: str, token: NewToken, scopes: frozenset[Scope], expires: float | None
) -> None:
    if sql.scalar(sa.select(TOKENS.c.token_id).where(TOKENS.c.token_id == token.token_id)) is not None:
        raise Refused(Code.EXISTS, "A token of this id exists already.")
    sql.execute(
        TOKENS.insert().values(
            token_id=token.token_id,
            client_id=client_id,
            digest=token.digest,
            scopes=" ".join(sorted(scope.value for scope in scopes)),
            created=time.time(),
            expires=expires,
        )
    )


def _no_token(token_id: str) -> UsageError:
    return UsageError(f"There is no token of id {token_id!r}; 'he-infer tokens list' shows those there are.")


def _token_record(row: sa.RowMapping) -> TokenRecord:
    return TokenRecord(
        token_id=row["token_id"],
        client=row["name"],
        scopes=frozenset(Scope(name) for name in row["scopes"].split()),
        created=row["created"],
        expires=row["expires"],
        revoked=row["revoked"],
        digest=row["digest"],
        client_id=row["client_id"],
    )
