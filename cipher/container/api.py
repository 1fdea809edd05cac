"""The sealed object, which keeps an image secret and whole.

A random, hedged data key, wrapped under the vault's key; an authenticated public header; the payload enciphered by the
inner cipher (`cipher.algorithm.inner`) and sealed with AES-256-GCM, in one piece or in chunks. Every byte is
specified in docs/format-container.md.

    seal_array, open_array      an array <-> bytes
    seal_bytes, open_bytes      opaque bytes <-> bytes
    seal_file, open_file        a file <-> a file, byte for byte, atomically, in bounded memory
    seal_stream, open_stream    the same on open files, with a span of pixels inside the source
    verify, describe            check an object with the key; describe it without one
    rekey_file, rekey_bytes     change the vault key; only the header is rewritten
"""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.words import check_type
from cipher.container.beginning import Source, reading
from cipher.container.describe import Description, describe
from cipher.container.header import Kind, Segment
from cipher.container.opening import Opened, Opening
from cipher.container.rekey import rekey_bytes, rekey_file
from cipher.container.sealing import Options, PixelSpan, Progress, seal_segments, seal_stream
from cipher.container.version import ObjectVersion
from cipher.errors import UnsupportedFormat
from cipher.files.atomic import PRIVATE, atomic_write
from cipher.keys.vault_key import VaultKey

__all__ = [
    "Description",
    "Kind",
    "ObjectVersion",
    "Opened",
    "Options",
    "PixelSpan",
    "Progress",
    "describe",
    "open_array",
    "open_bytes",
    "open_file",
    "open_stream",
    "rekey_bytes",
    "rekey_file",
    "seal_array",
    "seal_bytes",
    "seal_file",
    "seal_stream",
    "verify",
]

_SEALED_MODE = 0o644
"""Mode of sealed objects: anybody may read them; the umask still applies."""


def seal_array(
    array: NDArray[np.generic], vault_key: VaultKey, *, name: str | None = None, options: Options | None = None
) -> bytes:
    """Seal an array.

    Args:
        array: (n,), (H, W), (H, W, C), (F, H, W) or (F, H, W, C); integers, booleans or floats of 1, 2, 4 or 8 bytes.
        vault_key: opens it again.
        name: kept secret inside.
        options: see `Options`; its name is used if `name` is not given.

    Raises:
        UnsupportedImage: another type.
        BadSpan: another shape.
    """
    check_type(array.dtype)
    segment = Segment(array.dtype.str, array.shape)
    target = io.BytesIO()
    options = _name_options(options, name)
    source = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    seal_segments(source, target, vault_key, Kind.ARRAY, (segment,), options)
    return target.getvalue()


def open_array(
    sealed: Source, vault_key: VaultKey, *, associated: bytes = b"", expect: ObjectVersion | None = None
) -> NDArray[np.generic]:
    """Open what `seal_array` made: the same array, its type and byte order included.

    Raises:
        As `open_stream`; UnsupportedFormat also for an object that holds a file.
    """
    with reading(sealed) as source:
        opening = Opening(source, vault_key, associated=associated, expect=expect)
        if opening.header.kind is not Kind.ARRAY:
            raise UnsupportedFormat("This sealed object holds a file, not an array; restore it as a file.")
        segment = opening.header.segments[0]
        payload = np.empty(segment.nbytes, np.uint8)
        opening.read_into(payload.data)
    return payload.view(segment.numpy_type()).reshape(segment.shape)


def seal_bytes(
    data: bytes,
    vault_key: VaultKey,
    *,
    name: str | None = None,
    span: PixelSpan | None = None,
    options: Options | None = None,
) -> bytes:
    """Seal bytes; see `seal_stream`."""
    target = io.BytesIO()
    seal_stream(io.BytesIO(data), target, vault_key, span=span, options=_name_options(options, name))
    return target.getvalue()


def open_bytes(
    sealed: Source, vault_key: VaultKey, *, associated: bytes = b"", expect: ObjectVersion | None = None
) -> bytes:
    """Open what `seal_bytes` or `seal_file` made; see `open_stream`."""
    target = io.BytesIO()
    with reading(sealed) as source:
        open_stream(source, target, vault_key, associated=associated, expect=expect)
    return target.getvalue()


def seal_file(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    vault_key: VaultKey,
    *,
    span: PixelSpan | None = None,
    options: Options | None = None,
) -> ObjectVersion:
    """Seal a file into another; `destination` becomes the whole object at once, or stays as it was.

    The source's name, without its folder, is kept secret inside. See `seal_stream` for the rest.

    Raises:
        StorageProblem: the source cannot be read, or the destination not be written.
    """
    options = _name_options(options, None, Path(source).name)
    with reading(source) as plain, atomic_write(destination, mode=_SEALED_MODE, syncs=options.syncs) as target:
        return seal_stream(plain, target, vault_key, span=span, options=options)


def open_file(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    vault_key: VaultKey,
    *,
    associated: bytes = b"",
    expect: ObjectVersion | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Restore a sealed file, byte for byte; `destination` appears only once all of it has been verified.

    Raises:
        As `open_stream`; StorageProblem: the source cannot be read, or the destination not be written.
    """
    with reading(source) as sealed, atomic_write(destination, mode=PRIVATE) as target:
        return open_stream(sealed, target, vault_key, associated=associated, expect=expect, progress=progress)


def open_stream(
    source: BinaryIO,
    target: BinaryIO,
    vault_key: VaultKey,
    *,
    associated: bytes = b"",
    expect: ObjectVersion | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Open a sealed file's stream into `target`, chunk by chunk, each after its tag has been verified.

    If it raises, what was written to `target` is the authentic beginning of the file, and must not be taken for all.

    Args:
        source: open for reading in binary, seekable.
        target: open for writing in binary.
        vault_key: under which it was sealed, or rekeyed.
        associated: the bytes that were bound to it.
        expect: the version that it should be, or precede.
        progress: called with the bytes done.

    Raises:
        UnsupportedFormat: not a sealed object, or one that holds an array.
        UnsupportedVersion: written by a later release.
        WrongKey: sealed under another vault key.
        Damaged: changed, cut or extended.
        ContextMismatch: `associated` is not what was bound to it.
        Replayed: another object, or an older version, than expected.
    """
    opening = Opening(source, vault_key, associated=associated, expect=expect)
    if opening.header.kind is Kind.ARRAY:
        raise UnsupportedFormat("This sealed object holds an array, not a file; open it with open_array.")
    if opening.header.kind is Kind.REGION:
        raise UnsupportedFormat(
            "This sealed object holds a region of an image, not a file; restore the DICOM object that it lies in."
        )
    for piece in opening.payload():
        target.write(piece)
        if progress:
            progress(len(piece))
    return opening.opened


def verify(
    source: Source,
    vault_key: VaultKey,
    *,
    associated: bytes = b"",
    expect: ObjectVersion | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Check every tag of an object, of whatever kind, without writing anything.

    Raises:
        As `open_stream`.
    """
    with reading(source) as sealed:
        opening = Opening(sealed, vault_key, associated=associated, expect=expect)
        opening.verify(progress)
    return opening.opened


def _name_options(options: Options | None, name: str | None, default: str | None = None) -> Options:
    """The options with the given name, else with their own, else with the default."""
    options = options or Options()
    return options.with_name(name or options.name or default)
