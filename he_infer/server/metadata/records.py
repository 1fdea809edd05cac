"""Records that the database hands out: plain values, with no SQL in them. Times are Unix seconds, sizes are bytes."""

from dataclasses import dataclass

from he_infer.server.tokens import Scope


@dataclass(frozen=True)
class Quotas:
    """Bounds on one client; None: no bound of its own."""

    storage_quota: int | None = None
    """Bytes of sealed objects, in all their versions, and of evaluation keys."""
    daily_queries: int | None = None
    """Images classified a UTC day, with all models together."""
    total_queries: int | None = None
    """Images classified with any one model, ever."""
    requests_per_minute: int | None = None
    """Requests a minute, of any kind; as many may come at once after a pause."""
    registrations_per_hour: int | None = None
    """Registrations of evaluation keys an hour; as many may come at once after a pause."""


@dataclass(frozen=True)
class Caller:
    """The client that a valid token belongs to, with the token's scopes."""

    client_id: str
    client: str
    token_id: str
    scopes: frozenset[Scope]
    quotas: Quotas = Quotas()


@dataclass(frozen=True)
class TokenRecord:
    """A token as the operator sees it, without the token itself."""

    token_id: str
    client: str
    scopes: frozenset[Scope]
    created: float
    expires: float | None
    revoked: float | None
    digest: str
    client_id: str


@dataclass(frozen=True)
class ClientRecord:
    """A client and what it uses, as the operator sees it."""

    client_id: str
    name: str
    created: float
    quotas: Quotas
    objects: int
    """Number of objects; an object with several versions counts once."""
    versions: int
    object_bytes: int
    """Bytes of all versions of all objects."""
    key_bytes: int
    images_today: int
    images_ever: int


@dataclass(frozen=True)
class KeyPart:
    """A stored part of a client's evaluation keys."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class KeyRecord:
    """The evaluation keys of one key set for one plan."""

    key_id: str
    """The server's own id, which names the blobs."""
    plan: str
    seal: str
    created: float
    parts: tuple[KeyPart, ...]
    key_set: str
    """The client's id of the set."""
    banned: bool = False
    """Whether the set is refused because it ended a process of the server."""


@dataclass(frozen=True)
class ObjectRecord:
    """A version of a stored sealed object."""

    object_id: str
    blob: str
    size: int
    sha256: str
    created: float
    version: int = 1


@dataclass(frozen=True)
class BlobRecord:
    """Path, size and digest of one blob as the database records them."""

    path: str
    size: int
    sha256: str
    what: str
    """`object <id> version <n>` or `keys <id> part <name>`, for a report."""
