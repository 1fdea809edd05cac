"""Bounds on a client, and whether what it stores is within them."""

import sqlalchemy as sa

from he_infer.server.metadata.records import Quotas
from he_infer.server.metadata.schema import CLIENTS, KEY_PARTS, KEYS, OBJECTS
from he_infer.wire.refusals import Code, Refused

QUOTA_COLUMNS = (
    CLIENTS.c.storage_quota,
    CLIENTS.c.daily_queries,
    CLIENTS.c.total_queries,
    CLIENTS.c.requests_per_minute,
    CLIENTS.c.registrations_per_hour,
)


def read_quotas(row: sa.RowMapping) -> Quotas:
    """The bounds in a row that holds `QUOTA_COLUMNS`."""
    return Quotas(**{column.name: row[column.name] for column in QUOTA_COLUMNS})


BLOCK = 4096
"""Bytes of quota for each blob: what a blob takes on a disk, however small it is."""
LEAST_BLOBS = 64
"""Blobs that a client may store under the smallest quota."""


def check_quota(sql: sa.Connection, client_id: str, quota: int | None, size: int, *, blobs: int = 1) -> int | None:
    """Check that a client may store so many bytes, in so many blobs, more.

    Returns:
        Bytes that it may store beside what it has, or None where it has no quota.

    Raises:
        Refused: `quota`.
    """
    if quota is None:
        return None
    objects = sa.select(sa.func.coalesce(sa.func.sum(OBJECTS.c.size), 0), sa.func.count())
    keys = sa.select(sa.func.coalesce(sa.func.sum(KEY_PARTS.c.size), 0), sa.func.count())
    keys = keys.join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
    object_bytes, versions = sql.execute(objects.where(OBJECTS.c.client_id == client_id)).one()
    key_bytes, parts = sql.execute(keys.where(KEYS.c.client_id == client_id)).one()
    used, stored, most = int(object_bytes) + int(key_bytes), int(versions) + int(parts), quota // BLOCK
    if used + size > quota:
        raise Refused(
            Code.QUOTA,
            f"This client may store {quota} bytes; {used} are used and {size} more were sent. "
            "Delete objects, or ask the operator for a larger quota.",
        )
    if stored + blobs > max(LEAST_BLOBS, most):
        raise Refused(
            Code.QUOTA,
            f"This client may store {max(LEAST_BLOBS, most)} objects and parts of keys, one for each {BLOCK} bytes of "
            f"its quota; {stored} are stored. Delete objects, or ask the operator for a larger quota.",
        )
    return quota - used
