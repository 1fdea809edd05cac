"""Attributes of the visible object around a sealed region: the original's, less what could show the region again."""

import io
import os
import uuid
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from cipher.dicom.values import quiet, text
from cipher.errors import UnsupportedFormat

if TYPE_CHECKING:
    from cipher.dicom.frames import Frames

_IMPLEMENTATION = "2.25.231847733116184293093187410936472281157"
_SHOWING = (
    "IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence",
    "HistogramSequence", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
)  # fmt: skip
"""Elements that could show the region again, or that no longer fit the blanked pixels."""
_PIXEL_GROUP = 0x7FE0
_WORDS = {"OW": "u2", "OF": "u4", "OL": "u4", "OD": "u8", "OV": "u8"}
"""VRs whose values are words, which pydicom leaves as they lie in the file."""


def show(original: Dataset, frames: "Frames", name: str) -> Dataset:
    """The visible object without its pixels: a new instance.

    Args:
        original: all attributes before the pixel data.
        frames: the pixels that will be shown.
        name: name of the file, for messages.

    Raises:
        UnsupportedFormat: an attribute cannot be read.
    """
    try:
        with quiet():
            shown = _without_region(original)
            frames.describe(shown)
    except Exception as error:  # pydicom decodes the values here, and fails in whatever way hostile bytes lead it to
        raise UnsupportedFormat(
            f"A region of {name} cannot be sealed: its attributes cannot be read. Use the container form, which keeps "
            "any file."
        ) from error
    return shown


def _without_region(original: Dataset) -> Dataset:
    shown = Dataset()
    for element in original:
        if not _may_show(element):
            shown.add(element)
    if original.original_encoding[1] is False:
        _turn_words(shown)
    _drop_inner(shown)
    shown.SOPInstanceUID = UID(f"2.25.{uuid.UUID(bytes=os.urandom(16), version=4).int}")
    kind = shown.get("ImageType") or ["ORIGINAL", "PRIMARY"]
    values = list(kind) if not isinstance(kind, str) else [kind]
    shown.ImageType = ["DERIVED", *values[1:]] if len(values) > 1 else ["DERIVED", "PRIMARY"]
    shown.DerivationDescription = "A region of the image is sealed by he_infer"
    return shown


def _may_show(element: DataElement) -> bool:
    """Whether an element could show the region: private ones, curves, overlays, pixels, icons, histograms."""
    group = element.tag.group
    return (
        element.tag.is_private
        or group == _PIXEL_GROUP
        or 0x5000 <= group <= 0x50FF
        or 0x6000 <= group <= 0x60FF
        or element.keyword in _SHOWING
    )


def _drop_inner(dataset: Dataset) -> None:
    """Remove from all sequences what could show the region."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                for inner in list(item):
                    if _may_show(inner):
                        del item[inner.tag]
                _drop_inner(item)


def _turn_words(dataset: Dataset) -> None:
    """Bring values of words from big into little endian; pydicom does it for numbers."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _turn_words(item)
        elif element.VR in _WORDS and isinstance(element.value, bytes):
            element.value = (
                np.frombuffer(element.value, ">" + _WORDS[element.VR]).astype("<" + _WORDS[element.VR]).tobytes()
            )


def write_head(shown: Dataset) -> bytes:
    """Everything before the pixel data.

    Raises:
        UnsupportedFormat: an attribute cannot be written.
    """
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
