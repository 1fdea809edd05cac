"""Clients, their bounds, and their tokens."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict

import sqlalchemy as sa

from he_infer.errors import UsageError
from he_infer.server.metadata.database import Database, lock_client
from he_infer.server.metadata.records import Caller, ClientRecord, Quotas, TokenRecord
from he_infer.server.metadata.schema import BUCKETS, CLIENTS, KEY_PARTS, KEYS, META, NONCES, OBJECTS, QUERIES, TOKENS
from he_infer.server.tokens import NewToken, Scope
from he_infer.wire.refusals import Code, Refused

_QUOTAS = (
    CLIENTS.c.storage_quota,
    CLIENTS.c.daily_queries,
    CLIENTS.c.total_queries,
    CLIENTS.c.requests_per_minute,
)


class Tenants(Database):
    """Who may speak to the server, and how much."""

    def add_token(
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
        given = _given(quotas)
        with self._transaction() as sql:
            client_id = sql.scalar(sa.select(CLIENTS.c.client_id).where(CLIENTS.c.name == client))
            if client_id is None:
                client_id = secrets.token_hex(16)
                sql.execute(CLIENTS.insert().values(client_id=client_id, name=client, created=time.time(), **given))
            elif given:
                sql.execute(CLIENTS.update().where(CLIENTS.c.client_id == client_id).values(**given))
            _insert_token(sql, client_id, token, scopes, expires)

    def find_token(self, token_id: str) -> tuple[TokenRecord, Caller] | None:
        """Look a token up by its id. The caller of this method still has to compare digests and times."""
        query = sa.select(TOKENS, CLIENTS.c.name, *_QUOTAS).join(CLIENTS).where(TOKENS.c.token_id == token_id)
        with self._transaction(write=False) as sql:
            row = sql.execute(query).mappings().one_or_none()
        if row is None:
            return None
        record = _token_record(row)
        return record, Caller(row["client_id"], row["name"], token_id, record.scopes, _quotas(row))

    def list_tokens(self) -> list[TokenRecord]:
        """All tokens, oldest first."""
        query = sa.select(TOKENS, CLIENTS.c.name).join(CLIENTS).order_by(TOKENS.c.created)
        with self._transaction(write=False) as sql:
            return [_token_record(row) for row in sql.execute(query).mappings()]

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token: from this moment no request with it is accepted, by any server on this database.

        Raises:
            UsageError: no such token.
        """
        with self._transaction() as sql:
            update = TOKENS.update().where(TOKENS.c.token_id == token_id)
            if sql.execute(update.values(revoked=sa.func.coalesce(TOKENS.c.revoked, time.time()))).rowcount == 0:
                raise _no_token(token_id)

    def rotate_token(self, token_id: str, new: NewToken, *, grace: float, lifetime: float | None) -> TokenRecord:
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
            return old

    def list_clients(self) -> list[ClientRecord]:
        """All clients with their bounds and what they use, by name."""
        today = int(time.time() // 86400)
        with self._transaction(write=False, snapshot=True) as sql:
            rows = sql.execute(sa.select(CLIENTS).order_by(CLIENTS.c.name)).mappings().all()
            return [_client_record(sql, row, today) for row in rows]

    def set_quotas(self, client: str, changes: Mapping[str, int | None]) -> None:
        """Change a client's bounds; None takes one away. They hold from the next request on.

        Raises:
            UsageError: no such client.
        """
        with self._transaction() as sql:
            update = CLIENTS.update().where(CLIENTS.c.client_id == _client_id(sql, client))
            if changes:
                sql.execute(update.values(**changes))

    def remove_client(self, client: str) -> list[str]:
        """Forget a client: its tokens, keys, objects and counts, at once.

        Returns:
            The paths of its blobs, which are no longer named by anything and remain to be deleted.

        Raises:
            UsageError: no such client.
        """
        with self._transaction() as sql:
            client_id = _client_id(sql, client)
            lock_client(sql, client_id)
            blobs = list(sql.scalars(sa.select(OBJECTS.c.blob).where(OBJECTS.c.client_id == client_id)))
            parts = sa.select(KEY_PARTS.c.key_id, KEY_PARTS.c.name).join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
            for key_id, name in sql.execute(parts.where(KEYS.c.client_id == client_id)):
                blobs.append(f"keys/{client_id}/{key_id}/{name}")
            own = sa.select(KEYS.c.key_id).where(KEYS.c.client_id == client_id)
            sql.execute(KEY_PARTS.delete().where(KEY_PARTS.c.key_id.in_(own)))
            for table in (NONCES, QUERIES, *reversed(META.sorted_tables)):
                if "client_id" in table.c:
                    sql.execute(table.delete().where(table.c.client_id == client_id))
            return blobs

    def admit_request(self, caller: Caller) -> None:
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
            # A clock that was set back refills nothing, and one that was set on fills the bucket once.
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


def _given(quotas: Quotas | None) -> dict[str, int]:
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


def _client_id(sql: sa.Connection, name: str) -> str:
    client_id = sql.scalar(sa.select(CLIENTS.c.client_id).where(CLIENTS.c.name == name))
    if client_id is None:
        raise UsageError(f"There is no client named {name!r}; 'he-infer clients list' shows those there are.")
    return str(client_id)


def _no_token(token_id: str) -> UsageError:
    return UsageError(f"There is no token of id {token_id!r}; 'he-infer tokens list' shows those there are.")


def _quotas(row: sa.RowMapping) -> Quotas:
    return Quotas(**{column.name: row[column.name] for column in _QUOTAS})


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


def _client_record(sql: sa.Connection, row: sa.RowMapping, today: int) -> ClientRecord:
    client_id = row["client_id"]
    objects = sa.select(
        sa.func.count(sa.distinct(OBJECTS.c.object_id)),
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(OBJECTS.c.size), 0),
    ).where(OBJECTS.c.client_id == client_id)
    keys = sa.select(sa.func.coalesce(sa.func.sum(KEY_PARTS.c.size), 0)).join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
    images = sa.select(sa.func.coalesce(sa.func.sum(QUERIES.c.images), 0)).where(QUERIES.c.client_id == client_id)
    count, versions, size = sql.execute(objects).one()
    return ClientRecord(
        client_id=client_id,
        name=row["name"],
        created=row["created"],
        quotas=_quotas(row),
        objects=int(count),
        versions=int(versions),
        object_bytes=int(size),
        key_bytes=int(sql.scalar(keys.where(KEYS.c.client_id == client_id)) or 0),
        images_today=int(sql.scalar(images.where(QUERIES.c.day == today)) or 0),
        images_ever=int(sql.scalar(images) or 0),
    )
