"""Serialized form of a request's ciphertext: its first polynomial packed, and the seed of the second one.

A fresh symmetric encryption is (c0, c1) with a uniform c1 that SEAL expands from a 64-byte seed. So a ciphertext is

- MAGIC: three letters and the format's version;
- for each prime that carries data, first to last, the N residues of c0 (transformed, in SEAL's order) in as many bits
  as the prime has, packed as `planes` describes;
- the seed, 64 bytes.

Its length follows from the parameters, and it holds no length fields: a reader checks the length first. The scale is
the plan's and is not sent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.planes import count_plane_bytes, pack_planes, unpack_planes
from he_infer.ckks.planning.message_sizes import count_fresh_bytes
from he_infer.ckks.seal_format import CiphertextShape, find_ciphertext, read_ciphertext
from he_infer.errors import NotThisFormat, UnsupportedVersion

MAGIC = b"HEC\x02"


@dataclass(frozen=True)
class FreshCiphertext:
    """The two parts of a request's ciphertext."""

    first: NDArray[np.uint64]
    """(primes, N) residues of c0."""
    seed: bytes


def convert_seeded(data: bytes, shape: CiphertextShape) -> FreshCiphertext:
    """Convert a seeded ciphertext as SEAL serializes it.

    Raises:
        NotThisFormat: not exactly such a ciphertext.
    """
    found = find_ciphertext(read_ciphertext(data, shape), shape)
    count = len(shape.primes) * shape.ring_size
    first = np.frombuffer(found.body, dtype="<u8", count=count, offset=found.at)
    return FreshCiphertext(first.reshape(len(shape.primes), shape.ring_size), found.seed)


def write_fresh(ciphertext: FreshCiphertext, shape: CiphertextShape) -> bytes:
    """Serialize a ciphertext of a shape."""
    rows = zip(ciphertext.first, shape.primes, strict=True)
    packed = [pack_planes(residues, prime.bit_length()) for residues, prime in rows]
    return b"".join([MAGIC, *packed, ciphertext.seed])


def check_fresh(data: bytes, shape: CiphertextShape) -> None:
    """Check version and length, before anything else is read.

    Raises:
        UnsupportedVersion: a ciphertext of another version.
        NotThisFormat: not a ciphertext of this shape.
    """
    if data[:3] == MAGIC[:3] and data[3:4] != MAGIC[3:]:
        raise UnsupportedVersion(
            f"The ciphertext has version {data[3] if len(data) > 3 else '?'}; this release reads {MAGIC[3]}. Update "
            "the client."
        )
    if data[:2] == b"\x5e\xa1":
        raise UnsupportedVersion(
            "The ciphertext is an object as SEAL serializes it, of version 1 of this protocol; this release reads "
            f"version {MAGIC[3]}. Update the client."
        )
    expected = count_fresh_bytes(shape.ring_size, tuple(prime.bit_length() for prime in shape.primes))
    if data[:4] != MAGIC or len(data) != expected:
        raise NotThisFormat(
            f"The ciphertext has {len(data)} bytes, or a wrong beginning; expected {expected} bytes that begin with "
            "HEC and the version."
        )


def read_fresh(data: bytes, shape: CiphertextShape) -> FreshCiphertext:
    """Parse a ciphertext of a shape.

    Raises:
        UnsupportedVersion: a ciphertext of another version.
        NotThisFormat: not a ciphertext of this shape, or one with a residue that is not below its prime.
    """
    check_fresh(data, shape)
    first = np.empty((len(shape.primes), shape.ring_size), dtype=np.uint64)
    at = len(MAGIC)
    for row, prime in zip(first, shape.primes, strict=True):
        size = count_plane_bytes(shape.ring_size, prime.bit_length())
        row[:] = unpack_planes(data[at : at + size], shape.ring_size, prime.bit_length())
        at += size
        if (row >= np.uint64(prime)).any():
            raise NotThisFormat("The ciphertext has a residue that is not below its prime.")
    return FreshCiphertext(first, data[at:])
