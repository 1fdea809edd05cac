"""The key of a vault: one secret of 32 bytes that wraps the data key of every sealed object."""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cipher.errors import AlreadyExists, BadKey, Damaged, StorageProblem
from cipher.files.atomic import PRIVATE, write_bytes
from cipher.keys import passphrase as passphrases

PURPOSE = "vault key"
SIZE = 32


@dataclass(frozen=True, slots=True)
class VaultKey:
    """The secret of a vault. Whoever holds it opens every object; without it none opens."""

    secret: bytes = field(repr=False)
    """32 bytes, uniformly random."""
    _subkeys: dict[bytes, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Label -> subkey, once it has been asked for: sealing an object takes four."""

    def __post_init__(self) -> None:
        if len(self.secret) != SIZE:
            raise BadKey(f"A vault key has {SIZE} bytes, not {len(self.secret)}.")

    @classmethod
    def generate(cls) -> Self:
        """A fresh key from the operating system's random generator."""
        return cls(secrets.token_bytes(SIZE))

    @property
    def key_id(self) -> str:
        """32 hex digits that name the key and reveal nothing of it; sealed objects carry them in clear."""
        return self._subkey(b"key id", 16).hex()

    def wrapping_key(self) -> bytes:
        """The 32-byte key of AES key wrap (RFC 3394)."""
        return self._subkey(b"wrap", SIZE)

    def hedging_key(self) -> bytes:
        """The 32-byte key that mixes an object's content into its randomness."""
        return self._subkey(b"hedge", SIZE)

    def content_key(self) -> bytes:
        """The 32-byte key under which an object's content is hashed for its randomness."""
        return self._subkey(b"hedge content", SIZE)

    def save(
        self,
        path: str | os.PathLike[str],
        passphrase: str,
        *,
        cost: passphrases.Cost | None = None,
    ) -> None:
        """Write the key to a new file (mode 0600, atomically) that only the passphrase opens.

        Raises:
            AlreadyExists: a file is there already, or another process made it meanwhile: losing a vault key loses
                every object sealed under it, so none is ever replaced.
            BadKey: an empty passphrase.
            StorageProblem: the file cannot be written.
        """
        sealed = passphrases.seal(self.secret, passphrase, PURPOSE, cost=cost)
        try:
            write_bytes(path, sealed, mode=PRIVATE, replace=False)
        except AlreadyExists:
            raise AlreadyExists(
                f"{path} exists already and a vault key is never overwritten; choose another name."
            ) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str], passphrase: str) -> Self:
        """Read a key file.

        Raises:
            StorageProblem: no such file, or it cannot be read.
            WrongPassphrase, Damaged, UnsupportedFormat, UnsupportedVersion: as `cipher.keys.passphrase.open_`.
        """
        try:
            sealed = Path(path).read_bytes()
        except OSError as error:
            raise StorageProblem(f"Cannot read the vault key {path}: {error.strerror or error}.") from error
        secret = passphrases.open_(sealed, passphrase, PURPOSE)
        if len(secret) != SIZE:
            raise Damaged("The key file opens, but does not hold a vault key; restore it from a backup.")
        return cls(secret)

    def _subkey(self, label: bytes, length: int) -> bytes:
        if label not in self._subkeys:
            info = b"he-infer vault 1 " + label
            self._subkeys[label] = HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self.secret)
        return self._subkeys[label]
