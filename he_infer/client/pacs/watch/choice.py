"""Choice of an archive's images: by modality, body part and words of the description."""

import re
from dataclasses import dataclass

from he_infer.client.pacs.entries import ImageEntry
from he_infer.errors import UsageError

_NEVER = frozenset({"SR", "DOC", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "AU", "ECG", "PLAN"})
"""Modalities of objects without pixels to classify, the watcher's reports included."""


@dataclass(frozen=True)
class Choice:
    """Conditions that an image must meet. An empty field accepts everything.

    Raises:
        UsageError: the description is no regular expression.
    """

    modalities: frozenset[str] = frozenset()
    """DICOM codes such as CT, MR, US, CR, DX."""
    body_parts: frozenset[str] = frozenset()
    """Body Part Examined, such as CHEST."""
    description: str = ""
    """Regular expression to search in study and series description, case-insensitive."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.description)
        except re.error as error:
            raise UsageError(f"{self.description!r} is no regular expression: {error}.") from error

    def takes(self, image: ImageEntry) -> bool:
        """Whether an image is to be classified."""
        if image.modality in _NEVER or (self.modalities and image.modality not in self.modalities):
            return False
        if self.body_parts and image.body_part.upper() not in self.body_parts:
            return False
        return re.search(self.description, image.description, re.IGNORECASE) is not None


def parse_choice(modalities: list[str], body_parts: list[str], description: str) -> Choice:
    """Make a choice from command-line options.

    Raises:
        UsageError: a modality is invalid, or the description is no regular expression.
    """
    for modality in modalities:
        if not re.fullmatch(r"[A-Za-z0-9_]{1,16}", modality):
            raise UsageError(f"{modality!r} is no modality. Expected a DICOM code such as CT, MR, US, CR or DX.")
        if modality.upper() in _NEVER:
            raise UsageError(f"Objects of modality {modality.upper()} hold no image to classify.")
    return Choice(
        frozenset(name.upper() for name in modalities), frozenset(name.upper() for name in body_parts), description
    )
