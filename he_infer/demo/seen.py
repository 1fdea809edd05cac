"""What the server saw: every object that it stored, received or sent, as bytes that anyone may look at.

This module reads files and searches them for plaintext. It knows nothing of keys and opens nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from he_infer.demo.entropy import compute_entropy, compute_expected_entropy

_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,}")


@dataclass(frozen=True)
class Sighting:
    """One object on the untrusted side."""

    name: str
    """Path below the folder that was listed, after the role of that folder."""
    count: int
    """How many objects of this kind the row stands for."""
    size: int
    """Bytes; the median where the row stands for several."""
    entropy: float
    """Shannon entropy in bits a byte, of the whole object (of all objects of the row together)."""
    expected: float
    """What random bytes of that length would show."""
    longest_text: str
    """The longest run of printable characters, cut at 60: what a curious administrator could read."""


@dataclass(frozen=True)
class Fragment:
    """A piece of plaintext that must not appear on the untrusted side."""

    what: str
    data: bytes


@dataclass(frozen=True)
class Search:
    """The outcome of looking for plaintext in what the server saw."""

    fragments: int
    files: int
    bytes_searched: int
    found: tuple[str, ...]
    """`what` of each fragment found, with the object's name."""


def list_files(folder: Path) -> list[Path]:
    """All regular files below a folder, in a stable order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def describe_object(name: str, blobs: Sequence[bytes]) -> Sighting:
    """Describe one object, or several of one kind as one row."""
    whole = b"".join(blobs)
    sizes = sorted(len(blob) for blob in blobs)
    runs = [match.group() for match in _PRINTABLE.finditer(whole)]
    longest = max(runs, key=len, default=b"")[:60].decode("ascii")
    return Sighting(
        name=name,
        count=len(blobs),
        size=sizes[len(sizes) // 2],
        entropy=compute_entropy(whole),
        expected=compute_expected_entropy(len(whole)),
        longest_text=longest,
    )


def search_files(files: Iterable[Path], fragments: Sequence[Fragment]) -> Search:
    """Look for every fragment in every file.

    Fragments are compared as bytes, so a caller who wants several encodings of one value gives each.
    """
    found: list[str] = []
    count = total = 0
    for path in files:
        data = path.read_bytes()
        count += 1
        total += len(data)
        found += [f"{fragment.what} in {path.name}" for fragment in fragments if fragment.data in data]
    return Search(len(fragments), count, total, tuple(found))
