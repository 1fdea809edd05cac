"""Residues as bytes: each prime's row packed at a fixed number of bits, least significant bit first, SEAL's order.

64 bits a residue is SEAL's own form.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import helper
from he_infer.ckks.engines.native.kernels.lanes import (
    any_at_least,
    load_unaligned,
    load_words,
    splat_word,
    store_unaligned,
)
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.seeds import Words, expand, settle

Bytes = NDArray[np.uint8]

SLACK = 8
"""Bytes that must follow packed rows: words are read and written whole."""
SETTLED, OUT_OF_RANGE, SPENT = range(3)


@helper
def unpack(
    data: Bytes, at: int, bits: NDArray[np.int64], rows: int, n: int, out: Doubles, to: int, words: Words, ring: Ring
) -> bool:
    """(rows, n) packed residues from data[at:] to transforms; false where one is not below its prime."""
    valid = True
    for j in range(rows):
        width = bits[j]
        mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - width)
        for i in range(n):
            bit = i * width
            words[i] = (load_unaligned(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask
        bound = splat_word(ring.words[j])
        for i in range(0, n, 8):
            if any_at_least(load_words(words, i), bound):
                valid = False
        settle(words, 0, out, to + j * n, j, n, ring)
        at += n * width // 8
    return valid


def open_seeded(
    data: Bytes,
    at: int,
    bits: NDArray[np.int64],
    roots: Words,
    rows: int,
    n: int,
    out: Doubles,
    to: int,
    words: Words,
    ring: Ring,
) -> int:
    """A ciphertext (2, rows, n): its first polynomial packed in data[at:], the second from a seed's block roots."""
    if not unpack(data, at, bits, rows, n, out, to, words, ring):
        return OUT_OF_RANGE
    return SETTLED if expand(roots, rows, n, out, to + rows * n, words, ring) else SPENT


def pack(source: Doubles, at: int, bits: NDArray[np.int64], rows: int, n: int, out: Bytes, ring: Ring) -> None:
    """Transforms (rows, n) to packed residues; out has SLACK bytes more than they take."""
    s = n // 8
    to = 0
    for j in range(rows):
        held, filled, width = np.uint64(0), 0, bits[j]
        prime = ring.primes[j]
        for i in range(s):
            for k in range(8):
                residue = source[at + j * n + k * s + i]
                if residue < 0.0:
                    residue += prime
                word = np.uint64(residue)
                held |= word << np.uint64(filled)
                filled += width
                if filled >= 64:
                    store_unaligned(out, to, held)
                    to += 8
                    filled -= 64
                    held = word >> np.uint64(width - filled) if filled else np.uint64(0)
