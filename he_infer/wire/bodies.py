"""JSON bodies of the HTTP interface, as the server, its OpenAPI document and its clients use them.

Numbers have bounds, since a client must not compute with a time of 400 digits that a server states. Ids, digests and
versions have their forms, since a client prints them and makes addresses of them.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LAST_SECOND = 253_402_300_799
"""Last second of the year 9999, since 1970; later times cannot be shown."""
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds = Annotated[float, Field(ge=0, le=LAST_SECOND, allow_inf_nan=False)]
MODEL_ID = "[a-z0-9._-]{1,96}"
ModelId = Annotated[str, Field(pattern=f"^{MODEL_ID}$")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""SHA-256, hex."""
Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
"""16 random bytes, hex."""
Word = Annotated[str, Field(pattern="^[ -~]{1,64}$")]
"""A version or the name of a library."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorDetail(_Body):
    """Code and reason of a refusal."""

    code: str = Field(description="One of the documented error codes.")
    message: str = Field(description="One line: what was wrong, what was expected, what to do.")
    request_id: str = Field(description="Id of the request, also in the server's log.")


class ErrorBody(_Body):
    """Body of every refusal."""

    error: ErrorDetail


class Health(_Body):
    """Body of the liveness check: the process answers."""

    status: str


class Protocol(_Body):
    """Versions of the envelope that this server speaks."""

    min: Count
    max: Count


class BodyLimits(_Body):
    """Largest request bodies in bytes."""

    keys: Count
    request: Count
    object: Count


class Info(_Body):
    """Server properties that a client needs before it sends anything."""

    service: str
    version: Word
    protocol: Protocol
    seal: Word = Field(description="HE library and wire format; ciphertexts and keys of another one do not load.")
    engine: Word = Field(description="Evaluation engine: native, or seal.")
    receipt_key: Digest = Field(description="Ed25519 public key of the receipts, hex.")
    time: int = Field(ge=0, le=1000 * LAST_SECOND, description="The server's clock, milliseconds since 1970.")
    limits: BodyLimits


class PlanInfo(_Body):
    """One way to evaluate a model."""

    digest: Digest
    batch: Count = Field(description="Images a request.")
    needs_keys: bool = Field(description="Whether evaluation keys must be registered first.")
    plan: str = Field(description="The plan as JSON text; its digest is the one above.")


class ModelInfo(_Body):
    """A model that the server offers, without its weights."""

    id: ModelId
    name: str
    classes: tuple[str, ...]
    policy: str
    head_digest: Digest
    input_bound: float
    plans: tuple[PlanInfo, ...]


class ModelList(_Body):
    """All models that the server offers."""

    models: tuple[ModelInfo, ...]


class KeysStored(_Body):
    """Evaluation keys that were accepted and stored."""

    plan: Digest
    key_set: Id = Field(description="Id of the key set, chosen by the client.")
    bytes: Count


class KeysInfo(KeysStored):
    """Evaluation keys that are stored."""

    seal: Word
    created: Seconds
    usable: bool = Field(
        description="False after the server's HE library or model changed, or where the set ended one of its processes."
    )


class KeysList(_Body):
    """All evaluation keys of the client."""

    keys: tuple[KeysInfo, ...]


class ObjectInfo(_Body):
    """A stored sealed object."""

    id: Id
    version: Count = Field(description="Versions count from 1; each is stored once and never changed.")
    size: Count
    sha256: Digest
    created: Seconds


class VersionList(_Body):
    """All versions of an object, oldest first."""

    versions: tuple[ObjectInfo, ...]


class ObjectList(_Body):
    """A page of the client's objects, each in its newest version."""

    objects: tuple[ObjectInfo, ...]
    next: Id | None = Field(description="Pass as `after` for the next page; null on the last.")
