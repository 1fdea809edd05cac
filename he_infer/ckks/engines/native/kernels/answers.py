"""Writes answers, byte for byte as `he_infer.ckks.answer.write_answer` does, re-randomised before under `hidden`.

The encryption of zero is (pk0 u + e0, pk1 u + e1). An answer is sent in coefficients, so e0 and e1 are added there and
need no transform.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import helper
from he_infer.ckks.engines.native.kernels.lanes import (
    doubles_to_short,
    load,
    nearest,
    positive,
    splat,
    splat_word,
    store,
    store_words,
)
from he_infer.ckks.engines.native.kernels.modular import reduced, times
from he_infer.ckks.engines.native.kernels.packing import pack_numbers
from he_infer.ckks.engines.native.kernels.polynomials import to_coefficients, to_transform
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.scratch import Scratch
from he_infer.ckks.engines.native.kernels.seeds import Bytes, Words

NOT_REFRESHED = -1


@helper
def draw_below(raw: Bytes, at: int, bound: np.uint64, mask: np.uint64) -> tuple[np.uint64, int]:
    """Take the first of the eight-byte numbers from raw[at:] that is below the bound, under its mask.

    Returns:
        The number, and where the next draw begins; beyond the end of `raw` if none was found.
    """
    while at + 8 <= raw.shape[0]:
        number = np.uint64(0)
        for byte in range(8):
            number |= np.uint64(raw[at + byte]) << np.uint64(8 * byte)
        at += 8
        number &= mask
        if number < bound:
            return number, at
    return np.uint64(0), raw.shape[0] + 1


@helper
def read_coefficients(
    values: Doubles,
    at: int,
    keys: Doubles,
    key: int,
    samples: Doubles,
    s: int,
    n: int,
    ring: Ring,
    scratch: Scratch,
) -> None:
    """Write the coefficients (2, n) of an answer at level 0, between 0 and p - 1, to scratch.dropped."""
    p, r = splat(ring.primes[0]), splat(ring.reciprocals[0])
    if key != NOT_REFRESHED:
        to_transform(samples, s, scratch.lifted, 0, 0, n, ring, scratch.work)
    for comp in range(2):
        row = comp * n
        public = key + comp * ring.primes.shape[0] * n
        for k in range(0, n, 8):
            value = load(values, at + row + k)
            if key != NOT_REFRESHED:
                value = reduced(value + times(load(scratch.lifted, k), load(keys, public + k), p, r), p, r)
            store(scratch.special, k, value)
        to_coefficients(scratch.special, 0, scratch.dropped, row, 0, n, ring)
        for k in range(0, n, 8):
            value = load(scratch.dropped, row + k)
            if key != NOT_REFRESHED:
                value = value + load(samples, s + n + row + k)
            store(scratch.dropped, row + k, positive(value, p))


def write_answers(
    values: Doubles,
    places: NDArray[np.int64],
    keys: Doubles,
    key: int,
    samples: Doubles,
    raw: Bytes,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    starts: NDArray[np.int64],
    noise: Words,
    bits: int,
    scale: float,
    out: Bytes,
    to: NDArray[np.int64],
    n: int,
    ring: Ring,
    scratch: Scratch,
    words: Words,
) -> bool:
    """Write all answers of a request.

    The ciphertexts are at `places` of values, at level 0, transformed. `key` is the public key's offset in keys, or
    NOT_REFRESHED: the answers then get no encryption of zero; samples (answers, 3 n) are the encryptions' random
    polynomials, see `drawing`. The numbers of answer t are those from starts[t] on of first and second, see
    `Selection`. noise has the bounds of a coefficient's noise and of a sum's, or zeros, and the masks that numbers
    below each are drawn under, from the uniform bytes `raw`. A number is sent in `bits` bits; `scale` is 2^bits over
    the prime. The bytes of answer t go to out[to[t]:]. words (n + 8,) is working memory.

    Returns:
        False if the bytes for the noise did not suffice: draw others, and call again.
    """
    p, drawn = ring.words[0], 0
    mask = np.uint64((1 << bits) - 1)
    for t in range(places.shape[0]):
        read_coefficients(values, places[t], keys, key, samples, 3 * n * t, n, ring, scratch)
        count, start = starts[t + 1] - starts[t], to[t]
        for polynomial in (1, 0):
            if polynomial:
                length = n
                for k in range(0, n, 8):
                    switched = nearest(load(scratch.dropped, n + k) * splat(scale))
                    store_words(words, k, doubles_to_short(switched) & splat_word(mask))
            else:
                length = (count + 7) // 8 * 8
                words[count:length] = np.uint64(0)
                for index in range(count):
                    place, other = first[starts[t] + index], second[starts[t] + index]
                    number = np.uint64(scratch.dropped[place])
                    doubled = 0
                    if other >= 0:
                        number += np.uint64(scratch.dropped[other])
                        doubled = 1
                    number %= p
                    if noise[0] > 0:
                        added, drawn = draw_below(raw, drawn, noise[doubled], noise[2 + doubled])
                        number = (number + added) % p
                    words[index] = np.uint64(np.rint(np.float64(number) * scale)) & mask
            pack_numbers(words, length, bits, out, start)
            start += n * bits // 8
    return bool(drawn <= raw.shape[0])
