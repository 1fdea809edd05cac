"""Everything the server must remember and find again, in SQL: the only package that speaks it.

SQLite in WAL mode by default, PostgreSQL by URL. Every public method of `Metadata` is one transaction, and what it has
returned from survives the end of the process. Several processes may use one database at the same time.
"""

from he_infer.server.metadata.copying import Copying
from he_infer.server.metadata.keys import Keys
from he_infer.server.metadata.objects import Objects
from he_infer.server.metadata.queries import Queries
from he_infer.server.metadata.records import (
    BlobRecord,
    Caller,
    ClientRecord,
    KeyPart,
    KeyRecord,
    ObjectRecord,
    Quotas,
    TokenRecord,
)
from he_infer.server.metadata.tenants import Tenants

__all__ = [
    "BlobRecord",
    "Caller",
    "ClientRecord",
    "KeyPart",
    "KeyRecord",
    "Metadata",
    "ObjectRecord",
    "Quotas",
    "TokenRecord",
]


class Metadata(Tenants, Keys, Queries, Objects, Copying):
    """The database; see `Database` for its URL and what opening it may raise."""
