"""Sealing a region of a DICOM image: the rest stays a valid, viewable image."""

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cipher.container.api import ObjectVersion, Options, seal_stream
from cipher.container.beginning import reading
from cipher.container.chunks import WHOLE
from cipher.container.header import Kind, Segment
from cipher.container.sealing import seal_segments
from cipher.dicom.frames import Frame, Frames, StoredFrames, find_frames
from cipher.dicom.region import Box, Region
from cipher.dicom.region_object import CREATOR_ELEMENT, ELEMENT, binding
from cipher.dicom.shown import show, write_head
from cipher.dicom.span import DicomLayout, Obstacle, find_span, read_attributes
from cipher.dicom.values import number, originals, text
from cipher.errors import SourceChanged, UnsupportedFormat, UnsupportedImage
from cipher.files.atomic import atomic_write
from cipher.keys.vault_key import VaultKey

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SEALED_MODE = 0o644
_MOST_ELEMENT = 2**32 - 2


def seal_region(
    source: Path,
    destination: str | os.PathLike[str],
    vault_key: VaultKey,
    layout: DicomLayout,
    region: Region,
    options: Options,
) -> ObjectVersion:
    """Seal a region of a DICOM image. A file of up to 64 MiB is read once; a larger one frame by frame, twice.

    Args:
        source: the DICOM file.
        destination: where the object with the region blanked goes.
        vault_key: opens it again.
        layout: layout of the source.
        region: the pixels to seal, in all frames.
        options: see `cipher.container.sealing.Options`.

    Raises:
        UnsupportedFormat: not a DICOM image whose pixels can be shown: no integers, or not to be decoded here.
        BadSpan: the region does not lie in the image.
        SourceChanged: the file changed meanwhile.
        StorageProblem: it cannot be read, or the destination not be written.
    """
    with reading(source) as file:
        handle: BinaryIO = file if file.seek(0, os.SEEK_END) > WHOLE else io.BytesIO(_read_all(file))
        attributes = _attributes(source, handle, layout)
        frames = find_frames(handle, attributes, layout.span, source.name)
        box, blanked = region.cover(frames.rows, frames.columns)
        shown = show(attributes, frames, source.name)
        options = replace(
            options,
            name=source.name,
            private={**originals(attributes), **options.private},
            labels={"holds": "region", "region": str(box), "sop_instance": text(shown, "SOPInstanceUID")},
        )
        too_large = UnsupportedImage(
            f"{source.name} is too large: a DICOM element holds 4 GiB. Use the container form, which keeps any file."
        )
        if frames.nbytes() > _MOST_ELEMENT:
            raise too_large
        with atomic_write(destination, mode=SEALED_MODE, syncs=options.syncs) as target:
            target.write(write_head(shown))
            inside, visible = hashlib.sha256(), hashlib.sha256()
            size = frames.nbytes()
            vr = b"OB" if number(shown, "BitsAllocated") <= 8 else b"OW"
            target.write(ELEMENT.pack(0x7FE0, 0x0010, vr, 0, size + size % 2))
            for piece in frames.pack(_blank_all(frames, handle, box, blanked, shown, inside)):
                target.write(piece)
                visible.update(piece)
            target.write(bytes(size % 2) + CREATOR_ELEMENT)
            length_at = target.tell()
            target.write(ELEMENT.pack(0x7FE1, 0x1000, b"OB", 0, 0))
            options = replace(options, associated=binding(shown, visible.hexdigest()))
            if isinstance(frames, StoredFrames):
                version = _seal_inside(handle, target, vault_key, frames, box, inside.digest(), options)
            else:
                version = seal_stream(handle, target, vault_key, span=layout.span, options=options)
            length = target.tell() - length_at - ELEMENT.size
            padding = 1 if length % 2 else 2
            if length + padding > _MOST_ELEMENT:
                raise too_large
            target.write(bytes(padding - 1) + bytes([padding]))
            target.seek(length_at)
            target.write(ELEMENT.pack(0x7FE1, 0x1000, b"OB", 0, length + padding))
    return version


def _read_all(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _attributes(source: Path, handle: BinaryIO, layout: DicomLayout) -> Dataset:
    """All attributes of an image that may be shown."""
    compressed = layout.obstacle is Obstacle.COMPRESSED
    if layout.element is None or (layout.span is None and not compressed):
        raise UnsupportedFormat(
            f"A region of {source.name} cannot be sealed: {layout.remark}. Use the container form, which keeps any "
            "file."
        )
    if layout.element.kind != "u":
        raise UnsupportedFormat(
            f"A region of {source.name} cannot be sealed: its pixels are floating point numbers, and integers of up to "
            "32 bits are needed. Use the container form, which keeps any file."
        )
    attributes, element = read_attributes(handle, large=None)
    same = element is not None and element.encapsulated == compressed
    if not same or (element is not None and not compressed and find_span(attributes, element) != layout.span):
        raise SourceChanged(f"{source.name} changed while it was being sealed; nothing was kept. Try again.")
    return attributes


def _blank_all(
    frames: Frames, handle: BinaryIO, box: Box, blanked: NDArray[np.bool_], shown: Dataset, inside: "hashlib._Hash"
) -> Iterator[Frame]:
    """The frames with the region blanked; `inside` is updated with the box's pixels before."""
    index = box.index(frames.interleaved)
    for place, frame in enumerate(frames.read(handle)):
        inside.update(frame[index].tobytes())
        _blank(frame, place, box, blanked, shown, frames.interleaved)
        yield frame


def _blank(frame: Frame, place: int, box: Box, blanked: NDArray[np.bool_], shown: Dataset, interleaved: bool) -> None:
    """Blank pixels of the box: with the darkest value that is left in the frame; black for colours."""
    samples = number(shown, "SamplesPerPixel", 1)
    photometric = text(shown, "PhotometricInterpretation")
    view = frame[box.index(interleaved)]
    where = blanked[..., None] if interleaved else blanked
    if samples > 1:
        middle = 1 << max(0, min(number(shown, "BitsStored"), 8 * frame.itemsize) - 1)
        black = [0, middle, middle, *[0] * samples][:samples] if photometric.startswith("YBR") else [0] * samples
        values = np.array(black, frame.dtype) if interleaved else np.array(black[place % samples], frame.dtype)
        np.copyto(view, values, where=where)
        return
    outside = np.ones(frame.shape, np.bool_)
    outside[box.index(interleaved=False)] = ~blanked
    rest = frame[outside]
    darkest = (rest.max() if photometric == "MONOCHROME1" else rest.min()) if rest.size else frame.dtype.type(0)
    np.copyto(view, darkest, where=where)


def _seal_inside(
    handle: BinaryIO,
    target: BinaryIO,
    vault_key: VaultKey,
    frames: StoredFrames,
    box: Box,
    inside: bytes,
    options: Options,
) -> ObjectVersion:
    """Seal the box's pixels and the bytes around the image's pixels."""
    end = frames.span.offset + frames.span.length
    after = handle.seek(0, os.SEEK_END) - end
    segments = (
        Segment("|u1", (frames.span.offset,), pixels=False),
        Segment(frames.span.dtype, frames.box_shape(box)),
        Segment("|u1", (after,), pixels=False),
    )
    payload = _Inside(handle, frames, box, after)
    version = seal_segments(io.BufferedReader(payload), target, vault_key, Kind.REGION, segments, options)
    if payload.seen != inside:
        raise SourceChanged("The file changed while it was being sealed; nothing was kept. Try again.")
    return version


class _Inside(io.RawIOBase):
    """The bytes before the pixels, the box's pixels, and the bytes after them, as a file that is read from its start.

    So neither the file nor the region need fit into memory, and the region's pixels touch no temporary file.
    """

    def __init__(self, handle: BinaryIO, frames: StoredFrames, box: Box, after: int) -> None:
        super().__init__()
        self._handle, self._frames, self._box, self._after = handle, frames, box, after
        self._pieces = self._cut()
        self._left = memoryview(b"")
        self.seen = b""
        """SHA-256 of the box's pixels, once all have been read."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset or whence != os.SEEK_SET:
            raise io.UnsupportedOperation("This file is read from its beginning.")
        self._pieces, self._left = self._cut(), memoryview(b"")
        return 0

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(view), len(self._left))
        view[:count], self._left = self._left[:count], self._left[count:]
        return count

    def _cut(self) -> Iterator[bytes]:
        span = self._frames.span
        self._handle.seek(0)
        yield self._handle.read(span.offset)
        seen = hashlib.sha256()
        for frame in self._frames.read(self._handle):
            piece = frame[self._box.index(self._frames.interleaved)].tobytes()
            seen.update(piece)
            yield piece
        self.seen = seen.digest()
        self._handle.seek(span.offset + span.length)
        yield self._handle.read(self._after)
