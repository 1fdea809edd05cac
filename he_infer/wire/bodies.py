"""The JSON bodies of the HTTP interface, as its OpenAPI document describes them."""

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What was refused, and why."""

    code: str = Field(description="One of the documented error codes.")
    message: str = Field(description="One line: what was wrong, what was expected, what to do.")
    request_id: str = Field(description="The same id stands in the server's log.")


class ErrorBody(BaseModel):
    """Every refusal."""

    error: ErrorDetail


class Health(BaseModel):
    """The process answers."""

    status: str


class Protocol(BaseModel):
    """Versions of the envelope that this server speaks."""

    min: int
    max: int


class BodyLimits(BaseModel):
    """Largest bodies in bytes."""

    keys: int
    request: int
    object: int


class Info(BaseModel):
    """What a client must know before it sends anything."""

    service: str
    version: str
    protocol: Protocol
    seal: str = Field(description="HE library and wire format; ciphertexts and keys of another one do not load.")
    receipt_key: str = Field(description="Ed25519 public key of the receipts, hex.")
    time: int = Field(description="The server's clock, milliseconds since 1970.")
    limits: BodyLimits


class PlanInfo(BaseModel):
    """One way to evaluate a model."""

    digest: str
    batch: int = Field(description="Images a request.")
    needs_keys: bool = Field(description="Must evaluation keys be registered first?")
    plan: str = Field(description="The plan as JSON text; its digest is the one above.")


class ModelInfo(BaseModel):
    """A model that is served. Its weights are not told."""

    id: str
    name: str
    classes: list[str]
    policy: str
    head_digest: str
    input_bound: float
    plans: list[PlanInfo]


class ModelList(BaseModel):
    """All models."""

    models: list[ModelInfo]


class KeysStored(BaseModel):
    """Evaluation keys that were accepted and stored."""

    plan: str
    key_id: str
    bytes: int


class KeysInfo(KeysStored):
    """Evaluation keys that are stored."""

    seal: str
    created: float
    usable: bool = Field(description="False after the server's HE library or model changed: register new ones.")


class KeysList(BaseModel):
    """All evaluation keys of the client."""

    keys: list[KeysInfo]


class ObjectInfo(BaseModel):
    """A stored sealed object."""

    id: str
    version: int = Field(description="Versions count from 1; each is stored once and never changed.")
    size: int
    sha256: str
    created: float


class VersionList(BaseModel):
    """All versions of an object that there are, oldest first."""

    versions: list[ObjectInfo]


class ObjectList(BaseModel):
    """One page of the client's objects, each in its newest version."""

    objects: list[ObjectInfo]
    next: str | None = Field(description="Pass as `after` for the next page; null on the last.")
