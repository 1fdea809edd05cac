"""What a model's owner states in the card, read from a TOML file.

intended_use = "Second reading of adult chest radiographs."
licence = "CC-BY-4.0"

[image]                     # checked against the DICOM headers of images
modality = ["CR", "DX"]
body_part = ["CHEST"]
view = ["PA", "AP"]

[findings.codes.pneumonia]  # a code for each class, for reports
value = "233604007"
scheme = "SCT"
meaning = "Pneumonia"
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import InputError

_TEXTS = ("intended_use", "licence")
_LISTS = ("modality", "body_part", "view")
_LONGEST = 2000


def read_card_file(path: Path) -> dict[str, Any]:
    """Read the owner's statements; `findings` is checked by whoever makes reports of it.

    Raises:
        InputError: not TOML, an unknown member, or a value of another kind; the text names the file and the member.
        OSError: the file cannot be read.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no TOML file: {error}") from error
    unknown = sorted(set(given) - {*_TEXTS, "image", "findings"})
    if unknown:
        raise InputError(
            f"{path} has the unknown member '{unknown[0]}'. Expected {', '.join(_TEXTS)}, image, findings."
        )
    for name in _TEXTS:
        if name in given and not (isinstance(given[name], str) and 0 < len(given[name]) <= _LONGEST):
            raise InputError(f"{path}: '{name}' must be a text of 1 to {_LONGEST} characters.")
    image = given.get("image", {})
    if not isinstance(image, dict) or set(image) - set(_LISTS):
        raise InputError(f"{path}: 'image' must be a table of {', '.join(_LISTS)}.")
    for name, values in image.items():
        if not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
            raise InputError(f"{path}: 'image.{name}' must be a list of texts, such as [\"CHEST\"].")
    if not isinstance(given.get("findings", {}), dict):
        raise InputError(f"{path}: 'findings' must be a table; see docs/reports.md.")
    return given


def merge_card(card: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The card with the owner's statements in place of what was found; lists of kinds in upper case, as in DICOM."""
    stated = {name: [value.upper() for value in values] for name, values in given.get("image", {}).items()}
    others = {name: value for name, value in given.items() if name != "image"}
    return {**card, **others, "image": {**card.get("image", {}), **stated}}
