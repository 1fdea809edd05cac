"""What a server says of the evaluation keys that it keeps for a client."""

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class StoredKeys:
    """The server's answer to a registration."""

    plan: str
    key_id: str
    size: int
    """Bytes of all parts."""


class KeysEntry(BaseModel):
    """Registered keys, as the server tells of them."""

    plan: str
    key_id: str
    bytes: int

    def public(self) -> StoredKeys:
        """The same for a caller of the session."""
        return StoredKeys(self.plan, self.key_id, self.bytes)


class _ListedKeys(KeysEntry):
    usable: bool


class KeysList(BaseModel):
    """All registered keys of the client."""

    keys: list[_ListedKeys]
