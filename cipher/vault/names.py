"""The one rule of file names, for sealing and for restoring.

A stored path is the file's path as the sealing system had it, its parts joined by "/". Every part that a file system
allows is taken: anything but an empty part, ".", "..", a NUL or a "/". Bytes that are no text (Linux) are kept too.
A name is stored as its bytes say in UTF-8, whatever the locale of the sealing or of the restoring process is.
Restoring on Linux and macOS gives the same name back; Windows forbids more, and there the forbidden characters are
written as %XX. Where two stored paths would have one place, the later one gets a number.
"""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from cipher.errors import UnsupportedFormat

Parts = tuple[str, ...]

_BYTES = "\0hex:"
"""Begins a stored path that is no text, followed by its bytes in hex. No file name holds a NUL."""
_WINDOWS_FORBIDDEN = frozenset('<>:"|?*\\')
_WINDOWS_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [device + digit for device in ("COM", "LPT") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
_LONGEST = 255


def to_stored(path: str) -> str:
    """A path as text that a sealed object can hold, whatever its bytes are."""
    raw = os.fsencode(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _BYTES + raw.hex()


def from_stored(stored: str) -> str:
    """The inverse of `to_stored`.

    Raises:
        UnsupportedFormat: text that `to_stored` does not make.
    """
    try:
        raw = bytes.fromhex(stored.removeprefix(_BYTES)) if stored.startswith(_BYTES) else stored.encode()
        return os.fsdecode(raw)
    except ValueError:
        raise UnsupportedFormat(f"The sealed object's path {stored!r} is not one that sealing writes.") from None


def split(stored: str) -> Parts:
    """The parts of a stored path. The path is authentic, but its author may be an attacker.

    Raises:
        UnsupportedFormat: the path leaves the folder that it is restored into, or names no file.
    """
    path = from_stored(stored)
    parts = tuple(path.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UnsupportedFormat(
            f"Refusing to restore {stored!r}: the stored path leaves the target folder, or names no file in it."
        )
    return parts


def fold(path: str) -> str:
    """Key that is equal for two paths that some file system takes for one: same but for case and normalisation."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stored path and which file it belongs to; equal ones are versions of one file and share their place."""

    parts: Parts
    owner: str
    """Where the file was sealed from, or the object's identifier where that is not known."""
    is_folder: bool = False
    """An empty folder, which may become the parent of other files."""


def assign_places(wanted: Sequence[Wanted], *, windows: bool, folding: bool) -> dict[Wanted, Parts]:
    """Give each file a place of its own below the target folder.

    Args:
        wanted: the files; the order does not matter.
        windows: whether names must be such as Windows allows.
        folding: whether the file system takes names that differ in case or normalisation for one.

    Returns:
        For each its parts below the target. No two files have the same place, none lies below another file.
    """
    key = (lambda parts: tuple(fold(part) for part in parts)) if folding or windows else (lambda parts: parts)
    files: dict[Parts, Wanted] = {}
    folders: set[Parts] = set()
    places: dict[Wanted, Parts] = {}
    # Deep paths first: their parents are folders, and a file that has the name of one must give way.
    for item in sorted(set(wanted), key=lambda item: (-len(item.parts), item.parts, item.owner)):
        local = tuple(windows_name(part) for part in item.parts) if windows else item.parts
        for number in range(1, len(wanted) + 2):
            place = local if number == 1 else (*local[:-1], _add_number(local[-1], number))
            this, above = key(place), [key(place[:length]) for length in range(1, len(place))]
            blocked = any(parent in files and not files[parent].is_folder for parent in above)
            if blocked:  # only where normalised or escaped names meet: the whole branch moves aside
                place = (_add_number(place[0], number + 1), *place[1:])
                this, above = key(place), [key(place[:length]) for length in range(1, len(place))]
                blocked = any(parent in files and not files[parent].is_folder for parent in above)
            if not blocked and this not in files and (item.is_folder or this not in folders):
                break
        files[this] = item
        folders.update(above)
        places[item] = place
    return places


def windows_name(part: str) -> str:
    """A part as Windows allows it: forbidden characters become %XX; other names stay as they are."""
    text = "".join(f"%{ord(char):02X}" if char in _WINDOWS_FORBIDDEN or ord(char) < 32 else char for char in part)
    if text.endswith((".", " ")):
        text = f"{text[:-1]}%{ord(text[-1]):02X}"
    if text.partition(".")[0].rstrip(" ").upper() in _WINDOWS_DEVICES:
        text = f"%{ord(text[0]):02X}{text[1:]}"
    return text


def _add_number(name: str, number: int) -> str:
    """`scan.dcm` becomes `scan~2.dcm`; cut where the file system's longest name would be passed."""
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    mark = f"~{number}{dot}{ending}"
    while stem and len(os.fsencode(stem + mark)) > _LONGEST:
        stem = stem[:-1]
    return stem + mark
