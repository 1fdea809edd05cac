"""Uniform polynomials from SEAL's 64-byte seeds: BLAKE2Xb in counter mode, rejection sampling, residues.

The result equals SEAL's bit for bit. SEAL's generator fills 4096 bytes at a time with BLAKE2Xb of a counter, keyed with
the seed. `hashlib` computes the root of each block of 4096 bytes. This module computes its 64 leaves, eight at a time:
through `hashlib` the leaves would cost more than evaluating a linear head. Source: Aumasson, Neves, Wilcox-O'Hearn and
Winnerlein, "BLAKE2X" (2016); RFC 7693.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import (
    any_at_least,
    high_halves,
    load_words,
    rotate_16,
    rotate_24,
    rotate_32,
    rotate_63,
    splat,
    splat_word,
    store,
    store_words,
    to_doubles,
)
from he_infer.ckks.engines.native.kernels.modular import reduced, times_constant, transposed
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring

Words = NDArray[np.uint64]

_BLOCK_BYTES = 4096
_BLOCK_WORDS = _BLOCK_BYTES // 8
SPARE_BLOCKS = 2
"""Spare blocks for rejected words. A word is rejected with probability at most 2^-14: 1024 spare words are ample."""

# BLAKE2b's initial state and the order of message words in its twelve rounds, RFC 7693.
_IV = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)
_ROUNDS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_ORDER = np.array([*_ROUNDS, *_ROUNDS[:2]], dtype=np.int64)
# A leaf's parameter block: 64 bytes out, no fan-out or depth, leaves of 64 bytes, inner length 64, output of 4096.
_WORD_0 = np.uint64(int(_IV[0]) ^ (64 | 64 << 32))
_WORD_1 = np.uint64(int(_IV[1]) ^ (_BLOCK_BYTES << 32))
_WORD_2 = np.uint64(int(_IV[2]) ^ (64 << 8))
_COUNTED = np.uint64(int(_IV[4]) ^ 64)
_LAST = np.uint64(int(_IV[6]) ^ 0xFFFFFFFFFFFFFFFF)
_LANES = np.arange(8, dtype=np.uint64)
_LOW_HALF = np.uint64(0xFFFFFFFF)


def block_roots(seed: bytes, count: int) -> NDArray[np.uint64]:
    """Compute (count * 8,) the BLAKE2Xb roots of the generator's first blocks of 4096 bytes."""
    roots = [
        hashlib.blake2b(
            counter.to_bytes(8, "little"), key=seed, digest_size=64, node_offset=_BLOCK_BYTES << 32
        ).digest()
        for counter in range(count)
    ]
    return np.frombuffer(b"".join(roots), dtype="<u8").astype(np.uint64)


def blocks_for(rows: int, n: int) -> int:
    """Count the blocks that `expand` takes for (rows, n) residues."""
    return rows * n // _BLOCK_WORDS + SPARE_BLOCKS


@inlined
def _mix(a: Lanes, b: Lanes, c: Lanes, d: Lanes, x: Lanes, y: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    a = a + b + x
    d = rotate_32(d ^ a)
    c = c + d
    b = rotate_24(b ^ c)
    a = a + b + y
    d = rotate_16(d ^ a)
    c = c + d
    b = rotate_63(b ^ c)
    return a, b, c, d


@helper
def fill_block(roots: Words, root: int, out: Words, to: int, leaves: Words) -> None:
    """Write the 512 words of one block, from its root's eight words at `root`; leaves (64,) is working memory."""
    lane = load_words(_LANES, 0)
    first, third = splat_word(_WORD_0), splat_word(_WORD_2)
    for start in range(0, 64, 8):
        second = splat_word(_WORD_1) ^ (splat_word(np.uint64(start)) + lane)
        v0, v1, v2, v3 = first, second, third, splat_word(_IV[3])
        v4, v5, v6, v7 = splat_word(_IV[4]), splat_word(_IV[5]), splat_word(_IV[6]), splat_word(_IV[7])
        v8, v9, v10, v11 = splat_word(_IV[0]), splat_word(_IV[1]), splat_word(_IV[2]), splat_word(_IV[3])
        v12, v13, v14, v15 = splat_word(_COUNTED), splat_word(_IV[5]), splat_word(_LAST), splat_word(_IV[7])
        for number in range(12):
            m = _ORDER[number]
            v0, v4, v8, v12 = _mix(v0, v4, v8, v12, _message(roots, root, m[0]), _message(roots, root, m[1]))
            v1, v5, v9, v13 = _mix(v1, v5, v9, v13, _message(roots, root, m[2]), _message(roots, root, m[3]))
            v2, v6, v10, v14 = _mix(v2, v6, v10, v14, _message(roots, root, m[4]), _message(roots, root, m[5]))
            v3, v7, v11, v15 = _mix(v3, v7, v11, v15, _message(roots, root, m[6]), _message(roots, root, m[7]))
            v0, v5, v10, v15 = _mix(v0, v5, v10, v15, _message(roots, root, m[8]), _message(roots, root, m[9]))
            v1, v6, v11, v12 = _mix(v1, v6, v11, v12, _message(roots, root, m[10]), _message(roots, root, m[11]))
            v2, v7, v8, v13 = _mix(v2, v7, v8, v13, _message(roots, root, m[12]), _message(roots, root, m[13]))
            v3, v4, v9, v14 = _mix(v3, v4, v9, v14, _message(roots, root, m[14]), _message(roots, root, m[15]))
        store_words(leaves, 0, first ^ v0 ^ v8)
        store_words(leaves, 8, second ^ v1 ^ v9)
        store_words(leaves, 16, third ^ v2 ^ v10)
        store_words(leaves, 24, splat_word(_IV[3]) ^ v3 ^ v11)
        store_words(leaves, 32, splat_word(_IV[4]) ^ v4 ^ v12)
        store_words(leaves, 40, splat_word(_IV[5]) ^ v5 ^ v13)
        store_words(leaves, 48, splat_word(_IV[6]) ^ v6 ^ v14)
        store_words(leaves, 56, splat_word(_IV[7]) ^ v7 ^ v15)
        for leaf in range(8):
            for word in range(8):
                out[to + (start + leaf) * 8 + word] = leaves[8 * word + leaf]


@inlined
def _message(roots: Words, root: int, index: int) -> Lanes:
    return splat_word(roots[root + index] if index < 8 else np.uint64(0))


@helper
def settle(words: Words, at: int, out: Doubles, to: int, j: int, n: int, ring: Ring) -> None:
    """Reduce 64-bit words in SEAL's order to residues modulo prime j in the order of `ring`."""
    p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
    w, share = splat(ring.halves[j, 0]), splat(ring.halves[j, 1])
    s = n // 8
    for i in range(0, s, 8):
        b = at + 8 * i
        c0, c1, c2, c3, c4, c5, c6, c7 = transposed(
            _residues(words, b, w, share, p, r),
            _residues(words, b + 8, w, share, p, r),
            _residues(words, b + 16, w, share, p, r),
            _residues(words, b + 24, w, share, p, r),
            _residues(words, b + 32, w, share, p, r),
            _residues(words, b + 40, w, share, p, r),
            _residues(words, b + 48, w, share, p, r),
            _residues(words, b + 56, w, share, p, r),
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


@inlined
def _residues(words: Words, at: int, w: Lanes, share: Lanes, p: Lanes, r: Lanes) -> Lanes:
    word = load_words(words, at)
    high = times_constant(to_doubles(high_halves(word)), w, share, p)
    return reduced(high + to_doubles(word & splat_word(_LOW_HALF)), p, r)


@helper
def expand(roots: Words, rows: int, n: int, out: Doubles, to: int, words: Words, ring: Ring) -> bool:
    """Expand the seed's polynomial (rows, n) modulo the first primes; returns false if the spare blocks ran out.

    words (rows n + 576,) is working memory.
    """
    total = rows * n
    leaves = words[total + _BLOCK_WORDS :]
    for block in range(total // _BLOCK_WORDS):
        fill_block(roots, 8 * block, words, block * _BLOCK_WORDS, leaves)
    block, spare = total // _BLOCK_WORDS, _BLOCK_WORDS
    for j in range(rows):
        bound = ring.bounds[j]
        bounds = splat_word(bound)
        for start in range(j * n, j * n + n, 8):
            if any_at_least(load_words(words, start), bounds):
                for k in range(start, start + 8):
                    while words[k] >= bound:
                        if spare == _BLOCK_WORDS:
                            if 8 * block >= roots.shape[0]:
                                return False
                            fill_block(roots, 8 * block, words, total, leaves)
                            block += 1
                            spare = 0
                        words[k] = words[total + spare]
                        spare += 1
        settle(words, j * n, out, to + j * n, j, n, ring)
    return True
