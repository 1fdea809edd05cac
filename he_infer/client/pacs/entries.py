"""Studies and images as an archive or a sender describes them: UIDs and the attributes that a choice depends on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StudyEntry:
    """A study in a query's results."""

    study: str
    instances: int
    """Number of images and other objects of the study, as the archive counts them."""


@dataclass(frozen=True)
class ImageEntry:
    """An image in a query's results: the attributes that a choice depends on, without patient data."""

    study: str
    series: str
    sop: str
    modality: str = ""
    body_part: str = ""
    description: str = ""
    """Study and series description, joined by a space."""
