"""Constants of one ring and modulus chain, as the kernels take them. numpy and Python integers only.

Order of a transform: SEAL's is bit-reversed. Here the value with SEAL's index 8 i + k is at k N/8 + i, so that the last
three stages of a transform, whose butterflies reach 4, 2 and 1 places, work on whole vectors.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from he_infer.errors import ParameterError

MAX_PRIME_BITS = 50
"""Largest prime whose products float64 arithmetic reduces exactly, see `modular`."""
MIN_RING_SIZE = 1024

Doubles = NDArray[np.float64]


class Ring(NamedTuple):
    """Rows are primes, special prime last. A "share" is a constant divided by its prime, rounded."""

    primes: Doubles
    """(k,)."""
    reciprocals: Doubles
    """(k,) 1 / p."""
    words: NDArray[np.uint64]
    """(k,) the primes as integers."""
    bounds: NDArray[np.uint64]
    """(k,) bound for rejection sampling: below it a uniform 64-bit word gives every residue equally often."""
    halves: Doubles
    """(k, 2) 2^32 mod p, and its share."""
    roots: Doubles
    """(k, N/8) powers of the root in bit-reversed order, for all stages but the last three."""
    root_shares: Doubles
    last_roots: Doubles
    """(k, 7 N/8) powers of the root for the last three stages, by stage and place in a block of eight."""
    inverse_roots: Doubles
    inverse_shares: Doubles
    inverse_last: Doubles
    sizes: Doubles
    """(k, 4) 1/N mod p and its share; 1/N times the inverse of the first stage's root, and its share."""
    special_residues: Doubles
    """(k, 2) the special prime mod p, and its share."""
    prime_inverses: Doubles
    """(k, k, 2) [l, j]: prime l's inverse mod prime j, and its share."""


@lru_cache(maxsize=8)
def build_ring(size: int, primes: tuple[int, ...]) -> Ring:
    """Compute the constants of Z[X]/(X^size + 1) modulo each prime.

    Raises:
        ParameterError: a prime has more than MAX_PRIME_BITS bits, or the ring is smaller than MIN_RING_SIZE.
    """
    largest = max(prime.bit_length() for prime in primes)
    if largest > MAX_PRIME_BITS or size < MIN_RING_SIZE:
        raise ParameterError(
            f"The native engine takes primes of at most {MAX_PRIME_BITS} bits and rings from N = {MIN_RING_SIZE}; "
            f"these parameters have {largest} bits and N = {size}. Use the SEAL engine."
        )
    tables = [_roots(size, prime) for prime in primes]
    forward, inverse = zip(*tables, strict=True)
    count = len(primes)
    sizes, residues = np.zeros((count, 4)), np.zeros((count, 2))
    between = np.zeros((count, count, 2))
    for j, prime in enumerate(primes):
        unit = pow(size, -1, prime)
        sizes[j] = *_shared(unit, prime), *_shared(unit * int(inverse[j][1]) % prime, prime)
        if j < count - 1:
            residues[j] = _shared(primes[-1] % prime, prime)
        for dropped in range(j + 1, count):
            between[dropped, j] = _shared(pow(primes[dropped], -1, prime), prime)
    words = np.array(primes, dtype=np.uint64)
    largest_word = (1 << 64) - 1
    return Ring(
        primes=np.array(primes, dtype=np.float64),
        reciprocals=np.array([1.0 / prime for prime in primes]),
        words=words,
        bounds=np.array([largest_word - largest_word % prime - 1 for prime in primes], dtype=np.uint64),
        halves=np.array([_shared((1 << 32) % prime, prime) for prime in primes]),
        roots=_centred([row[: size // 8] for row in forward], primes),
        root_shares=_shares([row[: size // 8] for row in forward], primes),
        last_roots=_centred([_by_stage(row) for row in forward], primes),
        inverse_roots=_centred([row[: size // 8] for row in inverse], primes),
        inverse_shares=_shares([row[: size // 8] for row in inverse], primes),
        inverse_last=_centred([_by_stage(row) for row in inverse], primes),
        sizes=sizes,
        special_residues=residues,
        prime_inverses=between,
    )


@lru_cache(maxsize=8)
def reversed_bits(size: int) -> NDArray[np.int64]:
    """Return (size,) each index with its bits reversed."""
    indices = np.zeros(size, dtype=np.int64)
    half = size >> 1
    for bit in range(size.bit_length() - 1):
        indices |= ((np.arange(size) >> bit) & 1) * (half >> bit)
    indices.setflags(write=False)
    return indices


@lru_cache(maxsize=8)
def internal_places(size: int) -> NDArray[np.int64]:
    """Return (size,) the index here of the value with SEAL's index i."""
    indices = np.arange(size)
    places = (indices % 8) * (size // 8) + indices // 8
    places.setflags(write=False)
    return places


@lru_cache(maxsize=256)
def galois_places(element: int, size: int) -> NDArray[np.int32]:
    """Return (size,) for each place the index of the value that the automorphism X -> X^element moves there."""
    reverse, internal = reversed_bits(size), internal_places(size)
    source = reverse[((element * (2 * reverse + 1)) % (2 * size) - 1) // 2]
    places = np.empty(size, dtype=np.int32)
    places[internal] = internal[source]
    return places


def smallest_root(size: int, prime: int) -> int:
    """Find the smallest primitive 2 size-th root of one, which SEAL uses too."""
    base = 2
    while pow(root := pow(base, (prime - 1) // (2 * size), prime), size, prime) != prime - 1:
        base += 1
    square, best = root * root % prime, root
    for _ in range(size - 1):
        root = root * square % prime
        best = min(best, root)
    return best


def _roots(size: int, prime: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (size,) powers of the root in bit-reversed order, and their inverses."""
    root = smallest_root(size, prime)
    powers = [1] * size
    for index in range(1, size):
        powers[index] = powers[index - 1] * root % prime
    inverses = [1, *(prime - power for power in reversed(powers[1:]))]  # root^size is -1
    reverse = reversed_bits(size)
    return np.array(powers, dtype=np.int64)[reverse], np.array(inverses, dtype=np.int64)[reverse]


def _by_stage(roots: NDArray[np.int64]) -> NDArray[np.int64]:
    s = len(roots) // 8
    thirds = [roots[s : 2 * s], roots[2 * s : 4 * s : 2], roots[2 * s + 1 : 4 * s : 2]]
    return np.concatenate([*thirds, *(roots[4 * s + k : 8 * s : 4] for k in range(4))])


def _centred(rows: Sequence[NDArray[np.int64]], primes: Sequence[int]) -> Doubles:
    centred = [np.where(row > prime // 2, row - prime, row) for row, prime in zip(rows, primes, strict=True)]
    return np.stack(centred).astype(np.float64)


def _shares(rows: Sequence[NDArray[np.int64]], primes: Sequence[int]) -> Doubles:
    return _centred(rows, primes) / np.array(primes, dtype=np.float64)[:, None]


def _shared(number: int, prime: int) -> tuple[float, float]:
    number = number - prime if number > prime // 2 else number
    return float(number), number / prime
