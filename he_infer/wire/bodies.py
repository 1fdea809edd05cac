"""JSON bodies of the HTTP interface, as the server, its OpenAPI document and its clients use them."""

from pydantic import BaseModel, ConfigDict, Field


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

    min: int
    max: int


class BodyLimits(_Body):
    """Largest request bodies in bytes."""

    keys: int
    request: int
    object: int


class Info(_Body):
    """Server properties that a client needs before it sends anything."""

    service: str
    version: str
    protocol: Protocol
    seal: str = Field(description="HE library and wire format; ciphertexts and keys of another one do not load.")
    engine: str = Field(description="Evaluation engine: native, or seal.")
    receipt_key: str = Field(description="Ed25519 public key of the receipts, hex.")
    time: int = Field(description="The server's clock, milliseconds since 1970.")
    limits: BodyLimits


class PlanInfo(_Body):
    """One way to evaluate a model."""

    digest: str
    batch: int = Field(description="Images a request.")
    needs_keys: bool = Field(description="Whether evaluation keys must be registered first.")
    plan: str = Field(description="The plan as JSON text; its digest is the one above.")


class ModelInfo(_Body):
    """A model that the server offers, without its weights."""

    id: str
    name: str
    classes: tuple[str, ...]
    policy: str
    head_digest: str
    input_bound: float
    plans: tuple[PlanInfo, ...]


class ModelList(_Body):
    """All models that the server offers."""

    models: tuple[ModelInfo, ...]


class KeysStored(_Body):
    """Evaluation keys that were accepted and stored."""

    plan: str
    key_set: str = Field(description="Id of the key set, chosen by the client.")
    bytes: int


class KeysInfo(KeysStored):
    """Evaluation keys that are stored."""

    seal: str
    created: float
    usable: bool = Field(
        description="False after the server's HE library or model changed, or where the set ended one of its processes."
    )


class KeysList(_Body):
    """All evaluation keys of the client."""

    keys: tuple[KeysInfo, ...]


class ObjectInfo(_Body):
    """A stored sealed object."""

    id: str
    version: int = Field(description="Versions count from 1; each is stored once and never changed.")
    size: int
    sha256: str
    created: float


class VersionList(_Body):
    """All versions of an object, oldest first."""

    versions: tuple[ObjectInfo, ...]


class ObjectList(_Body):
    """A page of the client's objects, each in its newest version."""

    objects: tuple[ObjectInfo, ...]
    next: str | None = Field(description="Pass as `after` for the next page; null on the last.")
