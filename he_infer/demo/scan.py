"""Scans everything on the untrusted side in one pass: describes each object, and searches it for plaintext.

This module reads bytes and compares them. It has no keys and decrypts nothing. The time grows with the bytes
that are read, not with the number of pieces that are looked for: a hash of the six bytes at every offset is looked up
in a table of six bytes of each piece (as in Rabin and Karp 1987), and only where it is there are bytes compared.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from he_infer.demo.entropy import compute_expected_entropy, compute_histogram_entropy

SHORTEST = 6
"""Bytes of the shortest piece that can be looked for; random data would hold a shorter one by chance."""
_CHUNK = 1 << 23
_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,}")
_WINDOWS = 64
"""Places in a piece at which the six bytes that are looked up may begin."""
_TABLE_BITS = 22
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FIRST_SIX = np.uint64((1 << 48) - 1)
_NUMBER = re.compile(r"\d+")
_IDENTIFIER = re.compile(r"[0-9a-f]{16,}")

Progress = Callable[[int, int], None]
"""Takes the bytes read and the bytes to read."""


@dataclass(frozen=True)
class Piece:
    """Plaintext that must not be on the untrusted side."""

    kind: str
    """Kind of plaintext: original files, pixels, identifiers, features, scores."""
    what: str
    """Origin, for a reader who has to find it: a file's name, a test image's number, an attribute."""
    spellings: tuple[bytes, ...]
    """The byte strings that would give it away, each of `SHORTEST` bytes or more."""


@dataclass(frozen=True)
class ObjectKind:
    """Objects on the untrusted side whose paths differ in numbers and identifiers only."""

    name: str
    """Path below the folder, with `#` for each number or identifier."""
    count: int
    size: int
    """Median size in bytes."""
    entropy: float
    """Shannon entropy of all bytes of these objects, in bits a byte."""
    expected: float
    """Expected entropy of as many uniformly random bytes."""
    longest_text: str
    """The longest run of printable ASCII characters, cut at 60: text that an administrator could read."""


@dataclass(frozen=True)
class Hit:
    """A piece that was found."""

    piece: Piece
    where: str
    """Name of the object that holds it."""


@dataclass(frozen=True)
class Scan:
    """The outcome of one pass."""

    pieces: int
    objects: int
    bytes_read: int
    hits: tuple[Hit, ...]
    """A hit for each piece and object that holds it."""
    kinds: tuple[ObjectKind, ...]

    def count_found(self, kind: str) -> int:
        """Count the different pieces of a kind that were found, wherever and however often."""
        return len({hit.piece for hit in self.hits if hit.piece.kind == kind})


@dataclass(frozen=True)
class Source:
    """Bytes to look through: a file, or bytes in memory."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read_chunks(self, overlap: int) -> Iterator[tuple[bytes, int]]:
        """Yield the content in chunks, and how many bytes at a chunk's beginning repeat the end of the one before."""
        if isinstance(self.content, bytes):
            yield self.content, 0
            return
        kept = b""
        with self.content.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield kept + chunk, len(kept)
                kept = (kept + chunk)[-overlap:] if overlap else b""


def list_sources(folder: Path) -> list[Source]:
    """All regular files below a folder, in a stable order, named by their paths below it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [Source(str(path.relative_to(folder)), path) for path in files]


def scan(sources: Sequence[Source], pieces: Sequence[Piece], progress: Progress | None = None) -> Scan:
    """Read every source once, describe it, and look for every piece.

    Raises:
        ValueError: a spelling is shorter than `SHORTEST` bytes.
        OSError: a file cannot be read.
    """
    index = _Index(pieces)
    seen: dict[str, _Seen] = {}
    hits: list[Hit] = []
    total, read = sum(source.size for source in sources), 0
    for source in sources:
        found: set[Piece] = set()
        row = seen.setdefault(_name_kind(source.name), _Seen())
        size = 0
        for data, repeated in source.read_chunks(index.longest - 1):
            new = data[repeated:]
            size += len(new)
            row.add(new)
            found |= index.find(data)
            if progress is not None:
                progress(read + size, total)
        row.sizes.append(size)
        read += size
        hits += [Hit(piece, source.name) for piece in pieces if piece in found] if found else []
    kinds = tuple(row.describe(name) for name, row in seen.items())
    return Scan(len(pieces), len(sources), read, tuple(hits), kinds)


def plant(sources: Sequence[Source], pieces: Iterable[Piece], random: np.random.Generator) -> list[Source]:
    """Copies in memory of some sources, each with one piece written over it at a random place.

    A scan of the copies must find exactly these pieces, which shows that a scan without a hit means something. Each
    piece takes its first spelling, and goes into a source that is long enough to hold it.
    """
    copies = []
    for number, piece in enumerate(pieces):
        secret = piece.spellings[number % len(piece.spellings)]
        roomy = [source for source in sources if len(secret) <= source.size <= _CHUNK]
        if not roomy:
            copies.append(Source(f"nothing but piece {number}", secret))
            continue
        source = roomy[int(random.integers(len(roomy)))]
        content = source.content if isinstance(source.content, bytes) else source.content.read_bytes()
        at = int(random.integers(len(content) - len(secret) + 1))
        copies.append(Source(f"{source.name}, copy {number}", content[:at] + secret + content[at + len(secret) :]))
    return copies


def _name_kind(name: str) -> str:
    """A name with every identifier and number replaced, which is equal for objects of one kind."""
    return _NUMBER.sub("#", _IDENTIFIER.sub("#", name))


class _Seen:
    """Running totals of the objects of one kind."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._counts = np.zeros(256, dtype=np.int64)
        self._longest = b""

    def add(self, data: bytes) -> None:
        self._counts += np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
        self._longest = max((self._longest, *_PRINTABLE.findall(data)), key=len)

    def describe(self, name: str) -> ObjectKind:
        sizes = sorted(self.sizes)
        return ObjectKind(
            name=name,
            count=len(sizes),
            size=sizes[len(sizes) // 2],
            entropy=compute_histogram_entropy(self._counts),
            expected=compute_expected_entropy(sum(sizes)),
            longest_text=self._longest[:60].decode("ascii"),
        )


class _Index:
    """All spellings of all pieces, found by a hash of six of their bytes."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces: dict[bytes, list[tuple[int, bytes, Piece]]] = {}
        for piece in pieces:
            for spelling in piece.spellings:
                if len(spelling) < SHORTEST:
                    raise ValueError(f"a piece of {piece.what} has {len(spelling)} bytes; {SHORTEST} are the least")
                start = _choose_window(spelling)
                self._pieces.setdefault(spelling[start : start + SHORTEST], []).append((start, spelling, piece))
        self.longest = max((len(s) for known in self._pieces.values() for _, s, _ in known), default=1)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        windows = np.array([int.from_bytes(window, "little") for window in self._pieces], dtype=np.uint64)
        self._table[_hash(windows)] = True

    def find(self, data: bytes) -> set[Piece]:
        """The pieces that a byte string holds."""
        found: set[Piece] = set()
        if not self._pieces or len(data) < SHORTEST:
            return found
        padded = data + bytes(16)
        for shift in range(8):
            words = np.frombuffer(padded, dtype="<u8", offset=shift, count=(len(data) - shift + 7) // 8)
            for place in np.flatnonzero(self._table[_hash(words & _FIRST_SIX)]):
                at = 8 * int(place) + shift
                for start, spelling, piece in self._pieces.get(data[at : at + SHORTEST], ()):
                    if at >= start and data.startswith(spelling, at - start) and piece not in found:
                        found.add(piece)
        return found


def _choose_window(spelling: bytes) -> int:
    """The place of the six bytes with the most different values: an image's dark border begins many of its rows."""
    places = range(min(len(spelling) - SHORTEST, _WINDOWS) + 1)
    return max(places, key=lambda place: len(set(spelling[place : place + SHORTEST])))


def _hash(values: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Fibonacci hashing of 48-bit values to the size of the table."""
    return ((values * _MULTIPLIER) >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)
