"""Unpacks residues into transforms, from planes (see `he_infer.ckks.planes`) or from SEAL's 64 bits a residue."""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import helper
from he_infer.ckks.engines.native.kernels.lanes import any_at_least, load_unaligned, load_words, splat_word
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.seeds import Words, expand, settle

Bytes = NDArray[np.uint8]

SEAL_BITS = 64
SETTLED, OUT_OF_RANGE, SPENT = range(3)


@helper
def unpack_row(data: Bytes, at: int, bits: int, n: int, words: Words) -> None:
    """Unpack n residues of `bits` bits from data[at:] into words."""
    if bits == SEAL_BITS:
        for i in range(n):
            words[i] = load_unaligned(data, at + 8 * i)
        return
    for i in range(n):
        words[i] = np.uint64(0)
    below = np.uint64(0)
    width = 32
    while width > 0:
        if bits & width:
            # Each plane's loop has a fixed number of bytes, so that it becomes vector code.
            if width == 32:
                for i in range(n):
                    b = at + 4 * i
                    low = np.uint64(data[b]) | np.uint64(data[b + 1]) << np.uint64(8)
                    high = np.uint64(data[b + 2]) | np.uint64(data[b + 3]) << np.uint64(8)
                    words[i] |= (low | high << np.uint64(16)) << below
            elif width == 16:
                for i in range(n):
                    b = at + 2 * i
                    words[i] |= (np.uint64(data[b]) | np.uint64(data[b + 1]) << np.uint64(8)) << below
            elif width == 8:
                for i in range(n):
                    words[i] |= np.uint64(data[at + i]) << below
            else:
                each = 8 // width
                mask = np.uint64((1 << width) - 1)
                for i in range(n // each):
                    byte = np.uint64(data[at + i])
                    for k in range(each):
                        words[i * each + k] |= ((byte >> np.uint64(k * width)) & mask) << below
            at += n * width // 8
            below += np.uint64(width)
        width //= 2


@helper
def unpack(
    data: Bytes, at: int, bits: NDArray[np.int64], rows: int, n: int, out: Doubles, to: int, words: Words, ring: Ring
) -> bool:
    """Unpack (rows, n) residues from data[at:] to transforms; returns false if one is not below its prime."""
    valid = True
    for j in range(rows):
        unpack_row(data, at, bits[j], n, words)
        bound = splat_word(ring.words[j])
        for i in range(0, n, 8):
            if any_at_least(load_words(words, i), bound):
                valid = False
        settle(words, 0, out, to + j * n, j, n, ring)
        at += n * bits[j] // 8
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
    """Unpack a ciphertext (2, rows, n): the first polynomial from data[at:], the second from a seed's block roots."""
    if not unpack(data, at, bits, rows, n, out, to, words, ring):
        return OUT_OF_RANGE
    return SETTLED if expand(roots, rows, n, out, to + rows * n, words, ring) else SPENT
