"""A region of a DICOM image, sealed inside a DICOM object that shows the rest: burned-in names, a face.

The object is the original's attributes with the region blanked, Explicit VR Little Endian, and behind the pixel data a
private element with a container (kind REGION). The container holds the bytes before the pixels, the pixels of the
region's bounding box, and the bytes after them. With the visible pixels around the box these give the original file
back byte for byte. docs/dicom.md specifies the object.

What could show the region again is not in the object: icons, overlays, private attributes, signatures.
"""

import hashlib
import io
import json
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from cipher.container.api import ObjectVersion, Options
from cipher.container.beginning import reading
from cipher.container.header import Kind, Segment
from cipher.container.sealing import Opening, PixelSpan, seal_segments
from cipher.dicom.span import DicomLayout, PixelElement, find_span, read_attributes
from cipher.dicom.uids import Identifiers
from cipher.dicom.values import number, originals, quiet, text
from cipher.errors import BadSpan, ContextMismatch, Damaged, SourceChanged, UnsupportedFormat, UnsupportedImage
from cipher.files.atomic import atomic_write
from cipher.keys.vault_key import VaultKey

SEALED_MODE = 0o644
CREATOR = b"HE_INFER REGION 1 "
"""Private creator of the block (7FE1,10xx): 18 bytes."""

_IMPLEMENTATION = "2.25.231847733116184293093187410936472281157"
_LONG = struct.Struct("<HH2sHI")
_SHORT = struct.Struct("<HH2sH")
_CREATOR_ELEMENT = _SHORT.pack(0x7FE1, 0x0010, b"LO", len(CREATOR)) + CREATOR
_MOST_ELEMENT = 2**32 - 2
_BOUND = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "NumberOfFrames", "Rows", "Columns",
    "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip
_SHOWING = ("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence")
"""Elements that could show the region again, or that no longer fit the blanked pixels."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, said: str) -> "Box":
        """A box from 'x,y,width,height'.

        Raises:
            BadSpan: not four numbers, or an empty box.
        """
        try:
            box = cls(*(int(part) for part in said.split(",")))
        except (TypeError, ValueError):
            raise BadSpan(
                f"A region is written x,y,width,height in pixels, such as 0,0,200,40; got {said!r}."
            ) from None
        if box.x < 0 or box.y < 0 or box.width < 1 or box.height < 1:
            raise BadSpan(f"The region {said} is empty or begins outside the image.")
        return box

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"


@dataclass(frozen=True, slots=True)
class Region:
    """Pixels to seal: boxes, and a mask for images of its size."""

    boxes: tuple[Box, ...] = ()
    mask: NDArray[np.bool_] | None = None
    """(rows, columns)"""

    def digest(self) -> str:
        """Text that tells two regions apart."""
        mask = b"" if self.mask is None else str(self.mask.shape).encode() + np.packbits(self.mask).tobytes()
        return " ".join(map(str, self.boxes)) + (f" mask {hashlib.sha256(mask).hexdigest()}" if mask else "")

    def cover(self, rows: int, columns: int) -> tuple[Box, NDArray[np.bool_]]:
        """The bounding box in an image of this size, and which of its pixels are blanked.

        Raises:
            BadSpan: a box does not lie in the image, the mask has another size, or no pixel is chosen.
        """
        chosen = np.zeros((rows, columns), np.bool_)
        for box in self.boxes:
            if box.x + box.width > columns or box.y + box.height > rows:
                raise BadSpan(f"The region {box} does not lie in the image of {columns} x {rows} pixels.")
            chosen[box.y : box.y + box.height, box.x : box.x + box.width] = True
        if self.mask is not None:
            if self.mask.shape != (rows, columns):
                height, width = self.mask.shape
                raise BadSpan(f"The mask has {width} x {height} pixels and the image {columns} x {rows}.")
            chosen |= self.mask
        down, across = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
        if not down.size:
            raise BadSpan("The region holds no pixel: give a box, or a mask that is not black.")
        top, left = int(down[0]), int(across[0])
        box = Box(left, top, int(across[-1]) + 1 - left, int(down[-1]) + 1 - top)
        return box, chosen[top : top + box.height, left : left + box.width]


def load_mask(path: Path) -> NDArray[np.bool_]:
    """A mask from a NumPy file or a picture: pixels other than 0 are sealed.

    Raises:
        UnsupportedImage: not a picture of one value a pixel.
        StorageProblem: it cannot be read.
    """
    with reading(path) as handle:
        data = handle.read()
    try:
        if path.suffix.lower() == ".npy":
            mask = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(io.BytesIO(data)) as picture:
                mask = np.asarray(picture.convert("L"))
    except ModuleNotFoundError:
        raise UnsupportedImage("A mask as a picture needs the package 'pillow'; give it as a NumPy file.") from None
    except Exception as error:  # decoders of pictures fail in whatever way the bytes lead them to
        raise UnsupportedImage(f"{path.name} is no mask: neither a NumPy file nor a picture.") from error
    if mask.ndim != 2:
        raise UnsupportedImage(f"{path.name} is no mask: it has {mask.ndim} axes, and a mask rows and columns.")
    return np.asarray(mask != 0)


@dataclass(frozen=True, slots=True, eq=False)
class RegionObject:
    """A DICOM object with a sealed region, taken apart but not opened."""

    identifiers: Identifiers
    attributes: Dataset
    span: PixelSpan
    """The visible pixels."""
    pixels: bytes
    """Their bytes."""
    container_at: int
    container_bytes: int

    def binding(self) -> bytes:
        """The bytes that the container must be bound to, from the object as it is now."""
        return _binding(self.attributes, self.pixels)


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
    head = handle.read(len(_CREATOR_ELEMENT) + _LONG.size)
    if not head.startswith(_CREATOR_ELEMENT):
        return None
    broken = Damaged("The object with a sealed region was cut off or extended; restore it from a backup.")
    if len(head) < len(_CREATOR_ELEMENT) + _LONG.size:
        raise broken
    group, number_, vr, zero, length = _LONG.unpack(head[len(_CREATOR_ELEMENT) :])
    start = behind + len(head)
    if (group, number_, vr, zero) != (0x7FE1, 0x1000, b"OB", 0) or start + length != end or length < 8:
        raise broken
    handle.seek(end - 1)
    padding = handle.read(1)[0]  # the last byte says how many bytes fill the value up to an even length: 1 or 2
    span = find_span(attributes, element)
    if padding not in (1, 2) or span is None:
        raise broken
    handle.seek(span.offset)
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    identifiers = Identifiers(*(text(attributes, name) for name in names))
    return RegionObject(identifiers, attributes, span, handle.read(span.length), start, length - padding)


def seal_region(
    source: Path,
    destination: str | os.PathLike[str],
    vault_key: VaultKey,
    layout: DicomLayout,
    region: Region,
    options: Options,
) -> ObjectVersion:
    """Seal a region of a DICOM image; the file is read whole.

    Args:
        source: the DICOM file.
        destination: where the object with the region blanked goes.
        vault_key: opens it again.
        layout: layout of the source.
        region: the pixels to seal, in all frames.
        options: see `cipher.container.sealing.Options`.

    Raises:
        UnsupportedFormat: not an uncompressed little-endian DICOM image of 8, 16 or 32 bits.
        BadSpan: the region does not lie in the image.
        SourceChanged: the file changed meanwhile.
        StorageProblem: it cannot be read, or the destination not be written.
    """
    with reading(source) as handle:
        original = handle.read()
    attributes, span = _readable(source, original, layout)
    end = span.offset + span.length
    image = np.frombuffer(original[span.offset : end], np.dtype(span.dtype)).reshape(span.shape).copy()
    interleaved = _is_interleaved(attributes)
    box, blanked = region.cover(*_sides(span.shape, interleaved))
    view = image[_index(box, interleaved)]
    pixels = np.ascontiguousarray(view).tobytes()
    segments = (
        Segment("|u1", (span.offset,), pixels=False),
        Segment(span.dtype, view.shape),
        Segment("|u1", (len(original) - end,), pixels=False),
    )
    _blank(image, box, blanked, attributes, interleaved)
    visible = image.tobytes()
    shown = _shown(attributes, source.name)
    options = replace(
        options,
        name=source.name,
        private={**originals(attributes), **options.private},
        labels={"holds": "region", "region": str(box), "sop_instance": text(shown, "SOPInstanceUID")},
        associated=_binding(shown, visible),
    )
    sealed = io.BytesIO()
    payload = memoryview(original[: span.offset] + pixels + original[end:])
    version = seal_segments(payload, sealed, vault_key, Kind.REGION, segments, options)
    container = sealed.getvalue()
    if max(len(visible), len(container)) > _MOST_ELEMENT - 2:
        raise UnsupportedImage(f"{source.name} is too large: a DICOM element holds 4 GiB. Use the container form.")
    padding = 1 if len(container) % 2 else 2
    with atomic_write(destination, mode=SEALED_MODE, syncs=options.syncs) as target:
        target.write(_head(shown))
        target.write(
            _LONG.pack(0x7FE0, 0x0010, b"OB" if image.itemsize == 1 else b"OW", 0, len(visible) + len(visible) % 2)
        )
        target.write(visible + bytes(len(visible) % 2))
        target.write(_CREATOR_ELEMENT + _LONG.pack(0x7FE1, 0x1000, b"OB", 0, len(container) + padding))
        target.write(container + bytes(padding - 1) + bytes([padding]))
    return version


def compose(source: BinaryIO, opening: Opening) -> Iterator[bytes | memoryview]:
    """The original file's bytes, from the opened container and the visible pixels around the region.

    Args:
        source: the object, open for reading in binary.
        opening: its container, opened.

    Raises:
        ContextMismatch: the visible pixels are not those that the container was bound to.
        Damaged: a record was changed.
    """
    attributes, element = read_attributes(source, large=None)
    found = read_region(source, attributes, element) if element is not None else None
    if found is None or hashlib.sha256(found.binding()).digest() != opening.header.associated_digest:
        raise ContextMismatch("The object with a sealed region was changed while it was restored; try again.")
    before, pixels, _ = opening.header.segments
    box = Box.parse(opening.opened.labels.get("region", ""))
    payload = bytearray()
    for piece in opening.payload():
        payload += piece
    image = np.frombuffer(bytearray(found.pixels), np.dtype(found.span.dtype)).reshape(found.span.shape)
    view = image[_index(box, _is_interleaved(attributes))]
    if view.shape != pixels.shape or image.dtype != pixels.numpy_type():
        raise Damaged("The sealed region does not fit the image around it; restore the object from a backup.")
    end = before.nbytes + pixels.nbytes
    view[...] = np.frombuffer(payload[before.nbytes : end], pixels.numpy_type()).reshape(pixels.shape)
    yield bytes(payload[: before.nbytes])
    yield image.tobytes()
    yield bytes(payload[end:])


def _readable(source: Path, original: bytes, layout: DicomLayout) -> tuple[Dataset, PixelSpan]:
    """The attributes and pixels of an image that a region can be sealed of."""
    advice = "Use the container form, which keeps any file."
    if layout.span is None or layout.element is None:
        raise UnsupportedFormat(f"A region of {source.name} cannot be sealed: {layout.remark}. {advice}")
    attributes, element = read_attributes(io.BytesIO(original), large=None)
    span = find_span(attributes, element) if element is not None else None
    if span != layout.span or span is None:
        raise SourceChanged(f"{source.name} changed while it was being sealed; nothing was kept. Try again.")
    if layout.transfer_syntax == ExplicitVRBigEndian or span.dtype[0] == ">":
        raise UnsupportedFormat(
            f"A region of {source.name} cannot be sealed: its transfer syntax, Explicit VR Big Endian, is retired. "
            f"Convert it to little endian first. {advice}"
        )
    bits, photometric = number(attributes, "BitsAllocated"), text(attributes, "PhotometricInterpretation")
    if span.dtype[1] not in "iu" or bits not in (8, 16, 32) or photometric.startswith("YBR_FULL_422"):
        raise UnsupportedFormat(
            f"A region of {source.name} cannot be sealed: it has pixels of {bits} bits, {photometric}; whole pixels of "
            f"8, 16 or 32 bits are needed. {advice}"
        )
    return attributes, span


def _is_interleaved(attributes: Dataset) -> bool:
    return number(attributes, "SamplesPerPixel", 1) > 1 and number(attributes, "PlanarConfiguration") != 1


def _sides(shape: tuple[int, ...], interleaved: bool) -> tuple[int, int]:
    rows, columns = shape[-3:-1] if interleaved else shape[-2:]
    return rows, columns


def _index(box: Box, interleaved: bool) -> tuple[Any, ...]:
    """Index of a box in an array of frames, rows, columns and samples."""
    sides = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
    return (..., *sides, slice(None)) if interleaved else (..., *sides)


def _blank(image: NDArray[Any], box: Box, blanked: NDArray[np.bool_], attributes: Dataset, interleaved: bool) -> None:
    """Blank pixels of the box: with the darkest value that is left in the image; black for colours."""
    samples = number(attributes, "SamplesPerPixel", 1)
    photometric = text(attributes, "PhotometricInterpretation")
    view = image[_index(box, interleaved)]
    where = blanked[..., None] if interleaved else blanked
    if samples > 1:
        middle = 1 << max(0, min(number(attributes, "BitsStored"), 8 * image.itemsize) - 1)
        black = [0, middle, middle][:samples] if photometric.startswith("YBR") else [0] * samples
        values = np.array(black, image.dtype)
        if not interleaved:  # planes: frames * samples of them, one after the other
            values = np.tile(values, image.shape[0] // samples)[:, None, None]
        np.copyto(view, values, where=where)
        return
    outside = np.ones(image.shape[-2:], np.bool_)
    outside[_index(box, False)] = ~blanked
    rest = image[..., outside]
    darkest = (rest.max() if photometric == "MONOCHROME1" else rest.min()) if rest.size else image.dtype.type(0)
    np.copyto(view, darkest, where=where)


def _shown(original: Dataset, name: str) -> Dataset:
    """Attributes of the visible object: the original's, a new instance, without what could show the region again."""
    try:
        with quiet():
            return _without_region(original)
    except Exception as error:  # pydicom decodes the values here, and fails in whatever way hostile bytes lead it to
        raise UnsupportedFormat(
            f"A region of {name} cannot be sealed: its attributes cannot be read. Use the container form, which keeps "
            "any file."
        ) from error


def _without_region(original: Dataset) -> Dataset:
    shown = Dataset()
    for element in original:
        if not (element.tag.is_private or 0x6000 <= element.tag.group <= 0x60FF or element.keyword in _SHOWING):
            shown.add(element)
    _drop_inner(shown)
    shown.SOPInstanceUID = UID(f"2.25.{uuid.UUID(bytes=os.urandom(16), version=4).int}")
    kind = shown.get("ImageType") or ["ORIGINAL", "PRIMARY"]
    values = list(kind) if not isinstance(kind, str) else [kind]
    shown.ImageType = ["DERIVED", *values[1:]] if len(values) > 1 else ["DERIVED", "PRIMARY"]
    shown.DerivationDescription = "A region of the image is sealed by he_infer"
    return shown


def _drop_inner(dataset: Dataset) -> None:
    """Remove pixel data, private attributes and icons from all sequences."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                for inner in list(item):
                    tag = inner.tag
                    if (
                        tag.is_private
                        or tag.group == 0x7FE0
                        or 0x6000 <= tag.group <= 0x60FF
                        or inner.keyword in _SHOWING
                    ):
                        del item[tag]
                _drop_inner(item)


def _head(shown: Dataset) -> bytes:
    """Everything before the pixel data."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(text(shown, "SOPClassUID"))
    meta.MediaStorageSOPInstanceUID = UID(text(shown, "SOPInstanceUID"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "HE_INFER_1"
    dataset = Dataset(shown)
    dataset.file_meta, dataset.preamble = meta, bytes(128)
    head = io.BytesIO()
    try:
        with quiet():
            dcmwrite(head, dataset, enforce_file_format=True)
    except Exception as error:  # odd values, which pydicom reads and does not write
        raise UnsupportedFormat(
            "A region of this file cannot be sealed: its attributes cannot be written again. Use the container form, "
            "which keeps any file."
        ) from error
    return head.getvalue()


def _binding(attributes: Dataset, pixels: bytes) -> bytes:
    """The bytes that tie a sealed region to the image around it: canonical JSON."""
    bound = {name: _plain(attributes, name) for name in _BOUND}
    bound |= {"format": CREATOR.decode().strip(), "pixels": hashlib.sha256(pixels).hexdigest()}
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()


def _plain(attributes: Dataset, name: str) -> str:
    return text(attributes, name).rstrip("\0 ")
