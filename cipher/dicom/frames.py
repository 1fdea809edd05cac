"""The pixels of a DICOM image, frame by frame: as they lie in the file, or decoded from it.

A frame is an array of rows and columns, with the samples of a pixel behind them where they are interleaved; of an image
whose colours lie in planes, each plane is a frame of its own.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from cipher.container.sealing import PixelSpan
from cipher.dicom.region import Box
from cipher.dicom.values import number, quiet, text
from cipher.errors import SourceChanged, UnsupportedFormat

Frame = NDArray[Any]


class Frames(Protocol):
    """Frames that are shown around a region."""

    @property
    def rows(self) -> int:
        """Rows of a frame."""
        ...

    @property
    def columns(self) -> int:
        """Columns of a frame."""
        ...

    @property
    def interleaved(self) -> bool:
        """Whether the samples of a pixel lie side by side."""
        ...

    def read(self, handle: BinaryIO) -> Iterator[Frame]:
        """The frames of a file, from the first; each may be changed."""
        ...

    def pack(self, frames: Iterator[Frame]) -> Iterator[bytes]:
        """The frames' bytes in the visible object, little endian."""
        ...

    def nbytes(self) -> int:
        """Bytes of all frames in the visible object."""
        ...

    def describe(self, shown: Dataset) -> None:
        """Make the visible object's attributes fit the frames."""
        ...


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """Uncompressed frames of whole little-endian words, which are shown as they lie in the file."""

    span: PixelSpan
    interleaved: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return self.span.shape[-3:] if self.interleaved else self.span.shape[-2:]

    @property
    def rows(self) -> int:
        """Rows of a frame."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """Columns of a frame."""
        return self.shape[1]

    @property
    def count(self) -> int:
        """Number of frames, or of planes."""
        return self.span.shape[0] if len(self.span.shape) > len(self.shape) else 1

    def read(self, handle: BinaryIO) -> Iterator[Frame]:
        """As `Frames.read`.

        Raises:
            SourceChanged: the file has become shorter.
        """
        size = self.span.length // self.count
        for number_ in range(self.count):
            handle.seek(self.span.offset + number_ * size)
            data = bytearray(handle.read(size))
            if len(data) != size:
                raise SourceChanged("The file changed while it was read; nothing was kept. Try again.")
            yield np.frombuffer(data, self.span.dtype).reshape(self.shape)

    def pack(self, frames: Iterator[Frame]) -> Iterator[bytes]:
        """As `Frames.pack`."""
        return (frame.tobytes() for frame in frames)

    def nbytes(self) -> int:
        """As `Frames.nbytes`."""
        return self.span.length

    def describe(self, shown: Dataset) -> None:
        """As `Frames.describe`: nothing changes."""

    def box_shape(self, box: Box) -> tuple[int, ...]:
        """Shape of the pixels of a box in all frames."""
        inner = (box.height, box.width, *self.shape[2:])
        return inner if len(self.span.shape) == len(self.shape) else (self.count, *inner)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrames:
    """Frames that pydicom decodes: compressed, big-endian or packed ones. Colours come as RGB."""

    count: int
    first: Frame
    packed: bool
    """Whether the visible object has 8 pixels in a byte."""

    @classmethod
    def find(cls, handle: BinaryIO, attributes: Dataset, name: str) -> "DecodedFrames":
        """Decode the first frame.

        Raises:
            UnsupportedFormat: it cannot be decoded here, or its pixels are no integers.
        """
        count = max(1, number(attributes, "NumberOfFrames", 1))
        first = next(_decode(handle, name))
        if first.dtype.kind not in "iu" or first.itemsize > 4:
            raise UnsupportedFormat(
                f"A region of {name} cannot be sealed: its pixels are of type {first.dtype}, and integers of up to 32 "
                "bits are needed. Use the container form, which keeps any file."
            )
        return cls(count, first, number(attributes, "BitsAllocated") == 1)

    @property
    def rows(self) -> int:
        """Rows of a frame."""
        return int(self.first.shape[0])

    @property
    def columns(self) -> int:
        """Columns of a frame."""
        return int(self.first.shape[1])

    @property
    def interleaved(self) -> bool:
        """Whether a pixel has several samples."""
        return self.first.ndim == 3

    def read(self, handle: BinaryIO) -> Iterator[Frame]:
        """As `Frames.read`.

        Raises:
            SourceChanged: there are not as many frames as announced, or of different shapes.
        """
        found = 0
        for frame in _decode(handle, "the file"):
            if frame.shape != self.first.shape or frame.dtype != self.first.dtype:
                raise SourceChanged("The frames have different shapes; nothing was kept. Use the container form.")
            found += 1
            yield np.array(frame)
        if found != self.count:
            raise SourceChanged(f"The file announces {self.count} frames and has {found}; use the container form.")

    def pack(self, frames: Iterator[Frame]) -> Iterator[bytes]:
        """As `Frames.pack`. Bits of a frame may begin within a byte."""
        if not self.packed:
            yield from (frame.astype(frame.dtype.newbyteorder("<")).tobytes() for frame in frames)
            return
        rest = np.empty(0, np.uint8)
        for frame in frames:
            bits = np.concatenate([rest, (frame != 0).reshape(-1).astype(np.uint8)])
            whole = bits.size // 8 * 8
            yield np.packbits(bits[:whole], bitorder="little").tobytes()
            rest = bits[whole:]
        yield np.packbits(rest, bitorder="little").tobytes()

    def nbytes(self) -> int:
        """As `Frames.nbytes`."""
        return -(-self.count * self.first.size // 8) if self.packed else self.count * self.first.nbytes

    def describe(self, shown: Dataset) -> None:
        """As `Frames.describe`."""
        samples = self.first.shape[2] if self.interleaved else 1
        shown.SamplesPerPixel = samples
        if samples > 1:
            shown.PhotometricInterpretation = "RGB"
            shown.PlanarConfiguration = 0
        elif "PlanarConfiguration" in shown:
            del shown.PlanarConfiguration
        if self.packed:
            return
        bits = 8 * self.first.itemsize
        stored = number(shown, "BitsStored", bits)
        shown.BitsAllocated, shown.BitsStored = bits, stored if 0 < stored <= bits else bits
        shown.HighBit = shown.BitsStored - 1
        shown.PixelRepresentation = int(self.first.dtype.kind == "i")


def find_frames(handle: BinaryIO, attributes: Dataset, span: PixelSpan | None, name: str) -> Frames:
    """The frames of a file that can be shown.

    Raises:
        UnsupportedFormat: they cannot be decoded here, or are no integers.
    """
    photometric = text(attributes, "PhotometricInterpretation")
    if (
        span is not None
        and span.dtype in ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4")
        and number(attributes, "BitsAllocated") in (8, 16, 32)
        and not photometric.startswith("YBR_FULL_422")
        and attributes.original_encoding[1] is not False
    ):
        return StoredFrames(span, is_interleaved(attributes))
    return DecodedFrames.find(handle, attributes, name)


def is_interleaved(attributes: Dataset) -> bool:
    """Whether the samples of a pixel lie side by side."""
    return number(attributes, "SamplesPerPixel", 1) > 1 and number(attributes, "PlanarConfiguration") != 1


def _decode(handle: BinaryIO, name: str) -> Iterator[Frame]:
    handle.seek(0, os.SEEK_SET)
    try:
        with quiet():
            frames = iter_pixels(handle)
            first = next(frames)
        yield first
        while True:
            with quiet():
                frame = next(frames, None)
            if frame is None:
                return
            yield frame
    except Exception as error:  # decoders fail in whatever way the bytes lead them to, or are not installed
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedFormat(
            f"A region of {name} cannot be sealed: its pixels cannot be decoded here ({reason}). Decoders come with "
            "he-infer's extra 'client'. Or use the container form, which keeps any file."
        ) from error
