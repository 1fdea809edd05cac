"""The server's database: the only package that contains SQL.

SQLite in WAL mode by default, PostgreSQL by URL. Every public method of a store is one transaction, and its
changes are durable when it returns. Several processes may use one database at the same time.
"""

from he_infer.server.metadata.questions import Question
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
from he_infer.server.metadata.stores import Metadata

__all__ = [
    "BlobRecord",
    "Caller",
    "ClientRecord",
    "KeyPart",
    "KeyRecord",
    "Metadata",
    "ObjectRecord",
    "Question",
    "Quotas",
    "TokenRecord",
]
