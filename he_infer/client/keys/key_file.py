"""The file of a client's secret keys: sealed under a key that is wrapped in it, readable by its owner alone.

    HEIK, version (u16), length (u32) of the header, header, AES-256-GCM of the content

The header is a JSON object with the nonce and the wrappings of the key-encryption key; it is authenticated with the
content. The content is: length (u32) of a JSON object, the object, then the serialized secret keys one after another.
All numbers are little-endian; docs/protocol.md has every member.
"""

import secrets
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cipher.files.lock import open_exclusive
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.plan import Plan
from he_infer.client.keys.retired import Retired
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.keys.wrappings.custody import Custody, open_custody
from he_infer.client.keys.wrappings.passphrase import PassphraseUnlock, wrap_with_passphrase
from he_infer.client.keys.wrappings.wrapping import Unlock, Wrapping
from he_infer.errors import (
    FormatError,
    MissingKey,
    NotAuthentic,
    NotThisFormat,
    Truncated,
    UnsupportedVersion,
    UsageError,
    WrongPassphrase,
)
from he_infer.files import PRIVATE, expect_file, write_bytes
from he_infer.wire.envelope import canonical_json, parse_canonical, seal_format
from he_infer.wire.key_set import is_key_set, new_key_set

MAGIC = b"HEIK"
VERSION = 2
_EARLIER = b"HEIP"
"""First bytes of files of version 1, which were sealed under a passphrase as a whole."""
_PREFIX = struct.Struct("<4sHI")
_LENGTH = struct.Struct("<I")
_NONCE_BYTES = 12
_SEED_BYTES = 32


@dataclass(frozen=True)
class KeyFile:
    """Secret keys for the plans of one model, with the pinned keys of server and publisher.

    Plans of equal CKKS parameters share one secret key. All answers are bound to `key_set`, the id of the evaluation
    keys that were made from these secret keys.
    """

    key_set: str
    """Id of the key set, 32 lower-case hex digits."""
    plans: tuple[Plan, ...]
    """The plans that the keys are for, by batch size, smallest first."""
    secret_keys: Mapping[Parameters, SecretKey] = field(repr=False)
    created: float
    """Unix seconds."""
    server_key: str | None = None
    """Pinned Ed25519 public key of the server, hex; None before the keys were first registered."""
    publisher: str | None = None
    """Ed25519 public key of the model's publisher, hex; None for a whole bundle, which is not signed."""
    retired: tuple[Retired, ...] = ()
    """Replaced key sets that a server may still have."""
    custody: Custody = field(default_factory=Custody.new, repr=False)
    """The key-encryption key with its wrappings."""
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(_SEED_BYTES), repr=False)
    """32 random bytes from which other keys are derived. Neither rotation nor another key-encryption key changes it."""
    origin: bytes | None = field(default=None, compare=False, repr=False)
    """SHA-256 of the file that these keys were read from, or written to last; None before either."""

    @staticmethod
    def new(plans: Sequence[Plan], *, server_key: str | None = None, publisher: str | None = None) -> "KeyFile":
        """Make new secret keys for plans, under a new key set id."""
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

    def check_publisher(self, model: Path, publisher: str | None) -> None:
        """Check that a model is of the publisher that was pinned when the keys were made.

        Args:
            model: the model's file.
            publisher: the public key, hex, that signed it; None for a whole bundle.

        Raises:
            NotAuthentic: another key signed it than the pinned one.
        """
        if self.publisher != publisher:
            nobody = "nobody (a whole bundle)"
            raise NotAuthentic(
                f"{model} was published by {publisher or nobody}; the key file was made for a model of "
                f"{self.publisher or nobody}. Compare the publisher's key with what the model's owner says; where the "
                "change is theirs, make a new key file with 'he-infer keys new'."
            )

    def derive(self, purpose: str) -> bytes:
        """Derive a 32-byte key for one purpose (HKDF-Expand, RFC 5869), independent of all other purposes."""
        return HKDFExpand(SHA256(), 32, f"he-infer key file 2: {purpose}".encode()).derive(self.seed)

    def rotated(self, expires: float) -> "KeyFile":
        """Make new secret keys for the same plans, with the same wrappings. The present key set is retired.

        Args:
            expires: Unix seconds until which servers keep the present key set, for other copies of this file.
        """
        fresh = KeyFile.new(self.plans, server_key=self.server_key, publisher=self.publisher)
        retired = (*self.retired, Retired(self.key_set, int(expires)))
        return replace(fresh, retired=retired, custody=self.custody, seed=self.seed, origin=self.origin)

    def with_custody(self, custody: Custody) -> "KeyFile":
        """The same secret keys with other wrappings."""
        return replace(self, custody=custody)

    def with_new_key(self, wrap: Callable[[bytes], Wrapping]) -> "KeyFile":
        """The same secret keys under a new key-encryption key, which nothing opens but one new wrapping.

        Args:
            wrap: makes the wrapping of the new key.
        """
        custody = Custody.new()
        return self.with_custody(custody.with_wrapping(wrap(custody.key)))

    def save(self, path: Path, passphrase: str | None = None, *, update: bool = False) -> None:
        """Write the file with mode 0600, whole or not at all.

        Args:
            path: the file.
            passphrase: wraps the key of a new file. A file that has wrappings keeps them.
            update: whether to replace the existing file that these keys were read from. Otherwise no file is
                overwritten.

        Raises:
            UsageError: the file exists and `update` is False, it was changed since these keys were read, or the file
                would have no wrapping.
            OSError: the file cannot be written.
        """
        if update:
            path = path.resolve()  # behind a link, the old file would stay as it is
        elif path.exists():
            raise UsageError(f"{path} exists; a key is never overwritten. Choose another name, or remove it yourself.")
        custody = self.custody
        if not custody.wrappings:
            if passphrase is None:
                raise UsageError("A new key file needs a passphrase, or another way to be opened.")
            custody = custody.with_wrapping(wrap_with_passphrase(custody.key, passphrase))
        keys = [key.to_bytes() for key in self.secret_keys.values()]
        description = canonical_json(
            {
                "created": int(self.created),
                "key_set": self.key_set,
                "keys": [len(key) for key in keys],
                "plans": [plan.to_json() for plan in self.plans],
                "publisher": self.publisher,
                "retired": [each.to_json() for each in self.retired],
                "seal": seal_format(),
                "seed": self.seed.hex(),
                "server_key": self.server_key,
            }
        )
        data = seal_content(_LENGTH.pack(len(description)) + description + b"".join(keys), custody)
        try:
            with _only_writer(path) if update else nullcontext():
                if update:
                    self.expect_unchanged(path)
                write_bytes(path, data, mode=PRIVATE, replace=update)
        except FileExistsError as error:
            raise UsageError(
                f"{path} exists; a key is never overwritten. Choose another name, or remove it yourself."
            ) from error
        object.__setattr__(self, "origin", sha256(data).digest())

    def expect_unchanged(self, path: Path) -> None:
        """Check that the file is the one that these keys were read from.

        A program may hold keys for days. What was changed meanwhile, such as who opens the file, must not come back.

        Raises:
            UsageError: another program has changed it.
            OSError: it cannot be read.
        """
        if self.origin is not None and sha256(_read(path)).digest() != self.origin:
            raise UsageError(
                f"{path} was changed since it was opened: its keys were rotated, or the ways to open it were changed. "
                "Nothing was written. Open it anew, and do this again."
            )

    @staticmethod
    def load(path: Path, unlock: str | Unlock) -> "KeyFile":
        """Open a key file.

        Args:
            path: the file.
            unlock: a passphrase, or another way to open it; see `he_infer.client.keys.wrappings`.

        Raises:
            WrongPassphrase: the passphrase, PIN, entry or share does not open the file.
            KeyProblem: the keyring or token cannot be used.
            UsageError: the file has no wrapping of this kind, or `unlock` is None.
            NotThisFormat, UnsupportedVersion, Truncated: it is no key file of this release.
            OSError: it cannot be read.
        """
        data = _read(path)
        header, start = _read_header(path, data)
        way = PassphraseUnlock(unlock) if isinstance(unlock, str) else unlock
        if way is None:  # as os.environ.get gives for a variable that is not set
            raise UsageError(f"No passphrase was given for {path}. Is a variable of the environment not set?")
        try:
            custody = open_custody(header.wrappings, way)
        except WrongPassphrase as error:
            raise WrongPassphrase(f"{path} does not open: {error}") from error
        except (NotThisFormat, UsageError) as error:
            raise type(error)(f"{path}: {error}") from error
        try:
            content = AESGCM(custody.content_key).decrypt(header.nonce, data[start:], data[:start])
        except InvalidTag as error:
            raise NotThisFormat(f"{path} was changed since it was written. Restore it from a backup.") from error
        return replace(_parse(path, content, custody), origin=sha256(data).digest())


@dataclass(frozen=True)
class _Header:
    nonce: bytes
    wrappings: tuple[Wrapping, ...]


def read_wrappings(path: Path) -> tuple[Wrapping, ...]:
    """Read the wrappings of a key file without opening it.

    Raises:
        NotThisFormat, UnsupportedVersion, Truncated: it is no key file of this release.
        OSError: it cannot be read.
    """
    return _read_header(path, _read(path))[0].wrappings


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Let one program at a time replace the file, where the system replaces files that are open."""
    if sys.platform == "win32" or not path.exists():
        yield
        return
    with open_exclusive(path):
        yield


def _read(path: Path) -> bytes:
    expect_file(path)  # a command reads it twice: for its wrappings, and to open it
    return path.read_bytes()


def seal_content(content: bytes, custody: Custody) -> bytes:
    """Make the bytes of a key file: header with a new nonce, and the sealed content."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    header = canonical_json({"nonce": nonce.hex(), "wrappings": [each.to_json() for each in custody.wrappings]})
    beginning = _PREFIX.pack(MAGIC, VERSION, len(header)) + header
    return beginning + AESGCM(custody.content_key).encrypt(nonce, content, beginning)


def _read_header(path: Path, data: bytes) -> tuple[_Header, int]:
    """Read the header; also returns the offset of the sealed content."""
    remake = "Make a new key file with 'he-infer keys new'; nothing that was sealed or stored depends on the old one."
    if data[:4] == _EARLIER:
        raise UnsupportedVersion(f"{path} was made by an earlier release, with version 1. {remake}")
    if len(data) < _PREFIX.size or data[:4] != MAGIC:
        raise NotThisFormat(f"{path} is not a secret key file of he-infer.")
    _, version, length = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise UnsupportedVersion(f"{path} has version {version}; this release reads version {VERSION}. {remake}")
    start = _PREFIX.size + length
    if start >= len(data):
        raise Truncated(f"{path} ends before its key. Restore it from a backup.")
    try:
        match parse_canonical(data[_PREFIX.size : start]):
            case {"nonce": str(nonce), "wrappings": [_, *_] as wrappings}:
                header = _Header(bytes.fromhex(nonce), tuple(Wrapping.from_json(entry) for entry in wrappings))
            case _:
                header = _Header(b"", ())
    except (ValueError, FormatError) as error:
        raise NotThisFormat(f"{path} is a secret key file with a damaged header. Restore it from a backup.") from error
    if len(header.nonce) != _NONCE_BYTES:
        raise NotThisFormat(f"{path} is a secret key file with a damaged header. Restore it from a backup.")
    return header, start


def _parse(path: Path, content: bytes, custody: Custody) -> KeyFile:
    start = _LENGTH.size + (_LENGTH.unpack_from(content)[0] if len(content) >= _LENGTH.size else 0)
    if not _LENGTH.size < start < len(content):
        raise Truncated(f"{path} ends before its key. Restore it from a backup.")
    described = parse_canonical(content[_LENGTH.size : start])
    match described:
        case {
            "created": int(created),
            "key_set": str(key_set),
            "keys": [int(), *_] as lengths,
            "plans": [str(), *_] as plans,
            "retired": list(retired),
            "seal": str(seal),
            "seed": str(seed),
        } if is_key_set(key_set) and _is_hex_32(seed) and all(isinstance(each, int) and each > 0 for each in lengths):
            pass
        case _:
            raise NotThisFormat(f"{path} is a secret key file without its description.")
    if seal != seal_format():
        raise NotThisFormat(
            f"{path} was made with {seal}; this release has {seal_format()}, which does not read it. "
            "Make new keys with 'he-infer keys new'."
        )
    if start + sum(lengths) != len(content):
        raise Truncated(f"{path} does not hold the keys that it announces. Restore it from a backup.")
    secret_keys: dict[Parameters, SecretKey] = {}
    for size in lengths:
        secret_key = SecretKey.from_bytes(content[start : start + size])
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
        tuple(Retired.from_json(each) for each in retired),
        custody,
        bytes.fromhex(seed),
    )


def _is_hex_32(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _public_key(path: Path, described: Mapping[str, Any], member: str) -> str | None:
    value = described.get(member)
    if value is None or (isinstance(value, str) and _is_hex_32(value)):
        return value
    raise NotThisFormat(f"{path} is damaged: '{member}' is not a public key of 64 hex digits.")
