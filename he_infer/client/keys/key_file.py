"""The file of a client's secret keys: sealed under a passphrase, readable by its owner alone. See docs/protocol.md.

Within the passphrase's seal: `HEIK`, version (u16), length of a JSON object (u32), the object, then the serialized
secret keys one after another; all little-endian.
"""

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cipher.errors import CipherError
from cipher.errors import WrongPassphrase as CipherWrongPassphrase
from cipher.keys import passphrase as sealing
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.plan import Plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import (
    MissingKey,
    NotAuthentic,
    NotThisFormat,
    Truncated,
    UnsupportedVersion,
    UsageError,
    WrongPassphrase,
)
from he_infer.files import PRIVATE, write_bytes
from he_infer.wire.envelope import canonical_json, parse_canonical, seal_format
from he_infer.wire.key_set import is_key_set, new_key_set

PURPOSE = "he-infer CKKS secret key"
MAGIC = b"HEIK"
VERSION = 2
_PREFIX = struct.Struct("<4sHI")


@dataclass(frozen=True)
class KeyFile:
    """Secret keys for the plans of one model, and what is pinned for them.

    Plans of equal CKKS parameters share one secret key. All answers are bound to `key_set`, which names the evaluation
    keys that were made of these secret keys.
    """

    key_set: str
    """Id of the key set, 32 lower-case hex digits."""
    plans: tuple[Plan, ...]
    """The plans that the keys are for, by batch size, smallest first."""
    secret_keys: Mapping[Parameters, SecretKey] = field(repr=False)
    created: float
    """Unix seconds."""
    server_key: str | None = None
    """The server's Ed25519 public key, hex, as it was when the keys were made; None before that."""
    publisher: str | None = None
    """The Ed25519 public key, hex, of whoever published the model; None for a whole bundle, which nobody signed."""

    @staticmethod
    def new(plans: Sequence[Plan], *, server_key: str | None = None, publisher: str | None = None) -> "KeyFile":
        """Make fresh secret keys for plans, under a fresh key set id."""
        parameters = dict.fromkeys(plan.parameters for plan in plans)
        keys = {each: SecretKey.generate(each) for each in parameters}
        ordered = tuple(sorted(plans, key=lambda plan: plan.batch))
        return KeyFile(new_key_set(), ordered, keys, time.time(), server_key, publisher)

    def secret_key(self, plan: Plan) -> SecretKey:
        """The secret key for one of the file's plans.

        Raises:
            MissingKey: the file was made for other plans.
        """
        if all(plan.digest != own.digest for own in self.plans):
            raise MissingKey(
                "The key file was made for other plans than this model's: the model was published anew, or it is "
                "another model. Make a new key file with 'he-infer keys new'."
            )
        return self.secret_keys[plan.parameters]

    def pinned(self, stated: str, *, accept_new: bool = False) -> "KeyFile":
        """The key file with the server's signing key pinned.

        Args:
            stated: the public key, hex, that the server states.
            accept_new: whether a key other than the pinned one replaces it.

        Raises:
            NotAuthentic: the server states another key than the pinned one, and `accept_new` is False.
        """
        if self.server_key not in (None, stated) and not accept_new:
            raise NotAuthentic(
                f"The server signs with another key than the one pinned in the key file. Pinned: {self.server_key}. "
                f"Stated now: {stated}. Compare it with what the server's operator says; where the change is theirs, "
                "give --accept-new-server-key once."
            )
        return replace(self, server_key=stated)

    def save(self, path: Path, passphrase: str, *, update: bool = False) -> None:
        """Write the file with mode 0600, whole or not at all.

        Args:
            path: the file.
            passphrase: it opens the file.
            update: whether an existing file, whose content this is, is replaced. Otherwise it is never overwritten.

        Raises:
            UsageError: the file exists and `update` is False.
            OSError: it cannot be written.
        """
        if path.exists() and not update:
            raise UsageError(f"{path} exists; a key is never overwritten. Choose another name, or remove it yourself.")
        keys = [key.to_bytes() for key in self.secret_keys.values()]
        description = canonical_json(
            {
                "created": int(self.created),
                "key_set": self.key_set,
                "keys": [len(key) for key in keys],
                "plans": [plan.to_json() for plan in self.plans],
                "publisher": self.publisher,
                "seal": seal_format(),
                "server_key": self.server_key,
            }
        )
        plain = _PREFIX.pack(MAGIC, VERSION, len(description)) + description + b"".join(keys)
        try:
            write_bytes(path, sealing.seal(plain, passphrase, PURPOSE), mode=PRIVATE, replace=update)
        except FileExistsError as error:
            raise UsageError(f"{path} exists; a key is never overwritten.") from error

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
        return _parse(path, plain)


def _parse(path: Path, plain: bytes) -> KeyFile:
    if len(plain) < _PREFIX.size or plain[:4] != MAGIC:
        raise NotThisFormat(f"{path} is not a secret key file of he-infer.")
    _, version, length = _PREFIX.unpack_from(plain)
    if version != VERSION:
        raise UnsupportedVersion(
            f"{path} has version {version}; this release reads version {VERSION}. Make a new key file with "
            "'he-infer keys new'; nothing that was sealed or stored depends on the old one."
        )
    start = _PREFIX.size + length
    if start >= len(plain):
        raise Truncated(f"{path} ends before its key. Restore it from a backup.")
    described = parse_canonical(plain[_PREFIX.size : start])
    match described:
        case {
            "created": int(created),
            "key_set": str(key_set),
            "keys": [int(), *_] as lengths,
            "plans": [str(), *_] as plans,
            "seal": str(seal),
        } if is_key_set(key_set) and all(isinstance(each, int) and each > 0 for each in lengths):
            pass
        case _:
            raise NotThisFormat(f"{path} is a secret key file without its description.")
    if seal != seal_format():
        raise NotThisFormat(
            f"{path} was made with {seal}; this release has {seal_format()}, which does not read it. "
            "Make new keys with 'he-infer keys new'."
        )
    if start + sum(lengths) != len(plain):
        raise Truncated(f"{path} does not hold the keys that it announces. Restore it from a backup.")
    secret_keys: dict[Parameters, SecretKey] = {}
    for size in lengths:
        secret_key = SecretKey.from_bytes(plain[start : start + size])
        secret_keys[secret_key.parameters] = secret_key
        start += size
    parsed = tuple(Plan.from_json(str(plan)) for plan in plans)
    if {plan.parameters for plan in parsed} != set(secret_keys):
        raise NotThisFormat(f"{path} holds keys for other parameters than its plans have. Restore it from a backup.")
    return KeyFile(
        key_set,
        parsed,
        secret_keys,
        float(created),
        _public_key(path, described, "server_key"),
        _public_key(path, described, "publisher"),
    )


def _public_key(path: Path, described: Mapping[str, Any], member: str) -> str | None:
    value = described.get(member)
    if value is None or (isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")):
        return value
    raise NotThisFormat(f"{path} is damaged: '{member}' is not a public key of 64 hex digits.")
