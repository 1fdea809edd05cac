"""Pieces of plaintext that must not be on the untrusted side: files, pixels, identifiers, features and scores."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from he_infer.demo.scan import SHORTEST, Piece, Source
from models.datasets import Dataset
from models.images import dicom

FILES, PIXELS, IDENTIFIERS = "bytes of original files", "rows of pixels", "identifiers and file names"
FEATURES, SCORES, INVENTED = "feature vectors", "scores", "an invented identifier"
WEIGHTS = "weights of the head"
REAL_KINDS = (FILES, PIXELS, IDENTIFIERS, FEATURES, SCORES)
KINDS = (*REAL_KINDS, INVENTED)

_WINDOW = 24
"""Bytes of one piece of pixels, features or scores: enough that random data does not hold it by chance."""
_PER_FILE = 8
_PER_IMAGE = 2
_ATTRIBUTES = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "PatientAddress",
    "AccessionNumber",
    "InstitutionName",
    "ReferringPhysicianName",
    "OperatorsName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
)
"""DICOM attributes that identify the patient or the image."""


def list_files(dataset: Dataset) -> list[Path]:
    """The original files of a data set, each once; none where it came as arrays."""
    return sorted({path for paths in dataset.sources.values() for path in paths})


def collect_pieces(
    dataset: Dataset, features: NDArray[np.float32], scores: NDArray[np.float64], images: int = 64
) -> tuple[list[Piece], int]:
    """Pieces of everything that must stay with the hospital; equal pieces once.

    - bytes of every original file, at evenly spread places where they are not constant;
    - rows of pixels of test images, as stored;
    - patients' names, identifiers and dates of birth from DICOM headers, and the files' names, in ASCII or the file's
      own character set and in UTF-16; values of fewer than six bytes are counted and left out, since random data
      holds them by chance;
    - feature vectors and scores as little-endian float32 and float64;
    - an identifier that was invented a moment ago, so that this kind is searched where a set has no identifiers.

    Args:
        dataset: source of the original files, where it has any, and of the test images.
        features: (n, width) of the test images.
        scores: (n, classes) in clear.
        images: how many test images to take pixels, features and scores of.

    Returns:
        The pieces, and the number of different identifiers that are too short to be looked for.
    """
    identifiers, too_short = _identifier_pieces(dataset)
    pieces = [*_file_pieces(dataset), *identifiers]
    for index in range(min(images, len(features))):
        name = f"test image {index}"
        pixels = np.ascontiguousarray(dataset.test.images[index]).tobytes()
        pieces += [Piece(PIXELS, name, (window,)) for window in _cut_windows(pixels, _PER_IMAGE)]
        for kind, vector in ((FEATURES, features[index]), (SCORES, scores[index])):
            spellings = tuple(vector.astype(form).tobytes()[:_WINDOW] for form in ("<f4", "<f8"))
            if all(len(set(spelling)) > 4 for spelling in spellings):
                pieces.append(Piece(kind, name, spellings))
    pieces.append(Piece(INVENTED, "invented for this run", _spell(f"Planted^{secrets.token_hex(8)}", "ascii")))
    distinct: dict[tuple[str, bytes], Piece] = {}
    for piece in pieces:
        distinct.setdefault((piece.kind, piece.spellings[0]), piece)
    return list(distinct.values()), too_short


def collect_weight_pieces(head: Mapping[str, NDArray[np.generic]], each: int = 64) -> list[Piece]:
    """Pieces of a head's weights at up to `each` evenly spread places of every tensor, as float64 and float32."""
    pieces: dict[bytes, Piece] = {}
    for name, tensor in head.items():
        values = np.asarray(tensor, dtype=np.float64).ravel()
        for start in sorted({round(place) for place in np.linspace(0, max(0, len(values) - 6), each)}):
            forms = tuple(values[start : start + 6].astype(kind).tobytes()[:_WINDOW] for kind in ("<f8", "<f4"))
            if all(len(set(form)) >= _WINDOW // 3 for form in forms):
                pieces.setdefault(forms[0], Piece(WEIGHTS, name, forms))
    return list(pieces.values())


def list_originals(dataset: Dataset, features: NDArray[np.float32], scores: NDArray[np.float64]) -> list[Source]:
    """List the sources of the pieces, for the positive control: a scan of them finds every real piece."""
    files = list_files(dataset)
    names = "\n".join(path.name for path in files).encode()
    return [
        *(Source(path.name, path) for path in files),
        Source("the files' names", names),
        Source("the test images", np.ascontiguousarray(dataset.test.images).tobytes()),
        Source("the features", features.astype("<f4").tobytes()),
        Source("the scores", scores.astype("<f8").tobytes()),
    ]


def choose_plants(pieces: Sequence[Piece], each: int = 8) -> list[Piece]:
    """Up to `each` pieces of every kind, evenly spread, to be planted."""
    chosen: list[Piece] = []
    for kind in KINDS:
        own = [piece for piece in pieces if piece.kind == kind]
        chosen += [
            own[index] for index in sorted({round(i) for i in np.linspace(0, len(own) - 1, min(each, len(own)))})
        ]
    return chosen


def _file_pieces(dataset: Dataset) -> Iterator[Piece]:
    for path in list_files(dataset):
        for window in _cut_windows(path.read_bytes(), _PER_FILE):
            yield Piece(FILES, path.name, (window,))


def _identifier_pieces(dataset: Dataset) -> tuple[list[Piece], int]:
    """Identifiers and file names that are long enough, and how many different ones are not."""
    pieces, short = [], set()
    for path in list_files(dataset):
        values = [("name", path.name, "utf-8"), *_read_identifiers(path)]
        for attribute, value, encoding in values:
            spellings = _spell(value, encoding)
            if len(spellings[0]) >= SHORTEST:
                pieces.append(Piece(IDENTIFIERS, f"{attribute} of {path.name}", spellings))
            else:
                short.add(value)
    return pieces, len(short)


def _read_identifiers(path: Path) -> Iterator[tuple[str, str, str]]:
    """(attribute, value, character set) of the identifying attributes of a DICOM file; none of another file."""
    with dicom.quiet():
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, force=False)
            values = [(name, str(header.get(name) or "").strip()) for name in _ATTRIBUTES]
            encoding = pydicom.charset.convert_encodings(header.get("SpecificCharacterSet") or "ISO_IR 6")[0]
        except Exception:  # not DICOM, or an unreadable header: no attributes to look for
            return
    yield from ((name, value, encoding) for name, value in values if value)


def _spell(text: str, encoding: str) -> tuple[bytes, ...]:
    """The byte strings that a text may be written as."""
    forms = (text.encode(encoding, errors="ignore"), text.encode(), text.encode("utf-16-le"))
    return tuple(dict.fromkeys(forms))


def _cut_windows(data: bytes, count: int) -> list[bytes]:
    """Up to `count` windows at evenly spread places, without those that are nearly constant."""
    step = max(1, (len(data) - _WINDOW) // max(count, 1))
    windows = [data[start : start + _WINDOW] for start in range(0, len(data) - _WINDOW + 1, step)]
    return [window for window in windows if len(set(window)) >= _WINDOW // 3][:count]
