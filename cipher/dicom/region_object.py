"""A DICOM object that shows an image without a region, which is sealed in it: burned-in names, a face.

The object is the original's attributes with the region blanked, Explicit VR Little Endian, and behind the pixel data a
private element with a container. That holds the region's pixels and the bytes around the image's pixels (kind REGION),
from which the original follows with the visible pixels; or, where the visible pixels are not the file's own words
(compressed, big-endian, packed), the whole original. docs/dicom.md specifies the object.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from pydicom import Dataset

from cipher.container.opening import Opening
from cipher.container.sealing import PixelSpan
from cipher.dicom.frames import StoredFrames, is_interleaved
from cipher.dicom.region import Box
from cipher.dicom.span import PixelElement, find_span, read_attributes
from cipher.dicom.uids import Identifiers
from cipher.dicom.values import text
from cipher.errors import ContextMismatch, Damaged

CREATOR = b"HE_INFER REGION 1 "
"""Private creator of the block (7FE1,10xx): 18 bytes."""
ELEMENT = struct.Struct("<HH2sHI")
CREATOR_ELEMENT = struct.pack("<HH2sH", 0x7FE1, 0x0010, b"LO", len(CREATOR)) + CREATOR

_READ = 1 << 20
_BOUND = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "NumberOfFrames", "Rows", "Columns",
    "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RegionObject:
    """A DICOM object with a sealed region, taken apart but not opened."""

    identifiers: Identifiers
    attributes: Dataset
    span: PixelSpan
    """The visible pixels."""
    pixels_sha256: str
    """SHA-256 of the visible pixels' bytes, in hexadecimal."""
    container_at: int
    container_bytes: int

    def binding(self) -> bytes:
        """The bytes that the container must be bound to, from the object as it is now."""
        return binding(self.attributes, self.pixels_sha256)


def read_region(handle: BinaryIO, attributes: Dataset, element: PixelElement) -> RegionObject | None:
    """Take an object apart; None if it is not one with a sealed region.

    Args:
        handle: the file, open for reading in binary.
        attributes: its attributes.
        element: its pixel data.

    Raises:
        Damaged: cut off or extended.
    """
    if element.encapsulated:
        return None
    end = handle.seek(0, os.SEEK_END)
    behind = element.offset + element.length
    handle.seek(behind)
    head = handle.read(len(CREATOR_ELEMENT) + ELEMENT.size)
    if not head.startswith(CREATOR_ELEMENT):
        return None
    broken = Damaged("The object with a sealed region was cut off or extended; restore it from a backup.")
    if len(head) < len(CREATOR_ELEMENT) + ELEMENT.size:
        raise broken
    group, number_, vr, zero, length = ELEMENT.unpack(head[len(CREATOR_ELEMENT) :])
    start = behind + len(head)
    if (group, number_, vr, zero) != (0x7FE1, 0x1000, b"OB", 0) or start + length != end or length < 8:
        raise broken
    handle.seek(end - 1)
    padding = handle.read(1)[0]  # the last byte says how many bytes fill the value up to an even length: 1 or 2
    span = find_span(attributes, element)
    if padding not in (1, 2) or span is None:
        raise broken
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    identifiers = Identifiers(*(text(attributes, name) for name in names))
    found = hashlib.sha256()
    handle.seek(span.offset)
    left = span.length
    while left and (piece := handle.read(min(left, _READ))):
        found.update(piece)
        left -= len(piece)
    return RegionObject(identifiers, attributes, span, found.hexdigest(), start, length - padding)


def binding(attributes: Dataset, pixels_sha256: str) -> bytes:
    """The bytes that tie a sealed region to the image around it: canonical JSON."""
    bound = {name: text(attributes, name).rstrip("\0 ") for name in _BOUND}
    bound |= {"format": CREATOR.decode().strip(), "pixels": pixels_sha256}
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()


def compose(source: BinaryIO, opening: Opening) -> Iterator[bytes | memoryview]:
    """The original file's bytes, from the opened container (kind REGION) and the visible pixels around the region.

    Memory is bounded by a chunk and a frame. If it raises, what was given before must not be kept.

    Args:
        source: the object, open for reading in binary.
        opening: its container, opened.

    Raises:
        ContextMismatch: the visible pixels are not those that the container was bound to.
        Damaged: a record was changed.
    """
    changed = ContextMismatch("The object with a sealed region was changed while it was restored; try again.")
    attributes, element = read_attributes(source, large=None)
    found = read_region(source, attributes, element) if element is not None else None
    if found is None or hashlib.sha256(found.binding()).digest() != opening.header.associated_digest:
        raise changed
    before, pixels, after = opening.header.segments
    box, frames = (
        Box.parse(opening.opened.labels.get("region", "")),
        StoredFrames(found.span, is_interleaved(attributes)),
    )
    fits = box.x + box.width <= frames.columns and box.y + box.height <= frames.rows
    if not fits or frames.box_shape(box) != pixels.shape or found.span.dtype != pixels.dtype:
        raise Damaged("The sealed region does not fit the image around it; restore the object from a backup.")
    payload = _Payload(opening)
    yield from payload.read(before.nbytes)
    size = pixels.nbytes // frames.count
    seen = hashlib.sha256()
    for frame in frames.read(source):
        seen.update(frame.data)
        inside = b"".join(payload.read(size))
        view = frame[box.index(frames.interleaved)]
        view[...] = np.frombuffer(inside, pixels.numpy_type()).reshape(view.shape)
        yield frame.tobytes()
    yield from payload.read(after.nbytes)
    payload.end()
    if seen.hexdigest() != found.pixels_sha256:
        raise changed


class _Payload:
    """A container's payload, read in pieces of any size."""

    def __init__(self, opening: Opening) -> None:
        self._pieces = opening.payload()
        self._left = memoryview(b"")

    def read(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in copies."""
        while size:
            if not self._left:
                self._left = next(self._pieces)
            piece, self._left = self._left[:size], self._left[size:]
            size -= len(piece)
            yield bytes(piece)

    def end(self) -> None:
        """Run to the end, after the last byte."""
        for _ in self._pieces:
            pass
