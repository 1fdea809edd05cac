"""Path, query and header parameters of requests, with their patterns."""

from typing import Annotated

from fastapi import Depends, Header, Path, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from he_infer.wire.bodies import MODEL_ID

_BEARER = HTTPBearer(auto_error=False, description="A token made by 'he-infer tokens add'.")

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
PlanDigest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Digest of a plan, from GET /v1/models.")]
KeySet = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Id of a key set: 32 random hex digits.")]
ModelId = Annotated[str, Path(pattern=f"^{MODEL_ID}$", description="Id of a model, from GET /v1/models.")]
ObjectId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 random hex digits, chosen by the client.")]
Version = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of a version, from 1.")]
ContentDigest = Annotated[str, Header(description="SHA-256 of the body, hex.", pattern="^[0-9a-f]{64}$")]
After = Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="The last id already seen.")]
PageLimit = Annotated[int, Query(ge=1, le=1000)]


def bearer(credentials: HTTPAuthorizationCredentials | None) -> str | None:
    """Return the token of a request, if it has one."""
    return credentials.credentials if credentials else None
