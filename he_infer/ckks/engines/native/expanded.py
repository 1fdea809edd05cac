"""SEAL's serialized form of ciphertexts at any level with both polynomials written out."""

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.seal_format import inflate, wrap

_CKKS = 2
_HEADER = 16
_COUNT = struct.Struct("<Q")
_MEMBERS = struct.Struct("<32sBQQQdQ")
_WORDS_AT = _MEMBERS.size + _HEADER + _COUNT.size
_WORD = 8


def name_level(ring_size: int, primes: Sequence[int]) -> bytes:
    """Compute SEAL's 32-byte id of a level: BLAKE2b of scheme, ring size, primes and an absent plain modulus."""
    words = (_CKKS, ring_size, *primes, 0)
    return hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=32).digest()


def write_out(residues: NDArray[np.uint64], scale: float, primes: Sequence[int]) -> bytes:
    """Write residues (2, primes, N), transformed, as a SEAL object with both polynomials, not compressed."""
    count, rows, size = residues.shape
    members = _MEMBERS.pack(name_level(size, primes), 1, count, size, rows, scale, 1)
    return wrap(members + wrap(_COUNT.pack(residues.size) + residues.astype("<u8").tobytes()))


def read_out(data: bytes, ring_size: int, primes: Sequence[int]) -> NDArray[np.uint64]:
    """Read the residues (2, primes, N) from an object that `write_out` or SEAL wrote.

    Raises:
        NotThisFormat: the object has another size.
    """
    held = 2 * len(primes) * ring_size
    body = inflate(data, _WORDS_AT + _WORD * held)
    return np.frombuffer(body, dtype="<u8", count=held, offset=_WORDS_AT).reshape(2, len(primes), ring_size)
