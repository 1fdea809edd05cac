"""A recipient's key pair: X25519 (RFC 7748). The public key is a PEM file, the private one lies under a passphrase."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cipher.errors import BadKey, CipherError, Damaged, StorageProblem
from cipher.files.atomic import PRIVATE, write_bytes
from cipher.keys import passphrase as passphrases

PURPOSE = "recipient key"
_PUBLIC_MODE = 0o644


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A key pair that opens the objects shared with it."""

    private: X25519PrivateKey = field(repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        """The private key is an object of OpenSSL: worker processes get its bytes."""
        return _from_raw, (self.private.private_bytes_raw(),)

    @classmethod
    def generate(cls) -> Self:
        """A fresh key pair."""
        return cls(X25519PrivateKey.generate())

    @property
    def public(self) -> X25519PublicKey:
        """The public key, which others share objects with."""
        return self.private.public_key()

    @property
    def key_id(self) -> str:
        """32 hex digits that name the public key; shared objects carry them in clear."""
        return key_id_of(self.public).hex()

    def save(self, path: str | os.PathLike[str], passphrase: str, *, cost: passphrases.Cost | None = None) -> Path:
        """Write the private key to a new file under the passphrase, and the public one beside it; give its path.

        Raises:
            AlreadyExists: one of the files is there; the other one is not made either.
            BadKey: an empty passphrase.
            StorageProblem: a file cannot be written.
        """
        public = Path(f"{os.fspath(path)}.pub")
        secret = passphrases.seal(self.private.private_bytes_raw(), passphrase, PURPOSE, cost=cost)
        write_bytes(path, secret, mode=PRIVATE, replace=False)
        pem = self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        try:
            write_bytes(public, pem, mode=_PUBLIC_MODE, replace=False)
        except CipherError:
            Path(path).unlink(missing_ok=True)  # nobody can have used it
            raise
        return public

    @classmethod
    def load(cls, path: str | os.PathLike[str], passphrase: str) -> Self:
        """Read a private key file.

        Raises:
            StorageProblem: it cannot be read.
            WrongPassphrase, Damaged, UnsupportedFormat, UnsupportedVersion: as `cipher.keys.passphrase.open_`.
        """
        try:
            sealed = Path(path).read_bytes()
        except OSError as error:
            raise StorageProblem(f"Cannot read the recipient key {path}: {error.strerror or error}.") from error
        secret = passphrases.open_(sealed, passphrase, PURPOSE)
        if len(secret) != 32:
            raise Damaged("The key file opens, but does not hold a recipient key; restore it from a backup.")
        return cls(X25519PrivateKey.from_private_bytes(secret))


def _from_raw(secret: bytes) -> RecipientKey:
    return RecipientKey(X25519PrivateKey.from_private_bytes(secret))


def load_public_key(path: str | os.PathLike[str]) -> X25519PublicKey:
    """A recipient's public key from a PEM file.

    Raises:
        StorageProblem: it cannot be read.
        BadKey: it is no X25519 public key.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StorageProblem(f"Cannot read the public key {path}: {error.strerror or error}.") from error
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise BadKey(f"{path} is no X25519 public key (PEM). Make a pair with: he-infer recipient-key FILE")
    return key


def key_id_of(public: X25519PublicKey) -> bytes:
    """16 bytes that name a public key."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(b"he-infer recipient 2 key id" + raw).digest()[:16]
