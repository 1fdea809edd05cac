"""Stored pixels of one frame, decompressed. The codecs are pydicom's and pylibjpeg's."""

from collections.abc import Sequence
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array

from models.errors import DamagedImage
from models.images.dicom import count_frames, number

_NEEDED = ("SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
"""Attributes without which pixels cannot be read; fractions (Float Pixel Data) need the first two alone."""
_SEQUENTIAL = (0xC0, 0xC1)
"""Start-of-frame markers of sequential DCT coding, of 8 and of 12 bits."""


def decode(dataset: pydicom.Dataset, index: int, kind: str) -> NDArray[Any]:
    """Stored values of frame `index`: (H, W), or (H, W, 3) in RGB.

    Args:
        dataset: the object.
        index: number of the frame, from 0.
        kind: its photometric interpretation, as the standard spells it.

    Raises:
        DamagedImage: an attribute is missing that the pixels cannot be read without.
        Exception: any error of a codec; `display.show` makes an ImageError of it.
    """
    _require(dataset, _NEEDED if "PixelData" in dataset else _NEEDED[:2])
    options: dict[str, Any] = {"photometric_interpretation": kind}
    unused = _count_low_bits(dataset)
    if unused:
        options["bits_stored"] = int(dataset.BitsStored) + unused
    try:
        stored = pixel_array(dataset, index=index, **options)
    except Exception:  # each codec raises errors of its own, and what cannot be mended is raised again
        mended = _mend(dataset, index)
        if mended is None:
            raise
        return pixel_array(mended, index=0, **options)
    return stored >> unused if unused else stored


def _require(dataset: pydicom.Dataset, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if dataset.get(keyword) in (None, ""):
            tag = pydicom.tag.Tag(keyword)
            raise DamagedImage(
                f"({tag.group:04X},{tag.element:04X}) {pydicom.datadict.dictionary_description(tag)} is missing or "
                "empty. The pixels cannot be read without it."
            )


def _count_low_bits(dataset: pydicom.Dataset) -> int:
    """Number of unused bits below the pixel's own, as old objects have them whose High Bit is beyond Bits Stored - 1.

    Codecs leave no such bits, so this is asked of uncompressed pixels alone.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" not in dataset or "HighBit" not in dataset or syntax.is_compressed:
        return 0
    high, stored, allocated = (int(number(dataset, name, 0)) for name in ("HighBit", "BitsStored", "BitsAllocated"))
    unused = high + 1 - stored
    return unused if stored > 0 and 0 < unused <= allocated - stored else 0


def _mend(dataset: pydicom.Dataset, index: int) -> pydicom.Dataset | None:
    """The object with this frame alone and its JPEG scan header corrected; None where there is nothing to correct.

    Some encoders of 12-bit JPEG write 0 for the end of the spectral selection of a sequential scan, which must be 63
    (ITU-T T.81, table B.3). Decoders that ignore the field read these files; libjpeg does not.
    """
    if dataset.file_meta.TransferSyntaxUID not in (pydicom.uid.JPEGBaseline8Bit, pydicom.uid.JPEGExtended12Bit):
        return None
    frame = correct_scans(get_frame(dataset.PixelData, index, number_of_frames=count_frames(dataset)))
    if frame is None:
        return None
    mended = pydicom.Dataset()
    mended.file_meta = dataset.file_meta
    for element in dataset:
        if element.tag.group == 0x0028:
            mended[element.tag] = element
    mended.NumberOfFrames = 1
    mended.PixelData = encapsulate([frame])
    mended["PixelData"].is_undefined_length = True
    return mended


def correct_scans(frame: bytes) -> bytes | None:
    """A sequential JPEG whose scans end their spectral selection at 63; None where none had to be corrected."""
    corrected = bytearray(frame)
    at, sequential, changed = 2, False, False
    while at + 4 <= len(corrected) and corrected[at] == 0xFF:
        marker, length = corrected[at + 1], int.from_bytes(corrected[at + 2 : at + 4], "big")
        sequential = sequential or marker in _SEQUENTIAL
        if marker == 0xDA:
            end = at + 2 + length - 2  # of the selection; one byte for the approximation follows
            if sequential and end < len(corrected) and corrected[end] != 63:
                corrected[end], changed = 63, True
            break  # entropy-coded data follow; a further scan of one component is not corrected
        at += 2 + length
    return bytes(corrected) if changed else None
