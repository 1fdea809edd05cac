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


def check_quota(sql: sa.Connection, client_id: str, quota: int | None, size: int) -> int | None:
    """Check that a client may store so many bytes more.

    Returns:
        Bytes that it may store beside what it has, or None where it has no quota.

    Raises:
        Refused: `quota`.
    """
    if quota is None:
        return None
    objects = sa.select(sa.func.coalesce(sa.func.sum(OBJECTS.c.size), 0)).where(OBJECTS.c.client_id == client_id)
    keys = sa.select(sa.func.coalesce(sa.func.sum(KEY_PARTS.c.size), 0)).join(KEYS, KEYS.c.key_id == KEY_PARTS.c.key_id)
    used = int(sql.scalar(objects) or 0) + int(sql.scalar(keys.where(KEYS.c.client_id == client_id)) or 0)
    if used + size > quota:
        raise Refused(
            Code.QUOTA,
            f"This client may store {quota} bytes; {used} are used and {size} more were sent. "
            "Delete objects, or ask the operator for a larger quota.",
        )
    return quota - used
