"""Uniform masks modulo a prime, in parts that double precision encodes exactly enough.

An encoder works in floating point, so a mask of 60 bits comes out with errors in its lowest ones. Were those errors all
that stands there, what they cover would show through. So a mask, drawn uniformly below the prime, is cut in two: the
lower LOW_BITS are encoded by themselves, exactly, and the errors of the upper part, below 2^(bits - 49), drown in them.

Statistical distance of a masked coefficient from one that holds nothing: at most 2^(bits - 49 - LOW_BITS), which is
2^-35 for a prime of 60 bits, and N times that for a whole answer; smaller primes have less.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ADDITIONS = 8
"""An encoder takes numbers below an eighth of the modulus, so an eighth of the upper part is added eight times."""
LOW_BITS = 46
"""Integers of so many bits come out of the encoder exact, in rings up to N = 32768 (measured: of 50 bits, off by 1)."""


@dataclass(frozen=True)
class Mask:
    """One uniform number below the prime for each coefficient: ADDITIONS * upper + lower."""

    upper: NDArray[np.float64]
    lower: NDArray[np.float64]


def draw(prime: int, size: int) -> Mask:
    """(size,) fresh uniform numbers from the system's generator, below a prime of 20 to 60 bits."""
    bits = prime.bit_length()
    below = np.uint64((1 << bits) - 1)
    numbers = np.frombuffer(secrets.token_bytes(8 * size), dtype="<u8") & below
    # Rejection, and not a remainder: a remainder would prefer small numbers.
    while (outside := numbers >= np.uint64(prime)).any():
        count = int(outside.sum())
        numbers[outside] = np.frombuffer(secrets.token_bytes(8 * count), dtype="<u8") & below
    low = np.uint64((1 << min(LOW_BITS, bits - 4)) - 1)
    lower = numbers & low
    return Mask((numbers - lower).astype(np.float64) / ADDITIONS, lower.astype(np.float64))
