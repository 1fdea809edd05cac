"""Statements of a report on one image. Plain values: no image, no DICOM, no connection."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from he_infer.errors import ReportError
from he_infer.wire.envelope import canonical_json

NOT_A_DIAGNOSIS = (
    "This is the output of a classification model. It is not a diagnosis, it was not reviewed by a person, and the "
    "software that made it is no medical device."
)


@dataclass(frozen=True)
class Statement:
    """The result of one image, or of one frame of it.

    Either `label` and `probability` are given, or `refusal`.

    Raises:
        ReportError: neither or both are given, or a probability is not within 0 to 1.
    """

    model: str
    """The model's id at the server."""
    publisher: str
    """Name or public key of the model's publisher; empty if unknown."""
    head_digest: str
    """SHA-256 of the head that the server evaluated, hex; empty for a refusal, which was never sent."""
    plan: str
    """SHA-256 of the plan, hex."""
    label: str | None = None
    probability: float | None = None
    """Calibrated probability of `label`, 0 to 1."""
    refusal: str | None = None
    """Reason why the image was not classified, one sentence."""
    frame: int | None = None
    """Frame number in a multi-frame image, from 0; None for an image of one frame."""
    threshold: float | None = None
    """The operating point: minimum probability at which the model's positive class is given, 0 to 1."""
    positive: str = ""
    """The positive class; the label itself if the model states none."""
    digits: int = 3
    """Decimal places of the probability; further digits would be encryption noise."""
    receipt_digest: str = ""
    """SHA-256 of the server's signed receipt, hex; empty for a refusal."""

    def __post_init__(self) -> None:
        if (self.label is None) == (self.refusal is None):
            raise ReportError("A report states either a class or a refusal; expected exactly one of the two.")
        if self.label is not None and self.probability is None:
            raise ReportError("A report that states a class needs its probability.")
        for value in (self.probability, self.threshold):
            if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ReportError("A report's probability or threshold is outside of 0 to 1.")

    @property
    def percent(self) -> float:
        """Probability of the label, percent, rounded to the known digits.

        Raises:
            ReportError: the statement is a refusal.
        """
        if self.probability is None:
            raise ReportError("A refusal has no probability.")
        return round(100 * self.probability, max(self.digits - 2, 0))

    @property
    def decided(self) -> str:
        """The class that the operating point belongs to."""
        return self.positive or self.label or ""

    @property
    def decided_percent(self) -> float:
        """Probability of the class `decided`, percent; with two classes, 100 minus that of the other class."""
        return self.percent if self.decided == self.label else round(100 - self.percent, max(self.digits - 2, 0))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The Algorithm Parameters of a report: `name=value` texts that say how the result was computed."""
        stated = {
            "model": self.model,
            "publisher": self.publisher,
            "head SHA-256": self.head_digest,
            "plan SHA-256": self.plan,
            "probability rounded to decimals": str(self.digits),
            "operating point": "" if self.threshold is None else f"{self.threshold:g} of '{self.decided}'",
            "receipt SHA-256": self.receipt_digest,
        }
        return tuple(f"{name}={value}" for name, value in stated.items() if value)


def digest_receipt(receipt: Mapping[str, Any]) -> str:
    """SHA-256 of a receipt's canonical JSON, hex. A report holds it as a reference to the stored receipt."""
    return sha256(canonical_json(json.loads(json.dumps(receipt)))).hexdigest()
