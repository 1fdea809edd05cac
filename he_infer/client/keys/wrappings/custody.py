"""A key file's key-encryption key with its wrappings."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from he_infer.client.keys.wrappings.wrapping import KEY_BYTES, Unlock, Wrapping
from he_infer.errors import MissingKey, UsageError, WrongPassphrase

MOST_WRAPPINGS = 32


@dataclass(frozen=True)
class Custody:
    """An opened key-encryption key with its wrappings. Only the wrappings are written to the file."""

    _key: bytes = field(repr=False)
    wrappings: tuple[Wrapping, ...] = ()

    @staticmethod
    def new() -> "Custody":
        """Make a new key without a wrapping."""
        return Custody(secrets.token_bytes(KEY_BYTES))

    @property
    def key(self) -> bytes:
        """The key-encryption key, for a new wrapping."""
        return self._key

    @property
    def content_key(self) -> bytes:
        """The key that seals the file's content: HKDF-Expand (RFC 5869) of the key-encryption key."""
        return HKDFExpand(SHA256(), KEY_BYTES, b"he-infer key file 2: content").derive(self._key)

    def with_wrapping(self, wrapping: Wrapping) -> "Custody":
        """Add a wrapping.

        Raises:
            UsageError: the file already has the maximum number of wrappings.
        """
        if len(self.wrappings) >= MOST_WRAPPINGS:
            raise UsageError(f"A key file has at most {MOST_WRAPPINGS} wrappings; remove one first.")
        return replace(self, wrappings=(*self.wrappings, wrapping))

    def without_wrapping(self, identifier: str) -> "Custody":
        """Remove a wrapping.

        Raises:
            MissingKey: there is no such wrapping.
            UsageError: it is the last wrapping.
        """
        kept = tuple(wrapping for wrapping in self.wrappings if wrapping.id != identifier)
        if len(kept) == len(self.wrappings):
            known = ", ".join(wrapping.id for wrapping in self.wrappings)
            raise MissingKey(f"The key file has no wrapping {identifier}; it has: {known}.")
        if not kept:
            raise UsageError(
                "This is the last wrapping: without it nothing would open the key file. Add another first."
            )
        return replace(self, wrappings=kept)


def open_custody(wrappings: Sequence[Wrapping], unlock: Unlock) -> Custody:
    """Open the first wrapping that matches an unlock.

    Raises:
        UsageError: the file has no wrapping of this kind.
        WrongPassphrase: it has such wrappings, but none of them opens.
        KeyProblem: keyring or token cannot be used.
        NotThisFormat: a wrapping is damaged.
    """
    fitting = [wrapping for wrapping in wrappings if wrapping.kind == unlock.kind]
    if not fitting:
        kinds = ", ".join(sorted({wrapping.kind for wrapping in wrappings})) or "nothing"
        raise UsageError(f"The key file is not wrapped with a {unlock.kind}; it opens with: {kinds}.")
    refusal = WrongPassphrase("It does not open.")
    for wrapping in fitting:
        try:
            key = unlock.open(wrapping)
        except WrongPassphrase as error:
            refusal = error
            continue
        if len(key) == KEY_BYTES:
            return Custody(key, tuple(wrappings))
    raise refusal
