"""Bytes kept under a passphrase: a memory-hard key derivation and AES-256-GCM.

The format, little-endian (see docs/format-container.md for the whole of it):

    0:4    magic b"HEIP"
    4:6    version, u16 = 1
    6      key derivation: 1 scrypt (RFC 7914), 2 Argon2id (RFC 9106)
    7      length of the purpose, u8
    8:20   three u32: scrypt (log2 n, r, p), or Argon2id (KiB of memory, iterations, lanes)
    20:36  salt
    36:48  nonce
    48:64  commitment to the key, so that a wrong passphrase and a damaged file are told apart
    64:…   purpose, UTF-8
    …      AES-256-GCM of the data (all before it is associated data), with its tag of 16
    last 8 SHA-256 of all before, first 8 bytes: tells accidental damage before the slow derivation runs
"""

import hmac
import os
import struct
import threading
import unicodedata
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cipher.errors import BadKey, Damaged, UnsupportedFormat, UnsupportedVersion, WrongPassphrase

MAGIC = b"HEIP"
VERSION = 1
SCRYPT = 1
ARGON2ID = 2
LARGEST = 64 * 2**20
"""Largest sealed blob in bytes; keys are far smaller."""

_FIXED = struct.Struct("<4sHBBIII16s12s16s")
_TAG = 16
_CHECKSUM = 8
_MOST_MEMORY_KIB = 2 * 2**20
_ONE_AT_A_TIME = threading.Lock()
"""Held during a derivation: its lanes are threads, of which OpenSSL allows a process as many as one derivation has. A
second one beside it fails."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one guess at a passphrase. The defaults take a fraction of a second and tens of megabytes."""

    algorithm: int = ARGON2ID
    """`ARGON2ID` or `SCRYPT`."""
    first: int = 64 * 1024
    """Argon2id: KiB of memory. scrypt: log2 of n."""
    second: int = 3
    """Argon2id: iterations. scrypt: r."""
    third: int = 4
    """Argon2id: lanes. scrypt: p."""

    def check(self) -> None:
        """Refuse costs that cannot be meant, before any memory is taken.

        Raises:
            Damaged: an unknown algorithm, or a cost out of its range.
        """
        if self.algorithm == ARGON2ID:
            fine = 1 <= self.second <= 64 and 1 <= self.third <= 64 and 8 * self.third <= self.first <= _MOST_MEMORY_KIB
        elif self.algorithm == SCRYPT:
            fine = 10 <= self.first <= 22 and 1 <= self.second <= 32 and 1 <= self.third <= 16
            fine = fine and (128 * self.second << self.first) <= _MOST_MEMORY_KIB * 1024
        else:
            fine = False
        if not fine:
            raise Damaged("The passphrase-protected file asks for an impossible key derivation; it is damaged.")


ARGON2ID_DEFAULT = Cost()
"""Argon2id, 64 MiB, 3 passes, 4 lanes: the second recommended option of RFC 9106, section 4."""
SCRYPT_DEFAULT = Cost(SCRYPT, 17, 8, 1)
"""scrypt, n = 2**17, r = 8, p = 1 (128 MiB), where OpenSSL has no Argon2."""


def default_cost() -> Cost:
    """Argon2id where the cryptography library was built with it, else scrypt."""
    try:
        Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8)
    except UnsupportedAlgorithm:
        return SCRYPT_DEFAULT
    return ARGON2ID_DEFAULT


def seal(data: bytes, passphrase: str, purpose: str, *, cost: Cost | None = None) -> bytes:
    """Protect `data` with a passphrase.

    Args:
        data: the secret bytes, at most 64 MiB.
        passphrase: any non-empty text; it is normalised (NFC) first, so that keyboards do not matter.
        purpose: what the data is, such as "vault key": stored in clear, authenticated, and asked for again by `open_`.
        cost: cost of the key derivation; stored with the data.

    Returns:
        A self-contained blob of `len(data) + len(purpose) + 88` bytes.

    Raises:
        BadKey: an empty passphrase, too long a purpose, or too much data.
    """
    label = purpose.encode()
    if not 1 <= len(label) <= 255 or len(data) > LARGEST:
        raise BadKey("A purpose of 1 to 255 bytes and data of at most 64 MiB are needed.")
    cost = cost or default_cost()
    cost.check()
    salt, nonce = os.urandom(16), os.urandom(12)
    key, commitment = _derive(passphrase, salt, cost)
    head = _FIXED.pack(
        MAGIC, VERSION, cost.algorithm, len(label), cost.first, cost.second, cost.third, salt, nonce, commitment
    )
    head += label
    sealed = head + AESGCM(key).encrypt(nonce, data, head)
    return sealed + sha256(sealed).digest()[:_CHECKSUM]


def open_(sealed: bytes, passphrase: str, purpose: str) -> bytes:
    """Give back what `seal` protected.

    Raises:
        UnsupportedFormat: not such a blob, or one made for another purpose.
        UnsupportedVersion: made by a later release.
        Damaged: changed or cut since it was made.
        WrongPassphrase: intact, but made under another passphrase.
    """
    if sealed[:4] != MAGIC:
        raise UnsupportedFormat("This is not a passphrase-protected file of he-infer.")
    if len(sealed) >= 6 and (version := int.from_bytes(sealed[4:6], "little")) != VERSION:
        raise UnsupportedVersion(f"The protected file has format version {version}; this release reads {VERSION}.")
    if not _FIXED.size + _TAG + _CHECKSUM < len(sealed) <= LARGEST + 1024:
        raise Damaged("The passphrase-protected file has an impossible length; restore it from a backup.")
    body, checksum = sealed[:-_CHECKSUM], sealed[-_CHECKSUM:]
    if sha256(body).digest()[:_CHECKSUM] != checksum:
        raise Damaged("The passphrase-protected file was changed or cut; restore it from a backup.")
    _, _, algorithm, label_length, first, second, third, salt, nonce, commitment = _FIXED.unpack_from(body)
    head = body[: _FIXED.size + label_length]
    label = head[_FIXED.size :]
    if len(label) != label_length or len(body) < len(head) + _TAG:
        raise Damaged("The passphrase-protected file is cut; restore it from a backup.")
    if label != purpose.encode():
        kind = label.decode("utf-8", "replace")
        raise UnsupportedFormat(f"This file protects a {kind!r}, not a {purpose!r}; give the right file.")
    cost = Cost(algorithm, first, second, third)
    cost.check()
    key, expected = _derive(passphrase, salt, cost)
    if not hmac.compare_digest(commitment, expected):
        raise WrongPassphrase("The passphrase is not the one that this file was protected with.")
    try:
        return AESGCM(key).decrypt(nonce, body[len(head) :], head)
    except InvalidTag:
        raise Damaged("The passphrase is right, but the file was changed; restore it from a backup.") from None


def _derive(passphrase: str, salt: bytes, cost: Cost) -> tuple[bytes, bytes]:
    """A 32-byte AES key and a 16-byte commitment to it, from the passphrase."""
    secret = unicodedata.normalize("NFC", passphrase).encode()
    if not secret:
        raise BadKey("The passphrase is empty; choose one that is hard to guess.")
    argon = cost.algorithm == ARGON2ID
    mebibytes = cost.first >> 10 if argon else (128 * cost.second << cost.first) >> 20
    try:
        with _ONE_AT_A_TIME:
            if argon:
                root = Argon2id(
                    salt=salt, length=32, iterations=cost.second, lanes=cost.third, memory_cost=cost.first
                ).derive(secret)
            else:
                root = Scrypt(salt=salt, length=32, n=1 << cost.first, r=cost.second, p=cost.third).derive(secret)
    except UnsupportedAlgorithm:
        raise BadKey("This file needs Argon2id, which the installed OpenSSL lacks; upgrade `cryptography`.") from None
    except MemoryError:
        raise BadKey(
            f"The passphrase's key derivation needs {mebibytes} MiB of memory and {cost.third} threads, which this "
            "process was not given. Free some, or raise its limits, and try again."
        ) from None
    expanded = HKDFExpand(algorithm=SHA256(), length=48, info=b"he-infer passphrase 1").derive(root)
    return expanded[:32], expanded[32:]
