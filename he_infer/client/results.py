"""Results of a classification: one for each image, and a report of the run. Nothing here holds a decrypted score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from he_infer.client.verify.receipts import Receipt


@dataclass(frozen=True)
class Identifiers:
    """Whose image it is, as the DICOM header says; all None for other kinds of file."""

    sop_instance: str | None = None
    series: str | None = None
    study: str | None = None
    accession: str | None = None


class Cause(StrEnum):
    """What kept an image from being classified."""

    FILE = "file"
    """It cannot be read, or is no image."""
    MODEL = "model"
    """The model does not take it: it is unlike the images that the model was made from."""
    SERVER = "server"
    """The server did not answer its request. Trying again may help."""


@dataclass(frozen=True)
class Result:
    """One image's class, or the reason why it has none."""

    path: Path
    label: str | None
    """Name of the class; None where the image was not classified."""
    probability: float | None
    """Of that class, rounded to the digits that the plan's precision allows, three at most."""
    probabilities: Mapping[str, float]
    """Of all classes, rounded likewise; empty where the image was not classified."""
    refusal: str | None
    """One line: why the image was not classified; None where it was."""
    cause: Cause | None
    """Whose refusal it is; None where the image was classified."""
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
    """The operating point of the decision, where the model states one; None: the most probable class."""
    receipt: Receipt | None = field(repr=False)
    """The server's signed receipt for the request that the image went with."""
    seconds: float | None
    """This image's share of the time from sending its request to the last byte of the answer."""
    remarks: tuple[str, ...] = ()
    """Sentences on what is hardly a picture of a patient: a mask, a segmentation, a black frame."""
    positive: str | None = None
    """The class that `threshold` is a probability of: it is given from there on."""

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
    """What a run cost and what it rests on; filled while the run goes on, complete at its end."""

    classified: int = 0
    refused: int = 0
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    canaries: int = 0
    """Questions with known answers that were sent."""
    canary_requests: int = 0
    """Requests that held at least one of them."""
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage: reading, extraction, encryption, server, decryption. They overlap."""
    receipts: list[Receipt] = field(default_factory=list, repr=False)

    def spend(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class StudySummary:
    """All results of one study."""

    study: str
    accession: str | None
    images: int
    refused: int
    labels: Mapping[str, int]
    """How many images have each class."""
    highest: Mapping[str, float]
    """For each class the highest probability of any image."""


def summarise(results: "list[Result]") -> list[StudySummary]:
    """One summary for each study, in the order of their first images; images without a study are left out."""
    studies: dict[str, list[Result]] = {}
    for result in results:
        if result.identifiers.study:
            studies.setdefault(result.identifiers.study, []).append(result)
    summaries = []
    for study, images in studies.items():
        labels: dict[str, int] = {}
        highest: dict[str, float] = {}
        for image in images:
            if image.label is not None:
                labels[image.label] = labels.get(image.label, 0) + 1
            for name, probability in image.probabilities.items():
                highest[name] = max(probability, highest.get(name, 0.0))
        refused = sum(not image.classified for image in images)
        accession = next((image.identifiers.accession for image in images if image.identifiers.accession), None)
        summaries.append(StudySummary(study, accession, len(images), refused, labels, highest))
    return summaries
