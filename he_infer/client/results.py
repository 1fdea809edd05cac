"""Results of a classification: one for each image, and a report of the run. Nothing here holds a decrypted score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from he_infer.client.verify.receipts import Receipt


@dataclass(frozen=True)
class Identifiers:
    """Identifiers from the DICOM header; all None for other kinds of files."""

    sop_instance: str | None = None
    series: str | None = None
    study: str | None = None
    accession: str | None = None


class Cause(StrEnum):
    """Cause of an image's refusal."""

    FILE = "file"
    """The file cannot be read, or is no image."""
    MODEL = "model"
    """The model's guard refused the image: it is unlike the model's training images."""
    SERVER = "server"
    """The server did not answer the request. Trying again may help."""


@dataclass(frozen=True)
class Result:
    """One image's class, or the reason why it has none."""

    path: Path
    label: str | None
    """Name of the class; None where the image was not classified."""
    probability: float | None
    """Probability of `label`, rounded to the digits that the plan's precision allows, at most three."""
    probabilities: Mapping[str, float]
    """Probabilities of all classes, rounded in the same way; empty if the image was not classified."""
    refusal: str | None
    """Reason why the image was not classified, one line; None if it was."""
    cause: Cause | None
    """Cause of the refusal; None if the image was classified."""
    identifiers: Identifiers
    frame: int
    """Number of the frame in its file, from 0."""
    model: str
    """The model's id."""
    publisher: str | None
    """The publisher's Ed25519 public key, hex; None for a whole bundle."""
    plan: str | None
    """Digest of the plan; None where the image was not sent."""
    threshold: float | None
    """Operating point of the decision, 0 to 1; None: the most probable class is given."""
    receipt: Receipt | None = field(repr=False)
    """The server's signed receipt for the request that the image went with."""
    seconds: float | None
    """This image's share of the time from sending its request to the last byte of the answer."""
    remarks: tuple[str, ...] = ()
    """Sentences about images that are probably no patient image: a mask, a segmentation, a black frame."""
    positive: str | None = None
    """Class that is given if its probability is at least `threshold`."""

    @property
    def classified(self) -> bool:
        """Whether the image has a class."""
        return self.label is not None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object, with the receipt's signature in place of the receipt."""
        return {
            "path": str(self.path),
            "frame": self.frame,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.probabilities),
            "refusal": self.refusal,
            "cause": self.cause,
            "sop_instance": self.identifiers.sop_instance,
            "series": self.identifiers.series,
            "study": self.identifiers.study,
            "accession": self.identifiers.accession,
            "model": self.model,
            "publisher": self.publisher,
            "plan": self.plan,
            "threshold": self.threshold,
            "positive": self.positive,
            "receipt": self.receipt.signature if self.receipt else None,
            "seconds": None if self.seconds is None else round(self.seconds, 6),
            "remarks": " ".join(self.remarks) or None,
        }


@dataclass
class RunReport:
    """Costs and receipts of a run; filled during the run, complete at its end."""

    classified: int = 0
    refused: int = 0
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    canaries: int = 0
    """Number of canary questions that were sent."""
    canary_requests: int = 0
    """Number of requests with at least one canary question."""
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage: reading, extraction, encryption, server, decryption. They overlap."""
    receipts: list[Receipt] = field(default_factory=list, repr=False)
    server_seconds: list[float] = field(default_factory=list, repr=False)
    """Computing time of each request, as the server states it."""

    def spend(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class StudySummary:
    """All results of one study, or of one folder of images that name no study."""

    study: str
    """Study Instance UID, or path of the folder."""
    accession: str | None
    images: int
    refused: int
    labels: Mapping[str, int]
    """Number of images of each class."""
    highest: Mapping[str, float]
    """Highest probability of each class among the images."""


def summarise(results: Sequence[Result]) -> list[StudySummary]:
    """Make a summary of each study, in the order of their first images. Images without a study are left out."""
    studies: dict[str, list[Result]] = {}
    for result in results:
        if result.identifiers.study:
            studies.setdefault(result.identifiers.study, []).append(result)
    return [_summarise_group(study, images) for study, images in studies.items()]


def summarise_folders(results: Sequence[Result]) -> list[StudySummary]:
    """Make a summary of each folder with two or more images that name no study, such as PNG files."""
    folders: dict[str, list[Result]] = {}
    for result in results:
        if not result.identifiers.study and result.path.parent != Path():
            folders.setdefault(str(result.path.parent), []).append(result)
    return [_summarise_group(folder, images) for folder, images in folders.items() if len(images) > 1]


def _summarise_group(name: str, images: list[Result]) -> StudySummary:
    labels: dict[str, int] = {}
    highest: dict[str, float] = {}
    for image in images:
        if image.label is not None:
            labels[image.label] = labels.get(image.label, 0) + 1
        for label, probability in image.probabilities.items():
            highest[label] = max(probability, highest.get(label, 0.0))
    refused = sum(not image.classified for image in images)
    accession = next((image.identifiers.accession for image in images if image.identifiers.accession), None)
    return StudySummary(name, accession, len(images), refused, labels, highest)
