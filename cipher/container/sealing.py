"""Sealing and opening as streams: source and target are open files, memory is bounded by a chunk."""

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np

from cipher.algorithm.inner import decrypt_image, encrypt_image
from cipher.container.beginning import Beginning, read_beginning
from cipher.container.chunks import Chunk, chunk_limit, count_chunks, cut
from cipher.container.header import (
    EMPTY_SLOT,
    MOST_PRIVATE,
    TAG_SIZE,
    Header,
    Kind,
    Segment,
    pack_names,
    pad_names,
    parse_padded_names,
)
from cipher.container.object_keys import ObjectKeys, hedged, unwrap, wrap
from cipher.container.records import Records
from cipher.container.version import ObjectVersion
from cipher.errors import BadSpan, ContextMismatch, Damaged, SourceChanged
from cipher.keys.vault_key import VaultKey

Progress = Callable[[int], None]
"""Called with the payload bytes done since the last call."""

_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """Where the pixels lie in a file, and what they are."""

    offset: int
    """First byte."""
    length: int
    """Bytes; the size of `shape` samples of `dtype`."""
    dtype: str
    """As numpy's type string with its byte order: '<u2', '>u2', '|u1', '<i2', ..."""
    shape: tuple[int, ...]
    """(H, W), (H, W, C), (F, H, W), (F, H, W, C) or (n,)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said when sealing, besides source, target and key."""

    name: str | None = None
    """Kept secret inside, given back on opening: the file's name, for example."""
    private: dict[str, str] = field(default_factory=dict)
    """Further secret names."""
    labels: dict[str, str] = field(default_factory=dict)
    """Public, authenticated names."""
    associated: bytes = b""
    """Bytes outside the object that are bound to it: to open it, the same must be given again."""
    replaces: ObjectVersion | None = None
    """The version that this one follows; a new object, version 1, if not given."""
    chunk_bytes: int | None = None
    """Most bytes in a chunk; from the payload's size if not given."""
    progress: Progress | None = None

    def with_name(self, name: str | None) -> "Options":
        """The same with another name."""
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening an object tells, besides the payload; authenticated."""

    kind: Kind
    version: ObjectVersion
    name: str | None
    private: dict[str, str]
    labels: dict[str, str]


def seal_stream(
    source: BinaryIO,
    target: BinaryIO,
    vault_key: VaultKey,
    *,
    span: PixelSpan | None = None,
    options: Options | None = None,
) -> ObjectVersion:
    """Seal all of `source`, from its beginning, into `target`.

    Args:
        source: open for reading in binary, seekable; it is read twice.
        target: open for writing in binary.
        vault_key: opens the object again.
        span: pixels inside the file; it is opaque bytes if not given.
        options: see `Options`.

    Returns:
        The identity and version of the new object, for a ledger.

    Raises:
        BadSpan: the span does not lie in the file, or its length does not fit its shape.
        SourceChanged: the source did not read the same twice.
    """
    length = source.seek(0, os.SEEK_END)
    return seal_segments(source, target, vault_key, *_segments(length, span), options or Options())


def seal_segments(
    source: BinaryIO, target: BinaryIO, vault_key: VaultKey, kind: Kind, segments: tuple[Segment, ...], options: Options
) -> ObjectVersion:
    """Seal a source whose bytes are exactly these segments; see `seal_stream`."""
    private = dict(options.private)
    if options.name is not None:
        private["name"] = options.name.encode(errors="replace").decode()  # a file's name may be no text
    private_bytes = pad_names(pack_names(private))
    if len(private_bytes) > MOST_PRIVATE:
        raise BadSpan(f"Private names may take {MOST_PRIVATE} bytes in all; these take {len(private_bytes)}.")
    for segment in segments:
        segment.check()
    payload = sum(segment.nbytes for segment in segments)
    following = options.replaces.following() if options.replaces else None
    draft = Header(
        kind=kind,
        object_id=bytes.fromhex(following.object_id) if following else bytes(16),
        object_version=following.number if following else 1,
        salt=bytes(16),
        associated_digest=hashlib.sha256(options.associated).digest(),
        chunk_bytes=options.chunk_bytes or chunk_limit(payload),
        private_length=len(private_bytes),
        segments=segments,
        labels=dict(options.labels),
    )
    digest = _digest(source)
    fresh = hedged(vault_key, draft.prefix() + draft.pack() + private_bytes, digest)
    header = draft.with_fresh(fresh.salt, None if following else fresh.object_id)
    keys = ObjectKeys.derive(fresh.data_key, fresh.salt)
    prefix, header_bytes = header.prefix(), header.pack()
    commitment = keys.commitment(prefix, header_bytes)
    records = Records(keys.sealing, commitment, 1 + count_chunks(header))

    target.write(prefix + wrap(fresh.data_key, vault_key).pack() + EMPTY_SLOT + header_bytes + commitment)
    target.write(records.seal(private_bytes))
    source.seek(0)
    again = hashlib.sha256()
    for number, chunk in enumerate(cut(header)):
        plain = source.read(chunk.nbytes)
        again.update(plain)
        if len(plain) != chunk.nbytes:
            break
        target.write(records.seal(_encipher(plain, chunk, keys, fresh.salt, number)))
        if options.progress:
            options.progress(chunk.nbytes)
    if again.digest() != digest:
        raise SourceChanged(
            "The file changed while it was being sealed; nothing was kept. Try again when it is at rest."
        )
    return ObjectVersion(header.object_id.hex(), header.object_version)


class Opening:
    """A sealed object whose header and private names have been verified, and whose payload is still to be read."""

    def __init__(
        self,
        source: BinaryIO,
        vault_key: VaultKey,
        *,
        associated: bytes = b"",
        expect: ObjectVersion | None = None,
    ) -> None:
        """Unwrap the data key, verify the header, open the private names.

        Raises:
            WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: about the object.
            ContextMismatch: `associated` is not what was bound when it was sealed.
            Replayed: not the object, or an older version than expected.
        """
        beginning = read_beginning(source)
        header = beginning.header
        self._keys = _unlock(beginning, vault_key)
        if header.associated_digest != hashlib.sha256(associated).digest():
            raise ContextMismatch(
                "The sealed object is intact, but what surrounds it is not what it was sealed with: attributes were "
                "changed, or it was moved from elsewhere."
            )
        self.version = ObjectVersion(header.object_id.hex(), header.object_version)
        if expect is not None:
            expect.admit(self.version)
        self.header = header
        self._source = source
        self._records = Records(self._keys.sealing, beginning.commitment, beginning.records)
        private = parse_padded_names(self._records.open(source.read(header.private_length + TAG_SIZE)))
        name = private.pop("name", None)
        self.opened = Opened(header.kind, self.version, name, private, dict(header.labels))

    def verify(self, progress: Progress | None = None) -> None:
        """Check every tag of the payload, without deciphering it.

        Raises:
            Damaged: a record was changed.
        """
        for chunk in cut(self.header):
            self._records.open(self._source.read(chunk.nbytes + TAG_SIZE))
            if progress:
                progress(chunk.nbytes)

    def payload(self) -> Iterator[bytes]:
        """The payload's chunks, each after its tag has been verified. An error may come after some were given.

        Raises:
            Damaged: a record was changed.
        """
        for number, chunk in enumerate(cut(self.header)):
            enciphered = self._records.open(self._source.read(chunk.nbytes + TAG_SIZE))
            yield _decipher(enciphered, chunk, self._keys, self.header.salt, number)


def _unlock(beginning: Beginning, vault_key: VaultKey) -> ObjectKeys:
    data_key = unwrap(beginning.parsed_slots(), vault_key)
    keys = ObjectKeys.derive(data_key, beginning.header.salt)
    commitment = keys.commitment(beginning.prefix_bytes, beginning.header_bytes)
    if not hmac.compare_digest(commitment, beginning.commitment):
        raise Damaged(
            "The key is right, but the header of the sealed object was changed, or is another object's; restore it "
            "from a backup."
        )
    return keys


def _segments(length: int, span: PixelSpan | None) -> tuple[Kind, tuple[Segment, ...]]:
    """What a file of `length` bytes consists of."""
    if span is None:
        return Kind.OPAQUE, (Segment("|u1", (length,), pixels=False),)
    pixels = Segment(span.dtype, tuple(span.shape))
    pixels.check()
    after = length - span.offset - span.length
    if span.offset < 0 or after < 0 or pixels.nbytes != span.length:
        raise BadSpan(
            f"A span of {span.length} bytes at {span.offset} for {pixels.nbytes} bytes of pixels does not fit a file "
            f"of {length} bytes."
        )
    around = (Segment("|u1", (size,), pixels=False) for size in (span.offset, after))
    before, behind = around
    return Kind.PIXEL_FILE, (before, pixels, behind)


def _digest(source: BinaryIO) -> bytes:
    source.seek(0)
    digest = hashlib.sha256()
    while piece := source.read(_READ):
        digest.update(piece)
    return digest.digest()


def _encipher(plain: bytes, chunk: Chunk, keys: ObjectKeys, salt: bytes, number: int) -> memoryview:
    image = np.frombuffer(plain, np.dtype(chunk.dtype)).reshape(chunk.shape)
    enciphered = encrypt_image(image, keys.inner, keys.inner_salt(salt, number))
    return enciphered.reshape(-1).view(np.uint8).data


def _decipher(enciphered: bytes, chunk: Chunk, keys: ObjectKeys, salt: bytes, number: int) -> bytes:
    dtype = np.dtype(chunk.dtype)
    carrier = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    image = np.frombuffer(enciphered, carrier).reshape(chunk.shape)
    return decrypt_image(image, keys.inner, keys.inner_salt(salt, number)).tobytes()
