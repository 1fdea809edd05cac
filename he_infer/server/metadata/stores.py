"""The database and the small stores over it."""

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
from he_infer.server.metadata.questions import Questions
from he_infer.server.metadata.rates import Rates
from he_infer.server.metadata.replays import Replays
from he_infer.server.metadata.tokens import Tokens


class Metadata:
    """A database and the small stores over it.

    Args:
        url: see `Database`, also for the errors that opening it raises.
    """

    def __init__(self, url: str | sa.URL) -> None:
        database = Database(url)
        replays = Replays(database)
        self.tokens = Tokens(database)
        self.clients = Clients(database)
        self.rates = Rates(database)
        self.keys = Keys(database)
        self.queries = Queries(database, replays)
        self.questions = Questions(database, replays)
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
