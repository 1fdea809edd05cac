"""The envelope between client and server, byte for byte. docs/protocol.md is its specification.

An envelope holds a small JSON header and named binary parts (ciphertexts, evaluation keys). It has no MAC: TLS protects
it in transit, and the signed receipt binds an answer to its request. A reader checks, in this order: the fixed prefix,
all lengths, the header. It does not read the parts. This module imports nothing of HTTP or CKKS.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.metadata import version
from typing import Any

from he_infer.errors import NotThisFormat, Truncated, UnsupportedVersion

MAGIC = b"HEIW"
VERSION = 2
MAX_HEADER = 256 * 1024
MAX_PARTS = 4096
MAX_NAME = 64

# magic, version, kind, header length, body length; little-endian, no padding.
_PREFIX = struct.Struct("<4sHHIQ")
PREFIX_BYTES = _PREFIX.size

# One encoder for all messages: `json.dumps` with options makes a new one at each call.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

Header = Mapping[str, Any]


class Kind(IntEnum):
    """Purpose of an envelope."""

    KEYS = 1
    """Client to server: evaluation keys for one plan."""
    REQUEST = 2
    """Client to server: ciphertexts to classify."""
    ANSWER = 3
    """Server to client: encrypted scores and their receipt."""


@dataclass(frozen=True)
class Envelope:
    """One message: a kind, a JSON header and named parts.

    The header is any JSON object without the member `parts`, which the encoding adds itself.
    """

    kind: Kind
    header: Header
    parts: tuple[tuple[str, bytes], ...] = field(repr=False)

    @property
    def part_map(self) -> dict[str, bytes]:
        """Return the parts by name."""
        return dict(self.parts)

    def encode(self) -> bytes:
        """Serialize the whole message.

        Raises:
            NotThisFormat: the header or the names of the parts exceed the format's limits.
        """
        _check_names([name for name, _ in self.parts])
        if "parts" in self.header:
            raise NotThisFormat("An envelope's header must not have the member 'parts': the encoding adds it.")
        listing = [[name, len(data)] for name, data in self.parts]
        header = canonical_json({**self.header, "parts": listing})
        if len(header) > MAX_HEADER:
            raise NotThisFormat(f"The envelope's header has {len(header)} bytes; at most {MAX_HEADER} are allowed.")
        body_length = sum(len(data) for _, data in self.parts)
        prefix = _PREFIX.pack(MAGIC, VERSION, int(self.kind), len(header), body_length)
        return b"".join((prefix, header, *(data for _, data in self.parts)))

    @staticmethod
    def decode(data: bytes | memoryview, *, kind: Kind, max_bytes: int) -> "Envelope":
        """Check and decode a whole message.

        Args:
            data: the whole message.
            kind: the only kind that is accepted.
            max_bytes: the largest message accepted; checked before anything is copied.

        Raises:
            NotThisFormat: not an envelope, too large, of another kind, or its header is not canonical.
            UnsupportedVersion: the envelope has another version of the protocol.
            Truncated: it has fewer or more bytes than its prefix or header states.
        """
        header_length, body_length = _check_prefix(data, kind, max_bytes)
        view = memoryview(data)
        body_start = PREFIX_BYTES + header_length
        header = parse_canonical(bytes(view[PREFIX_BYTES:body_start]))
        sizes = _parse_listing(header.pop("parts", None), body_length)
        parts: list[tuple[str, bytes]] = []
        offset = body_start
        for name, size in sizes:
            parts.append((name, bytes(view[offset : offset + size])))
            offset += size
        return Envelope(kind, header, tuple(parts))


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Encode as canonical JSON, which the protocol signs: sorted keys, no spaces, UTF-8, no NaN or infinity.

    Raises:
        NotThisFormat: the value holds something that JSON cannot encode.
    """
    try:
        return _CANONICAL.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotThisFormat("A header holds a value that canonical JSON cannot carry.") from error


def parse_canonical(data: bytes) -> dict[str, Any]:
    """Parse canonical JSON of an object, and refuse any other encoding of the same value.

    Raises:
        NotThisFormat: not JSON, not an object, or not in canonical form (so duplicate keys are refused too).
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotThisFormat("The envelope's header is not JSON; expected a canonical JSON object.") from error
    if not isinstance(value, dict) or canonical_json(value) != data:
        raise NotThisFormat("The envelope's header is not a JSON object in canonical form.")
    return value


def _check_prefix(data: bytes | memoryview, kind: Kind, max_bytes: int) -> tuple[int, int]:
    if len(data) > max_bytes:
        raise NotThisFormat(f"The message has {len(data)} bytes; at most {max_bytes} are accepted here.")
    if len(data) < len(MAGIC) or data[: len(MAGIC)] != MAGIC:
        raise NotThisFormat("These bytes are not an envelope of he-infer (they do not begin with 'HEIW').")
    if len(data) < PREFIX_BYTES:
        raise Truncated(f"The envelope ends after {len(data)} bytes, before its header.")
    _, number, kind_number, header_length, body_length = _PREFIX.unpack_from(data)
    if number != VERSION:
        raise UnsupportedVersion(
            f"The envelope has version {number}; this release speaks version {VERSION}. Install the same release of "
            "he-infer on both sides."
        )
    if kind_number != kind:
        raise NotThisFormat(f"The envelope is of kind {kind_number}; expected kind {int(kind)} ({kind.name}).")
    if header_length > MAX_HEADER:
        raise NotThisFormat(f"The envelope's header has {header_length} bytes; at most {MAX_HEADER} are allowed.")
    expected = PREFIX_BYTES + header_length + body_length
    if len(data) != expected:
        raise Truncated(f"The envelope has {len(data)} bytes; its prefix announces {expected}.")
    return header_length, body_length


def _parse_listing(listing: object, body_length: int) -> list[tuple[str, int]]:
    if not isinstance(listing, list) or len(listing) > MAX_PARTS:
        raise NotThisFormat(f"The envelope's header must list its parts, {MAX_PARTS} at most.")
    sizes: list[tuple[str, int]] = []
    for entry in listing:
        match entry:
            case [str(name), int(size)] if not isinstance(size, bool) and size >= 0:
                sizes.append((name, size))
            case _:
                raise NotThisFormat("Each entry of the envelope's 'parts' must be a name and a length.")
    _check_names([name for name, _ in sizes])
    total = sum(size for _, size in sizes)
    if total != body_length:
        raise Truncated(f"The envelope's parts add up to {total} bytes; its body has {body_length}.")
    return sizes


def _check_names(names: Sequence[str]) -> None:
    if len(names) > MAX_PARTS:
        raise NotThisFormat(f"An envelope has {len(names)} parts; at most {MAX_PARTS} are allowed.")
    if len(set(names)) != len(names):
        raise NotThisFormat("Two parts of an envelope have the same name.")
    for name in names:
        if not (0 < len(name) <= MAX_NAME and name.isascii() and name.isprintable()):
            raise NotThisFormat(f"A part's name must have 1 to {MAX_NAME} printable ASCII characters.")


def seal_format() -> str:
    """Return the HE library and version whose serialized form the parts have; other versions refuse its bytes.

    It is read from the installed distribution's metadata, without importing the library.
    """
    return f"tenseal-{version('tenseal')}"


def parts_digest(parts: Sequence[tuple[str, bytes]]) -> str:
    """Compute SHA-256, hex, over the names, lengths and SHA-256 of parts; a receipt states it of an answer."""
    listing = [[name, len(data), hashlib.sha256(data).hexdigest()] for name, data in parts]
    return hashlib.sha256(canonical_json({"parts": listing})).hexdigest()


def receipt_message(receipt: Header) -> bytes:
    """Return the bytes of a receipt that the server signs (Ed25519) and the client verifies."""
    return b"he-infer/receipt/v2\n" + canonical_json(receipt)
