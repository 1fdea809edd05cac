"""The classified image as a report refers to it: its UIDs, and the copied attributes of patient and study. No pixels.

Archives hold objects with missing, empty and invalid attributes. A report must neither fail because of them nor repeat
invalid values: an attribute whose value breaks its VR is left empty.
"""

import warnings
from pathlib import Path

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from he_infer.errors import ReportError
from models.errors import ModelsError
from models.images import dicom

_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PRESENT_BUT_MAYBE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_OPTIONAL = (
    "StudyDescription", "IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "Modality",
    "BodyPartExamined", "InstanceNumber", "NumberOfFrames",
)  # fmt: skip
_LONGEST_UID = 64


def read_source(path: Path) -> Dataset:
    """Read a DICOM image file's identity.

    Raises:
        ReportError: the file is no DICOM image, or lacks a UID that a report must name.
        OSError: the file cannot be read.
    """
    try:
        return reduce_source(dicom.read(path), str(path))
    except ModelsError as error:
        raise ReportError(f"No report can be made of {path}: {error}") from error


def reduce_source(dataset: Dataset, name: str = "the image") -> Dataset:
    """Reduce a header to the attributes that a report copies: identity of patient, study, series and instance.

    Raises:
        ReportError: the image lacks a UID that a report must name, or the UID is invalid.
    """
    kept = Dataset()
    for keyword in _REQUIRED:
        value = str(dataset.get(keyword) or "")
        if not (UID(value).is_valid and len(value) <= _LONGEST_UID):
            raise ReportError(f"No report can be made of {name}: its {keyword} is missing or is no UID.")
        setattr(kept, keyword, UID(value))
    for keyword in _PRESENT_BUT_MAYBE_EMPTY:
        setattr(kept, keyword, _valid(dataset, keyword))
    for keyword in _OPTIONAL:
        value = _valid(dataset, keyword)
        if value:
            setattr(kept, keyword, value)
    return kept


def _valid(dataset: Dataset, keyword: str) -> str:
    """An attribute's value as text; empty if it is missing, has several values, or breaks its VR."""
    vr = dictionary_VR(keyword)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = str(dataset.get(keyword) or "")
            validate_value(vr, value, config.RAISE)
    except (ValueError, TypeError, AttributeError, NotImplementedError):
        return ""
    too_long = any(len(group) > 64 for group in value.split("=")) if vr == "PN" else len(value) > 64
    return "" if too_long or ("\\" in value) else value
