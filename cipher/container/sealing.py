"""Sealing and opening as streams: source and target are open files, memory is bounded by a chunk."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from numpy.typing import NDArray

from cipher.algorithm.engine import best
from cipher.algorithm.geometry import grid_of
from cipher.algorithm.inner import decipher, encipher
from cipher.algorithm.words import Words, to_words, word_type
from cipher.container.arena import Arena
from cipher.container.beginning import read_beginning
from cipher.container.chunks import WHOLE, Chunk, chunk_limit, count_chunks, cut, frames_in_group
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
from cipher.container.object_keys import ContentHash, ObjectKeys, hash_content, hedged, wrap
from cipher.container.recipients import check, fill_slots
from cipher.container.records import Buffer, Records
from cipher.container.unlock import OpeningKey, unlock
from cipher.container.version import ObjectVersion
from cipher.errors import BadSpan, ContextMismatch, Damaged, SourceChanged
from cipher.files.folder_syncs import FolderSyncs
from cipher.keys.vault_key import VaultKey

Progress = Callable[[int], None]
"""Called with the payload bytes done since the last call."""

_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """Position, type and shape of the pixels in a file."""

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
    """Options of sealing, besides source, target and key."""

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
    frames: int | None = None
    """Frames that are sealed together, where there are several; as many as make about 4 MiB if not given."""
    recipients: tuple[tuple[X25519PublicKey, bool], ...] = ()
    """Public keys that open the object besides the vault's, and whether each is for recovery."""
    recipient_slots: int = 4
    """Number of recipient slots; it stays as it is."""
    progress: Progress | None = None
    syncs: FolderSyncs | None = None
    """Collects the folder of a sealed file, which the caller has flushed before it acknowledges the file."""

    def with_name(self, name: str | None) -> "Options":
        """The same with another name."""
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Opened:
    """Authenticated fields of an opened object, besides the payload."""

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
    source: BinaryIO | memoryview,
    target: BinaryIO,
    vault_key: VaultKey,
    kind: Kind,
    segments: tuple[Segment, ...],
    options: Options,
) -> ObjectVersion:
    """Seal an open file, or bytes in memory, that are exactly these segments; see `seal_stream`."""
    private = dict(options.private)
    if options.name is not None:
        private["name"] = options.name.encode(errors="replace").decode()  # a file's name may be no text
    private_bytes = pad_names(pack_names(private))
    if len(private_bytes) > MOST_PRIVATE:
        raise BadSpan(f"Private names may take {MOST_PRIVATE} bytes in all; these take {len(private_bytes)}.")
    for segment in segments:
        segment.check()
    payload = sum(segment.nbytes for segment in segments)
    limit = options.chunk_bytes or chunk_limit(payload)
    following = options.replaces.following() if options.replaces else None
    draft = Header(
        kind=kind,
        object_id=bytes.fromhex(following.object_id) if following else bytes(16),
        object_version=following.number if following else 1,
        salt=bytes(16),
        associated_digest=hashlib.sha256(options.associated).digest(),
        chunk_bytes=limit,
        private_length=len(private_bytes),
        segments=segments,
        frames=frames_in_group(segments, limit) if options.frames is None else options.frames,
        recipients=max(options.recipient_slots, len(options.recipients)),
        labels=dict(options.labels),
    )
    if not draft.frames_fit():
        raise BadSpan(f"Groups of {draft.frames} frames do not fit the pixels, or chunks of {limit} bytes.")
    content = _content(source, payload)
    digest = content.hash(vault_key)
    drafted = draft.pack()
    fresh = hedged(vault_key, draft.prefix(drafted) + drafted + private_bytes, digest)
    header = draft.with_fresh(fresh.salt, None if following else fresh.object_id)
    keys = ObjectKeys.derive(fresh.data_key, fresh.salt)
    header_bytes = header.pack()
    prefix = header.prefix(header_bytes)
    commitment = keys.commitment(prefix, header_bytes)
    records = Records(keys.sealing, commitment, 1 + count_chunks(header))

    shared = fill_slots(header.recipients, options.recipients, keys, fresh.data_key)
    target.write(prefix + wrap(fresh.data_key, vault_key).pack() + EMPTY_SLOT + shared + header_bytes + commitment)
    with Arena.borrow() as arena:
        sealed = arena.second(len(private_bytes) + TAG_SIZE)
        records.seal(private_bytes, sealed)
        target.write(sealed)
        for number, (chunk, plain) in enumerate(content.cut(header)):
            enciphered = _encipher(plain, chunk, keys, fresh.salt, number, arena)
            sealed = arena.second(len(enciphered) + TAG_SIZE)
            records.seal(enciphered, sealed)
            target.write(sealed)
            if options.progress:
                options.progress(chunk.nbytes)
    return ObjectVersion(header.object_id.hex(), header.object_version)


class Opening:
    """A sealed object whose header and private names have been verified, and whose payload is still to be read."""

    def __init__(
        self,
        source: BinaryIO,
        key: OpeningKey,
        *,
        associated: bytes = b"",
        expect: ObjectVersion | None = None,
    ) -> None:
        """Unwrap the data key, verify the header and the recipients, open the private names.

        Raises:
            WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: about the object.
            ContextMismatch: `associated` is not what was bound when it was sealed.
            Replayed: not the object, or an older version than expected.
        """
        beginning = read_beginning(source)
        header = beginning.header
        _, self._keys = unlock(beginning, key)
        check(beginning.recipients, self._keys)
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
        names = bytearray(header.private_length)
        self._records.open(source.read(header.private_length + TAG_SIZE), memoryview(names))
        private = parse_padded_names(bytes(names))
        name = private.pop("name", None)
        self.opened = Opened(header.kind, self.version, name, private, dict(header.labels))

    def verify(self, progress: Progress | None = None) -> None:
        """Check every tag of the payload, without deciphering it.

        Raises:
            Damaged: a record was changed.
        """
        with Arena.borrow() as arena:
            for chunk in cut(self.header):
                self._open(chunk, arena)
                if progress:
                    progress(chunk.nbytes)

    def payload(self) -> Iterator[memoryview]:
        """The payload's chunks, each after its tag has been verified. An error may come after some were given.

        Each chunk is to be used before the next is asked for: they share their memory.

        Raises:
            Damaged: a record was changed.
        """
        with Arena.borrow() as arena:
            for number, chunk in enumerate(cut(self.header)):
                yield _decipher(self._open(chunk, arena), chunk, self._keys, self.header.salt, number, arena)

    def frames(self, first: int, last: int) -> NDArray[np.generic]:
        """Frames `first` to `last - 1` of the image, counted from 0; only the groups that hold them are read.

        Returns:
            (last - first, ...) pixels. Booleans come as bytes 0 and 1.

        Raises:
            BadSpan: the object's pixels are not sealed by frames, or there are no such frames.
            Damaged: a record was changed.
        """
        pixels = self.header.pixel_segment()
        group = self.header.frames
        if self.header.kind is Kind.REGION:
            raise BadSpan("The sealed object holds a region of an image, not its frames; restore it whole.")
        if pixels is None or not group:
            raise BadSpan("The sealed object holds no image of several frames; restore it whole.")
        if not 0 <= first < last <= pixels.frames:
            raise BadSpan(f"The image has the frames 0 to {pixels.frames - 1}; asked for {first} to {last - 1}.")
        found, skipped = bytearray(), -1
        with Arena.borrow() as arena:
            for number, chunk in enumerate(cut(self.header)):
                begins = (number - self._first_of_pixels()) * group
                size = chunk.enciphered_bytes + TAG_SIZE
                if chunk.shape[1:] != pixels.shape[1:] or begins + chunk.shape[0] <= first or begins >= last:
                    self._source.seek(size, os.SEEK_CUR)
                    continue
                self._records.skip_to(number + 1)
                found += _decipher(self._open(chunk, arena), chunk, self._keys, self.header.salt, number, arena)
                if skipped < 0:
                    skipped = (first - begins) * pixels.frame_bytes
                if begins + chunk.shape[0] >= last:
                    break
        wanted = found[skipped : skipped + (last - first) * pixels.frame_bytes]
        return np.frombuffer(wanted, pixels.dtype).reshape(last - first, *pixels.shape[1:])

    def _first_of_pixels(self) -> int:
        """Number of the first chunk of pixels."""
        return (
            0
            if self.header.segments[0].pixels
            else count_chunks(replace(self.header, segments=self.header.segments[:1]))
        )

    def _open(self, chunk: Chunk, arena: Arena) -> memoryview:
        enciphered = arena.first(chunk.enciphered_bytes)
        sealed = arena.second(chunk.enciphered_bytes + TAG_SIZE)
        if self._source.readinto(sealed) != len(sealed):  # type: ignore[attr-defined]  # BinaryIO lacks what files have
            raise Damaged("The sealed object was cut while it was read; restore it from a backup.")
        self._records.open(sealed, enciphered)
        return enciphered


def _segments(length: int, span: PixelSpan | None) -> tuple[Kind, tuple[Segment, ...]]:
    """Segments of a file of `length` bytes."""
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


def _explain_change() -> SourceChanged:
    return SourceChanged(
        "The file changed while it was being sealed; nothing was kept. Try again when nothing writes to it."
    )


class _Memory:
    """Content that is held in memory: it cannot change between being hashed and being sealed."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)

    def hash(self, vault_key: VaultKey) -> bytes:
        """Digest of the content, for the object's randomness."""
        return hash_content(self._data, vault_key)

    def cut(self, header: Header) -> Iterator[tuple[Chunk, Buffer]]:
        """The chunks and their bytes."""
        at = 0
        for chunk in cut(header):
            yield chunk, self._data[at : at + chunk.nbytes]
            at += chunk.nbytes


class _File:
    """Content that is too large to hold: it is read twice, and compared."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def hash(self, vault_key: VaultKey) -> bytes:
        """Digest of the content, for the object's randomness."""
        found = ContentHash(vault_key)
        self._again = ContentHash(vault_key)
        self._source.seek(0)
        while piece := self._source.read(_READ):
            found.update(piece)
        self._digest = found.digest()
        return self._digest

    def cut(self, header: Header) -> Iterator[tuple[Chunk, Buffer]]:
        """The chunks and their bytes.

        Raises:
            SourceChanged: they are not what was hashed.
        """
        self._source.seek(0)
        for chunk in cut(header):
            piece = self._source.read(chunk.nbytes)
            self._again.update(piece)
            if len(piece) != chunk.nbytes:
                raise _explain_change()
            yield chunk, piece
        if self._source.read(1) or self._again.digest() != self._digest:
            raise _explain_change()


def _content(source: BinaryIO | memoryview, length: int) -> _Memory | _File:
    if isinstance(source, memoryview):
        return _Memory(source)
    if length > WHOLE:
        return _File(source)
    source.seek(0)
    whole = source.read(length + 1)
    if len(whole) != length:
        raise _explain_change()
    return _Memory(whole)


def _encipher(plain: Buffer, chunk: Chunk, keys: ObjectKeys, salt: bytes, number: int, arena: Arena) -> memoryview:
    """The chunk, padded to 16 bytes and enciphered, in the arena's first buffer."""
    enciphered = arena.first(chunk.enciphered_bytes)
    if len(plain) < chunk.enciphered_bytes:
        image: NDArray[np.generic] = np.frombuffer(bytes(plain) + bytes(chunk.enciphered_bytes - len(plain)), np.uint8)
    else:
        image = np.frombuffer(plain, np.dtype(chunk.dtype)).reshape(chunk.shape)
    geometry = grid_of(image.shape, image.dtype.itemsize)
    vector = _words(enciphered, image.dtype)
    encipher(to_words(image), vector, geometry, keys.inner, keys.inner_salt(salt, number), best())
    return _in_byte_order(vector, image.dtype)


def _decipher(
    enciphered: memoryview, chunk: Chunk, keys: ObjectKeys, salt: bytes, number: int, arena: Arena
) -> memoryview:
    """The chunk's bytes, in the arena's second buffer."""
    dtype, shape = np.dtype(chunk.dtype), chunk.shape
    if len(enciphered) > chunk.nbytes:
        dtype, shape = np.dtype(np.uint8), (len(enciphered),)
    geometry = grid_of(shape, dtype.itemsize)
    vector = _words(_in_byte_order(_words(enciphered, dtype), dtype), dtype)
    words = _words(arena.second(len(enciphered)), dtype)
    decipher(vector, words, geometry, keys.inner, keys.inner_salt(salt, number), best())
    plain = _in_byte_order(words, dtype)
    if any(plain[chunk.nbytes :]):
        raise Damaged("The padding of the sealed object was changed; restore it from a backup.")
    return plain[: chunk.nbytes]


def _words(data: memoryview, dtype: np.dtype[np.generic]) -> Words:
    words: Words = np.frombuffer(data, word_type(dtype))
    return words


def _in_byte_order(words: Words, dtype: np.dtype[np.generic]) -> memoryview:
    """The bytes of words, low half first, as samples of `dtype`, or the other way round, in place."""
    if sys.byteorder == "big":
        words.byteswap(inplace=True)
    if dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big"):
        samples = words.view(np.uint8).reshape(-1, dtype.itemsize)
        samples[:] = samples[:, ::-1].copy()
    return words.view(np.uint8).data
