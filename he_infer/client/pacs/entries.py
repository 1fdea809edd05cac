"""Studies and images as an archive or a sender describes them: UIDs and what a choice is made by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StudyEntry:
    """A study as a query finds it."""

    study: str
    instances: int
    """Number of its images and other objects, as the archive counts them."""


@dataclass(frozen=True)
class ImageEntry:
    """An image as a query finds it: what a choice is made by, and nothing of its patient."""

    study: str
    series: str
    sop: str
    modality: str = ""
    body_part: str = ""
    description: str = ""
    """Study and series description, joined by a space."""
