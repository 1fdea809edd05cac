"""The header of a sealed object: its bytes, and every check that needs no key. docs/format-container.md specifies it.

    0:16     prefix: magic b"HEIV", version u16 = 2, kind u16, length of the public header u32, recipients u16, zero u16
    16:144   two key slots of 64: key id 16, wrapped data key 40, SHA-256 of both cut to 8; an empty one is all zero
    144:…    recipient slots of 128 each (`cipher.container.recipients`)
    …        public header: object, geometry, labels
    …:+32    HMAC-SHA256 over prefix and public header under a key derived from the data key: commits to that key
    then     the body: one AES-256-GCM record for the private names, one for every chunk

Nothing is allocated from a number in a header before the object's real length has been found to fit it.
"""

import hashlib
import json
import math
import struct
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from cipher.algorithm.geometry import sides
from cipher.algorithm.inner import VERSION as CIPHER
from cipher.errors import BadSpan, CipherError, Damaged, UnsupportedFormat, UnsupportedVersion

MAGIC = b"HEIV"
VERSION = 2
SLOT_SIZE = 64
SLOTS = 2
PREFIX = struct.Struct("<4sHHIHH")
SLOTS_AT = PREFIX.size
RECIPIENTS_AT = SLOTS_AT + SLOTS * SLOT_SIZE
RECIPIENT_SIZE = 128
MOST_RECIPIENTS = 64
COMMITMENT_SIZE = 32
TAG_SIZE = 16
MOST_HEADER = 1 << 16
MOST_PRIVATE = 1 << 20
MOST_BYTES = 1 << 48
"""Largest payload that a header may announce (256 TiB)."""
MOST_LABELS = 1 << 15
PADDING = 64
LEAST_CHUNK = 8
MOST_CHUNK = 64 * 2**20
"""A chunk is what a reader holds in memory at a time."""

NOTHING_BOUND = hashlib.sha256(b"").digest()
_FIXED = struct.Struct("<16sQ16s32sQQIIHHHH")
_SEGMENT = struct.Struct("<B2sBB")
_DIMENSION = struct.Struct("<Q")


class Kind(IntEnum):
    """Kind of content that a sealed object holds."""

    ARRAY = 1
    """An array of pixels."""
    OPAQUE = 2
    """A file, byte for byte."""
    PIXEL_FILE = 3
    """A file, byte for byte, in which a span of pixels is known: bytes before, pixels, bytes after."""
    REGION = 4
    """A region of an image, whose other pixels lie around the object: bytes before the pixels, pixels of the region,
    bytes after."""


PIXEL_TYPES = frozenset(
    ["|u1", "|i1", "|b1", *(order + kind + size for order in "<>" for kind in "uif" for size in "248")]
)
"""numpy's type strings of everything that can be sealed."""

_LAYOUTS = {
    Kind.ARRAY: [True],
    Kind.OPAQUE: [False],
    Kind.PIXEL_FILE: [False, True, False],
    Kind.REGION: [False, True, False],
}
"""Segments of each kind, in order: whether each holds pixels."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of payload bytes of one type and shape."""

    dtype: str
    """As numpy's three-character type string: '|u1', '<u2', '>i2', '<f4', '|b1'."""
    shape: tuple[int, ...]
    pixels: bool = True
    """Whether it is an image, or bytes around one."""

    @property
    def itemsize(self) -> int:
        """Bytes a sample."""
        return int(self.dtype[2:])

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return math.prod(self.shape) * self.itemsize

    @property
    def frames(self) -> int:
        """Frames of the image."""
        return sides(self.shape)[0] if self.pixels and 0 not in self.shape else 1

    @property
    def frame_bytes(self) -> int:
        """Bytes in a frame."""
        return self.nbytes // self.frames

    def numpy_type(self) -> np.dtype[np.generic]:
        """The numpy type."""
        return np.dtype(self.dtype)

    def check(self) -> None:
        """Refuse a type or shape that the cipher does not take.

        Raises:
            BadSpan: naming what does not fit.
        """
        # A list, because numpy evaluates parts of the strings that it is given, and this one may be an attacker's.
        if self.dtype not in PIXEL_TYPES:
            raise BadSpan(f"{self.dtype!r} is no pixel type with its byte order; give one such as '<u2' or '|u1'.")
        if not 1 <= len(self.shape) <= 4 or min(self.shape) < 0 or self.nbytes > MOST_BYTES:
            raise BadSpan(f"A span has 1 to 4 dimensions and at most 2^48 bytes; this one has the shape {self.shape}.")


@dataclass(frozen=True, slots=True)
class Slot:
    """A key slot: the data key, wrapped under the vault key that `key_id` names."""

    key_id: bytes
    wrapped: bytes

    def pack(self) -> bytes:
        """The slot's 64 bytes."""
        content = self.key_id + self.wrapped
        return content + hashlib.sha256(content).digest()[:8]


EMPTY_SLOT = bytes(SLOT_SIZE)


def parse_slot(data: bytes) -> Slot | None:
    """A slot from its 64 bytes; none if it is empty.

    Raises:
        Damaged: its checksum does not fit.
    """
    if data == EMPTY_SLOT:
        return None
    content, checksum = data[:-8], data[-8:]
    if hashlib.sha256(content).digest()[:8] != checksum:
        raise Damaged(
            "A key slot of this sealed object was changed or only half written. If a rekey was interrupted, run it "
            "again: it mends the slot. Otherwise restore the object from a backup."
        )
    return Slot(content[:16], content[16:])


@dataclass(frozen=True, slots=True)
class Header:
    """The public header: in clear, authenticated, without the key slots."""

    kind: Kind
    object_id: bytes
    """16 bytes, kept over an object's versions."""
    object_version: int
    """1 for a first sealing; counts up when the object is sealed anew."""
    salt: bytes
    """16 bytes, hedged: see cipher.container.object_keys."""
    associated_digest: bytes
    """SHA-256 of the bytes that the caller binds from outside (the attributes around it, for example)."""
    chunk_bytes: int
    """Most payload bytes in a chunk."""
    private_length: int
    """Bytes of the private names, which are sealed in the first record."""
    segments: tuple[Segment, ...]
    frames: int = 0
    """Frames in a group that is sealed by itself; 0 where the pixels are not cut by frames."""
    recipients: int = 0
    """Slots for recipients; fixed when the object is sealed."""
    labels: dict[str, str] = field(default_factory=dict)
    """Public, authenticated names that are read without a key: UIDs, modality, others of the caller's choice."""

    @property
    def payload_bytes(self) -> int:
        """Bytes that opening gives back."""
        return sum(segment.nbytes for segment in self.segments)

    @property
    def is_bound(self) -> bool:
        """Whether the caller bound something from outside."""
        return self.associated_digest != NOTHING_BOUND

    def pixel_segment(self) -> Segment | None:
        """The image in the payload, if one is known."""
        return next((segment for segment in self.segments if segment.pixels), None)

    def frames_fit(self) -> bool:
        """Whether the frames in a group fit the pixels and a chunk."""
        pixels = self.pixel_segment()
        if not self.frames:
            return True
        return (
            pixels is not None
            and 1 < pixels.frames >= self.frames
            and self.frames * pixels.frame_bytes <= self.chunk_bytes
        )

    def pack(self) -> bytes:
        """The public header's bytes."""
        labels = pack_names(self.labels)
        if len(labels) > MOST_LABELS:
            raise BadSpan(f"Labels may take {MOST_LABELS} bytes in all; these take {len(labels)}.")
        parts = [
            _FIXED.pack(
                self.object_id,
                self.object_version,
                self.salt,
                self.associated_digest,
                self.payload_bytes,
                self.chunk_bytes,
                self.private_length,
                self.frames,
                len(labels),
                len(self.segments),
                CIPHER,
                0,
            )
        ]
        for segment in self.segments:
            parts.append(
                _SEGMENT.pack(segment.pixels, segment.dtype[:2].encode(), segment.itemsize, len(segment.shape))
            )
            parts += [_DIMENSION.pack(side) for side in segment.shape]
        return b"".join([*parts, labels])

    def with_fresh(self, salt: bytes, object_id: bytes | None) -> "Header":
        """The same with its salt, and its identifier if it is a new object's."""
        return replace(self, salt=salt, object_id=object_id or self.object_id)

    def prefix(self, packed: bytes) -> bytes:
        """The 16 bytes at the object's beginning, before the public header that `pack` gave."""
        return PREFIX.pack(MAGIC, VERSION, self.kind, len(packed), self.recipients, 0)


def parse_prefix(data: bytes) -> tuple[Kind, int, int]:
    """The kind, the length of the public header, and the number of recipient slots.

    Raises:
        UnsupportedFormat: not a sealed object.
        UnsupportedVersion: written by a later release.
        Damaged: a prefix that no release writes.
    """
    if data[:4] != MAGIC:
        raise UnsupportedFormat("This is not a sealed object: it does not begin with HEIV.")
    if len(data) < PREFIX.size:
        raise Damaged("The sealed object is cut off within its first bytes; restore it from a backup.")
    _, version, kind, length, recipients, zero = PREFIX.unpack(data[: PREFIX.size])
    if version == 1:
        raise UnsupportedVersion(
            "The sealed object has format version 1, which no published release wrote and whose inner cipher was "
            "broken. Restore it with the release that sealed it, and seal the file again: this release reads version "
            f"{VERSION}."
        )
    if version != VERSION:
        raise UnsupportedVersion(
            f"The sealed object has format version {version}; this release reads version {VERSION}. Use a later one."
        )
    if kind not in tuple(Kind) or zero or recipients > MOST_RECIPIENTS or not _FIXED.size <= length <= MOST_HEADER:
        raise Damaged("The first bytes of the sealed object were changed; restore it from a backup.")
    return Kind(kind), length, recipients


def parse_header(kind: Kind, data: bytes, recipients: int) -> Header:
    """The public header from its bytes.

    Raises:
        Damaged: anything that `Header.pack` does not write.
    """
    changed = Damaged("The header of the sealed object was changed; restore it from a backup.")
    if len(data) < _FIXED.size:
        raise changed
    fixed = _FIXED.unpack_from(data)
    object_id, object_version, salt, digest, payload, chunk_bytes, private_length = fixed[:7]
    frames, labels_length, count, cipher, zero = fixed[7:]
    if cipher != CIPHER or zero:  # another version of the inner cipher comes with another version of the format
        raise changed
    position = _FIXED.size
    segments = []
    for _ in range(count):
        if position + _SEGMENT.size > len(data):
            raise changed
        role, order, itemsize, dimensions = _SEGMENT.unpack_from(data, position)
        position += _SEGMENT.size
        end = position + dimensions * _DIMENSION.size
        if role > 1 or end > len(data) or not 1 <= dimensions <= 4:
            raise changed
        shape = tuple(side for (side,) in _DIMENSION.iter_unpack(data[position:end]))
        position = end
        try:
            segment = Segment(f"{order.decode('ascii')}{itemsize}", shape, bool(role))
            segment.check()
        except (CipherError, UnicodeDecodeError) as error:
            raise changed from error
        segments.append(segment)
    labels = data[position:]
    header = Header(
        kind=kind,
        object_id=object_id,
        object_version=object_version,
        salt=salt,
        associated_digest=digest,
        chunk_bytes=chunk_bytes,
        private_length=private_length,
        segments=tuple(segments),
        frames=frames,
        recipients=recipients,
        labels=parse_names(labels),
    )
    fine = (
        [segment.pixels for segment in segments] == _LAYOUTS[kind]
        and payload == header.payload_bytes <= MOST_BYTES
        and len(labels) == labels_length <= MOST_LABELS
        and private_length <= MOST_PRIVATE
        and private_length % PADDING == 0
        and LEAST_CHUNK <= chunk_bytes <= MOST_CHUNK
        and header.frames_fit()
        and header.pack() == data
    )
    if not fine:
        raise changed
    return header


def pack_names(names: dict[str, str]) -> bytes:
    """Names as canonical JSON: sorted, without spaces, UTF-8."""
    return json.dumps(names, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def pad_names(names: bytes) -> bytes:
    """Filled up with zero bytes to a multiple of 64, so that a secret name's length shows only roughly."""
    return names + bytes(-len(names) % PADDING)


def parse_padded_names(data: bytes) -> dict[str, str]:
    """The inverse of `pad_names` after `pack_names`.

    Raises:
        Damaged: not such names.
    """
    return parse_names(data.rstrip(b"\0"))


def parse_names(data: bytes) -> dict[str, str]:
    """The inverse of `pack_names`.

    Raises:
        Damaged: not a JSON object of strings.
    """
    try:
        names = json.loads(data)
        canonical = pack_names(names) == data
    except (ValueError, RecursionError, TypeError):
        canonical = False
    if not canonical or not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        raise Damaged("The names in the sealed object were changed; restore it from a backup.")
    return names
