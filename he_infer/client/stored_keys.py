"""The evaluation keys that a server keeps for a client, as the server describes them."""

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class StoredKeys:
    """One key set's evaluation keys for one plan."""

    plan: str
    """Digest of the plan."""
    key_set: str
    size: int
    """Bytes of all parts."""
    created: float | None = None
    """Unix seconds of the registration; None in the answer to it."""
    usable: bool = True
    """False where the server serves the plan no more, or its HE library changed since."""


class KeysEntry(BaseModel):
    """Registered keys, as the server states them."""

    plan: str
    key_set: str
    bytes: int
    created: float | None = None
    usable: bool = True

    def public(self) -> StoredKeys:
        """The same for a caller of the session."""
        return StoredKeys(self.plan, self.key_set, self.bytes, self.created, self.usable)


class KeysList(BaseModel):
    """All registered keys of the client."""

    keys: list[KeysEntry]


def keys_path(plan: str, key_set: str) -> str:
    """Route of a key set's evaluation keys for a plan."""
    return f"/v1/keys/{plan}/{key_set}"
