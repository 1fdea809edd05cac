"""Custody of a secret key: one file, sealed under a passphrase, readable by its owner alone. See docs/protocol.md.

Within the passphrase's seal: `HEIK`, version (u16), length of a JSON object (u32), the object (plan, HE library,
time), the serialized secret key; all little-endian.
"""

import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from cipher.errors import CipherError
from cipher.errors import WrongPassphrase as CipherWrongPassphrase
from cipher.keys import passphrase as sealing
from he_infer.ckks.planning.plan import Plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import NotThisFormat, Truncated, UnsupportedVersion, UsageError, WrongPassphrase
from he_infer.files import PRIVATE, write_bytes
from he_infer.wire.envelope import canonical_json, parse_canonical, seal_format

PURPOSE = "he-infer CKKS secret key"
MAGIC = b"HEIK"
VERSION = 1
_PREFIX = struct.Struct("<4sHI")


@dataclass(frozen=True)
class KeyFile:
    """A secret key and the plan that it was made for."""

    secret_key: SecretKey = field(repr=False)
    plan: Plan
    created: float
    """Unix seconds."""

    def save(self, path: Path, passphrase: str) -> None:
        """Write the file with mode 0600, whole or not at all. An existing file is never overwritten.

        Raises:
            UsageError: the file exists.
            OSError: it cannot be written.
        """
        if path.exists():
            raise UsageError(f"{path} exists; a key is never overwritten. Choose another name, or remove it yourself.")
        about = canonical_json({"plan": self.plan.to_json(), "seal": seal_format(), "created": int(self.created)})
        plain = _PREFIX.pack(MAGIC, VERSION, len(about)) + about + self.secret_key.to_bytes()
        try:
            write_bytes(path, sealing.seal(plain, passphrase, PURPOSE), mode=PRIVATE, replace=False)
        except FileExistsError as error:
            raise UsageError(f"{path} exists; a key is never overwritten.") from error

    @staticmethod
    def new(plan: Plan) -> "KeyFile":
        """Make a fresh secret key for a plan's parameters."""
        return KeyFile(SecretKey.generate(plan.parameters), plan, time.time())

    @staticmethod
    def load(path: Path, passphrase: str) -> "KeyFile":
        """Open a key file.

        Raises:
            WrongPassphrase: it does not open under this passphrase.
            NotThisFormat, UnsupportedVersion, Truncated: it is no key file of this release.
            OSError: it cannot be read.
        """
        sealed = path.read_bytes()
        try:
            plain = sealing.open_(sealed, passphrase, PURPOSE)
        except CipherWrongPassphrase as error:
            raise WrongPassphrase(f"{path} does not open under this passphrase.") from error
        except CipherError as error:
            raise NotThisFormat(f"{path} is not a secret key file of he-infer: {error}") from error
        if len(plain) < _PREFIX.size or plain[:4] != MAGIC:
            raise NotThisFormat(f"{path} is not a secret key file of he-infer.")
        _, version, length = _PREFIX.unpack_from(plain)
        if version != VERSION:
            raise UnsupportedVersion(f"{path} has version {version}; this release reads version {VERSION}.")
        start = _PREFIX.size + length
        if start >= len(plain):
            raise Truncated(f"{path} ends before its key. Restore it from a backup.")
        match parse_canonical(plain[_PREFIX.size : start]):
            case {"plan": str(plan), "seal": str(seal), "created": int(created)}:
                pass
            case _:
                raise NotThisFormat(f"{path} is a secret key file without its description.")
        if seal != seal_format():
            raise NotThisFormat(
                f"{path} was made with {seal}; this release has {seal_format()}, which does not read it. "
                "Make new keys with 'he-infer keys new'."
            )
        return KeyFile(SecretKey.from_bytes(plain[start:]), Plan.from_json(plan), float(created))
