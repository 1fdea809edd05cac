"""The owner's publishing key: Ed25519, in a file sealed under a passphrase, mode 0600."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cipher.errors import CipherError
from cipher.errors import WrongPassphrase as CipherWrongPassphrase
from cipher.keys import passphrase as sealing
from he_infer.errors import NotThisFormat, UsageError, WrongPassphrase
from he_infer.files import PRIVATE, write_bytes

PURPOSE = "he-infer publishing key"
_BYTES = 32


def make_publishing_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """Make a fresh key and write its file, which never replaces another.

    Raises:
        UsageError: the file exists already.
        OSError: it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    try:
        write_bytes(path, sealing.seal(key.private_bytes_raw(), passphrase, PURPOSE), mode=PRIVATE, replace=False)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; a key is never overwritten. Name another file.") from error
    return key


def load_publishing_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """Open a publishing key's file.

    Raises:
        WrongPassphrase: it does not open under this passphrase.
        NotThisFormat: it is not a publishing key.
        OSError: it cannot be read.
    """
    try:
        raw = sealing.open_(path.read_bytes(), passphrase, PURPOSE)
    except CipherWrongPassphrase as error:
        raise WrongPassphrase(
            f"{path} does not open under this passphrase. Give the one that it was made with."
        ) from error
    except CipherError as error:
        raise NotThisFormat(f"{path} is not a publishing key of he-infer: {error}") from error
    if len(raw) != _BYTES:
        raise NotThisFormat(f"{path} is not a publishing key of he-infer.")
    return Ed25519PrivateKey.from_private_bytes(raw)
