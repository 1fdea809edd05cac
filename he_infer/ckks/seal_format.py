"""Reader of SEAL 4.3's serialized objects, without SEAL: it checks sizes before it inflates, then every member.

SEAL's own reader accepts any object that is valid for some use: keys for other elements, of fewer digits or other
levels, ciphertexts whose second polynomial is written out. A server must know that an object has exactly the plan's
form before it allocates memory for it. All sizes here follow from the expected shape.

Layout (little-endian; docs/format-plan.md has it byte by byte): an object is a header of 16 bytes and a body, which is
compressed only in the outermost object. A *seeded* ciphertext holds its first polynomial, and in place of the second
one the 64-byte seed that expands to it: its maker cannot choose that polynomial.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from he_infer.errors import NotThisFormat, UnsupportedVersion

SEAL_VERSION = (4, 3)
"""Major and minor version in the header of every serialized SEAL object; another minor's bytes are refused."""

_MAGIC = b"\x5e\xa1"
_HEADER = struct.Struct("<2sBBBBHQ")
_PLAIN, _ZSTD = 0, 2
_CIPHERTEXT = struct.Struct("<32sBQQQdQ")
"""Members: parameters' id, whether transformed, polynomials, N, primes, scale, correction factor."""
_COUNT = struct.Struct("<Q")
_SEED_BYTES = 64
_SEED = _HEADER.size + 1 + _SEED_BYTES
_BLAKE2XB = 1
_WORD = 8


@dataclass(frozen=True)
class CiphertextShape:
    """A seeded ciphertext of two polynomials."""

    parameters_id: bytes
    """(32,)"""
    ring_size: int
    primes: tuple[int, ...]
    scale: float

    @property
    def size(self) -> int:
        """Bytes of the body."""
        words = _HEADER.size + _COUNT.size + _WORD * self.ring_size * len(self.primes)
        return _CIPHERTEXT.size + words + _SEED


@dataclass(frozen=True)
class KeySwitchShape:
    """Key-switching keys: a list of `places`, some of which hold a key of `digits` seeded ciphertexts."""

    parameters_id: bytes
    places: int
    taken: tuple[int, ...]
    """Ascending."""
    digits: int
    ciphertext: CiphertextShape

    @property
    def size(self) -> int:
        """Bytes of the body."""
        held = len(self.taken) * self.digits * (_HEADER.size + self.ciphertext.size)
        return len(self.parameters_id) + _COUNT.size * (1 + self.places) + held


@dataclass(frozen=True)
class Seeded:
    """A ciphertext in a body. Its first polynomial begins at `at`, 64 bits a residue; `seed` expands to the second."""

    body: bytes
    at: int
    seed: bytes


def check_header(data: bytes) -> int:
    """Check an outermost object's header: magic, version, length. Returns the body's compression method."""
    if len(data) < _HEADER.size or data[:2] != _MAGIC:
        raise NotThisFormat("The bytes do not begin as a SEAL object does.")
    _, length, major, minor, compression, reserved, size = _HEADER.unpack_from(data)
    if (major, minor) != SEAL_VERSION:
        raise UnsupportedVersion(
            f"The bytes were written by SEAL {major}.{minor}; this release reads {SEAL_VERSION[0]}.{SEAL_VERSION[1]}."
        )
    if size != len(data):
        raise NotThisFormat("The SEAL object is cut off, or something follows it.")
    if length != _HEADER.size or reserved:
        raise NotThisFormat("The SEAL object's header is not one that this release reads.")
    if compression not in (_PLAIN, _ZSTD):
        raise NotThisFormat(f"The SEAL object is compressed by method {compression}; this release reads zstd.")
    return int(compression)


def state_size(data: bytes) -> int:
    """Return the inflated size of an object's body in bytes, as the object states it; nothing is inflated."""
    if check_header(data) == _PLAIN:
        return len(data) - _HEADER.size
    try:
        frame = zstandard.get_frame_parameters(data[_HEADER.size :])
    except zstandard.ZstdError as error:
        raise NotThisFormat("The SEAL object's body is no zstd frame.") from error
    return int(frame.content_size)


def inflate(data: bytes, size: int) -> bytes:
    """Inflate the body of an object, which must have exactly `size` bytes.

    Raises:
        NotThisFormat: the object states or has another size; nothing is allocated if it states another one.
    """
    if state_size(data) != size:
        raise NotThisFormat("The SEAL object does not have the size that the plan gives it.")
    if check_header(data) == _PLAIN:
        return data[_HEADER.size :]
    try:
        body = zstandard.ZstdDecompressor().decompress(
            data[_HEADER.size :], max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise NotThisFormat("The SEAL object's body cannot be inflated.") from error
    if len(body) != size:
        raise NotThisFormat("The SEAL object does not have the size that the plan gives it.")
    return body


def wrap(body: bytes) -> bytes:
    """Wrap a body into an object, not compressed."""
    return _HEADER.pack(_MAGIC, _HEADER.size, *SEAL_VERSION, _PLAIN, 0, _HEADER.size + len(body)) + body


def read_ciphertext(data: bytes, shape: CiphertextShape) -> bytes:
    """Return the body of a serialized ciphertext, checked member by member.

    Raises:
        NotThisFormat: not exactly such a ciphertext.
    """
    body = inflate(data, shape.size)
    _check_ciphertext(body, 0, shape)
    return body


def read_key_switches(data: bytes, shape: KeySwitchShape) -> bytes:
    """Return the body of serialized key-switching keys, checked member by member.

    Raises:
        NotThisFormat: not exactly such keys.
    """
    body = inflate(data, shape.size)
    at = len(shape.parameters_id)
    if body[:at] != shape.parameters_id or _COUNT.unpack_from(body, at)[0] != shape.places:
        raise NotThisFormat("The keys are of other parameters, or not the plan's keys.")
    at += _COUNT.size
    place = 0
    for taken in (*shape.taken, shape.places):
        empty = _COUNT.size * (taken - place)
        if any(body[at : at + empty]):
            raise NotThisFormat("There is a key where the plan has none.")
        at, place = at + empty, taken + 1
        if taken == shape.places:
            break
        if _COUNT.unpack_from(body, at)[0] != shape.digits:
            raise NotThisFormat("A key of the plan is missing, or has not one part for each prime.")
        at += _COUNT.size
        for _ in range(shape.digits):
            _check_nested(body, at, shape.ciphertext.size)
            _check_ciphertext(body, at + _HEADER.size, shape.ciphertext)
            at += _HEADER.size + shape.ciphertext.size
    return body


def find_ciphertext(body: bytes, shape: CiphertextShape, start: int = 0) -> Seeded:
    """Find the polynomial and the seed of a checked ciphertext whose members begin at `start`."""
    end = start + shape.size
    at = start + _CIPHERTEXT.size + _HEADER.size + _COUNT.size
    return Seeded(body, at, body[end - _SEED_BYTES : end])


def find_keys(body: bytes, shape: KeySwitchShape) -> dict[int, list[Seeded]]:
    """Find the ciphertexts of checked key-switching keys: a list of digits for each place that holds a key."""
    step = _HEADER.size + shape.ciphertext.size
    found = {}
    for before, place in enumerate(shape.taken):
        # The counts of all places up to this one, and the keys before it.
        start = len(shape.parameters_id) + _COUNT.size * (place + 2) + before * shape.digits * step
        ciphertexts = range(start + _HEADER.size, start + _HEADER.size + shape.digits * step, step)
        found[place] = [find_ciphertext(body, shape.ciphertext, at) for at in ciphertexts]
    return found


def write_seeded(shape: CiphertextShape, first: NDArray[np.uint64], seed: bytes) -> bytes:
    """Write the body of a seeded ciphertext; first: (primes, N) residues of its first polynomial, transformed."""
    words = first.astype("<u8").tobytes()
    members = _CIPHERTEXT.pack(shape.parameters_id, 1, 2, shape.ring_size, len(shape.primes), shape.scale, 1)
    return members + wrap(_COUNT.pack(len(words) // _WORD) + words) + wrap(bytes([_BLAKE2XB]) + seed)


def write_expanded(parameters_id: bytes, polynomials: NDArray[np.uint64], scale: float) -> bytes:
    """Write the body of a ciphertext at level 0 with both polynomials written out, (2, N) transformed."""
    words = polynomials.astype("<u8").tobytes()
    members = _CIPHERTEXT.pack(parameters_id, 1, 2, polynomials.shape[1], 1, scale, 1)
    return members + wrap(_COUNT.pack(len(words) // _WORD) + words)


def write_key_switches(shape: KeySwitchShape, ciphertexts: Sequence[Sequence[bytes]]) -> bytes:
    """Write the body of key-switching keys; ciphertexts: for each place that holds a key, the bodies of its digits."""
    parts = [shape.parameters_id, _COUNT.pack(shape.places)]
    held = dict(zip(shape.taken, ciphertexts, strict=True))
    for place in range(shape.places):
        digits = held.get(place, ())
        parts += [_COUNT.pack(len(digits)), *map(wrap, digits)]
    return b"".join(parts)


def _check_ciphertext(body: bytes, at: int, shape: CiphertextShape) -> None:
    members = _CIPHERTEXT.unpack_from(body, at)
    expected = (shape.parameters_id, 1, 2, shape.ring_size, len(shape.primes))
    if members[:5] != expected or members[6] != 1:
        raise NotThisFormat("A ciphertext is of other parameters or at another level, or not of two polynomials.")
    if not abs(members[5] / shape.scale - 1.0) <= 1e-9:
        raise NotThisFormat("A ciphertext's scale is not the plan's.")
    at += _CIPHERTEXT.size
    words = shape.ring_size * len(shape.primes)
    _check_nested(body, at, _COUNT.size + _WORD * words)
    if _COUNT.unpack_from(body, at + _HEADER.size)[0] != words:
        raise NotThisFormat(
            "A ciphertext is not in its seeded form: both polynomials are written out, or neither is whole."
        )
    at += _HEADER.size + _COUNT.size
    residues = np.frombuffer(body, dtype="<u8", count=words, offset=at).reshape(len(shape.primes), shape.ring_size)
    if (residues >= np.array(shape.primes, dtype=np.uint64)[:, None]).any():
        raise NotThisFormat("A ciphertext holds a number beyond its prime.")
    at += _WORD * words
    _check_nested(body, at, 1 + _SEED_BYTES)
    if body[at + _HEADER.size] != _BLAKE2XB:
        raise NotThisFormat("A ciphertext's seed is of an unknown kind.")


def _check_nested(body: bytes, at: int, size: int) -> None:
    expected = _HEADER.pack(_MAGIC, _HEADER.size, *SEAL_VERSION, _PLAIN, 0, _HEADER.size + size)
    if body[at : at + _HEADER.size] != expected:
        raise NotThisFormat("An object within the SEAL object is not of the form or size that the plan gives it.")
