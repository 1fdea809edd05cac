"""Opens DICOM files of any name, with or without a preamble. Uses pydicom; decodes no pixels.

One function opens every file, so that whoever asks for a patient, a frame count or pixels asks the same object.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from models.errors import DamagedImage, NotAnImage

_PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
"""Groups 0002 and 0008 in either byte order: one of them begins a file without a preamble."""


@dataclass(frozen=True)
class Identifiers:
    """Identifiers of patient, study and image in a file's header; None where they are missing."""

    sop_instance: str | None = None
    series: str | None = None
    study: str | None = None
    accession: str | None = None
    patient: str | None = None


KIND_TAGS = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "photometric": "PhotometricInterpretation",
}
"""DICOM attributes that state an image's kind, by the names under which a model card lists them."""


def looks_like(head: bytes) -> bool:
    """Whether the first 136 bytes of a file can be those of a DICOM file, with or without a preamble."""
    if head[128:132] == b"DICM":
        return True
    # A first element of group 0002 or 0008 with a small element number, in the byte order that the group has.
    if len(head) < 8 or head[:2] not in _FIRST_GROUPS:
        return False
    element = int.from_bytes(head[2:4], "little" if head[1:2] == b"\x00" else "big")
    return element <= 0x0070


def read(path: Path) -> pydicom.Dataset:
    """Read a DICOM file whose pixels can be asked for.

    Raises:
        NotAnImage: not DICOM, or an object without pixels (a report, a structure set, a directory).
    """
    dataset = _open(path)
    if not any(element in dataset for element in _PIXEL_ELEMENTS):
        what = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
        kind = f" ({what.name})" if isinstance(what, pydicom.uid.UID) else ""
        raise NotAnImage(f"{path} is a DICOM object without pixels{kind}. An image object is needed.")
    return dataset


def read_header(path: Path) -> pydicom.Dataset:
    """Read a DICOM file's elements up to its pixels.

    Raises:
        NotAnImage: not DICOM.
    """
    return _open(path, stop_before_pixels=True)


def identify(dataset: pydicom.Dataset) -> Identifiers:
    """The identifiers of an object; blank ones are None."""
    keywords = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")
    return Identifiers(*(text(dataset, keyword) or None for keyword in keywords))


def describe_kind(dataset: pydicom.Dataset) -> dict[str, str]:
    """Modality, body part, view and photometric kind in upper case, without those that are missing."""
    found = {name: text(dataset, keyword).upper() for name, keyword in KIND_TAGS.items()}
    return {name: value for name, value in found.items() if value}


def count_frames(dataset: pydicom.Dataset) -> int:
    """Number of frames, at least 1.

    Raises:
        DamagedImage: Number of Frames is no whole number.
    """
    value = number(dataset, "NumberOfFrames", 1.0)
    if value != int(value):
        raise DamagedImage(f"(0028,0008) Number of Frames is {value}. Expected a whole number.")
    return max(int(value), 1)


def number(dataset: pydicom.Dataset, keyword: str, default: float) -> float:
    """The first value of a numeric element; the default where it is missing or empty.

    Raises:
        DamagedImage: it holds something that is no number; the text names the tag.
    """
    try:
        with quiet():
            value = dataset.get(keyword)
            if isinstance(value, pydicom.multival.MultiValue | list | tuple):
                value = value[0] if len(value) else None
            return default if value is None or str(value).strip() == "" else float(value)
    except (TypeError, ValueError, OverflowError, NotImplementedError, AttributeError) as error:
        tag = pydicom.datadict.tag_for_keyword(keyword) or 0
        named = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {pydicom.datadict.dictionary_description(tag)}"
        raise DamagedImage(f"{named} does not hold a number, which was expected.") from error


def text(dataset: pydicom.Dataset, keyword: str) -> str:
    """An element as text without blanks around it; empty where it is missing or cannot be read."""
    try:
        with quiet():
            value = dataset.get(keyword)
            return "" if value is None else str(value).strip().strip("\0")
    except Exception:  # foreign bytes may raise any error; an identifier that cannot be read counts as missing
        return ""


def describe_syntax(dataset: pydicom.Dataset) -> str:
    """The transfer syntax by name and number, for messages."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return "no transfer syntax stated"
    name = pydicom.uid.UID(syntax).name
    return f"transfer syntax {syntax}" + (f", {name}" if name != syntax else "")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress pydicom's warnings about files that break the standard."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _open(path: Path, **options: Any) -> pydicom.Dataset:
    try:
        with quiet():
            return _read(path, options)
    except InvalidDicomError as error:
        raise NotAnImage(
            f"{path} is not a DICOM file, although it is named like one: the DICOM header is missing."
        ) from error
    except FileNotFoundError:
        raise NotAnImage(f"There is no file {path}.") from None
    except Exception as error:  # the parser raises many kinds of error on foreign bytes
        raise NotAnImage(f"{path} cannot be parsed as DICOM ({type(error).__name__}).") from error


def _read(path: Path, options: dict[str, Any]) -> pydicom.Dataset:
    try:
        dataset = pydicom.dcmread(path, **options)
    except InvalidDicomError:
        # Without a preamble. Taken only where it proves to be an object: forced reading makes something of any text.
        dataset = pydicom.dcmread(path, force=True, **options)
        if "SOPClassUID" not in dataset and "Rows" not in dataset:
            raise
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ExplicitVRBigEndian
            if little is False
            else pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
        )
    return dataset
