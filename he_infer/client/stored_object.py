"""What a server says of the sealed objects that it keeps for a client, and under which path it keeps each."""

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class StoredObject:
    """A sealed object at the server."""

    id: str
    size: int
    sha256: str
    created: float
    version: int = 1


class ObjectEntry(BaseModel):
    """A stored object, as the server tells of it."""

    id: str
    size: int
    sha256: str
    created: float
    version: int

    def public(self) -> StoredObject:
        """The same for a caller of the session."""
        return StoredObject(self.id, self.size, self.sha256, self.created, self.version)


class VersionList(BaseModel):
    """All versions of an object that there are, oldest first."""

    versions: list[ObjectEntry]


class ObjectList(BaseModel):
    """One page of the client's objects."""

    objects: list[ObjectEntry]
    next: str | None
    """The id after which the next page begins; None on the last."""


def object_path(object_id: str, version: int | None = None) -> str:
    """The route of an object, or of one version of it."""
    return f"/v1/objects/{object_id}" if version is None else f"/v1/objects/{object_id}/versions/{version}"
