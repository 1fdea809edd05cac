"""Sealing as a stream: source and target are open files, memory is bounded by a chunk."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from cipher.container.arena import Arena
from cipher.container.chunks import chunk_limit, count_chunks, frames_in_group
from cipher.container.content import read_content
from cipher.container.enciphering import encipher_chunk
from cipher.container.header import (
    EMPTY_SLOT,
    MOST_PRIVATE,
    MOST_RECIPIENTS,
    TAG_SIZE,
    Header,
    Kind,
    Segment,
    pack_names,
    pad_names,
)
from cipher.container.object_keys import ObjectKeys, hedged, wrap
from cipher.container.recipients import fill_slots
from cipher.container.records import Records
from cipher.container.version import ObjectVersion
from cipher.errors import BadKey, BadSpan
from cipher.files.folder_syncs import FolderSyncs
from cipher.keys.vault_key import VaultKey

Progress = Callable[[int], None]
"""Called with the payload bytes done since the last call."""


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
    slots = max(options.recipient_slots, len(options.recipients))
    if options.recipient_slots < 0 or slots > MOST_RECIPIENTS:
        raise BadKey(f"A sealed object opens for at most {MOST_RECIPIENTS} recipients; asked for {slots} slots.")
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
        recipients=slots,
        labels=dict(options.labels),
    )
    if not draft.frames_fit():
        raise BadSpan(f"Groups of {draft.frames} frames do not fit the pixels, or chunks of {limit} bytes.")
    with Arena.borrow() as arena:
        content = read_content(source, payload, arena)
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
        sealed = arena.second(len(private_bytes) + TAG_SIZE)
        records.seal(private_bytes, sealed)
        target.write(sealed)
        for number, (chunk, plain) in enumerate(content.cut(header)):
            enciphered = encipher_chunk(plain, chunk, keys, fresh.salt, number, arena)
            sealed = arena.second(len(enciphered) + TAG_SIZE)
            records.seal(enciphered, sealed)
            target.write(sealed)
            if options.progress:
                options.progress(chunk.nbytes)
    return ObjectVersion(header.object_id.hex(), header.object_version)


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
