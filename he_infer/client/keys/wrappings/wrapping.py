"""The interface of wrappings: an id, a kind, and what this kind needs to give back the key-encryption key."""

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
    """One wrapping, as it stands in a key file's header. Nothing in it opens the file by itself."""

    kind: str
    """One of `KINDS`."""
    data: Mapping[str, str | int] = field(repr=False)
    """What the kind needs; bytes as hex digits."""
    label: str = ""
    """For people: whose passphrase, which token."""
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    """8 hex digits, to name the wrapping in commands."""
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
            NotThisFormat: it is none.
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
        """A text of the data.

        Raises:
            NotThisFormat: it is missing.
        """
        value = self.data.get(name)
        if not isinstance(value, str):
            raise NotThisFormat(f"The wrapping {self.id} lacks '{name}'. Restore the key file from a backup.")
        return value

    def blob(self, name: str) -> bytes:
        """Bytes of the data.

        Raises:
            NotThisFormat: they are missing.
        """
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            raise NotThisFormat(f"The wrapping {self.id} is damaged at '{name}'. Restore the key file.") from None


class Unlock(Protocol):
    """One way of opening a key file."""

    @property
    def kind(self) -> str:
        """The kind of wrapping that it opens."""

    def open(self, wrapping: Wrapping) -> bytes:
        """The key-encryption key in a wrapping.

        Raises:
            WrongPassphrase: this wrapping does not open so.
            KeyProblem: the keyring or token cannot be used.
            NotThisFormat: the wrapping is damaged.
        """


def wrap(secret: bytes, key: bytes) -> str:
    """Wrap a key-encryption key under another 32-byte key (RFC 3394), as hex digits."""
    return aes_key_wrap(secret, key).hex()


def unwrap(secret: bytes, wrapping: Wrapping, *, complaint: str) -> bytes:
    """What `wrap` wrapped, from the member `wrapped` of a wrapping.

    Raises:
        WrongPassphrase: the secret is another; the message is `complaint`.
    """
    try:
        return aes_key_unwrap(secret, wrapping.blob("wrapped"))
    except (InvalidUnwrap, ValueError) as error:
        raise WrongPassphrase(complaint) from error
