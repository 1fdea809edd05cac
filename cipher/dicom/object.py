"""A sealed image as a DICOM object that any archive stores: an 8-bit Secondary Capture whose pixels are a container.

The pixel data is a frame of 16 bytes, the container, and zero bytes up to whole rows:

    0:4    magic b"HEID"
    4:6    version u16 LE = 1
    6:8    zero
    8:16   length of the container, u64 LE
    16:…   the container (docs/format-container.md), sealed with `binding` as its associated bytes

docs/dicom.md lists every attribute. This module knows nothing of keys.
"""

import io
import json
import math
import shutil
import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from cipher.dicom import attributes as dicom_attributes
from cipher.dicom.region_object import RegionObject, read_region
from cipher.dicom.span import read_attributes
from cipher.dicom.uids import Identifiers
from cipher.dicom.values import items, number, quiet, text
from cipher.errors import ContextMismatch, Damaged, UnsupportedFormat, UnsupportedImage, UnsupportedVersion

MAGIC = b"HEID"
VERSION = 1
METHOD = "he-infer sealed DICOM object 1"
"""(0012,0063); also tells a sealed object whose pixels an archive has compressed."""

_FRAME = struct.Struct("<4sHHQ")
_ELEMENT = struct.Struct("<HH2sHI")
_MOST_SIDE = 65534
_IMPLEMENTATION = "2.25.231847733116184293093187410936472281157"
_PIXEL_MODULE = {
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "PixelRepresentation": 0,
}


@dataclass(frozen=True, slots=True, eq=False)
class SealedObject:
    """A sealed DICOM object, taken apart but not opened."""

    identifiers: Identifiers
    attributes: Dataset
    """All attributes before the pixel data."""
    container_at: int
    """Offset of the container in the file."""
    container_bytes: int
    rows: int
    columns: int
    pixel_bytes: int
    """Frame, container and padding."""

    def binding(self) -> bytes:
        """The bytes that the container must be bound to, from the attributes as they are now.

        Raises:
            ContextMismatch: something that is bound is missing or not what this package writes.
            Damaged: the pixel data is cut off.
        """
        if (self.rows, self.columns) != sides(self.container_bytes):
            raise ContextMismatch(
                f"The sealed DICOM object announces {self.rows} x {self.columns} pixels, which is not the shape it was "
                "sealed with."
            )
        if self.pixel_bytes != self.rows * self.columns:
            raise Damaged("The pixel data of the sealed DICOM object is cut off; restore it from a backup.")
        for name, value in _PIXEL_MODULE.items():
            if text(self.attributes, name) != str(value):
                raise ContextMismatch(f"The attribute {name} of the sealed DICOM object was changed from {value}.")
        if text(self.attributes, "SOPClassUID") != SecondaryCaptureImageStorage:
            raise ContextMismatch("The SOP class of the sealed DICOM object was changed.")
        sequence = items(self.attributes, "EncryptedAttributesSequence")
        return binding(self.identifiers, dicom_attributes.digest(sequence))


def sides(container_bytes: int) -> tuple[int, int]:
    """Rows and columns for a container of this size: about square, an even number of columns.

    Raises:
        UnsupportedImage: more than a DICOM element holds (about 4 GiB).
    """
    total = _FRAME.size + container_bytes
    columns = max(32, math.isqrt(total - 1) + 1)
    columns += columns % 2
    rows = -(-total // columns)
    if columns > _MOST_SIDE or rows * columns >= 2**32 - 1:
        raise UnsupportedImage(
            f"The sealed file takes {container_bytes} bytes, and a DICOM image at most 4 GiB; use the container form."
        )
    return rows, columns


def binding(identifiers: Identifiers, encrypted_attributes: str) -> bytes:
    """The bytes that tie a container to the DICOM object around it.

    Rows and columns are tied through the container's own length, which its tag covers, by the rule of `sides`. The
    Patient ID is not among them: archives change it on purpose, and the original's comes back from the container.

    Args:
        identifiers: the object's new identifiers.
        encrypted_attributes: digest of the encrypted attributes.
    """
    bound = {
        "encrypted_attributes": encrypted_attributes,
        "format": METHOD,
        "pixels": _PIXEL_MODULE,
        "series": identifiers.series,
        "sop_class": str(SecondaryCaptureImageStorage),
        "sop_instance": identifiers.instance,
        "study": identifiers.study,
    }
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()


def write_object(
    target: BinaryIO, container: BinaryIO, container_bytes: int, identifiers: Identifiers, encrypted: Dataset
) -> None:
    """Write a sealed DICOM object.

    Args:
        target: open for writing in binary.
        container: at its beginning; read in pieces.
        container_bytes: its length.
        identifiers: identifiers of the new object.
        encrypted: the item of the Encrypted Attributes Sequence.

    Raises:
        UnsupportedImage: too large for DICOM.
    """
    rows, columns = sides(container_bytes)
    dataset = _attributes(identifiers, encrypted, rows, columns)
    head = io.BytesIO()
    with quiet():
        dcmwrite(head, dataset, enforce_file_format=True)
    target.write(head.getvalue())
    target.write(_ELEMENT.pack(0x7FE0, 0x0010, b"OB", 0, rows * columns))
    target.write(_FRAME.pack(MAGIC, VERSION, 0, container_bytes))
    shutil.copyfileobj(container, target, 1 << 20)
    target.write(bytes(rows * columns - _FRAME.size - container_bytes))


def read_object(handle: BinaryIO) -> SealedObject | RegionObject:
    """Take a sealed DICOM object apart, or an image with a sealed region.

    Args:
        handle: the file, open for reading in binary.

    Raises:
        UnsupportedFormat: not a sealed DICOM object, or one whose pixels an archive has compressed.
        UnsupportedVersion: written by a later release.
        Damaged: cut off, or its padding was changed.
    """
    try:
        attributes, element = read_attributes(handle, large=None)
    except InvalidDicomError:
        raise UnsupportedFormat("This is not a sealed object: neither a container nor a DICOM file.") from None
    method = text(attributes, "DeidentificationMethod")
    if element is not None and element.encapsulated and method.startswith("he-infer sealed DICOM object"):
        raise UnsupportedFormat(
            "The archive has compressed the sealed pixel data; fetch the object in its original transfer syntax "
            "(Explicit VR Little Endian)."
        )
    frame = b""
    if element is not None and element.length >= _FRAME.size:
        handle.seek(element.offset)
        frame = handle.read(_FRAME.size)
    if element is not None and frame[:4] != MAGIC:
        region = read_region(handle, attributes, element)
        if region is not None:
            return region
    if element is None or frame[:4] != MAGIC:
        raise UnsupportedFormat("This DICOM file is not a sealed object: its pixel data does not begin with HEID.")
    _, version, zero, container_bytes = _FRAME.unpack(frame)
    if version != VERSION:
        raise UnsupportedVersion(f"The sealed DICOM object has format version {version}; this release reads {VERSION}.")
    padding = element.length - _FRAME.size - container_bytes
    if zero or padding < 0:
        raise Damaged("The pixel data of the sealed DICOM object was changed or cut off; restore it from a backup.")
    handle.seek(element.offset + _FRAME.size + container_bytes)
    rows, columns = number(attributes, "Rows"), number(attributes, "Columns")
    if padding > _MOST_SIDE or handle.read(padding).strip(b"\0"):
        raise Damaged("Bytes were added behind the sealed pixel data; restore it from a backup.")
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    identifiers = Identifiers(*(text(attributes, name) for name in names))
    start = element.offset + _FRAME.size
    return SealedObject(identifiers, attributes, start, container_bytes, rows, columns, element.length)


def _attributes(identifiers: Identifiers, encrypted: Dataset, rows: int, columns: int) -> Dataset:
    """The object without its pixel data: the mandatory modules of the Secondary Capture IOD (PS3.3 A.8.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID(identifiers.instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "HE_INFER_1"
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.preamble = bytes(128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = identifiers.instance
    for empty in (
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
        "PatientOrientation",
        "Laterality",
    ):
        setattr(dataset, empty, None)
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.SeriesDescription = "Sealed image: pixels are encrypted"
    dataset.PatientName = "SEALED"
    dataset.PatientID = identifiers.patient_id
    dataset.PatientBirthDate = None
    dataset.PatientSex = None
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.DeidentificationMethodCodeSequence = [_code("113100", "Basic Application Confidentiality Profile")]
    dataset.StudyInstanceUID = identifiers.study
    dataset.SeriesInstanceUID = identifiers.series
    dataset.SeriesNumber = None
    dataset.InstanceNumber = "1"
    dataset.Rows, dataset.Columns = rows, columns
    for name, value in _PIXEL_MODULE.items():
        setattr(dataset, name, value)
    dataset.BurnedInAnnotation = "NO"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.EncryptedAttributesSequence = [encrypted]
    return dataset


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code
