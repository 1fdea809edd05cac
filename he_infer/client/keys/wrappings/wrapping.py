"""The interface of wrappings: id, kind, and the data that this kind needs to unwrap the key-encryption key."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from he_infer.errors import NotThisFormat, WrongPassphrase

KEY_BYTES = 32
KINDS = ("passphrase", "keyring", "token", "shares")
_ID = re.compile(r"[0-9a-f]{8}")
_LONGEST_LABEL = 64


@dataclass(frozen=True)
class Wrapping:
    """One wrapping in a key file's header. Its data alone do not open the file."""

    kind: str
    """Kind of wrapping, a member of `KINDS`."""
    data: Mapping[str, str | int] = field(repr=False)
    """Data of this kind of wrapping; bytes as hex digits."""
    label: str = ""
    """Description for the user, such as the passphrase's owner or the token."""
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Id of the wrapping in commands, 8 hex digits."""
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds."""

    def to_json(self) -> dict[str, Any]:
        """The form in the header."""
        return {
            "created": self.created,
            "data": dict(self.data),
            "id": self.id,
            "kind": self.kind,
            "label": self.label,
        }

    @staticmethod
    def from_json(entry: object) -> "Wrapping":
        """Read the form in the header.

        Raises:
            NotThisFormat: the value does not have that form.
        """
        match entry:
            case {
                "created": int(created),
                "data": dict(data),
                "id": str(identifier),
                "kind": str(kind),
                "label": str(label),
            } if (
                kind in KINDS
                and _ID.fullmatch(identifier)
                and len(label) <= _LONGEST_LABEL
                and all(isinstance(value, str | int) for value in data.values())
            ):
                return Wrapping(kind, data, label, identifier, created)
        raise NotThisFormat("A wrapping in the key file's header has another form than this release knows.")

    def text(self, name: str) -> str:
        """A text member of the data.

        Raises:
            NotThisFormat: the member is missing.
        """
        value = self.data.get(name)
        if not isinstance(value, str):
            raise NotThisFormat(f"The wrapping {self.id} lacks '{name}'. Restore the key file from a backup.")
        return value

    def blob(self, name: str) -> bytes:
        """A member of the data that holds bytes in hex.

        Raises:
            NotThisFormat: the member is missing or is not hex.
        """
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            raise NotThisFormat(f"The wrapping {self.id} is damaged at '{name}'. Restore the key file.") from None


class Unlock(Protocol):
    """One way of opening a key file."""

    @property
    def kind(self) -> str:
        """Kind of wrapping that this unlock opens."""

    def open(self, wrapping: Wrapping) -> bytes:
        """Unwrap the key-encryption key.

        Raises:
            WrongPassphrase: the wrapping does not open with this unlock.
            KeyProblem: the keyring or token cannot be used.
            NotThisFormat: the wrapping is damaged.
        """


def wrap(secret: bytes, key: bytes) -> str:
    """Wrap a key-encryption key under another 32-byte key (RFC 3394), as hex digits."""
    return aes_key_wrap(secret, key).hex()


def unwrap(secret: bytes, wrapping: Wrapping, *, complaint: str) -> bytes:
    """Unwrap a key that `wrap` wrapped, from the member `wrapped` of a wrapping.

    Raises:
        WrongPassphrase: the secret is not the one of this wrapping; the message is `complaint`.
    """
    try:
        return aes_key_unwrap(secret, wrapping.blob("wrapped"))
    except (InvalidUnwrap, ValueError) as error:
        raise WrongPassphrase(complaint) from error
