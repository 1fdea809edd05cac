"""Everything the server must remember and find again, in SQL: the only package that speaks it.

SQLite in WAL mode by default, PostgreSQL by URL. Every public method of a store is one transaction, and what it has
returned from survives the end of the process. Several processes may use one database at the same time.
"""

from pathlib import Path
from typing import Self

import sqlalchemy as sa

from he_infer.server.metadata.blobs import BlobNames
from he_infer.server.metadata.clients import Clients
from he_infer.server.metadata.copying import Rows
from he_infer.server.metadata.database import Database
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
from he_infer.server.metadata.requests import Requests
from he_infer.server.metadata.tokens import Tokens

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


class Metadata:
    """One database and the small stores over it.

    Args:
        url: see `Database`, which says too what opening it may raise.
    """

    def __init__(self, url: str | sa.URL) -> None:
        database = Database(url)
        self.tokens = Tokens(database)
        self.clients = Clients(database)
        self.requests = Requests(database)
        self.keys = Keys(database)
        self.queries = Queries(database)
        self.objects = Objects(database)
        self.blobs = BlobNames(database)
        self.rows = Rows(database)
        self.ping = database.ping
        self.settle = database.settle
        self.close = database.close
        self.revision = database.revision

    @classmethod
    def sqlite(cls, path: Path) -> Self:
        """Open or create a SQLite file."""
        return cls(sa.URL.create("sqlite", database=str(path)))
