"""Residues from and to planes of bits (see `he_infer.ckks.planes`), and from SEAL's 64 bits a residue."""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import (
    any_at_least,
    join_bits,
    load_8,
    load_16,
    load_32,
    load_64,
    load_words,
    short_to_doubles,
    splat,
    splat_word,
    store,
    store_8,
    store_16,
    store_32,
)
from he_infer.ckks.engines.native.kernels.modular import reduced, transposed
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.seeds import Bytes, Words, expand

SEAL_BITS = 64
_SHIFTS = np.arange(8, dtype=np.uint64)


@inlined
def _bit_field(data: Bytes, at: int, width: int) -> Lanes:
    """Read eight numbers of `width` bits, 4 or fewer, from the `width` bytes at data[at]."""
    joined = np.uint64(0)
    for byte in range(width):
        joined |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
    shifts = load_words(_SHIFTS, 0) << splat_word(np.uint64(width // 2))  # lane times width, for 1, 2 and 4
    return (splat_word(joined) >> shifts) & splat_word(np.uint64((1 << width) - 1))


@inlined
def read_numbers(data: Bytes, at: int, bits: int, n: int, i: int) -> Lanes:
    """Read the numbers i to i + 7 of the n at data[at:], each of `bits` bits."""
    if bits == SEAL_BITS:
        return load_64(data, at + 8 * i)
    number = splat_word(np.uint64(0))
    below = np.uint64(0)
    if bits & 32:
        number = load_32(data, at + 4 * i)
        at += 4 * n
        below += np.uint64(32)
    if bits & 16:
        number = number | load_16(data, at + 2 * i) << splat_word(below)
        at += 2 * n
        below += np.uint64(16)
    if bits & 8:
        number = number | load_8(data, at + i) << splat_word(below)
        at += n
        below += np.uint64(8)
    if bits & 4:
        number = number | _bit_field(data, at + i // 2, 4) << splat_word(below)
        at += n // 2
        below += np.uint64(4)
    if bits & 2:
        number = number | _bit_field(data, at + i // 4, 2) << splat_word(below)
        at += n // 4
        below += np.uint64(2)
    if bits & 1:
        number = number | _bit_field(data, at + i // 8, 1) << splat_word(below)
    return number


@helper
def unpack_row(data: Bytes, at: int, bits: int, j: int, n: int, out: Doubles, to: int, ring: Ring) -> bool:
    """Unpack n residues modulo prime j from SEAL's order to that of `ring`; false if one is not below the prime."""
    valid = True
    bound, s = splat_word(ring.words[j]), n // 8
    p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
    for i in range(0, s, 8):
        b = 8 * i
        n0, n1 = read_numbers(data, at, bits, n, b), read_numbers(data, at, bits, n, b + 8)
        n2, n3 = read_numbers(data, at, bits, n, b + 16), read_numbers(data, at, bits, n, b + 24)
        n4, n5 = read_numbers(data, at, bits, n, b + 32), read_numbers(data, at, bits, n, b + 40)
        n6, n7 = read_numbers(data, at, bits, n, b + 48), read_numbers(data, at, bits, n, b + 56)
        if any_at_least(n0, bound) or any_at_least(n1, bound) or any_at_least(n2, bound) or any_at_least(n3, bound):
            valid = False
        if any_at_least(n4, bound) or any_at_least(n5, bound) or any_at_least(n6, bound) or any_at_least(n7, bound):
            valid = False
        c0, c1, c2, c3, c4, c5, c6, c7 = transposed(
            reduced(short_to_doubles(n0), p, r),
            reduced(short_to_doubles(n1), p, r),
            reduced(short_to_doubles(n2), p, r),
            reduced(short_to_doubles(n3), p, r),
            reduced(short_to_doubles(n4), p, r),
            reduced(short_to_doubles(n5), p, r),
            reduced(short_to_doubles(n6), p, r),
            reduced(short_to_doubles(n7), p, r),
        )
        k = to + i
        store(out, k, c0)
        store(out, k + s, c1)
        store(out, k + 2 * s, c2)
        store(out, k + 3 * s, c3)
        store(out, k + 4 * s, c4)
        store(out, k + 5 * s, c5)
        store(out, k + 6 * s, c6)
        store(out, k + 7 * s, c7)
    return valid


@helper
def open_one(
    data: Bytes,
    at: int,
    bits: NDArray[np.int64],
    seed: Bytes,
    seed_at: int,
    rows: int,
    n: int,
    out: Doubles,
    to: int,
    words: Words,
    ring: Ring,
) -> bool:
    """Unpack a ciphertext (2, rows, n): the first polynomial from data[at:], the second from a seed."""
    valid = True
    for j in range(rows):
        if not unpack_row(data, at, bits[j], j, n, out, to + j * n, ring):
            valid = False
        at += n * bits[j] // 8
    expand(seed, seed_at, rows, n, out, to + rows * n, words, ring)
    return valid


def open_seeded(
    data: Bytes,
    at: int,
    stride: int,
    bits: NDArray[np.int64],
    seeds: Bytes,
    seed_at: int,
    count: int,
    rows: int,
    n: int,
    out: Doubles,
    to: int,
    step: int,
    words: Words,
    ring: Ring,
) -> bool:
    """Open `count` ciphertexts, `stride` bytes apart, to places `step` elements apart.

    Returns:
        False if a residue is not below its prime.
    """
    for index in range(count):
        skip = index * stride
        if not open_one(data, at + skip, bits, seeds, seed_at + skip, rows, n, out, to + index * step, words, ring):
            return False
    return True


@helper
def pack_numbers(numbers: Words, n: int, bits: int, out: Bytes, to: int) -> None:
    """Pack n numbers, a multiple of eight, of 1 to 63 bits into out[to : to + n bits / 8]."""
    below = np.uint64(0)
    for width in (32, 16, 8, 4, 2, 1):
        if not bits & width:
            continue
        shift = splat_word(below)
        if width == 32:
            for i in range(0, n, 8):
                store_32(out, to + 4 * i, load_words(numbers, i) >> shift)
        elif width == 16:
            for i in range(0, n, 8):
                store_16(out, to + 2 * i, load_words(numbers, i) >> shift)
        elif width == 8:
            for i in range(0, n, 8):
                store_8(out, to + i, load_words(numbers, i) >> shift)
        else:
            mask = splat_word(np.uint64((1 << width) - 1))
            places = load_words(_SHIFTS, 0) << splat_word(np.uint64(width // 2))
            for i in range(0, n, 8):
                joined = join_bits(((load_words(numbers, i) >> shift) & mask) << places)
                for byte in range(width):
                    out[to + i * width // 8 + byte] = np.uint8((joined >> np.uint64(8 * byte)) & np.uint64(0xFF))
        to += n * width // 8
        below += np.uint64(width)
