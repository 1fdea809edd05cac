"""Maps class names to coded findings, by the table in the model card.

The card's member `findings` is an object:

    {"codes": {"pneumonia": {"value": "233604007", "scheme": "SCT", "meaning": "Pneumonia"}},
     "scheme": {"designator": "99HOSP", "name": "...", "responsible_organization": "...", "uid": "2.25..."}}

A class without a code gets a code of the private scheme: `CLASS-1`, `CLASS-2`, ... in the order of the model's classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from he_infer.errors import ReportError

PRIVATE = "99HEINFER"
_PUBLIC = frozenset({"SCT", "DCM", "LN", "RADLEX", "NCIt", "I10", "I11", "FMA", "UMLS"})
"""Coding schemes that PS3.16 section 8 registers; every other scheme must be identified in the DICOM object itself."""
_LONGEST_VALUE, _LONGEST_DESIGNATOR, _LONGEST_MEANING = 16, 16, 64


@dataclass(frozen=True)
class Code:
    """A coded concept: at most 16, 16 and 64 characters (VRs SH, SH and LO)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Scheme:
    """A private coding scheme, as the Coding Scheme Identification Sequence states it."""

    designator: str = PRIVATE
    name: str = "Classes of models that he_infer runs"
    responsible_organization: str = "he_infer"
    uid: str = ""


@dataclass(frozen=True)
class Findings:
    """The codes of a model's classes."""

    codes: Mapping[str, Code]
    scheme: Scheme = Scheme()

    def code(self, label: str) -> Code:
        """The code of a class.

        Raises:
            ReportError: the model has no such class.
        """
        try:
            return self.codes[label]
        except KeyError:
            raise ReportError(f"The model has no class {label!r}; expected one of: {', '.join(self.codes)}.") from None


def read_findings(card: Mapping[str, Any], classes: Sequence[str]) -> Findings:
    """Read the findings table of a model card. Classes without a code get codes of the private scheme.

    Raises:
        ReportError: the table names an unknown class or scheme, or a text is missing or too long.
    """
    table = card.get("findings", {})
    if not isinstance(table, Mapping):
        raise ReportError("The model card's findings are not an object; expected 'codes' and, if private, 'scheme'.")
    scheme = _read_scheme(table.get("scheme", {}))
    given = table.get("codes", {})
    if not isinstance(given, Mapping):
        raise ReportError("The model card's finding codes are not an object of class names.")
    unknown = sorted(set(given) - set(classes))
    if unknown:
        raise ReportError(f"The model card codes classes that the model lacks: {', '.join(unknown)}.")
    codes = {}
    for number, label in enumerate(classes, 1):
        entry = given.get(label, {"value": f"CLASS-{number}", "scheme": scheme.designator, "meaning": _cut(label)})
        codes[label] = _read_code(label, entry, scheme)
    return Findings(codes, scheme)


def _read_scheme(entry: object) -> Scheme:
    if not isinstance(entry, Mapping) or not all(isinstance(text, str) for text in entry.values()):
        raise ReportError("The model card's coding scheme is not an object of texts.")
    unknown = sorted(set(entry) - {"designator", "name", "responsible_organization", "uid"})
    if unknown:
        raise ReportError(f"The model card's coding scheme has unknown members: {', '.join(unknown)}.")
    scheme = Scheme(**entry)
    if not (scheme.designator.startswith("99") and 2 < len(scheme.designator) <= _LONGEST_DESIGNATOR):
        raise ReportError(
            "A private coding scheme's designator begins with 99 and has 3 to 16 characters (PS3.16, 8.2)."
        )
    return scheme


def _read_code(label: str, entry: object, scheme: Scheme) -> Code:
    match entry:
        case {"value": str(value), "scheme": str(designator), "meaning": str(meaning)}:
            pass
        case _:
            raise ReportError(f"The model card's code of {label!r} lacks value, scheme or meaning.")
    if designator not in _PUBLIC and designator != scheme.designator:
        known = ", ".join(sorted(_PUBLIC))
        raise ReportError(
            f"The model card codes {label!r} in the unknown scheme {designator!r}; expected one of {known}, or the "
            f"card's private scheme {scheme.designator!r}."
        )
    if not (0 < len(value) <= _LONGEST_VALUE and 0 < len(meaning) <= _LONGEST_MEANING) or "\\" in value + meaning:
        raise ReportError(
            f"The model card's code of {label!r} is empty, too long (16 and 64 characters) or has a '\\'."
        )
    return Code(value, designator, meaning)


def _cut(label: str) -> str:
    plain = "".join(character if character.isprintable() and character != "\\" else " " for character in label).strip()
    return plain[:_LONGEST_MEANING] or "class"
